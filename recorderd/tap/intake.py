"""From parsed packets to the ring: sans-IO, so that any network can be played to it.

Contract: a packet ends in the ring, among the frames or in exactly one counter. Reordered packets land where
they belong, the second copy of one is dropped, one that comes after its window was read is late, one that
reaches beyond the row is an overrun. The last packets of a drain that may be the first of a sender that
starts anew are held and looked at again with the next. What has waited for long and is of several senders is
taken in turns, as if it had been drained in time. Thread: callers hold one lock (see ``tap.drain``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsp.modular import extend16
from dsp.shapes import BOOL, I64, U8
from recorderd.core.clock import NS_PER_S
from recorderd.core.gap_causes import LATE, RING_OVERRUN
from recorderd.tap.causes import EVENT, NOISE, UNKNOWN, Before, Causes, Sequenced
from recorderd.tap.framing import frame_times, store_frame
from recorderd.tap.keys import EVENT_BYTES, Keys
from recorderd.tap.packets import Packets, Placed, joined
from recorderd.tap.placing import JUMP_NS, Arrived, Restart, candidates, place
from recorderd.tap.ring import Ring
from recorderd.tap.sources import PORT_BITS, SourceBook, SourcePolicy, hosts
from recorderd.tap.steady import take_steady
from recorderd.tap.table import (
    COMFORT_NOISE,
    EVENT_PAYLOAD,
    FRAME_PAYLOAD,
    UNKNOWN_PAYLOAD,
    UNSET,
    StreamStats,
    StreamTable,
)
from recorderd.tap.trend import Trends
from recorderd.wire.rtp import RtpColumns

TOGETHER_NS: Final = NS_PER_S  # two drains that follow are half of it apart
TURN_NS: Final = NS_PER_S // 4  # of what has waited for longer, at a time


class Intake:
    """The table and the ring of all streams."""

    def __init__(
        self,
        *,
        slots: int,
        grains: int,
        source_policy: SourcePolicy = SourcePolicy.ANY,
        short_cuts: bool = True,
    ) -> None:
        self.table = StreamTable(slots=slots)
        self.ring = Ring(slots=slots, grains=grains)
        self.trends = Trends(slots=slots)
        self.causes = Causes()
        self.book = SourceBook()
        self.keys = Keys()
        self._policy = source_policy
        self._short_cuts = short_cuts  # without them every packet goes the long way, to the same end
        self._held: dict[int, tuple[Packets, int]] = {}  # by slot; counted as strangers: so many by address

    def accept(
        self,
        slots: I64,
        columns: RtpColumns,
        *,
        rows: U8,
        arrival_ns: I64,
        failed: BOOL | None = None,
        sources: I64 | None = None,
    ) -> list[Restart]:
        """Take the packets of one drain; count those that do not belong, and note restarts.

        ``failed`` are SRTP packets that could not be verified: counted as such, never looked at.
        Shapes: slots, arrival_ns, failed, sources and all columns (n,), rows (n, row_octets).
        """
        if slots.size == 0:
            return []
        packets = Packets(
            slots=slots,
            columns=columns,
            arrival_ns=arrival_ns,
            source=np.zeros_like(slots) if sources is None else sources,
            failed=np.zeros(slots.size, dtype=np.bool_) if failed is None else failed,
            row=np.arange(slots.size),
            rows=rows,
        ).grouped()
        waited_ns = arrival_ns.max() - packets.arrival_ns
        if waited_ns.max() <= TOGETHER_NS or not self._has_changes(packets):
            return self._take(packets)
        turns = waited_ns // TURN_NS
        return [row for turn in np.unique(turns)[::-1] for row in self._take(packets.only(turns == turn))]

    def _has_changes(self, packets: Packets) -> bool:
        """Tell whether a sender is followed by another one, or by itself with other timestamps."""
        slots, columns = packets.slots, packets.columns
        rate_hz = self.table.position_rate_hz[slots[1:]]
        moved_ticks = ((np.diff(columns.timestamp) + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
        moved_ns = moved_ticks * NS_PER_S // rate_hz - np.diff(packets.arrival_ns)
        changed = (np.diff(columns.ssrc) != 0) | (np.abs(moved_ns) > JUMP_NS)
        return bool((changed & (slots[1:] == slots[:-1])).any())

    def _take(self, packets: Packets) -> list[Restart]:
        """Take packets that came within a short while: a sender may start anew once in it."""
        restarts: list[Restart] = []
        if self._held:
            again = np.isin(packets.slots, list(self._held))
            if again.any():
                restarts = self._accept_again(packets.only(again))
                packets = packets.only(~again)
        if packets.slots.size and self._short_cuts:
            taken = take_steady(self.table, self.ring, self.trends, packets)
            if taken.all():
                return restarts
            if taken.any():
                packets = packets.only(~taken)
        return restarts + (self._accept(packets) if packets.slots.size else [])

    def columns(self) -> list[NDArray[Any]]:
        """List the columns by slot that a batch of packets changes; first the owner, then the ring's cursor.

        Shapes: each (slots,) or (slots, k), of eight octets each.
        """
        owner, *rest = self.table.columns()
        return [owner, self.ring.cursor, *rest, *self.trends.columns()]

    def open(self, slot: int) -> None:
        """Begin with a slot that was opened in the table."""
        self.trends.open(slot)

    def forget(self, slot: int) -> None:
        """Forget what is held of a stream that has ended."""
        self._held.pop(slot, None)
        self.causes.forget(slot)
        self.keys.forget(slot)
        self.table.forget(slot)

    def stats(self, slot: int) -> StreamStats:
        """Return what was counted for one slot."""
        return replace(
            self.table.stats(slot),
            jitter_ns=round(float(self.trends.jitter_ns[slot])),
            sources=tuple(self.book.text(key) for key in self.table.sources[slot]),
        )

    def is_welcome(self, slot: int, source: int) -> bool:
        """Tell whether the policy lets a stream listen to an address at all."""
        expected = int(self.table.signalled_host[slot])
        return self._policy is not SourcePolicy.STRICT or expected in (0, source >> PORT_BITS)

    def _accept_again(self, packets: Packets) -> list[Restart]:
        """Take packets of streams of which some are held, those first."""
        held = []
        for slot in np.unique(packets.slots).tolist():
            entry, refused = self._held.pop(slot)
            self.table.counters["source_refused"][slot] -= refused
            self.table.counters["foreign"][slot] -= entry.slots.size - refused
            held.append(entry)
        return self._accept(joined([*held, packets]).grouped())

    def _is_taken(self, slots: I64, positions: I64) -> BOOL:
        """Tell where something came, or was read."""
        table, ring = self.table, self.ring
        octets = positions * table.octets_per_tick[slots]
        taken = ~table.framed[slots] & ((octets < ring.cursor[slots]) | ring.present(slots, octets))
        for number in np.flatnonzero(table.framed[slots]).tolist():
            taken[number] = table.frames[int(slots[number])].is_taken(int(positions[number]))
        return taken

    def _is_elsewhere(self, slots: I64, source: I64) -> BOOL:
        """Tell which packets that do not belong come from where nobody was listened to."""
        elsewhere: BOOL = source != self.table.source[slots]
        return elsewhere if self._policy is SourcePolicy.LEARN else np.zeros(slots.size, dtype=np.bool_)

    def _accept(self, arrived: Packets) -> list[Restart]:
        table = self.table
        if self._policy is SourcePolicy.STRICT:
            arrived = self._signalled(arrived)
        slots, columns = arrived.slots, arrived.columns
        marks = table.marks[slots, columns.payload_type]
        per_tick = table.octets_per_tick[slots]
        framed = columns.valid & (marks == FRAME_PAYLOAD)
        whole = framed | (columns.payload_bytes % per_tick == 0)
        unknown = columns.valid & (marks == UNKNOWN_PAYLOAD)
        empty = columns.payload_bytes == 0  # padding at most: it keeps a path open
        events = columns.valid & ~unknown & (empty | (marks == EVENT_PAYLOAD))
        samples = columns.valid & ~events & ~unknown
        table.count("srtp_failed", slots[arrived.failed])
        table.count("malformed", slots[(~columns.valid & ~arrived.failed) | (samples & ~whole)])
        table.count("unknown_payload", slots[unknown])
        kept = np.flatnonzero(samples & whole)
        ssrc_before = table.ssrc.copy()
        before = Before(sequence=table.sequence_head.copy(), end_ticks=table.end_ticks.copy())
        restarts: list[Restart] = []
        placed = None
        if kept.size:
            timestamp, ticks = columns.timestamp[kept], columns.payload_bytes[kept] // per_tick[kept]
            if framed.any():
                frame_times(table, arrived, kept, timestamp=timestamp, ticks=ticks)
            packets = Arrived(
                slots=slots[kept],
                sequence=columns.sequence[kept],
                timestamp=timestamp,
                ssrc=columns.ssrc[kept],
                arrival_ns=arrived.arrival_ns[kept],
                ticks=ticks,
                source=arrived.source[kept],
            )
            learning = self._policy is SourcePolicy.LEARN
            positions, ours, restarts = place(table, packets, learning=learning, is_taken=self._is_taken)
            if framed.any():
                table.note_clocks(packets.slots)
            self._refuse(packets, ~ours)
            for slot, last in candidates(packets, ours, restarts).items():
                refused = self._is_elsewhere(packets.slots[last], packets.source[last])
                self._held[slot] = (arrived.only(kept[last]).detached(), int(refused.sum()))
            if ours.any():
                placed = Placed(
                    number=kept[ours], slots=slots[kept[ours]], positions=positions[ours], ticks=ticks[ours]
                )
                self._measure(arrived, placed)
        events = self._events(arrived, events)
        others = np.where(unknown, UNKNOWN, 0) + self._event_kinds(columns, events)
        self._follow(arrived, placed, others, before=before, ssrc_before=ssrc_before, restarts=restarts)
        if placed is not None:
            self._store(arrived, placed, framed=framed, marks=marks)
        return restarts

    def _signalled(self, arrived: Packets) -> Packets:
        """Leave out what comes from elsewhere than signalling said."""
        expected = self.table.signalled_host[arrived.slots]
        refused = (expected != 0) & (hosts(arrived.source) != expected)
        self.table.count("source_refused", arrived.slots[refused])
        return arrived.only(~refused) if refused.any() else arrived

    def _refuse(self, packets: Arrived, strangers: BOOL) -> None:
        """Count packets that do not belong."""
        slots = packets.slots[strangers]
        elsewhere = self._is_elsewhere(slots, packets.source[strangers])
        self.table.count("source_refused", slots[elsewhere])
        self.table.count("foreign", slots[~elsewhere])

    def _events(self, arrived: Packets, events: BOOL) -> BOOL:
        """Count key events and comfort noise, note the keys; leave out those of strangers."""
        if not events.any():
            return events
        slots = arrived.slots
        if self._policy is SourcePolicy.LEARN:
            ssrc, source = self.table.ssrc[slots], self.table.source[slots]
            strange = events & (ssrc != UNSET) & (arrived.columns.ssrc != ssrc) & (arrived.source != source)
            self.table.count("source_refused", slots[strange])
            events = events & ~strange
        self.table.count("event_payload", slots[events])
        np.maximum.at(self.table.last_beside_ns, slots[events], arrived.arrival_ns[events])
        self.keys.note(self.table, np.flatnonzero(events), arrived)
        return events

    @staticmethod
    def _event_kinds(columns: RtpColumns, events: BOOL) -> I64:
        """Tell key events from noise, which may have a type of its own at other rates, or no payload at all.

        Shapes: all (n,). Source: RFC 4733 section 2.3 (four octets each), RFC 3389 section 3.
        """
        keys = (columns.payload_bytes > 0) & (columns.payload_bytes % EVENT_BYTES == 0)
        keys &= ~np.isin(columns.payload_type, COMFORT_NOISE)
        return np.where(events, np.where(keys, EVENT, NOISE), 0)

    def _measure(self, arrived: Packets, placed: Placed) -> None:
        """Take delays and senders' addresses of the packets that belong."""
        table, slots = self.table, placed.slots
        arrival_ns, source = arrived.arrival_ns[placed.number], arrived.source[placed.number]
        starts = np.flatnonzero(np.append(True, slots[1:] != slots[:-1]))
        ends = np.append(starts[1:], slots.size) - 1
        delay_ns = arrival_ns - placed.positions * NS_PER_S // table.position_rate_hz[slots]
        self.trends.take(
            slots[starts],
            starts,
            delay_ns=delay_ns,
            arrival_ns=arrival_ns,
            last_ticks=placed.positions[ends],
        )
        for number in np.flatnonzero(source != table.source[slots]).tolist():  # nearly never
            table.hear_from(int(slots[number]), int(source[number]))

    def _follow(
        self,
        arrived: Packets,
        placed: Placed | None,
        others: I64,
        *,
        before: Before,
        ssrc_before: I64,
        restarts: list[Restart],
    ) -> None:
        """Have the gaps between packets explained."""
        table, slots, columns = self.table, arrived.slots, arrived.columns
        begins = {restart.slot: restart.position_ticks for restart in restarts}
        for slot in np.flatnonzero((ssrc_before == UNSET) & (table.ssrc != UNSET)).tolist():
            begins.setdefault(slot, int(table.first_ticks[slot]))
        for slot, position in begins.items():
            before.sequence[slot] = table.sequence_base[slot] - 1
            before.end_ticks[slot] = position
            table.missing[slot] = table.quiet[slot] = 0
        belongs = (others != 0) & (columns.ssrc == table.ssrc[slots])
        closed = (others != 0) & (columns.ssrc == ssrc_before[slots]) & np.isin(slots, list(begins))
        if belongs.any() or closed.any():
            self._count_beside(slots, columns.sequence, belongs=belongs, closed=closed)
        start_ticks, end_ticks = np.zeros_like(slots), np.zeros_like(slots)
        if placed is not None:
            current = columns.ssrc[placed.number] == table.ssrc[placed.slots]
            for restart in restarts:
                mine = slots == restart.slot
                belongs &= ~mine
                current &= (placed.slots != restart.slot) | (placed.positions >= restart.position_ticks)
            start_ticks[placed.number] = placed.positions
            end_ticks[placed.number] = placed.positions + placed.ticks
            belongs[placed.number[current]] = True
        some = np.flatnonzero(belongs)
        if some.size:
            packets = Sequenced(
                slots=slots[some],
                sequence=columns.sequence[some],
                kind=others[some],
                start_ticks=start_ticks[some],
                end_ticks=end_ticks[some],
                marker=columns.marker[some],
            )
            self.causes.follow(table, packets, before)

    def _count_beside(self, slots: I64, sequence: I64, *, belongs: BOOL, closed: BOOL) -> None:
        """Count packets without samples that have a number in their stream's sequence, each once.

        ``closed`` are those of a sequence that a new one has followed. Those from before a stream's first
        samples have no number in it, nor have those of other senders: they hide no loss.
        """
        table = self.table
        extended = extend16(sequence, near=table.sequence_head[slots])
        numbered = closed | (belongs & (extended >= table.sequence_base[slots]))
        known = np.unique(np.stack([slots[numbered], extended[numbered]]), axis=1)
        table.beside += np.bincount(known[0], minlength=table.slots)

    def _store(self, arrived: Packets, placed: Placed, *, framed: BOOL, marks: U8) -> None:
        of_frames = framed[placed.number]
        if of_frames.any():
            for number in np.flatnonzero(of_frames).tolist():
                store_frame(self.table, self.causes, arrived, placed, number)
            if of_frames.all():
                return
            rest = ~of_frames
            placed = Placed(
                number=placed.number[rest],
                slots=placed.slots[rest],
                positions=placed.positions[rest],
                ticks=placed.ticks[rest],
            )
        self._write(arrived, placed, marks)

    def _write(self, arrived: Packets, placed: Placed, marks: U8) -> None:
        table, ring, slots, columns = self.table, self.ring, placed.slots, arrived.columns
        lengths = columns.payload_bytes[placed.number]
        positions = placed.positions * table.octets_per_tick[slots]
        late = positions < ring.cursor[slots]
        beyond = positions + lengths > ring.cursor[slots] + ring.row[slots]
        self._note_outside(placed, late, "late", LATE)
        self._note_outside(placed, beyond, "overrun", RING_OVERRUN)
        fits = np.flatnonzero(~late & ~beyond)
        if fits.size == 0:
            return
        _, first = np.unique((slots[fits] << 44) + positions[fits], return_index=True)
        again = np.ones(fits.size, dtype=np.bool_)
        again[first] = False
        again |= ring.present(slots[fits], positions[fits])
        table.count("duplicate", slots[fits[again]])
        fresh = fits[~again]
        table.count("received", slots[fresh])
        table.counters["octets"] += np.bincount(
            slots[fresh], weights=lengths[fresh], minlength=table.slots
        ).astype(np.int64)
        chosen = placed.number[fresh]
        ring.write(
            slots[fresh],
            positions[fresh],
            packets=arrived.rows,
            rows=arrived.row[chosen],
            offsets=columns.payload_offset[chosen],
            lengths=lengths[fresh],
            marks=marks[chosen],
        )

    def _note_outside(self, placed: Placed, outside: BOOL, counter: str, cause: str) -> None:
        self.table.count(counter, placed.slots[outside])
        for number in np.flatnonzero(outside).tolist():
            start = int(placed.positions[number])
            self.causes.note(int(placed.slots[number]), start, start + int(placed.ticks[number]), cause)
