"""A block of the tail on its way to the disk's thread, where what must rest encrypted is sealed.

Contract: no plain octet of a recording that rests encrypted comes to the disk: it waits in memory, as audio
for its draft does, and is sealed under the draft's own key as the blocks that would follow in its container.
Thread: made by the recording's, sealed by the disk's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recorderd.record import tail_block
from recorderd.record.files import RecordingFiles
from recorderd.record.tail_block import SEALED_HEAD
from recorderd.record.tail_shadow import Ahead

_LOOK_BACK_BYTES: Final = 1 << 22  # of a container: whoever has written more since the last sync does without


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """A row that is still to be sealed.

    Shapes: row ROW (1,).
    """

    row: NDArray[Any]
    files: RecordingFiles
    at_frame: int  # of the draft, where the audio ahead begins
    ahead: Ahead
    notes: bytes


@dataclass(slots=True, kw_only=True)
class TailBlock(tail_block.TailBlock):
    """A block, and what is to be sealed for it."""

    unsealed: list[Unsealed] = field(default_factory=list)

    @property
    def waiting_bytes(self) -> int:
        """Octets that it holds in memory."""
        return self.content_bytes + sum(one.ahead.frames.nbytes for one in self.unsealed)

    def seal(self, *, synced: int) -> None:
        """Seal what waits; what its draft has got beyond meanwhile is left out.  # thread: the disk's"""
        for one in self.unsealed:
            content = _sealed(one, number=self.number, synced=synced)
            if content is not None:
                self.add(one.row, np.frombuffer(content, dtype=np.uint8)[None, :])
        self.unsealed.clear()


def _sealed(one: Unsealed, *, number: int, synced: int) -> bytes | None:
    sealed = one.files.sealed_ahead(one.ahead.frames, at_frame=one.at_frame)
    if sealed is None:
        return None
    ends = one.files.tail_ends
    known = max((end for block, end in ends.items() if block <= synced), default=sealed.blocks_at)
    for block in [block for block, end in ends.items() if end < known]:
        del ends[block]
    ends[number] = sealed.position
    if sealed.position - known > _LOOK_BACK_BYTES:
        return None
    before = os.pread(sealed.descriptor, sealed.position - known, known)
    return SEALED_HEAD.pack(known) + before + sealed.octets + one.notes
