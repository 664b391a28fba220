"""Secrets that people and programs show: made, hashed, compared. The only importer of argon2 and pyotp.

Contract: what is stored opens nothing by itself. Passwords are argon2id, and at most ``AT_ONCE`` are hashed
at a time, for each takes 64 MiB; random secrets of 256 bits are kept as SHA-256.
Source: RFC 9106 (argon2), RFC 6238 (TOTP), NIST SP 800-63B.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
import threading
import unicodedata
from typing import Final

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from recorderd.core.errors import PasswordUnfit

AT_ONCE: Final = 2
SHORTEST: Final = 12  # characters
LONGEST: Final = 256
TOTP_PERIOD_S: Final = 30
_DRIFT_STEPS: Final = 1  # a telephone's clock may be so many steps off
_HASHER: Final = PasswordHasher()  # argon2-cffi's: RFC 9106's second choice, argon2id with 64 MiB
_GATE: Final = threading.BoundedSemaphore(AT_ONCE)


def check_password_fit(password: str, *, account: str) -> None:
    """See that a new password may be one.

    Errors: PasswordUnfit.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise PasswordUnfit(reason=f"give {SHORTEST} to {LONGEST} characters")
    if account.casefold() in password.casefold():
        raise PasswordUnfit(reason="it holds the account's name")
    if len(set(password)) < 5:
        raise PasswordUnfit(reason="it is the same few characters again and again")


def hash_password(password: str) -> str:
    """Hash a password, with a salt of its own."""
    with _GATE:
        return _HASHER.hash(_normal(password))


def password_is(password: str, password_hash: str) -> bool:
    """Compare; takes as long when there is no hash."""
    with _GATE:
        try:
            _HASHER.verify(password_hash or _nobody(), _normal(password))
        except (VerificationError, InvalidHashError):
            return False
    return bool(password_hash)


def new_secret() -> str:
    """Make a random string of 256 bits, fit for URLs and headers."""
    return secrets.token_urlsafe(32)


def new_id() -> str:
    """Make a random name of 64 bits: lower-case hexadecimal."""
    return secrets.token_hex(8)


def is_id(text: str) -> bool:
    """Tell whether a text may be such a name."""
    return len(text) == 16 and set(text) <= set("0123456789abcdef")


def fingerprint_of(secret: str) -> str:
    """Give what is kept of a random secret."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def secret_is(secret: str, sha256: str) -> bool:
    """Compare without telling by time how much was right."""
    return hmac.compare_digest(fingerprint_of(secret), sha256)


def new_totp_secret() -> str:
    """Make a seed for a telephone's app: 160 bits in base32."""
    return pyotp.random_base32()


def totp_uri(secret: str, *, account: str, issuer: str) -> str:
    """Write the seed as apps read it."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=issuer)


def totp_step(secret: str, code: str, *, now_utc_s: int) -> int | None:
    """Say of which step a code is; None when it is wrong."""
    generator = pyotp.TOTP(secret)
    found = None
    here = now_utc_s // TOTP_PERIOD_S
    for step in range(here - _DRIFT_STEPS, here + _DRIFT_STEPS + 1):
        wanted = generator.at(step * TOTP_PERIOD_S)
        if hmac.compare_digest(wanted.encode(), code.encode(errors="replace")):
            found = step
    return found


def _normal(password: str) -> str:
    return unicodedata.normalize("NFKC", password.encode(errors="replace").decode())


@functools.cache
def _nobody() -> str:
    """Somebody whom we do not know costs as much time as somebody whom we know."""
    return _HASHER.hash(secrets.token_hex(16))
