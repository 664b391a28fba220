"""Signing keys: read with suspicion, never shown, and used for detached CAdES signatures.

Contract: ``Signer`` makes CAdES-B-B signatures that `openssl cms -verify -cades` accepts. A key file that
others may read is refused. No exception carries a secret, not even in its context.
Source: ETSI EN 319 122-1, RFC 5652, RFC 5035 (ESS signing-certificate-v2).
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.x509.oid import NameOID

from recorderd.core.errors import KeyUnusable
from recorderd.evidence.cades import CadesForm
from recorderd.evidence.strength import CHAIN_MAX, key_flaw, usage_flaw

CREDENTIAL_PREFIX: Final = "credential:"
_SECRET_MAX_BYTES: Final = 64 * 1024
_SPKI: Final = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
_ACL: Final = "system.posix_acl_access"
_ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP = 0x02, 0x04, 0x08  # acl(5); in linux/posix_acl.h


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
    text = _read_secret(path).decode(errors="replace")
    if "\N{REPLACEMENT CHARACTER}" in text:
        raise KeyUnusable(path=path, reason="is not text")
    return text.strip()


def _read_secret(path: Path) -> bytes:
    try:
        with open(path, "rb", opener=_open_at_once) as stream:
            _check_guarded(path, stream.fileno())
            return stream.read(_SECRET_MAX_BYTES)
    except OSError as problem:
        raise KeyUnusable(path=path, reason=problem.strerror) from None


def _check_guarded(path: Path, descriptor: int) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise KeyUnusable(path=path, reason="is no regular file")
    if status.st_mode & 0o037 or (status.st_mode & 0o040 and not _only_named_to_us(descriptor)):
        raise KeyUnusable(path=path, reason=f"mode {status.st_mode & 0o777:03o} lets others at it")
    if status.st_uid not in (0, os.geteuid()):
        raise KeyUnusable(path=path, reason=f"belongs to user {status.st_uid}")
    if status.st_size > _SECRET_MAX_BYTES:
        raise KeyUnusable(path=path, reason=f"is longer than {_SECRET_MAX_BYTES} octets")


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO must not stop us


def _only_named_to_us(descriptor: int) -> bool:
    """Tell whether the group bits are only the mask of an access list that names us and nobody else.

    Source: systemd's exec-credential.c, which leaves a credential root's and names its reader in such a list.
    """
    try:
        entries = os.getxattr(descriptor, _ACL)[4:]
    except OSError:
        return False
    for tag, rights, who in struct.iter_unpack("<HHI", entries):
        if rights and tag in (_ACL_GROUP_OBJ, _ACL_GROUP):
            return False
        if rights and tag == _ACL_USER and who not in (0, os.geteuid()):
            return False
    return True


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
        chain_der = list(dict.fromkeys(e.public_bytes(serialization.Encoding.DER) for e in chain))
        self._form = CadesForm(chain_der=chain_der, algorithm=self._algorithm)

    @classmethod
    def from_files(cls, *, key_file: Path, certificate_file: Path, now: datetime | None = None) -> Signer:
        """Read key and certificate.

        Errors: KeyUnusable: unreadable, open to others, of a kind we do not use, not matching, not valid now.
        """
        key = _load_key(key_file)
        pem, chain = _load_chain(certificate_file)
        leaf = chain[0]
        if key.public_key().public_bytes(*_SPKI) != leaf.public_key().public_bytes(*_SPKI):
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
        attributes = self._form.attributes(sha256_hex=sha256_hex, signing_time_utc_s=signing_time_utc_s)
        digest = hashlib.sha256(self._form.signed_octets(attributes)).digest()
        return self._form.write(attributes=attributes, signature=self._sign(digest))

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


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    pem, key = _read_secret(path), None
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = serialization.load_pem_private_key(pem, password=None)
    if key is None:
        raise KeyUnusable(path=path, reason="is no private key in PEM without passphrase")
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise KeyUnusable(path=path, reason="is neither ECDSA nor RSA")
    if flaw := key_flaw(key.public_key()):
        raise KeyUnusable(path=path, reason=flaw)
    return key


def _load_chain(path: Path) -> tuple[bytes, list[x509.Certificate]]:
    try:
        pem = path.read_bytes()
        chain = x509.load_pem_x509_certificates(pem)
        chain[0].public_key()
        flaw = usage_flaw(chain[0])
    except OSError as problem:
        raise KeyUnusable(path=path, reason=problem.strerror) from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusable(path=path, reason="is no certificate in PEM that we can read") from None
    if flaw:
        raise KeyUnusable(path=path, reason=flaw)
    if len(chain) > CHAIN_MAX + 1:
        reason = f"holds {len(chain)} certificates; wanted: the signer's, then at most {CHAIN_MAX} issuers"
        raise KeyUnusable(path=path, reason=reason)
    return pem, chain
