"""Hides texts in a file that rests in clear: the same text always looks the same, and only the key shows it.

Contract: a recording's draft has one key, and from it comes one veil (``draft_cipher``). Equal texts of one
recording look alike, so that whoever reads a hidden journal still sees what belongs together; those of two
recordings do not. A hidden text is padded, so that short ones do not tell their length.
Source: RFC 5297 (AES-SIV, which needs no nonce).
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from recorderd.core.errors import EnvelopeUnopened

VEILED: Final = "veiled:"
_PAD_BYTES: Final = 32


def is_veiled(text: str) -> bool:
    """Tell whether a text is a hidden one."""
    return text.startswith(VEILED)


class NameVeil:
    """Hides and shows texts of one recording.

    Thread: any.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESSIV(key)

    def hide(self, text: str) -> str:
        """Hide a text; an empty one, which says nothing, stays."""
        if not text:
            return text
        plain = text.encode("utf-8", "surrogatepass") + b"\x80"
        padded = plain.ljust(-(-len(plain) // _PAD_BYTES) * _PAD_BYTES, b"\0")
        return VEILED + base64.urlsafe_b64encode(self._cipher.encrypt(padded, [])).decode("ascii")

    def show(self, text: str) -> str:
        """Show a hidden text; one that is not hidden is given as it is.

        Errors: EnvelopeUnopened when it was hidden with another key, or altered.
        """
        if not is_veiled(text):
            return text
        try:
            sealed = base64.urlsafe_b64decode(text.removeprefix(VEILED).encode("ascii"))
            plain = self._cipher.decrypt(sealed, []).rstrip(b"\0")
            return plain.removesuffix(b"\x80").decode("utf-8", "surrogatepass")
        except (InvalidTag, ValueError, binascii.Error):
            raise EnvelopeUnopened(subject="hidden text", reason="another key, or it was altered") from None
