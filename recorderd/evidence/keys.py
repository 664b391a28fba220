"""Signing keys: read with suspicion, never shown, and used for detached CAdES signatures.

Contract: ``Signer`` makes CAdES-B-B signatures that `openssl cms -verify -cades` accepts. A key file that
others may read is refused. Source: ETSI EN 319 122-1, RFC 5652, RFC 5035 (ESS signing-certificate-v2).
"""

from __future__ import annotations

import hashlib
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.x509.oid import NameOID

from recorderd.core.errors import KeyUnusable
from recorderd.evidence.cades import assemble, signed_attributes

CREDENTIAL_PREFIX: Final = "credential:"
RSA_MIN_BITS: Final = 3072
_SECRET_MAX_BYTES: Final = 64 * 1024


def resolve_secret(path: Path) -> Path:
    """Find where a secret lies: `credential:NAME` is one that systemd hands to the unit.

    Errors: KeyUnusable when a credential is asked for outside a unit that has any.
    Source: systemd.exec(5), LoadCredential.
    """
    if not path.name.startswith(CREDENTIAL_PREFIX):
        return path
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise KeyUnusable(path=path.name, reason="systemd gave this process no credentials")
    return Path(folder) / path.name.removeprefix(CREDENTIAL_PREFIX)


def read_secret_text(path: Path) -> str:
    """Read a secret of one line.

    Errors: KeyUnusable.
    """
    try:
        return _read_secret(path).decode().strip()
    except UnicodeDecodeError:
        raise KeyUnusable(path=path, reason="is not text") from None


def _read_secret(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as problem:
        raise KeyUnusable(path=path, reason=problem.strerror) from None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyUnusable(path=path, reason="is no regular file")
        if status.st_mode & 0o077:
            raise KeyUnusable(path=path, reason=f"mode {status.st_mode & 0o777:03o} lets others at it")
        if status.st_uid not in (0, os.geteuid()):
            raise KeyUnusable(path=path, reason=f"belongs to user {status.st_uid}")
        return stream.read(_SECRET_MAX_BYTES)


class Signer:
    """A private key with its certificate.

    Thread: any.
    """

    def __init__(
        self, *, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, certificate_pem: bytes
    ) -> None:
        self._key = key
        self.certificate_pem = certificate_pem
        chain = x509.load_pem_x509_certificates(certificate_pem)
        self._chain_der = [entry.public_bytes(serialization.Encoding.DER) for entry in chain]

    @classmethod
    def from_files(cls, *, key_file: Path, certificate_file: Path, now: datetime | None = None) -> Signer:
        """Read key and certificate.

        Errors: KeyUnusable: unreadable, open to others, of a kind we do not use, not matching, not valid now.
        """
        try:
            key = serialization.load_pem_private_key(_read_secret(key_file), password=None)
        except (ValueError, TypeError):
            raise KeyUnusable(path=key_file, reason="is no private key in PEM without passphrase") from None
        try:
            pem = certificate_file.read_bytes()
            leaf = x509.load_pem_x509_certificates(pem)[0]
        except OSError as problem:
            raise KeyUnusable(path=certificate_file, reason=problem.strerror) from None
        except ValueError:
            raise KeyUnusable(path=certificate_file, reason="is no certificate in PEM") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise KeyUnusable(path=key_file, reason="is neither ECDSA nor RSA")
        if isinstance(key, rsa.RSAPrivateKey) and key.key_size < RSA_MIN_BITS:
            raise KeyUnusable(path=key_file, reason=f"RSA of {key.key_size} bits, {RSA_MIN_BITS} are needed")
        if _public_der(key.public_key()) != _public_der(leaf.public_key()):
            raise KeyUnusable(path=key_file, reason=f"does not belong to {certificate_file.name}")
        moment = now or datetime.now(tz=UTC)
        if not leaf.not_valid_before_utc <= moment <= leaf.not_valid_after_utc:
            span = f"{leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d}"
            raise KeyUnusable(path=certificate_file, reason=f"is valid from {span} only")
        return cls(key=key, certificate_pem=pem)

    def sign_bytes(self, content: bytes, *, signing_time_utc_s: int) -> bytes:
        """Sign bytes; DER of a detached CAdES signature."""
        return self.sign_digest(hashlib.sha256(content).hexdigest(), signing_time_utc_s=signing_time_utc_s)

    def sign_digest(self, sha256_hex: str, *, signing_time_utc_s: int) -> bytes:
        """Sign content by its digest; DER of a detached CAdES signature."""
        attributes = signed_attributes(
            sha256_hex=sha256_hex, signing_time_utc_s=signing_time_utc_s, leaf_der=self._chain_der[0]
        )
        return assemble(
            chain_der=self._chain_der,
            attributes=attributes,
            algorithm=self._algorithm,
            signature=self._sign(hashlib.sha256(attributes.dump()).digest()),
        )

    @property
    def _algorithm(self) -> str:
        return "sha256_ecdsa" if isinstance(self._key, ec.EllipticCurvePrivateKey) else "sha256_rsa"

    def _sign(self, digest: bytes) -> bytes:
        prehashed = utils.Prehashed(hashes.SHA256())
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(digest, ec.ECDSA(prehashed))
        return self._key.sign(digest, padding.PKCS1v15(), prehashed)


def create_self_signed(*, common_name: str, valid_days: int = 3650) -> tuple[bytes, bytes]:
    """Make a P-256 key and a certificate that vouches for itself; both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(tz=UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=valid_days))
        .add_extension(usage, critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key_pem, certificate.public_bytes(serialization.Encoding.PEM)


def _public_der(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return b""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
