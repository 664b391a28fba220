"""Private keys: their kinds, how they are made and read, and what all of them can do, wherever they lie.

Contract: a key signs SHA-256 digests and shows its public half; nothing else of it is ever shown. A file that
others may read is refused (see ``secret_files``).
"""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from recorderd.core.errors import KeyUnusable
from recorderd.evidence.secret_files import read_secret
from recorderd.evidence.strength import RSA_MIN_BITS, UNREADABLE, key_flaw

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PREHASHED: Final = utils.Prehashed(hashes.SHA256())


class KeyKind(StrEnum):
    """What a key that we make may be."""

    P256 = "P-256"
    P384 = "P-384"
    RSA3072 = "RSA-3072"


class SigningKey(Protocol):
    """A private key.

    Thread: any.
    """

    @property
    def public(self) -> PublicKey:
        """Its public half."""

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest: ECDSA in DER, or RSA with PKCS #1 v1.5.

        Errors: KeyUnusable; KeyUnavailable when it may be usable later.
        """


class FileKey:
    """A private key in memory."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key

    @property
    def public(self) -> PublicKey:
        """Its public half."""
        return self._key.public_key()

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest."""
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(digest, ec.ECDSA(PREHASHED))
        return self._key.sign(digest, padding.PKCS1v15(), PREHASHED)


def make_key(kind: KeyKind) -> PrivateKey:
    """Make a private key in memory."""
    if kind is KeyKind.RSA3072:
        return rsa.generate_private_key(65537, RSA_MIN_BITS)
    return ec.generate_private_key(ec.SECP256R1() if kind is KeyKind.P256 else ec.SECP384R1())


def key_to_pem(key: PrivateKey) -> bytes:
    """Write a private key as its file holds it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(path: Path) -> FileKey:
    """Read a private key.

    Errors: KeyUnusable: unreadable, open to others, of a kind we do not use.
    """
    pem, key = read_secret(path), None
    with suppress(*UNREADABLE):
        key = serialization.load_pem_private_key(pem, password=None)
    if key is None:
        raise KeyUnusable(path=path, reason="is no private key in PEM without passphrase")
    if not isinstance(key, PrivateKey):
        raise KeyUnusable(path=path, reason="is neither ECDSA nor RSA")
    if flaw := key_flaw(key.public_key()):
        raise KeyUnusable(path=path, reason=flaw)
    return FileKey(key)


def load_public(pem: bytes, *, name: object) -> PublicKey:
    """Read a public key.

    Errors: KeyUnusable.
    """
    key = None
    with suppress(*UNREADABLE):
        key = serialization.load_pem_public_key(pem)
    if not isinstance(key, PublicKey):
        raise KeyUnusable(path=name, reason="is no public key in PEM of a kind that we use")
    return key


def public_to_pem(key: PublicKey) -> bytes:
    """Write a public key."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def spki(key: object) -> bytes:
    """Write a public key as DER; nothing for one of a kind that we do not use."""
    if not isinstance(key, PublicKey):
        return b""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def signature_algorithm(key: object) -> str:
    """Name the algorithm of a key's signatures, as asn1crypto does."""
    return "sha256_ecdsa" if isinstance(key, ec.EllipticCurvePublicKey) else "sha256_rsa"


def kind_name(key: object) -> str:
    """Name a public key's kind for people."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"secp256r1": "P-256", "secp384r1": "P-384"}.get(key.curve.name, key.curve.name)
    return type(key).__name__
