"""Files against what was promised of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recorderd.core.errors import DigestMismatch, EvidenceError
from recorderd.evidence.digest import sha256_file
from recorderd.evidence.verify import SIGNATURE_MAX_BYTES, SignerIdentity, TrustStore, verify_detached


def verify_digests(folder: Path, expected: Mapping[str, tuple[str, int]]) -> None:
    """Check that each file has the digest and the size given for its name.

    Errors: DigestMismatch; EvidenceError when a file is missing, not regular, or of another size.
    """
    for name, (digest, size_bytes) in expected.items():
        path = folder / name
        if path.name != name:
            raise EvidenceError(subject=name, reason="is no plain file name")
        if path.is_symlink() or not path.is_file():
            raise EvidenceError(subject=name, reason="missing, or no regular file")
        actual, actual_bytes = sha256_file(path)
        if actual != digest:
            raise DigestMismatch(subject=name, actual=actual, expected=digest)
        if actual_bytes != size_bytes:
            raise EvidenceError(subject=name, reason=f"{actual_bytes} octets, {size_bytes} were promised")


def verify_signed_file(
    path: Path, signature_path: Path, *, trust: TrustStore, subject: str
) -> SignerIdentity:
    """Check a file against its detached signature.

    Errors: SignatureInvalid, SignerUnknown, OSError.
    """
    digest, _ = sha256_file(path)
    with signature_path.open("rb") as stream:
        signature_der = stream.read(SIGNATURE_MAX_BYTES + 1)
    return verify_detached(signature_der, sha256_hex=digest, trust=trust, subject=subject)
