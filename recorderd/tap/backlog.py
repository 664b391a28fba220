"""How much of what waits in the kernel is taken at a time, and how far that reaches.

Contract: a ring holds four seconds, the kernel's buffers of a socket ten at least. While the recording gets
no turn, packets stay in the kernel; after the process had none, they are taken up to one moment after the
other for all streams alike, whether they speak or pause, until the recording has read them.
Thread: the tap's.
"""

from __future__ import annotations

import contextlib
import socket
from array import array
from collections.abc import Sequence
from typing import Final

import numpy as np

from recorderd.core.clock import NS_PER_MS
from recorderd.tap.batch import Batch
from recorderd.tap.dating import Dating
from recorderd.tap.entries import Ear

BEHIND_NS: Final = 1_200 * NS_PER_MS  # what a drain that takes all may find; two that follow are 0.5 s apart
AHEAD_NS: Final = 2_700 * NS_PER_MS  # of the recording, before such a drain; with it 3.9 s of the ring's 4.1
PIECE_NS: Final = 500 * NS_PER_MS
PIECE_AHEAD_NS: Final = 2_100 * NS_PER_MS  # before a piece; more than the longest delay, to go on at all
AGAIN_MS: Final = 50  # between two pieces
EVERYTHING: Final = 1 << 62
GLANCE_PACKETS: Final = 32  # of one socket, a microsecond each; a piece has 25 of 20 ms
GLANCES: Final = 16  # at one socket within a piece: a flood on it holds nobody up
_EARS: Final = 16  # looked at together
_SO_PEEK_OFF: Final = 42


def take_until_ns(*, now_ns: int, heard_until_ns: int, rendered_until_ns: int) -> int:
    """Say up to which moment packets are taken now: ``EVERYTHING``, a moment, or 0 for none.

    ``heard_until_ns`` is the moment whose packets are all in the ring, ``rendered_until_ns`` what of them was
    read; 0 = nobody has read yet, and the ring was opened for all that waits.
    """
    if not rendered_until_ns:
        return EVERYTHING
    ahead_ns = heard_until_ns - rendered_until_ns
    if now_ns - heard_until_ns <= BEHIND_NS:
        return EVERYTHING if ahead_ns <= AHEAD_NS else 0
    return heard_until_ns + PIECE_NS if ahead_ns <= PIECE_AHEAD_NS else 0


class Glance:
    """What waits on sockets, seen without taking it."""

    def __init__(self, dating: Dating) -> None:
        self._dating = dating
        self._batch = Batch(capacity=_EARS * GLANCE_PACKETS)

    def packets_until(self, ears: Sequence[Ear], until_ns: int, *, since_ns: int) -> list[int]:
        """Count, for each socket, the packets that came up to a moment; ``GLANCE_PACKETS`` may be more."""
        found: list[int] = []
        for start in range(0, len(ears), _EARS):
            found += self._look(ears[start : start + _EARS], until_ns, since_ns)
        return found

    def _look(self, ears: Sequence[Ear], until_ns: int, since_ns: int) -> list[int]:
        for ear in ears:
            with contextlib.suppress(OSError):  # then the first is seen again and again: they go by number
                ear.entry.sockets.rtp.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)
        counts = memoryview(array("q", bytes(8 * len(ears))))
        self._batch.receive(
            [ear.descriptor for ear in ears], counts, most=[GLANCE_PACKETS] * len(ears), peek=True
        )
        came = self._dating.arrivals_ns(self._batch.stamps_utc_ns(), since_ns=since_ns) <= until_ns
        self._batch.clear()
        ends = np.cumsum(counts)
        parts = [came[end - count : end] for end, count in zip(ends.tolist(), counts, strict=True)]
        return [part.size - int(part[::-1].argmax()) if part.any() else 0 for part in parts]  # they queue
