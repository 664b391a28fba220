"""The batches that the tap fills in turn, in memory that may outlive the process.

Contract: a shelf holds one batch, whose packets it came from, and the tap's columns as they stood before it
was taken in. A process that is killed at any instant, also within the kernel's call, leaves on the shelves
every packet that it had from the kernel for the last ``keep_ns``; ``standing`` gives them in order, and what
an earlier process has left counts from when this one begins, for nobody wrote it meanwhile. What is older is
used again first, or given back when nothing comes any more; the columns stay.
Without a memory file there is one shelf, and nothing outlives anybody.
Thread: the tap's. Linux only.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsp.shapes import I64
from recorderd.core.clock import NS_PER_S
from recorderd.tap.batch import Batch, batch_bytes

SHELVES: Final = 64
KEEP_NS: Final = 4 * NS_PER_S  # window, delay at their longest, and what waits for the disk
_GIVE_BACK_NS: Final = 3 * KEEP_NS
_PAGE: Final = 4096
_HEAD: Final = struct.Struct("=qqqq")  # number, when it was begun, whose columns stand, for how many slots
_AHEAD: Final = struct.Struct("=q")  # behind it
_SPAN_BYTES: Final = 32  # number, owner, slot, packets; the packets are in a column of their own
_OPEN: Final = -1  # packets of a span whose call into the kernel has not come back


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Packets of one stream that follow each other in a batch."""

    owner: int  # the stream's number, see ``owner_of``
    slot: int
    count: int


def owner_of(stream: str) -> int:
    """Number a stream so that no other one ever has its number."""
    return int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "big") >> 1 | 1


class Shelf:
    """One batch with its ledger."""

    def __init__(self, memory: Any, *, at: int, capacity: int, slots: int, rows: int) -> None:
        self._memory, self._at = memory, at
        octets = np.frombuffer(memory, dtype=np.uint8)
        spans, columns = capacity * _SPAN_BYTES, rows * slots * 8
        begin = at + _PAGE
        self._spans = octets[begin : begin + spans].view(np.int64).reshape(4, capacity)
        self.counts = memoryview(self._spans[3])  # packets of each span, as the kernel gives them
        begin += spans
        self._columns = octets[begin : begin + columns].view(np.int64).reshape(rows, slots)
        begin += columns
        self.batch = Batch(capacity=capacity, memory=octets[begin : begin + batch_bytes(capacity)])

    @property
    def number(self) -> int:
        """In which order it was filled; 0 = it is empty."""
        return int(_HEAD.unpack_from(self._memory, self._at)[0])

    @property
    def begun_ns(self) -> int:
        """When it was begun; monotonic."""
        return int(_HEAD.unpack_from(self._memory, self._at)[1])

    @property
    def ahead_ns(self) -> int:
        """By how much the wall clock was ahead of the monotonic one when it was filled last."""
        return int(_AHEAD.unpack_from(self._memory, self._at + _HEAD.size)[0])

    def date(self, ahead_ns: int) -> None:
        """Note by which setting of the wall clock the kernel dates what comes now."""
        _AHEAD.pack_into(self._memory, self._at + _HEAD.size, ahead_ns)

    def begin(self, number: int, now_ns: int, ahead_ns: int) -> None:
        """Forget what stands on it, and begin to fill it."""
        _HEAD.pack_into(self._memory, self._at, 0, 0, 0, 0)
        self.batch.blank()
        self.date(ahead_ns)
        _HEAD.pack_into(self._memory, self._at, number, now_ns, 0, 0)

    def expect(self, *, owners: I64, slots: I64) -> None:
        """Note whose packets the next calls into the kernel bring, one stream after the other.

        Shapes: owners, slots (k,).
        """
        rows = slice(0, slots.size)
        self._spans[1, rows], self._spans[2, rows], self._spans[3, rows] = owners, slots, _OPEN
        self._spans[0, rows] = self.number  # last: it makes them count

    def told(self, calls: int) -> I64:
        """Give how many packets each of the calls brought that were expected, as far as they were made.

        Shapes: -> (at most calls,).
        """
        counts: I64 = self._spans[3, :calls].copy()
        made: I64 = counts[counts != _OPEN]
        return made

    def save(self, columns: Sequence[NDArray[Any]], *, slots: int) -> None:
        """Keep the columns of the first ``slots`` as they stand before the batch is taken in.

        Shapes: columns (slots,) or (slots, k), of eight octets each.
        """
        row = 0
        for column in columns:
            for part in (column,) if column.ndim == 1 else column.T:
                self._columns[row, :slots] = part[:slots].view(np.int64)
                row += 1
        number, begun_ns, _, _ = _HEAD.unpack_from(self._memory, self._at)
        _HEAD.pack_into(self._memory, self._at, number, begun_ns, number, slots)

    def saved(self) -> I64 | None:
        """Give the columns; None when the process ended before it had saved them.

        Shapes: -> (rows, slots).
        """
        number, _, saved, slots = _HEAD.unpack_from(self._memory, self._at)
        return self._columns[:, :slots].copy() if number == saved else None

    def spans(self) -> list[Span]:
        """Read whose packets stand on it, and let its batch say how many they are."""
        standing = np.flatnonzero(self._spans[0] != self.number)
        rows = int(standing[0]) if standing.size else self.batch.capacity
        found: list[Span] = []
        used = 0
        for _, owner, slot, count in self._spans[:, :rows].T.tolist():
            brought = self.batch.filled(used) if count == _OPEN else count
            if brought:
                found.append(Span(owner=owner, slot=slot, count=brought))
            used += brought
        self.batch.used = used
        return found


class Shelves:
    """All shelves."""

    def __init__(
        self, *, capacity: int, slots: int, rows: int, descriptor: int | None = None, keep_ns: int = KEEP_NS
    ) -> None:
        """Begin; with a memory file's ``descriptor``, what stands there is kept if it is of this form."""
        self._capacity, self._slots, self._rows = capacity, slots, rows
        self._keep_ns = keep_ns
        self.outlives = descriptor is not None
        self._count = SHELVES if self.outlives else 1
        whole = _PAGE + capacity * _SPAN_BYTES + rows * slots * 8 + batch_bytes(capacity)
        self._step = (whole + _PAGE - 1) // _PAGE * _PAGE
        form = hashlib.sha256(repr((3, capacity, slots, rows, self._count, whole)).encode()).digest()
        size_bytes = _PAGE + self._count * self._step
        if descriptor is None:
            self._memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        else:
            if os.pread(descriptor, len(form), 0) != form:
                os.ftruncate(descriptor, 0)
            os.ftruncate(descriptor, size_bytes)
            self._memory = mmap.mmap(descriptor, size_bytes, flags=mmap.MAP_SHARED)
            self._memory[: len(form)] = form
        self._shelves: dict[int, Shelf] = {}
        self._last = 0  # the highest number given
        self._look_ns = self._since_ns = 0  # since when this process fills shelves

    def standing(self) -> list[Shelf]:
        """Give what stands there, in the order in which it was filled."""
        found = [
            self._shelf(place)
            for place in range(self._count)
            if _HEAD.unpack_from(self._memory, _PAGE + place * self._step)[0]
        ]
        found.sort(key=lambda shelf: shelf.number)
        self._last = found[-1].number if found else 0
        return found

    def next(self, now_ns: int, *, ahead_ns: int) -> Shelf:
        """Give a shelf to fill: the oldest if it is old or no other is empty, else an empty one."""
        self._last += 1
        self._since_ns = self._since_ns or now_ns
        filled = [(shelf.number, place) for place, shelf in self._shelves.items() if shelf.number]
        place = min(filled)[1] if filled else 0  # the numbers of those that stand have no hole
        if filled and self._age_ns(self._shelves[place], now_ns) < self._keep_ns:
            used = {place for _, place in filled}
            place = next((place for place in range(self._count) if place not in used), place)
        shelf = self._shelf(place)
        shelf.begin(self._last, now_ns, ahead_ns)
        return shelf

    def give_back(self, now_ns: int, *, but: Shelf, save: Callable[[Shelf], None]) -> None:
        """Give the memory of shelves back that have not been filled for long.

        The columns are to ``save`` on the one that is kept: else nobody could go on with streams that rest.
        """
        if not self.outlives or now_ns - self._look_ns < NS_PER_S:
            return
        self._look_ns = now_ns
        old = [
            place
            for place, shelf in self._shelves.items()
            if shelf is not but and shelf.number and self._age_ns(shelf, now_ns) > _GIVE_BACK_NS
        ]
        if old:
            save(but)
        for place in old:
            del self._shelves[place]
            self._memory.madvise(mmap.MADV_REMOVE, _PAGE + place * self._step, self._step)

    def _age_ns(self, shelf: Shelf, now_ns: int) -> int:
        """Say for how long what stands on it could be written: while no process ran, nobody did."""
        return now_ns - max(shelf.begun_ns, self._since_ns)

    def _shelf(self, place: int) -> Shelf:
        if place not in self._shelves:
            self._shelves[place] = Shelf(
                self._memory,
                at=_PAGE + place * self._step,
                capacity=self._capacity,
                slots=self._slots,
                rows=self._rows,
            )
        return self._shelves[place]
