"""The ring: payload octets addressed by RTP timestamp, beside a map of which octets came and how coded.

Contract: a stream owns a row, a power of two of octets. Position 0 is a little before its first packet;
positions grow by ``octets_per_tick`` per tick of the RTP clock and never wrap; the ring keeps those
from ``cursor`` to ``cursor + row``. ``write`` puts a batch of packets of many streams in place, ``extend``
those that go on exactly where the ones before ended; ``take`` copies a span out, clears it and moves the
cursor, ``take_spans`` does so for many streams at once; ``peek`` and ``peek_spans`` only copy. A mark of 0
means that the octet never came.
What ``extend`` writes is known as one run, by its two ends and one mark: as long as nothing is missing the
map is neither written nor read. Octets of a run have no marks in the map; whoever needs the map first lays
the run down in it.
Memory is reserved at start; a row costs none before its first packet and after its end: what a thousand
streams at once have touched must not stay taken when they are gone. A row of the map costs some only while
there are marks in it: a stream that begins, or has lost a packet, goes on as a run.
Thread: callers hold one lock (see ``tap.drain``).
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from dsp.shapes import BOOL, I64, U8
from recorderd.core.errors import RingFull
from recorderd.tap.runs import as_octets, blank_run, runs_at_any_octet, runs_in_rows, runs_of_marks

_MAP_NORESERVE: Final = 0x4000  # linux/mman.h; Python names it from 3.13 on
GRAIN_OCTETS: Final = 32_768  # 4.1 s of G.711; rows are powers of two of it


def _reserve(octets: int) -> mmap.mmap:
    """Reserve zeros; in small pages, of which a row has its own."""
    memory = mmap.mmap(-1, octets, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
    with contextlib.suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """Spans of one length of many streams.

    Shapes: octets (k, n); laws (k,), the mark that all octets of a span have, or 0.
    """

    octets: U8
    laws: U8
    _marks: Mapping[int, U8]  # of the spans that have not one mark throughout

    def marks(self, number: int) -> U8:
        """Give the marks of one span.

        Shapes: -> (n,).
        """
        known = self._marks.get(number)
        return np.full(self.octets.shape[1], self.laws[number], dtype=np.uint8) if known is None else known


class Ring:
    """All rows of all streams."""

    def __init__(self, *, slots: int, grains: int) -> None:
        self._memory = tuple(_reserve(grains * GRAIN_OCTETS) for _ in range(2))
        self._octets, self._marks = (np.frombuffer(memory, dtype=np.uint8) for memory in self._memory)
        self._grain_used: BOOL = np.zeros(grains, dtype=np.bool_)
        self._base: I64 = np.zeros(slots, dtype=np.int64)
        self.row: I64 = np.zeros(slots, dtype=np.int64)
        self.cursor: I64 = np.zeros(slots, dtype=np.int64)
        self._run_start: I64 = np.zeros(slots, dtype=np.int64)  # of what came without a gap
        self._run_end: I64 = np.zeros(slots, dtype=np.int64)
        self._run_mark: U8 = np.zeros(slots, dtype=np.uint8)
        self._mapped_to: I64 = np.zeros(slots, dtype=np.int64)  # no mark stands in the map from here on

    def open(self, slot: int, *, octets_per_s: int, ring_ms: int, least_ms: int | None = None) -> None:
        """Reserve a row of ``ring_ms`` or somewhat more; where there is no room, of ``least_ms`` at least.

        Errors: RingFull.
        """
        grains = _grains_of(octets_per_s * ring_ms)
        least = grains if least_ms is None else _grains_of(octets_per_s * least_ms)
        first = self._find(grains, last_try=grains <= least)
        while first is None:
            grains //= 2
            first = self._find(grains, last_try=grains <= least)
        self._grain_used[first : first + grains] = True
        self._base[slot] = first * GRAIN_OCTETS
        self.row[slot] = grains * GRAIN_OCTETS
        self.cursor[slot] = self._run_start[slot] = self._run_end[slot] = self._mapped_to[slot] = 0

    def close(self, slot: int) -> None:
        """Give a row and its memory back; whoever opens it next finds zeros.

        Source: madvise(2), MADV_DONTNEED of private anonymous memory.
        """
        base, row = int(self._base[slot]), int(self.row[slot])
        for memory in self._memory:
            memory.madvise(mmap.MADV_DONTNEED, base, row)
        self._grain_used[base // GRAIN_OCTETS : (base + row) // GRAIN_OCTETS] = False
        self.row[slot] = 0

    def begin_at(self, slot: int, octet: int) -> None:
        """Keep nothing before a position; an earlier one than the cursor changes nothing."""
        self._skip_to(slot, octet)

    def present(self, slots: I64, positions: I64) -> BOOL:
        """Tell for each packet whether its first octet is there already.

        Shapes: slots (n,), positions (n,) -> (n,).
        """
        there: BOOL = self._marks[self._base[slots] + (positions & (self.row[slots] - 1))] != 0
        return there | ((self._run_start[slots] <= positions) & (positions < self._run_end[slots]))

    def extend(
        self,
        slots: I64,
        positions: I64,
        *,
        packets: U8,
        rows: I64,
        offsets: I64,
        lengths: I64,
        starts: I64,
        marks: U8,
    ) -> None:
        """Put payloads in place that follow each other and what came before without a gap.

        Shapes: as in ``write``; the packets of a stream stand side by side from ``starts`` (k,) on; marks
        (k,), one for each stream. Nothing that lies at or behind the first of them came before.
        """
        owners = slots[starts]
        ends = np.append(starts[1:], slots.size) - 1
        begin, end = positions[starts], positions[ends] + lengths[ends]
        goes_on = (self._run_end[owners] == begin) & (self._run_mark[owners] == marks)
        for slot in owners[~goes_on & (self._run_end[owners] > self.cursor[owners])].tolist():
            self._lay_down(slot)
        self._run_start[owners] = np.where(goes_on, self._run_start[owners], begin)
        self._run_end[owners] = end
        self._run_mark[owners] = marks
        self._place(
            slots, positions, packets=packets, rows=rows, offsets=offsets, lengths=lengths, marks=None
        )

    def write(
        self, slots: I64, positions: I64, *, packets: U8, rows: I64, offsets: I64, lengths: I64, marks: U8
    ) -> None:
        """Put payloads in place; all must lie between cursor and cursor + row of their stream.

        Shapes: slots, positions, rows, offsets, lengths, marks (n,); packets (m, row_octets), where the
        n-th payload lies in row ``rows[n]`` at ``offsets[n]`` and is ``lengths[n]`` long.
        """
        for slot in np.unique(slots[self._run_end[slots] > self.cursor[slots]]).tolist():
            self._lay_down(slot)
        np.maximum.at(self._mapped_to, slots, positions + lengths)
        self._place(
            slots, positions, packets=packets, rows=rows, offsets=offsets, lengths=lengths, marks=marks
        )

    def _place(
        self,
        slots: I64,
        positions: I64,
        *,
        packets: U8,
        rows: I64,
        offsets: I64,
        lengths: I64,
        marks: U8 | None,
    ) -> None:
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
                    if marks is not None:
                        self._marks[piece] = marks[number]
            straight = np.flatnonzero(~wrapped)
            slots, at, rows = slots[straight], at[straight], rows[straight]
            offsets, lengths = offsets[straight], lengths[straight]
            marks = None if marks is None else marks[straight]
        target = self._base[slots] + at
        shapes = offsets * 65_536 + lengths
        if target.size and (shapes == shapes[0]).all():
            part = slice(int(offsets[0]), int(offsets[0] + lengths[0]))
            self._put(target, packets, rows, part, marks)
            return
        for shape in np.unique(shapes):  # one round per payload shape; nearly always a single one
            some = np.flatnonzero(shapes == shape)
            part = slice(int(offsets[some[0]]), int(offsets[some[0]] + lengths[some[0]]))
            self._put(target[some], packets, rows[some], part, None if marks is None else marks[some])

    def _put(self, target: I64, packets: U8, rows: I64, part: slice, marks: U8 | None) -> None:
        """Put the same part of many packets where each belongs."""
        length = part.stop - part.start
        payloads = runs_in_rows(packets, offset=part.start, length=length)
        all_of_them = rows.size == packets.shape[0] and bool((rows[1:] > rows[:-1]).all())
        runs_at_any_octet(self._octets, length)[target] = payloads if all_of_them else payloads[rows]
        if marks is not None:
            runs_at_any_octet(self._marks, length)[target] = runs_of_marks(length)[marks]

    def _lay_down(self, slot: int) -> None:
        """Put what is left of a run into the map, and forget the run."""
        low, high = max(int(self._run_start[slot]), int(self.cursor[slot])), int(self._run_end[slot])
        if low < high:
            for _, piece in self._pieces(slot, low, high):
                self._marks[piece] = self._run_mark[slot]
            self._mapped_to[slot] = max(self._mapped_to[slot], high)
        self._run_start[slot] = self._run_end[slot] = 0

    def take_spans(self, slots: I64, starts: I64, *, length: int) -> Lifted:
        """Do what ``take`` does, for one span of each of many streams; no stream may be named twice.

        Shapes: slots, starts (k,) -> Lifted of k spans.
        """
        of_run = (starts == self.cursor[slots]) & (self._run_start[slots] <= starts)
        of_run &= (starts + length <= self._run_end[slots]) & (length > 0)
        laws = np.where(of_run, self._run_mark[slots], 0).astype(np.uint8)
        at = starts & (self.row[slots] - 1)
        straight = of_run & (at + length <= self.row[slots])
        octets = self._lift(slots, at, length, straight)
        marks: dict[int, U8] = {}
        for number in np.flatnonzero(~straight).tolist():
            slot, start = int(slots[number]), int(starts[number])
            if of_run[number]:  # across the end of its row
                self._lift_pieces(slot, start, octets[number])
                continue
            octets[number], marks[number] = self.take(slot, start, start + length)
            if length and marks[number].min() == marks[number].max():
                laws[number] = marks[number][0]
        return Lifted(octets=octets, laws=laws, _marks=marks)

    def runs(self, slots: I64) -> tuple[I64, I64, U8]:
        """Say of each stream what came last without a gap: its ends, and its one mark; 0 = nothing did.

        Shapes: slots (k,) -> (k,), (k,), (k,).
        """
        starts, ends = np.maximum(self._run_start[slots], self.cursor[slots]), self._run_end[slots]
        return starts, ends, np.where(starts < ends, self._run_mark[slots], 0).astype(np.uint8)

    def peek_spans(self, slots: I64, starts: I64, *, length: int) -> U8:
        """Copy spans out that lie within runs, and leave everything as it is.

        Shapes: slots, starts (k,) -> (k, length).
        """
        at = starts & (self.row[slots] - 1)
        straight = at + length <= self.row[slots]
        where = np.where(straight, self._base[slots] + at, 0)
        octets = as_octets(runs_at_any_octet(self._octets, length)[where])
        for number in np.flatnonzero(~straight).tolist():  # across the end of its row
            start = int(starts[number])
            for low, piece in self._pieces(int(slots[number]), start, start + length):
                octets[number, low - start : low - start + piece.stop - piece.start] = self._octets[piece]
        return octets

    def _lift(self, slots: I64, at: I64, length: int, straight: BOOL) -> U8:
        """Copy spans of runs that begin at their cursor and lie in one piece; clear them, move on.

        Shapes: all (k,) -> (k, length); rows that are not straight hold anything.
        """
        if not straight.any():
            return np.zeros((slots.size, length), dtype=np.uint8)
        runs = runs_at_any_octet(self._octets, length)
        where = np.where(straight, self._base[slots] + at, 0)
        lifted = as_octets(runs[where])
        if not straight.all():
            slots, where = slots[straight], where[straight]
        runs[where] = blank_run(length)  # of a paused span nothing may stay in memory
        self.cursor[slots] += length
        return lifted

    def _lift_pieces(self, slot: int, start: int, octets: U8) -> None:
        """Fill ``octets`` with a span of a run that begins at the cursor, clear it, move on."""
        end = start + octets.size
        for at, piece in self._pieces(slot, start, end):
            octets[at - start : at - start + piece.stop - piece.start] = self._octets[piece]
            self._octets[piece] = 0
        self.cursor[slot] = end

    def take(self, slot: int, start: int, end: int) -> tuple[U8, U8]:
        """Copy octets and marks of [start, end) out, clear them, and move the cursor to ``end``.

        Positions before the cursor, and beyond what the row can hold, come as never received.
        Shapes: -> two arrays (end - start,).
        """
        octets, marks = self.peek(slot, start, end)
        self._skip_to(slot, end)
        return octets, marks

    def peek(self, slot: int, start: int, end: int) -> tuple[U8, U8]:
        """Copy octets and marks of [start, end) out, and leave everything as it is.

        Shapes: -> two arrays (end - start,).
        """
        octets = np.zeros(end - start, dtype=np.uint8)
        marks = np.zeros(end - start, dtype=np.uint8)
        cursor, row = int(self.cursor[slot]), int(self.row[slot])
        low, high = max(start, cursor), min(end, cursor + row)
        if low < high:
            for at, piece in self._pieces(slot, low, high):
                octets[at - start : at - start + piece.stop - piece.start] = self._octets[piece]
                if at < self._mapped_to[slot]:
                    marks[at - start : at - start + piece.stop - piece.start] = self._marks[piece]
            begin, stop = max(low, int(self._run_start[slot])), min(high, int(self._run_end[slot]))
            if begin < stop:
                marks[begin - start : stop - start] = self._run_mark[slot]
        return octets, marks

    def _skip_to(self, slot: int, end: int) -> None:
        cursor, row = int(self.cursor[slot]), int(self.row[slot])
        if end <= cursor:
            return
        for _, piece in self._pieces(slot, cursor, min(end, cursor + row)):
            self._octets[piece] = 0  # of a paused span nothing may stay in memory
        self._clear_map(slot, cursor, end)
        self.cursor[slot] = end

    def _clear_map(self, slot: int, cursor: int, end: int) -> None:
        """Take the marks up to ``end`` out of the map, and give its memory back with the last of them."""
        mapped_to = int(self._mapped_to[slot])
        if mapped_to <= cursor:
            return
        if mapped_to <= end:
            self._memory[1].madvise(mmap.MADV_DONTNEED, int(self._base[slot]), int(self.row[slot]))
            return
        for _, piece in self._pieces(slot, cursor, end):
            self._marks[piece] = 0

    def _pieces(self, slot: int, low: int, high: int) -> list[tuple[int, slice]]:
        base, row = int(self._base[slot]), int(self.row[slot])
        at = low & (row - 1)
        first = min(high - low, row - at)
        pieces = [(low, slice(base + at, base + at + first))]
        if first < high - low:
            pieces.append((low + first, slice(base, base + high - low - first)))
        return pieces

    def _find(self, grains: int, *, last_try: bool) -> int | None:
        free = np.flatnonzero(~self._grain_used)
        if grains == 1 and free.size:
            return int(free[0])
        for first in range(0, self._grain_used.size - grains + 1, grains):
            if not self._grain_used[first : first + grains].any():
                return first
        if last_try:
            raise RingFull(streams=int((self.row > 0).sum()))
        return None


def _grains_of(octets_by_ms: int) -> int:
    grains = 1
    while grains * GRAIN_OCTETS * 1000 < octets_by_ms:
        grains *= 2
    return grains
