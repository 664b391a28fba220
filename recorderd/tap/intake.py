"""From parsed packets to the ring: sans-IO, so that any network can be played to it.

Contract: a packet ends in the ring or in exactly one counter. Reordered packets land where they belong, the
second copy of one is dropped, one that comes after its window was read is late, one that reaches beyond the
row is an overrun. The last packets of a drain that may be the first of a sender that starts anew are held and
looked at again with the next. Thread: callers hold one lock (see ``tap.drain``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from dsp.shapes import BOOL, I64, U8
from recorderd.tap.placing import Arrived, Restart, candidates, place
from recorderd.tap.ring import Ring
from recorderd.tap.table import EVENT_PAYLOAD, UNKNOWN_PAYLOAD, StreamTable
from recorderd.wire.rtp import RtpColumns

DIGITS_MAX: Final = 4_096  # keys that nobody has asked for yet; older ones are forgotten
KEYS: Final = "0123456789*#ABCD"  # by event code, RFC 4733 section 3.2
EVENT_BYTES: Final = 4
NOISE: Final = (13, 19)  # comfort noise: never a key


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packets:
    """Parsed packets with their octets.

    Shapes: slots, arrival_ns and all columns (n,), rows (n, row_octets).
    """

    slots: I64
    columns: RtpColumns
    rows: U8
    arrival_ns: I64

    def only(self, chosen: I64 | BOOL) -> _Packets:
        """Copy some of them."""
        names = [entry.name for entry in fields(RtpColumns)]
        columns = RtpColumns(**{name: getattr(self.columns, name)[chosen] for name in names})
        return _Packets(
            slots=self.slots[chosen],
            columns=columns,
            rows=self.rows[chosen],
            arrival_ns=self.arrival_ns[chosen],
        )

    @staticmethod
    def joined(parts: Sequence[_Packets]) -> _Packets:
        """Put packets behind each other."""
        names = [entry.name for entry in fields(RtpColumns)]
        columns = RtpColumns(
            **{name: np.concatenate([getattr(part.columns, name) for part in parts]) for name in names}
        )
        return _Packets(
            slots=np.concatenate([part.slots for part in parts]),
            columns=columns,
            rows=np.concatenate([part.rows for part in parts]),
            arrival_ns=np.concatenate([part.arrival_ns for part in parts]),
        )


class Intake:
    """The table and the ring of all streams."""

    def __init__(self, *, slots: int, grains: int) -> None:
        self.table = StreamTable(slots=slots)
        self.ring = Ring(slots=slots, grains=grains)
        self.digits: deque[tuple[int, str]] = deque(maxlen=DIGITS_MAX)  # slot and key, as they were pressed
        self._pressed: dict[int, int] = {}  # timestamp of the last event, by slot
        self._held: dict[int, _Packets] = {}  # by slot; counted as foreign meanwhile

    def accept(
        self,
        slots: I64,
        columns: RtpColumns,
        *,
        rows: U8,
        arrival_ns: I64,
        failed: BOOL | None = None,
    ) -> list[Restart]:
        """Take the packets of one drain; count those that do not belong, and note restarts.

        ``failed`` are SRTP packets that could not be verified: counted as such, never looked at.
        Shapes: slots, arrival_ns, failed and all columns (n,), rows (n, row_octets).
        """
        packets = _Packets(slots=slots, columns=columns, rows=rows, arrival_ns=arrival_ns)
        again = np.isin(slots, list(self._held)) if self._held else None
        if again is None or not again.any():
            return self._accept(packets, failed)
        restarts = self._accept(packets.only(~again), failed[~again] if failed is not None else None)
        return restarts + self._accept_again(
            packets.only(again), failed[again] if failed is not None else None
        )

    def forget(self, slot: int) -> None:
        """Forget what is held of a stream that has ended."""
        self._held.pop(slot, None)

    def _accept_again(self, packets: _Packets, failed: BOOL | None) -> list[Restart]:
        """Take packets of streams of which some are held, those first."""
        held = [self._held.pop(slot) for slot in np.unique(packets.slots).tolist()]
        for entry in held:
            self.table.counters["foreign"][entry.slots[0]] -= entry.slots.size
        count = sum(entry.slots.size for entry in held)
        if failed is not None:
            failed = np.concatenate([np.zeros(count, dtype=np.bool_), failed])
        return self._accept(_Packets.joined([*held, packets]), failed)

    def _accept(self, arrived: _Packets, failed: BOOL | None) -> list[Restart]:
        slots, columns, rows = arrived.slots, arrived.columns, arrived.rows
        table = self.table
        marks = table.marks[slots, columns.payload_type & 0x7F]
        per_tick = table.octets_per_tick[slots]
        whole = (columns.payload_bytes > 0) & (columns.payload_bytes % per_tick == 0)
        samples = (marks != UNKNOWN_PAYLOAD) & (marks != EVENT_PAYLOAD)
        malformed = ~columns.valid | (columns.valid & samples & ~whole)
        if failed is not None:
            table.count("srtp_failed", slots[failed])
            malformed &= ~failed
        table.count("malformed", slots[malformed])
        table.count("unknown_payload", slots[columns.valid & (marks == UNKNOWN_PAYLOAD)])
        events = columns.valid & (marks == EVENT_PAYLOAD)
        table.count("event_payload", slots[events])
        if events.any():
            self._note_digits(np.flatnonzero(events), slots, columns, rows=rows)
        kept = np.flatnonzero(columns.valid & samples & whole)
        if kept.size == 0:
            return []
        packets = Arrived(
            slots=slots[kept],
            sequence=columns.sequence[kept],
            timestamp=columns.timestamp[kept],
            ssrc=columns.ssrc[kept],
            arrival_ns=arrived.arrival_ns[kept],
            ticks=columns.payload_bytes[kept] // per_tick[kept],
        )
        ticks, ours, restarts = place(table, packets)
        table.count("foreign", packets.slots[~ours])
        for slot, last in candidates(packets, ours, restarts).items():
            self._held[slot] = arrived.only(kept[last])
        positions = ticks[ours] * per_tick[kept][ours]
        self._write(kept[ours], packets.slots[ours], positions, columns, rows=rows, marks=marks)
        return restarts

    def _note_digits(self, numbers: I64, slots: I64, columns: RtpColumns, *, rows: U8) -> None:
        """Note each key once, with the first packet of its event. Source: RFC 4733 section 2.3."""
        for number in numbers.tolist():  # per event packet: a key gives a dozen of them
            start = int(columns.payload_offset[number])
            if int(columns.payload_bytes[number]) != EVENT_BYTES or columns.payload_type[number] in NOISE:
                continue
            code, slot = int(rows[number, start]), int(slots[number])
            timestamp = int(columns.timestamp[number])
            if code < len(KEYS) and self._pressed.get(slot) != timestamp:
                self._pressed[slot] = timestamp
                self.digits.append((slot, KEYS[code]))

    def _write(
        self, numbers: I64, slots: I64, positions: I64, columns: RtpColumns, *, rows: U8, marks: U8
    ) -> None:
        table, ring = self.table, self.ring
        lengths = columns.payload_bytes[numbers]
        late = positions < ring.cursor[slots]
        beyond = positions + lengths > ring.cursor[slots] + ring.row[slots]
        table.count("late", slots[late])
        table.count("overrun", slots[beyond])
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
        chosen = numbers[fresh]
        ring.write(
            slots[fresh],
            positions[fresh],
            packets=rows,
            rows=chosen,
            offsets=columns.payload_offset[chosen],
            lengths=lengths[fresh],
            marks=marks[chosen],
        )
