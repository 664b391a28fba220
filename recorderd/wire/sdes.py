"""Keys of SRTP as SDP carries them: ``a=crypto`` lines, read and written.

Contract: a line that names what we cannot do (another suite, several keys, unencrypted media) is unusable and
says why; only a line that is no crypto line at all raises. No key is ever part of a repr or of an error.
Source: RFC 4568 sections 4, 6 and 9; suites of RFC 4568, RFC 6188 and RFC 7714.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from recorderd.core.errors import SdpFormatError

LIFETIME_MAX: Final = 1 << 48  # packets under one key, RFC 3711 section 9.2
MKI_MAX_BYTES: Final = 128
_TAG: Final = re.compile("[0-9]{1,9}")
_NUMBER: Final = re.compile("[0-9]{1,15}")
_NAME: Final = re.compile("[A-Za-z0-9_]{1,64}")
_INLINE: Final = re.compile(rb"(inline:)([A-Za-z0-9+/=]+)", re.IGNORECASE)


class SrtpPolicy(StrEnum):
    """Whether media may or must be encrypted."""

    NEVER = "never"
    OFFER = "offer"  # taken when it is offered
    REQUIRE = "require"


class Suite(StrEnum):
    """Cipher suites; the value is the name in the registry of RFC 4568."""

    AES_CM_128_HMAC_SHA1_80 = "AES_CM_128_HMAC_SHA1_80"
    AES_CM_128_HMAC_SHA1_32 = "AES_CM_128_HMAC_SHA1_32"
    AES_256_CM_HMAC_SHA1_80 = "AES_256_CM_HMAC_SHA1_80"
    AES_256_CM_HMAC_SHA1_32 = "AES_256_CM_HMAC_SHA1_32"
    AEAD_AES_128_GCM = "AEAD_AES_128_GCM"
    AEAD_AES_256_GCM = "AEAD_AES_256_GCM"

    @property
    def key_bytes(self) -> int:
        """Octets of the master key."""
        return 32 if "256" in self.value else 16

    @property
    def salt_bytes(self) -> int:
        """Octets of the master salt."""
        return 12 if "GCM" in self.value else 14


_SPELLINGS: Final = {  # as some devices and an early draft of RFC 6188 write them
    "AES_CM_256_HMAC_SHA1_80": Suite.AES_256_CM_HMAC_SHA1_80,
    "AES_CM_256_HMAC_SHA1_32": Suite.AES_256_CM_HMAC_SHA1_32,
    **{suite.value: suite for suite in Suite},
}
_REFUSED_PARAMETERS: Final = ("UNENCRYPTED_SRTP", "UNENCRYPTED_SRTCP", "UNAUTHENTICATED_SRTP")


@dataclass(frozen=True, slots=True, kw_only=True)
class SrtpKeys:
    """What one direction of a stream is protected with."""

    suite: Suite
    master: bytes = field(repr=False)  # key, then salt
    mki: bytes = field(default=b"", repr=False)  # stands in each packet when not empty

    def __post_init__(self) -> None:
        """Refuse a key that does not fit its suite: that is our own fault, ``parse_crypto`` checks before."""
        if len(self.master) != self.suite.key_bytes + self.suite.salt_bytes:
            raise ValueError(f"{self.suite.value} takes another length of key and salt")


@dataclass(frozen=True, slots=True, kw_only=True)
class CryptoLine:
    """One ``a=crypto``; without keys it cannot be used, and ``problem`` says why."""

    tag: int
    suite_name: str  # as written, for the answer
    keys: SrtpKeys | None
    problem: str = ""


def parse_crypto(value: str) -> CryptoLine:
    """Read what follows ``a=crypto:``.

    Errors: SdpFormatError when it has no tag, suite or key parameter.
    Source: RFC 4568 section 9.1.
    """
    words = value.split()
    if len(words) < 3:
        raise _bad("lacks a tag, a suite or a key")
    tag, name, parameters, *session = words
    if _TAG.fullmatch(tag) is None:
        raise _bad("its tag is no number")
    if _NAME.fullmatch(name) is None:
        raise _bad("its suite is no name")
    keys: SrtpKeys | None = None
    suite = _SPELLINGS.get(name.upper())
    problem = f"suite {name} is not supported" if suite is None else _session_problem(session)
    if suite is not None and not problem:
        keys, problem = _keys(suite, parameters)
    return CryptoLine(tag=int(tag), suite_name=name, keys=keys, problem=problem)


def write_crypto(*, tag: int, suite_name: str, keys: SrtpKeys) -> str:
    """Write what follows ``a=crypto:``.

    Source: RFC 4568 section 9.1.
    """
    mki = f"|{int.from_bytes(keys.mki, 'big')}:{len(keys.mki)}" if keys.mki else ""
    return f"{tag} {suite_name} inline:{base64.b64encode(keys.master).decode()}{mki}"


def without_keys(raw: bytes) -> bytes:
    """Blank the keys of every crypto line in a SIP message or SDP; its length stays as it was."""
    return _INLINE.sub(lambda found: found.group(1) + b"*" * len(found.group(2)), raw)


def _session_problem(parameters: list[str]) -> str:
    for parameter in parameters:
        name = parameter.partition("=")[0].upper()
        if name.startswith("-") or name == "WSH":  # the sender says that these may be ignored; WSH is a hint
            continue
        if name in _REFUSED_PARAMETERS:
            return f"{name} is refused"
        return f"session parameter {name[:20]!r} is not supported"
    return ""


def _keys(suite: Suite, parameters: str) -> tuple[SrtpKeys | None, str]:
    if ";" in parameters.rstrip(";"):
        return None, "several keys are not supported"
    method, _, info = parameters.rstrip(";").partition(":")
    if method.lower() != "inline":
        return None, "the key method is not inline"
    text, *rest = info.split("|")
    mki = b""
    for part in rest:
        if ":" in part:
            found = _mki(part)
            if not found or mki:
                return None, "its MKI cannot be read"
            mki = found
        elif mki or not _is_lifetime(part):
            return None, "its lifetime cannot be read"
    try:
        master = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None, "its key is not base64"
    if len(master) != suite.key_bytes + suite.salt_bytes:
        return None, f"its key and salt have {len(master)} octets"
    return SrtpKeys(suite=suite, master=master, mki=mki), ""


def _is_lifetime(text: str) -> bool:
    power = text.removeprefix("2^")
    if _NUMBER.fullmatch(power) is None:
        return False
    if power != text:
        return int(power) <= 48
    return 0 < int(text) <= LIFETIME_MAX


def _mki(text: str) -> bytes:
    """Read VALUE:OCTETS; empty when it is not of that form."""
    value, _, length = text.partition(":")
    if not value.isascii() or not value.isdigit() or len(value) > 3 * MKI_MAX_BYTES:
        return b""
    if _TAG.fullmatch(length) is None or not 0 < int(length) <= MKI_MAX_BYTES:
        return b""
    number = int(value)
    return number.to_bytes(int(length), "big") if number < 1 << (8 * int(length)) else b""


def _bad(reason: str) -> SdpFormatError:
    return SdpFormatError(what="SDP", field="a=crypto", reason=reason)
