"""Going on with what a tap of an earlier process has left on its shelves.

Contract: the streams that go on are open again; ``restore`` brings them to where that process was and plays
what it had from the kernel once more, each packet once. Of a stream nothing is kept before ``needed_ticks``:
so far it has been written; but for whole packets, of which one may reach beyond that. What was not on the
shelves any more is told as lost, and noted as such; where they are of another form that is all of it.
Delays of the past are not known any more: what a stream tells of its clock begins anew.
Thread: before the tap's begins. Packets of streams that do not go on are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsp.shapes import I64
from recorderd.core.clock import NS_PER_MS, NS_PER_S, Clock
from recorderd.core.events import EventLog
from recorderd.core.gap_causes import RESTART
from recorderd.core.ids import StreamId
from recorderd.tap.entries import OpenStream, Spans
from recorderd.tap.intake import Intake
from recorderd.tap.ports import SocketPair
from recorderd.tap.shelves import Shelf, Shelves, owner_of
from recorderd.tap.sources import FIRST_V6, PORT_BITS
from recorderd.tap.table import UNSET
from recorderd.tap.taking import Taking

STAND_BEFORE_NS: Final = NS_PER_S // 2  # that packets may have waited in the kernel
RING_MS: Final = 16_000  # what came while nobody was there, and what was not written yet; at least
RING_MAX_MS: Final = 60_000  # the kernel's queue holds less by default
_WAIT_NS: Final = RING_MAX_MS * NS_PER_MS  # of a packet in the kernel, before a shelf took it; at most
REACH_MS: Final = 200  # that a whole packet may begin before what is needed, and reach into it
PACKETS_PER_S: Final = 100  # of a sender, at most
_UNTIL_READ_MS: Final = 5_000  # from the restart until the recording reads


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOff:
    """How far the recording of a stream had come."""

    needed_ticks: int | None  # position; what lies before is written. None = as far as the shelves go back
    ssrcs: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()
    before: StreamId | None = None  # its name so far, where it goes on as another stream
    needed_ns: int = 0  # when ``needed_ticks`` was, as its recording has placed it; monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class _Going:
    """A stream that goes on."""

    entry: OpenStream
    left: LeftOff


class Restoring(Taking):
    """The side of a tap that goes on with another's."""

    _open: dict[StreamId, OpenStream]
    shelves: Shelves

    def __init__(self, *, intake: Intake, clock: Clock, log: EventLog) -> None:
        super().__init__(intake=intake, clock=clock, log=log)
        self._nobody = OpenStream(
            stream=StreamId(""), slot=self._table.slots - 1, owner=0, sockets=SocketPair.closed()
        )

    def stands_since_ns(self) -> int:
        """Say when the first packet that stands on a shelf can have come; monotonic. 0 = none stands.

        Packets that had waited in the kernel for long came long before their shelf was begun.
        """
        found_ns = list[int]()
        for shelf in self._standing():
            found_ns.append(shelf.begun_ns - STAND_BEFORE_NS)
            if shelf.spans():
                longest_ns = shelf.begun_ns - _WAIT_NS
                came_ns = self._dating.arrivals_ns(shelf.batch.stamps_utc_ns(), since_ns=longest_ns)
                found_ns.append(max(longest_ns, int(came_ns.min())))
        return min(found_ns, default=0)

    def restore(self, streams: Mapping[StreamId, LeftOff]) -> dict[StreamId, int]:
        """Go on with streams that are open again; say how many ticks of which are lost."""
        going = {
            owner_of(left.before or stream): _Going(entry=self._open[stream], left=left)
            for stream, left in streams.items()
        }
        shelves = self._standing()
        saved = [shelf.saved() for shelf in shelves]
        lost: dict[StreamId, int] = {}
        with self._lock:
            for owner, one in going.items():
                if (frames := self._table.frames.get(one.entry.slot)) is not None:
                    frames.make_room(one.entry.room_ms)
                missing = self._begin(one, _column_of(saved[0], owner)) if shelves else 0
                if missing:
                    lost[one.entry.stream] = missing
        for number, shelf in enumerate(shelves):
            self._replay(shelf, going)
            after = saved[number + 1] if number + 1 < len(saved) else None
            with self._lock:
                for owner, one in going.items():
                    row = _column_of(after, owner)
                    needed = self._needed(one)
                    if row is not None and needed is not None:
                        self._ring.begin_at(one.entry.slot, min(needed, int(row[1])))
        with self._lock:
            for one in going.values():
                self._keep_from(one)
                if missing := self._expect(one):
                    lost[one.entry.stream] = missing
            self._intake.keys.digits.clear()  # what was asked for by them has been dealt with
        return lost

    def _standing(self) -> list[Shelf]:
        """Give what stands there, and remember how it is dated: the wall clock may have been set since."""
        shelves = self.shelves.standing()
        for shelf in shelves:
            self._dating.remember(shelf.ahead_ns)
        return shelves

    def _begin(self, one: _Going, row: I64 | None) -> int:
        """Bring a stream to where it was before the first shelf; return how many ticks are lost."""
        slot, table = one.entry.slot, self._table
        if row is None:  # it was opened later: all that came of it stands on the shelves
            return 0
        host, owner, at = int(table.signalled_host[slot]), int(table.owner[slot]), 0
        for column in self._intake.columns():
            width = 1 if column.ndim == 1 else column.shape[1]
            part: NDArray[np.int64] = row[at : at + width]
            column[slot] = part.view(column.dtype)[0] if width == 1 else part.view(column.dtype)
            at += width
        table.owner[slot] = owner
        table.go_on_mapping(slot)
        self._ring.cursor[slot] = 0
        needed = self._needed(one)
        self._ring.begin_at(slot, int(row[1]) if needed is None else min(needed, int(row[1])))
        if one.entry.crypto is not None and table.ssrc[slot] != UNSET:
            index = int(table.sequence_head[slot])
            sent = int(table.expected_before[slot]) + index - int(table.sequence_base[slot])
            one.entry.crypto.go_on(ssrc=int(table.ssrc[slot]), index=index, wraps_most=(sent >> 16) + 1)
        if one.left.before and table.ssrc[slot] != UNSET:  # its counts are told elsewhere
            self._count_anew(slot)
        table.signalled_host[slot] = host  # hosts of IPv6 have other numbers now
        if int(table.source[slot]) >> PORT_BITS >= FIRST_V6:
            table.source[slot] = 0
        if table.ssrc[slot] != UNSET:
            table.ssrcs[slot] = list(one.left.ssrcs) or [int(table.ssrc[slot])]
        keys = (self._intake.book.key_of(_parsed(source)) for source in one.left.sources)
        table.sources[slot] = list(keys)
        end, wanted = int(table.end_ticks[slot]), one.left.needed_ticks
        frames = table.frames.get(slot)
        if frames is not None:
            frames.cursor = end if wanted is None else min(end, wanted)
        if wanted is None:
            return 0
        missing = max(0, end - wanted)
        self._intake.causes.note(slot, wanted, wanted + missing, RESTART)
        return missing

    def _count_anew(self, slot: int) -> None:
        """Let a stream begin where it stands: what came before is on no shelf."""
        table = self._table
        for column in table.counters.values():
            column[slot] = 0
        table.drops_blamed[slot] = table.expected_before[slot] = table.beside[slot] = 0
        table.sequence_base[slot] = table.sequence_head[slot] + 1
        table.first_ticks[slot] = table.end_ticks[slot]

    def _replay(self, shelf: Shelf, going: Mapping[int, _Going]) -> None:
        if shelf.saved() is None:  # the process ended before it had taken it in
            with self._lock:
                shelf.save(self._intake.columns(), slots=self._table.slots)
        stood = shelf.spans()
        if not stood:
            return
        found = [going.get(span.owner) for span in stood]
        entries = [one.entry if one is not None else self._nobody for one in found]
        spans = Spans(
            entries=entries,
            slots=np.array([entry.slot for entry in entries], dtype=np.int64),
            counts=np.array([span.count for span in stood], dtype=np.int64),
        )
        self._process(spans, shelf.batch, since_ns=shelf.begun_ns - _WAIT_NS, quiet=True)

    def _keep_from(self, one: _Going) -> None:
        slot, needed, wanted = one.entry.slot, self._needed(one), one.left.needed_ticks
        if needed is None or wanted is None:
            return
        self._ring.begin_at(slot, needed)
        frames = self._table.frames.get(slot)
        if frames is not None:
            begin = max(0, wanted - REACH_MS * int(self._table.position_rate_hz[slot]) // 1000)
            frames.take(start_ticks=begin, end_ticks=begin)

    def _expect(self, one: _Going) -> int:
        """Let a stream of which no shelf tells go on where its recording has it; say what may be lost."""
        slot, table, wanted = one.entry.slot, self._table, one.left.needed_ticks
        if not wanted or table.ssrc[slot] != UNSET:
            return 0
        rate_hz = int(table.position_rate_hz[slot])
        missing = max(0, self._clock.mono_ns() - one.left.needed_ns) * rate_hz // NS_PER_S
        table.origin_ns[slot] = one.left.needed_ns - wanted * NS_PER_S // rate_hz
        if one.entry.crypto is not None:
            packets_most = wanted * PACKETS_PER_S // rate_hz
            ssrc = (0, *one.left.ssrcs)[-1]
            one.entry.crypto.go_on(ssrc=ssrc, index=0, wraps_most=(packets_most >> 16) + 1)
        self._intake.causes.note(slot, wanted, wanted + missing, RESTART)
        return missing

    def _needed(self, one: _Going) -> int | None:
        """Say from which octet on a stream is wanted."""
        wanted = one.left.needed_ticks
        return None if wanted is None else wanted * int(self._table.octets_per_tick[one.entry.slot])


def ring_ms_of(behind_ns: int) -> int:
    """Say how much a stream is to have room for whose recording is so far behind."""
    return min(RING_MAX_MS, max(RING_MS, behind_ns // NS_PER_MS + _UNTIL_READ_MS))


def _column_of(saved: I64 | None, owner: int) -> I64 | None:
    """Find what was saved of one stream.

    Shapes: saved (rows, slots) -> (rows,).
    """
    if saved is None:
        return None
    found = np.flatnonzero(saved[0] == owner)
    return np.ascontiguousarray(saved[:, found[0]]) if found.size else None


def _parsed(source: str) -> tuple[str, int]:
    host, _, port = source.rpartition(":")
    return host.strip("[]"), int(port)
