"""To whom a recording is encrypted: X.509 certificates, looked at before the first call.

Contract: ``load_certificate`` gives a recipient or RecipientUnusable with what is wrong. Only public keys
may lie here: a file with a private key in it is refused. Validity is asked once, at load, where one that has
ended is an error of its own (``loading`` says what comes of it); a recording is never lost, nor left
unencrypted, because a certificate ends during the night.
Source: RFC 5280 section 4.2.1.3; RFC 5753 section 5 (keyAgreement), RFC 3560 section 5 (keyEncipherment).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from recorderd.core.errors import RecipientExpired, RecipientUnusable
from recorderd.evidence.strength import key_flaw

RECIPIENT_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientFacts:
    """What is to be told of somebody to whom a recording is encrypted."""

    kind: Literal["cms", "pgp"]
    name: str  # a certificate's subject; an OpenPGP key has none that anybody vouches for
    fingerprint: str
    expires_at: datetime | None  # None = never


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRecipient:
    """A certificate whose holder will be able to open a recording."""

    certificate: x509.Certificate
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey

    @property
    def fingerprint(self) -> str:
        """The certificate's SHA-256, hexadecimal."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def name(self) -> str:
        """Whose certificate it is, for people."""
        return f"{self.certificate.subject.rfc4514_string()} ({self.fingerprint[:16]})"

    @property
    def expires_at(self) -> datetime:
        """When the certificate ends."""
        return self.certificate.not_valid_after_utc

    def facts(self) -> RecipientFacts:
        """Tell of it."""
        return RecipientFacts(
            kind="cms",
            name=self.certificate.subject.rfc4514_string(),
            fingerprint=self.fingerprint,
            expires_at=self.expires_at,
        )


def read_public(path: Path) -> bytes:
    """Read a recipient's file.

    Errors: RecipientUnusable, also when a private key lies in it.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(RECIPIENT_MAX_BYTES + 1)
    except OSError as problem:
        raise RecipientUnusable(path=path, reason=problem.strerror) from None
    if len(content) > RECIPIENT_MAX_BYTES:
        raise RecipientUnusable(path=path, reason=f"is longer than {RECIPIENT_MAX_BYTES} octets")
    if b"PRIVATE KEY" in content:
        raise RecipientUnusable(path=path, reason="holds a private key, which must not lie on a recorder")
    return content


def load_certificate(
    path: Path, *, now: datetime | None = None, may_have_ended: bool = False
) -> CertificateRecipient:
    """Read one certificate and look whether it may be encrypted to.

    Errors: RecipientUnusable: unreadable, several in one file, not valid yet, made for something else, weak;
    RecipientExpired when it has ended, and nothing else is wrong with it.
    """
    moment = now or datetime.now(tz=UTC)
    pem = read_public(path)
    try:
        found = x509.load_pem_x509_certificates(pem)
        certificate = found[0]
        key = certificate.public_key()
        reason = _flaw(certificate, key, min(moment, certificate.not_valid_after_utc))
    except (ValueError, UnsupportedAlgorithm):
        raise RecipientUnusable(path=path, reason="is no certificate in PEM that we can read") from None
    if len(found) > 1:
        reason = f"holds {len(found)} certificates; give each recipient a file with only its own"
    if reason or not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise RecipientUnusable(path=path, reason=reason)
    if moment > certificate.not_valid_after_utc and not may_have_ended:
        raise RecipientExpired(path=path, reason=_span(certificate))
    return CertificateRecipient(certificate=certificate, public_key=key)


def _span(certificate: x509.Certificate) -> str:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return f"is valid from {begin:%Y-%m-%d} to {end:%Y-%m-%d} only"


def _flaw(certificate: x509.Certificate, key: object, now: datetime) -> str:
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        return _span(certificate)
    if flaw := key_flaw(key):
        return flaw
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return ""
    if isinstance(key, rsa.RSAPublicKey):
        return "" if usage.key_encipherment else "its key usage does not permit keyEncipherment"
    return "" if usage.key_agreement else "its key usage does not permit keyAgreement"
