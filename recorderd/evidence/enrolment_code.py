"""One-time codes that let a recorder and an archive know each other's keys, and the MACs that prove them.

Contract: a code is 100 bits of chance behind four characters that say which code it is. Whoever has heard the
exchange can try codes at home: each try costs a scrypt, and there are 2**100 of them. Who stands between the
two cannot put in keys of his own without the code; the two MACs cannot be told as each other's.
Source: RFC 7914 (scrypt), RFC 2104 (HMAC); the alphabet is Crockford's, without I, L, O and U.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from recorderd.core.errors import EnrolmentFormatError

ID_LENGTH: Final = 4
SECRET_LENGTH: Final = 20  # of 5 bits each
KEY_BYTES: Final = 32
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MISREAD: Final = str.maketrans("OIL", "011", "- ")
_GROUP: Final = 4
_COST: Final = 1 << 15  # 32 MiB and about 0.1 s
_SALT: Final = b"recorderd enrolment 1 "


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentCode:
    """A code in its parts."""

    code_id: str
    secret: str

    def __repr__(self) -> str:
        return f"EnrolmentCode(code_id={self.code_id!r})"

    @classmethod
    def make(cls) -> EnrolmentCode:
        """Make a new one."""
        plain = "".join(secrets.choice(_ALPHABET) for _ in range(ID_LENGTH + SECRET_LENGTH))
        return cls(code_id=plain[:ID_LENGTH], secret=plain[ID_LENGTH:])

    @classmethod
    def read(cls, text: str) -> EnrolmentCode:
        """Read a code as people type it: lower case, other dashes, O for 0, I and L for 1.

        Errors: EnrolmentFormatError, without the code.
        """
        plain = text.strip().upper().translate(_MISREAD)
        if len(plain) != ID_LENGTH + SECRET_LENGTH or any(one not in _ALPHABET for one in plain):
            reason = f"give the {ID_LENGTH + SECRET_LENGTH} characters that `recorder-archive enroll` printed"
            raise EnrolmentFormatError(what="code", field="code", reason=reason)
        return cls(code_id=plain[:ID_LENGTH], secret=plain[ID_LENGTH:])

    def text(self) -> str:
        """Write it as people read it."""
        plain = self.code_id + self.secret
        return "-".join(plain[at : at + _GROUP] for at in range(0, len(plain), _GROUP))

    def key(self) -> bytes:
        """Derive the key of the MACs; takes a tenth of a second."""
        return hashlib.scrypt(
            self.secret.encode(),
            salt=_SALT + self.code_id.encode(),
            n=_COST,
            r=8,
            p=1,
            maxmem=64 << 20,
            dklen=KEY_BYTES,
        )


def request_mac(key: bytes, request: bytes) -> bytes:
    """Prove a request's octets."""
    return hmac.new(key, b"recorder\0" + request, hashlib.sha256).digest()


def answer_mac(key: bytes, request: bytes, answer: bytes) -> bytes:
    """Prove an answer's octets, and which request it answers."""
    asked = hashlib.sha256(request).digest()
    return hmac.new(key, b"archive\0" + asked + answer, hashlib.sha256).digest()


def holds(mac: bytes, expected: bytes) -> bool:
    """Compare two MACs in a time that tells nothing."""
    return hmac.compare_digest(mac, expected)
