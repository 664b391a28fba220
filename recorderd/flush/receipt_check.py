"""The receipt before it counts: signed by the archive, about this recording, with our digests.

Rule: nothing that fails here is stored, and nothing is released without what passed here.
"""

from __future__ import annotations

from recorderd.core.errors import DigestMismatch, EvidenceError
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.verify import TrustStore, verify_detached
from recorderd.flush.delivery import Delivery
from recorderd.wire.manifest import manifest_name
from recorderd.wire.receipt import ReceiptBody, parse_receipt


def check_receipt(raw: bytes, delivery: Delivery, *, recorder_id: str, trust: TrustStore) -> ReceiptBody:
    """Verify a receipt against the local copy's digests; return what it says.

    Errors: ReceiptFormatError on bytes that are no receipt; EvidenceError when it does not hold.
    """
    receipt = parse_receipt(raw)
    body, subject = receipt.body, f"receipt of {delivery.recording_id}"
    verify_detached(
        receipt.signature, sha256_hex=sha256_bytes(receipt.signed_bytes), trust=trust, subject=subject
    )
    for field, actual, expected in (
        ("recording_id", body.recording_id, delivery.recording_id),
        ("recorder_id", body.recorder_id, recorder_id),
    ):
        if actual != expected:
            raise EvidenceError(subject=subject, reason=f"{field} is {actual}, not {expected}")
    ours = {entry.name: entry.sha256 for entry in delivery.files}
    theirs = {entry.name: entry.sha256 for entry in body.files}
    # Of an encrypted manifest the index tells the digest, and the index's own is compared with the others.
    expected_manifest = ours.get(manifest_name(delivery.recording_id), body.manifest_sha256)
    if body.manifest_sha256 != expected_manifest:
        raise DigestMismatch(
            subject=f"manifest in the {subject}", actual=body.manifest_sha256, expected=expected_manifest
        )
    for name, expected in ours.items():
        actual = theirs.get(name, "absent")
        if actual != expected:
            raise DigestMismatch(subject=f"{name} in the {subject}", actual=actual, expected=expected)
    return body
