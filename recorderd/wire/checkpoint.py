"""A checkpoint of the running proof: how far a recording had come, with the root over its audio so far.

Contract: canonical JSON, which is what the signature is over; a checkpoint names the one before it by its
hash, and says why leaves that it told of may be others now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from recorderd.core.errors import CheckpointFormatError
from recorderd.core.ids import is_safe_id
from recorderd.wire.canonical import JsonReader, canonical_json, field_values

NONE_BEFORE: Final = "0" * 64  # the previous hash of a recording's first checkpoint
GOES_ON: Final = "goes_on"
PAUSED: Final = "paused"  # silence was put over what a late pause or stop is about
WIDENED: Final = "widened"  # a silent channel was added to what there was
CUT: Final = "cut"  # what lies behind a stop was dropped
REASONS: Final = (GOES_ON, PAUSED, WIDENED, CUT)
_LIMIT_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What is signed while a call goes on."""

    recording_id: str
    recorder_id: str
    at: str  # RFC 3339, UTC
    reason: str  # one of REASONS
    previous_checkpoint_sha256: str
    frame_bytes: int  # of one sample of all channels
    leaf_samples: int
    leaves: int
    samples: int  # leaves * leaf_samples
    root_sha256: str
    keyed: bool = False  # leaves are HMACs under a key derived from the draft's; written only when they are


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Write a checkpoint as it is signed."""
    table = field_values(checkpoint)
    if not checkpoint.keyed:
        del table["keyed"]
    return canonical_json(table)


def parse_checkpoint(raw: bytes) -> Checkpoint:
    """Read a checkpoint.

    Errors: CheckpointFormatError, also when the octets are not in canonical form.
    """
    reader = JsonReader.parse(raw, error=CheckpointFormatError, limit_bytes=_LIMIT_BYTES)
    checkpoint = Checkpoint(
        recording_id=reader.text("recording_id"),
        recorder_id=reader.text("recorder_id"),
        at=reader.text("at"),
        reason=reader.text("reason"),
        previous_checkpoint_sha256=reader.sha256("previous_checkpoint_sha256"),
        frame_bytes=reader.integer("frame_bytes", minimum=1, maximum=1 << 16),
        leaf_samples=reader.integer("leaf_samples", minimum=1, maximum=1_000_000),
        leaves=reader.integer("leaves", minimum=1),
        samples=reader.integer("samples", minimum=1),
        root_sha256=reader.sha256("root_sha256"),
        keyed=reader.boolean("keyed") if reader.has("keyed") else False,
    )
    reader.done()
    if not is_safe_id(checkpoint.recording_id):
        raise reader.bad("recording_id", "not an id")
    if checkpoint.reason not in REASONS:
        raise reader.bad("reason", f"{checkpoint.reason!r} is unknown")
    if checkpoint.samples != checkpoint.leaves * checkpoint.leaf_samples:
        raise reader.bad("samples", "not those of the leaves")
    if encode_checkpoint(checkpoint) != raw:
        raise reader.bad("document", "not in canonical form")
    return checkpoint
