"""What the disk must hold of a draft's samples: a check over all of them, and the leaves of the proof.

Contract: ``took`` is told every frame in order. Checks of the last beginnings are kept, so that a change near
the end needs no reading of the whole file. ``changed_from`` tells from which leaf on the tree is another than
when ``seen`` was called. No I/O: whoever needs audio read back gives the reading.
The check is a CRC-32, for a disk or a memory that fails; what guards against people is the sha256 of the
whole file, and its signature.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final

import numpy as np
from isal.isal_zlib import crc32

from recorderd.evidence.audio_proof import AudioLeaves
from recorderd.record.left_draft import KnownAudio

Blocks = Callable[[int, int], Iterator[memoryview]]  # reads frames back, whole ones, the caller's to change

_BEGINNINGS_KEPT: Final = 32  # a wipe that reaches further back reads the whole file
_LEAVES_KEPT: Final = 64  # seconds of hashes; a wipe further back hashes the whole file again
_BEGINNING: Final = Struct("=qI")  # frames, and the check of so many: half of what a tuple takes


class DraftCheck:
    """The check of one draft's samples; ``frame_bytes`` of all channels, one leaf a second.

    Thread: the draft's.
    """

    def __init__(self, *, sample_rate_hz: int, frame_bytes: int) -> None:
        self.crc = 0
        self.changed_from = 0
        self.leaves = AudioLeaves(sample_rate_hz * frame_bytes)
        self._leaf_frames, self._frame_bytes = sample_rate_hz, frame_bytes
        self._beginnings = deque[bytes](maxlen=_BEGINNINGS_KEPT)

    def read_again(self, known: KnownAudio, *, frames: int, blocks: Blocks) -> None:
        """Learn what stands there of another process; what is known of it already is not read.

        Errors: OSError.
        """
        signed = known.hashes
        fits = known.frame_bytes == self._frame_bytes and 0 < known.frames <= frames
        self.leaves = AudioLeaves.go_on(self.leaves.leaf_bytes, signed if fits else b"")
        start, self.crc = (known.frames, known.crc) if fits else (0, 0)
        for block in blocks(self.leaves.whole * self._leaf_frames, frames):
            self.leaves.add(block)
        for block in blocks(start, frames):
            self.crc = crc32(block, self.crc)
        if known.frame_bytes == self._frame_bytes:
            same = self.leaves.hashes()[: len(signed)] == signed
            self.changed_from = known.leaves if same else 0

    def took(self, octets: memoryview, *, at_frame: int) -> None:
        """Take the next frames.

        Shapes: octets one-dimensional.
        """
        self._beginnings.append(_BEGINNING.pack(at_frame, self.crc))
        self.crc = crc32(octets, self.crc)
        self.leaves.add(octets)

    def seen(self) -> None:
        """Count from now on which leaves change."""
        self.changed_from = self.leaves.whole

    def forget_noted(self) -> int:
        """Hold the hashes of leaves no more that changed last long ago; say how many are not held."""
        noted = max(0, self.changed_from - _LEAVES_KEPT)
        self.leaves.forget(noted)
        return noted

    def with_silence(
        self, octet: int, *, start: int, end: int, frames: int, blocks: Blocks
    ) -> tuple[int, int]:
        """Check ``frames`` as they are read back, and as they are with silence from ``start`` to ``end``."""
        at, old = self._beginning_before(start)
        new = old
        for block in blocks(at, frames):
            old = crc32(block, old)
            octets = np.frombuffer(block, dtype=np.uint8)
            low, high = ((frame - at) * self._frame_bytes for frame in (start, end))
            octets[max(0, low) : max(0, high)] = octet
            new = crc32(octets.data, new)
            at += len(block) // self._frame_bytes
        return old, new

    def cut_to(self, kept: int, *, frames: int, blocks: Blocks) -> tuple[int, int]:
        """Check ``frames`` as they are read back, and the first ``kept`` of them."""
        at, old = self._beginning_before(kept)
        new = old
        for block in blocks(at, frames):
            old = crc32(block, old)
            new = crc32(block[: max(0, (kept - at) * self._frame_bytes)], new)
            at += len(block) // self._frame_bytes
        return old, new

    def hash_again(self, start: int, *, frames: int, blocks: Blocks) -> None:
        """Hash the leaves anew from the one on in which frame ``start`` lies.

        Errors: OSError.
        """
        leaf = self.leaves.keep(start // self._leaf_frames)
        self.changed_from = min(self.changed_from, leaf)
        for block in blocks(leaf * self._leaf_frames, frames):
            self.leaves.add(block)

    def _beginning_before(self, frames: int) -> tuple[int, int]:
        """Find the check of the longest known beginning of at most ``frames``; forget longer ones."""
        while self._beginnings:
            known, crc = _BEGINNING.unpack(self._beginnings[-1])
            if known <= frames:
                return known, crc
            self._beginnings.pop()
        return 0, 0
