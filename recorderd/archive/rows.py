"""Rows of the catalogue, of recordings that can be read and of those that tell only their index.

Rule: what an index does not tell is empty, or zero where it is a number.
"""

from __future__ import annotations

from recorderd.archive.catalogue import Entry, entry_of
from recorderd.archive.chain_links import ChainState
from recorderd.core.outcomes import RECORDED
from recorderd.wire.frames import Offer
from recorderd.wire.manifest import Manifest, manifest_name
from recorderd.wire.receipt import parse_receipt
from recorderd.wire.recording_index import RecordingIndex


def row_of(
    stated: Manifest | RecordingIndex, *, manifest_sha256: str, size_bytes: int, path: str, archived_at: str
) -> Entry:
    """Make the row of a verified recording; chain and receipt are filled in by ``Catalogue.add``."""
    if isinstance(stated, Manifest):
        return entry_of(
            stated,
            manifest_sha256=manifest_sha256,
            size_bytes=size_bytes,
            path=path,
            archived_at=archived_at,
        )
    return Entry(
        id=stated.recording_id,
        recorder_id=stated.recorder_id,
        sequence=stated.sequence,
        previous_manifest_sha256=stated.previous_manifest_sha256,
        manifest_sha256=manifest_sha256,
        call_id="",
        caller="",
        callee="",
        direction="",
        extension="",
        trunk="",
        queue="",
        started_at=f"{stated.started_on}T00:00:00.000Z",  # no more is known than the day
        duration_s=0.0,
        channels=0,
        sample_rate_hz=0,
        size_bytes=size_bytes,
        state="archived" if stated.outcome == RECORDED else stated.outcome,
        chain=ChainState.PENDING,
        path=path,
        archived_at=archived_at,
        receipt=b"",
    )


def is_of(entry: Entry, offer: Offer) -> bool:
    """Tell whether what is offered again is what a row is of."""
    told = offer.statement
    if told.name == manifest_name(offer.recording_id):
        return told.sha256 == entry.manifest_sha256
    if not entry.receipt:  # it was erased since
        return False
    receipted = {row.name: row.sha256 for row in parse_receipt(entry.receipt).body.files}
    return receipted.get(told.name) == told.sha256
