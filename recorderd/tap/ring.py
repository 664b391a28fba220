"""The ring: payload octets addressed by RTP timestamp, beside a map of which octets came and how coded.

Contract: a stream owns a row, a power of two of octets. Position 0 is a little before its first packet;
positions grow by ``octets_per_tick`` per tick of the RTP clock and never wrap; the ring keeps those
from ``cursor`` to ``cursor + row``. ``write`` puts a batch of packets of many streams in place; ``take``
copies a span out, clears it and moves the cursor, ``take_spans`` does so for many streams at once. A mark
of 0 means that the octet never came.
Memory is reserved at start; a row costs none before its first packet and after its end: what a thousand
streams at once have touched must not stay taken when they are gone.
Thread: callers hold one lock (see ``tap.drain``).
"""

from __future__ import annotations

import contextlib
import mmap
from typing import Final

import numpy as np

from dsp.shapes import BOOL, I64, U8
from recorderd.core.errors import RingFull
from recorderd.tap.runs import as_octets, blank_run, runs_at_any_octet, runs_in_rows, runs_of_marks

GRAIN_OCTETS: Final = 32_768  # 4.1 s of G.711; rows are powers of two of it


def _reserve(octets: int) -> mmap.mmap:
    """Reserve zeros; in small pages, of which a row has its own."""
    memory = mmap.mmap(-1, octets, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


class Ring:
    """All rows of all streams."""

    def __init__(self, *, slots: int, grains: int) -> None:
        self._memory = tuple(_reserve(grains * GRAIN_OCTETS) for _ in range(2))
        self._octets, self._marks = (np.frombuffer(memory, dtype=np.uint8) for memory in self._memory)
        self._grain_used: BOOL = np.zeros(grains, dtype=np.bool_)
        self._base: I64 = np.zeros(slots, dtype=np.int64)
        self.row: I64 = np.zeros(slots, dtype=np.int64)
        self.cursor: I64 = np.zeros(slots, dtype=np.int64)

    def open(self, slot: int, *, octets_per_s: int, ring_ms: int) -> None:
        """Reserve a row of at least ``ring_ms``.

        Errors: RingFull.
        """
        grains = 1
        while grains * GRAIN_OCTETS * 1000 < octets_per_s * ring_ms:
            grains *= 2
        first = self._find(grains)
        self._grain_used[first : first + grains] = True
        self._base[slot] = first * GRAIN_OCTETS
        self.row[slot] = grains * GRAIN_OCTETS
        self.cursor[slot] = 0

    def close(self, slot: int) -> None:
        """Give a row and its memory back; whoever opens it next finds zeros.

        Source: madvise(2), MADV_DONTNEED of private anonymous memory.
        """
        base, row = int(self._base[slot]), int(self.row[slot])
        for memory in self._memory:
            memory.madvise(mmap.MADV_DONTNEED, base, row)
        self._grain_used[base // GRAIN_OCTETS : (base + row) // GRAIN_OCTETS] = False
        self.row[slot] = 0

    def present(self, slots: I64, positions: I64) -> BOOL:
        """Tell for each packet whether its first octet is there already.

        Shapes: slots (n,), positions (n,) -> (n,).
        """
        there: BOOL = self._marks[self._base[slots] + (positions & (self.row[slots] - 1))] != 0
        return there

    def write(
        self, slots: I64, positions: I64, *, packets: U8, rows: I64, offsets: I64, lengths: I64, marks: U8
    ) -> None:
        """Put payloads in place; all must lie between cursor and cursor + row of their stream.

        Shapes: slots, positions, rows, offsets, lengths, marks (n,); packets (m, row_octets), where the
        n-th payload lies in row ``rows[n]`` at ``offsets[n]`` and is ``lengths[n]`` long.
        """
        at = positions & (self.row[slots] - 1)
        wrapped = at + lengths > self.row[slots]
        if wrapped.any():
            for number in np.flatnonzero(wrapped).tolist():  # once in four seconds of a stream
                row = packets[rows[number], offsets[number] : offsets[number] + lengths[number]]
                for start, piece in self._pieces(
                    int(slots[number]), int(positions[number]), int(positions[number] + lengths[number])
                ):
                    begin = start - int(positions[number])
                    self._octets[piece] = row[begin : begin + piece.stop - piece.start]
                    self._marks[piece] = marks[number]
            straight = np.flatnonzero(~wrapped)
            slots, at, rows, marks = slots[straight], at[straight], rows[straight], marks[straight]
            offsets, lengths = offsets[straight], lengths[straight]
        target = self._base[slots] + at
        shapes = offsets * 65_536 + lengths
        if target.size and (shapes == shapes[0]).all():
            part = slice(int(offsets[0]), int(offsets[0] + lengths[0]))
            self._put(target, packets, rows, part, marks)
            return
        for shape in np.unique(shapes):  # one round per payload shape; nearly always a single one
            some = np.flatnonzero(shapes == shape)
            part = slice(int(offsets[some[0]]), int(offsets[some[0]] + lengths[some[0]]))
            self._put(target[some], packets, rows[some], part, marks[some])

    def _put(self, target: I64, packets: U8, rows: I64, part: slice, marks: U8) -> None:
        """Put the same part of many packets where each belongs."""
        length = part.stop - part.start
        payloads = runs_in_rows(packets, offset=part.start, length=length)
        all_of_them = rows.size == packets.shape[0] and bool((rows[1:] > rows[:-1]).all())
        runs_at_any_octet(self._octets, length)[target] = payloads if all_of_them else payloads[rows]
        runs_at_any_octet(self._marks, length)[target] = runs_of_marks(length)[marks]

    def take_spans(self, slots: I64, starts: I64, *, length: int) -> tuple[U8, U8]:
        """Do what ``take`` does, for one span of each of many streams; no stream may be named twice.

        Shapes: slots, starts (k,) -> two arrays (k, length).
        """
        at = starts & (self.row[slots] - 1)
        straight = (starts == self.cursor[slots]) & (at + length <= self.row[slots])
        if length > 0 and straight.all():
            return self._lift(slots, at, length)
        octets = np.zeros((slots.size, length), dtype=np.uint8)
        marks = np.zeros((slots.size, length), dtype=np.uint8)
        some = np.flatnonzero(straight)
        if length > 0 and some.size:
            octets[some], marks[some] = self._lift(slots[some], at[some], length)
        for number in np.flatnonzero(~straight).tolist():  # those at the end of their row, or out of step
            start = int(starts[number])
            octets[number], marks[number] = self.take(int(slots[number]), start, start + length)
        return octets, marks

    def _lift(self, slots: I64, at: I64, length: int) -> tuple[U8, U8]:
        """Copy spans that begin at their cursor and lie in one piece, clear them, move the cursors."""
        where = self._base[slots] + at
        nothing = blank_run(length)
        lifted = []
        for memory in (self._octets, self._marks):
            runs = runs_at_any_octet(memory, length)
            lifted.append(as_octets(runs[where]))
            runs[where] = nothing  # of a paused span nothing may stay in memory
        self.cursor[slots] += length
        return lifted[0], lifted[1]

    def take(self, slot: int, start: int, end: int) -> tuple[U8, U8]:
        """Copy octets and marks of [start, end) out, clear them, and move the cursor to ``end``.

        Positions before the cursor, and beyond what the row can hold, come as never received.
        Shapes: -> two arrays (end - start,).
        """
        octets = np.zeros(end - start, dtype=np.uint8)
        marks = np.zeros(end - start, dtype=np.uint8)
        cursor, row = int(self.cursor[slot]), int(self.row[slot])
        low, high = max(start, cursor), min(end, cursor + row)
        if low < high:
            for at, piece in self._pieces(slot, low, high):
                octets[at - start : at - start + piece.stop - piece.start] = self._octets[piece]
                marks[at - start : at - start + piece.stop - piece.start] = self._marks[piece]
        self._skip_to(slot, end)
        return octets, marks

    def _skip_to(self, slot: int, end: int) -> None:
        cursor, row = int(self.cursor[slot]), int(self.row[slot])
        if end <= cursor:
            return
        for _, piece in self._pieces(slot, cursor, min(end, cursor + row)):
            self._marks[piece] = 0
            self._octets[piece] = 0  # of a paused span nothing may stay in memory
        self.cursor[slot] = end

    def _pieces(self, slot: int, low: int, high: int) -> list[tuple[int, slice]]:
        base, row = int(self._base[slot]), int(self.row[slot])
        at = low & (row - 1)
        first = min(high - low, row - at)
        pieces = [(low, slice(base + at, base + at + first))]
        if first < high - low:
            pieces.append((low + first, slice(base, base + high - low - first)))
        return pieces

    def _find(self, grains: int) -> int:
        free = np.flatnonzero(~self._grain_used)
        if grains == 1 and free.size:
            return int(free[0])
        for first in range(0, self._grain_used.size - grains + 1, grains):
            if not self._grain_used[first : first + grains].any():
                return first
        raise RingFull(streams=int((self.row > 0).sum()))
