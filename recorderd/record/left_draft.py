"""What another process has left of a draft, and what its journal knows of the audio."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass, replace
from typing import Final

from recorderd.evidence.draft_cipher import DraftKey
from recorderd.evidence.merkle import HASH_BYTES
from recorderd.record.journal_reading import CheckpointLine, Journal
from recorderd.record.proof_check import signed_hashes
from recorderd.wire.checkpoint import parse_checkpoint
from recorderd.wire.wav import WavEncoding, WavLayout

_KNOWN: Final = struct.Struct(">QI")  # frames, and their CRC-32


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftDraft:
    """A draft that another process has left, and how much of it counts."""

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


def known_audio(journal: Journal, key: DraftKey | None = None) -> KnownAudio:
    """Read what is known of the audio from the last signed checkpoint; of an encrypted draft by its ``key``.

    Errors: CheckpointFormatError; ProofBroken; ValueError; EnvelopeUnopened.
    """
    if not journal.checkpoints:
        return KnownAudio()
    lines = journal.checkpoints if key is None else [_opened(line, key) for line in journal.checkpoints]
    last = lines[-1]
    stands = not journal.notes.timeline.has_silence  # else it may have been wiped since
    return KnownAudio(
        hashes=signed_hashes(lines),
        frame_bytes=parse_checkpoint(last.content).frame_bytes,
        frames=last.frames if stands else 0,
        crc=last.crc,
    )


def seal_known(key: DraftKey, checkpoint: bytes, *, hashes: bytes, frames: int, crc: int) -> bytes:
    """Hide what is known of an encrypted draft's audio at a checkpoint: in clear it would tell of it."""
    return key.seal_note(_KNOWN.pack(frames, crc) + hashes, about=checkpoint)


def _opened(line: CheckpointLine, key: DraftKey) -> CheckpointLine:
    """Read a line as it would be of a draft in clear."""
    note = key.open_note(base64.b64decode(line.sealed, validate=True), about=line.content)
    frames, crc = _KNOWN.unpack_from(note)
    return replace(line, leaf_sha256s=note[_KNOWN.size :].hex(), frames=frames, crc=crc)
