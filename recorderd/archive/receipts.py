"""Makes receipts: the archive's signed word about one recording."""

from __future__ import annotations

from collections.abc import Mapping

from recorderd.core.clock import NS_PER_S, utc_text
from recorderd.evidence.keys import Signer
from recorderd.wire.receipt import Receipt, ReceiptBody, ReceiptFile, encode_body, encode_receipt


def make_receipt(
    *,
    recording_id: str,
    recorder_id: str,
    manifest_sha256: str,
    sha256s: Mapping[str, str],
    archive_id: str,
    sequence: int,
    archived_utc_ns: int,
    signer: Signer,
) -> bytes:
    """Write and sign the receipt of a recording that stands in the store."""
    body = ReceiptBody(
        recording_id=recording_id,
        recorder_id=recorder_id,
        manifest_sha256=manifest_sha256,
        files=tuple(ReceiptFile(name=name, sha256=digest) for name, digest in sorted(sha256s.items())),
        archive_id=archive_id,
        sequence=sequence,
        archived_at=utc_text(archived_utc_ns),
    )
    signature = signer.sign_bytes(encode_body(body), signing_time_utc_s=archived_utc_ns // NS_PER_S)
    return encode_receipt(Receipt(body=body, signature=signature))
