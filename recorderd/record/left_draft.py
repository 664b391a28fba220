"""What another process has left of a draft in clear, and what its journal knows of the audio."""

from __future__ import annotations

from dataclasses import dataclass

from recorderd.evidence.merkle import HASH_BYTES
from recorderd.record.journal import Journal
from recorderd.record.proof_check import signed_hashes
from recorderd.wire.checkpoint import parse_checkpoint
from recorderd.wire.wav import WavEncoding, WavLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftDraft:
    """A draft in clear that another process has left, and how much of it counts."""

    layout: WavLayout
    frames: int

    @property
    def channels(self) -> int:
        """How many it has."""
        return self.layout.channels

    @property
    def encoding(self) -> WavEncoding:
        """What its samples are."""
        return self.layout.encoding


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAudio:
    """What was noted of a draft's audio while it was written."""

    hashes: bytes = b""  # of the leaves that were signed for
    frame_bytes: int = 0  # in these
    frames: int = 0  # of which the check is known; 0 = of none
    crc: int = 0

    @property
    def leaves(self) -> int:
        """How many leaves were signed for."""
        return len(self.hashes) // HASH_BYTES


def known_audio(journal: Journal) -> KnownAudio:
    """Read what is known of the audio from the last signed checkpoint.

    Errors: CheckpointFormatError; ProofBroken; ValueError.
    """
    if not journal.checkpoints:
        return KnownAudio()
    last = journal.checkpoints[-1]
    stands = not journal.notes.timeline.has_silence  # else it may have been wiped since
    return KnownAudio(
        hashes=signed_hashes(journal.checkpoints),
        frame_bytes=parse_checkpoint(last.content).frame_bytes,
        frames=last.frames if stands else 0,
        crc=last.crc,
    )
