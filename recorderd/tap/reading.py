"""What the recording reads from the tap: where streams lie in time, their octets, frames and figures.

Contract: everything is taken once and by whoever owns the stream, or copied and left; columns serve many
streams in one call.
Thread: any; each call waits for the tap's lock, some milliseconds at most.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from dsp import sender_reports
from dsp.sender_reports import Heard, Report
from dsp.shapes import BOOL, I64, U8
from recorderd.core.ids import StreamId
from recorderd.tap.causes import GapCause
from recorderd.tap.frames import Frame
from recorderd.tap.intake import Intake
from recorderd.tap.keys import KeyEvent
from recorderd.tap.ring import Lifted
from recorderd.tap.table import UNSET, StreamStats
from recorderd.tap.trend import ArrivalTrend
from recorderd.wire import rtcp as wire


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamClock:
    """Where a stream lies in time; all in ticks of its position rate, positions as in the ring."""

    clock_rate_hz: int  # of the first codec
    octets_per_tick: int
    started: bool
    origin_ns: int  # when position 0 was sent, as the fastest packet so far tells; monotonic
    first_ticks: int
    end_ticks: int
    position_rate_hz: int = 0  # what positions are counted in: the first codec's clock, or 48 kHz
    framed: bool = False  # packets come by ``take_frames``


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamClocks:
    """Where many streams lie in time; see ``StreamClock``.

    Shapes: all (k,).
    """

    started: BOOL
    framed: BOOL
    origin_ns: I64
    first_ticks: I64
    end_ticks: I64
    last_arrival_ns: I64  # of samples; monotonic; UNSET before the first packet
    last_heard_ns: I64  # of anything, also of who says that it is silent
    clock_rate_hz: I64
    position_rate_hz: I64


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """What came last without a gap, by stream; see ``Ring.runs``.

    Shapes: all (k,).
    """

    start_ticks: I64
    end_ticks: I64
    laws: U8


class Reading(ABC):
    """The reading side of a tap, real or played."""

    def __init__(self, *, intake: Intake) -> None:
        self._intake = intake
        self._table, self._ring = intake.table, intake.ring
        self._lock = threading.Lock()
        self._reports: dict[int, Heard] = {}  # by slot

    @abstractmethod
    def slot_of(self, stream: StreamId) -> int:
        """Give the slot of a stream: by it the columns are asked for, until the stream is released."""

    @abstractmethod
    def _names(self) -> dict[int, StreamId]:
        """Give the streams that have slots."""

    def clock_of(self, stream: StreamId) -> StreamClock:
        """Say where a stream lies in time."""
        with self._lock:
            slot, table = self.slot_of(stream), self._table
            return StreamClock(
                clock_rate_hz=int(table.clock_rate_hz[slot]),
                octets_per_tick=int(table.octets_per_tick[slot]),
                started=bool(table.ssrc[slot] != UNSET),
                origin_ns=int(table.origin_ns[slot]),
                first_ticks=int(table.first_ticks[slot]),
                end_ticks=int(table.end_ticks[slot]),
                position_rate_hz=int(table.position_rate_hz[slot]),
                framed=bool(table.framed[slot]),
            )

    def clocks(self, slots: I64) -> StreamClocks:
        """Say where many streams lie in time."""
        with self._lock:
            table = self._table
            return StreamClocks(
                started=table.ssrc[slots] != UNSET,
                framed=table.framed[slots],
                origin_ns=table.origin_ns[slots],
                first_ticks=table.first_ticks[slots],
                end_ticks=table.end_ticks[slots],
                last_arrival_ns=table.last_arrival_ns[slots],
                last_heard_ns=np.maximum(table.last_arrival_ns[slots], table.last_beside_ns[slots]),
                clock_rate_hz=table.clock_rate_hz[slots],
                position_rate_hz=table.position_rate_hz[slots],
            )

    def take(self, stream: StreamId, *, start_ticks: int, end_ticks: int) -> tuple[U8, U8]:
        """Read octets and marks of a span once; packets that come for it afterwards are late.

        Shapes: -> two arrays ((end_ticks - start_ticks) * octets_per_tick,).
        """
        with self._lock:
            slot = self.slot_of(stream)
            scale = int(self._table.octets_per_tick[slot])
            return self._ring.take(slot, start_ticks * scale, end_ticks * scale)

    def take_spans(self, slots: I64, starts: I64, *, length_ticks: int) -> Lifted:
        """Read a span of equal length from each of many streams whose ticks take equally many octets.

        Shapes: slots, starts (k,), no slot twice -> Lifted of k spans of length_ticks * octets_per_tick.
        """
        with self._lock:
            scale = int(self._table.octets_per_tick[slots[0]]) if slots.size else 1
            return self._ring.take_spans(slots, starts * scale, length=length_ticks * scale)

    def runs(self, slots: I64) -> Runs:
        """Say what of many streams, whose ticks take equally many octets, came last without a gap."""
        with self._lock:
            scale = int(self._table.octets_per_tick[slots[0]]) if slots.size else 1
            starts, ends, laws = self._ring.runs(slots)
            return Runs(start_ticks=-(-starts // scale), end_ticks=ends // scale, laws=laws)

    def peek_spans(self, slots: I64, starts: I64, *, length_ticks: int) -> U8:
        """Copy spans that ``runs`` has told of; they stay where they are.

        Shapes: slots, starts (k,) -> (k, length_ticks * octets_per_tick).
        """
        with self._lock:
            scale = int(self._table.octets_per_tick[slots[0]]) if slots.size else 1
            return self._ring.peek_spans(slots, starts * scale, length=length_ticks * scale)

    def peek(self, stream: StreamId, *, start_ticks: int, end_ticks: int) -> tuple[U8, U8]:
        """Copy octets and marks of a span; they stay where they are.

        Shapes: -> two arrays ((end_ticks - start_ticks) * octets_per_tick,).
        """
        with self._lock:
            slot = self.slot_of(stream)
            scale = int(self._table.octets_per_tick[slot])
            return self._ring.peek(slot, start_ticks * scale, end_ticks * scale)

    def peek_frames(self, stream: StreamId, *, start_ticks: int, end_ticks: int) -> list[Frame]:
        """Give the whole packets of a span; they stay where they are."""
        with self._lock:
            frames = self._table.frames.get(self.slot_of(stream))
            return [] if frames is None else frames.peek(start_ticks=start_ticks, end_ticks=end_ticks)

    def take_frames(self, stream: StreamId, *, start_ticks: int, end_ticks: int) -> list[Frame]:
        """Read the whole packets whose place lies in a span, once and in order of their places.

        Those before ``start_ticks`` are thrown away; what comes for before ``end_ticks`` later is late.
        """
        with self._lock:
            frames = self._table.frames.get(self.slot_of(stream))
            return [] if frames is None else frames.take(start_ticks=start_ticks, end_ticks=end_ticks)

    def stats(self, stream: StreamId) -> StreamStats:
        """Return what was counted for a stream."""
        with self._lock:
            return self._intake.stats(self.slot_of(stream))

    def gap_causes(self) -> list[GapCause]:
        """Take what was noted since the last call about why spans are absent."""
        with self._lock:
            return self._intake.causes.take(self._names())

    def digits(self) -> list[tuple[StreamId, str]]:
        """Take the keys that were pressed on streams (RFC 4733) since the last call."""
        keys = self._intake.keys
        if not keys.digits:
            return []
        with self._lock:
            names = self._names()
            pressed = [(names[slot], key) for slot, key in keys.digits if slot in names]
            keys.digits.clear()
        return pressed

    def key_events(self) -> list[KeyEvent]:
        """Take what telephone events told since the last call: where keys began, how long they lasted."""
        with self._lock:
            return self._intake.keys.take_events(self._names(), self._table)

    def arrival_trend(self, slot: int) -> ArrivalTrend:
        """Give the lowest delay of every ten seconds of a stream."""
        with self._lock:
            return self._intake.trends.arrival_trend(slot)

    def recent_delay_ns(self, slots: I64) -> tuple[I64, BOOL]:
        """Give the lowest delay of the last half minute, and whether anything came in it.

        Shapes: slots (k,) -> (k,), (k,). A delay is an arrival less the position at its rate.
        """
        with self._lock:
            return self._intake.trends.recent_delay_ns(slots)

    def reported(self, slot: int) -> Heard:
        """Give what a stream's sender has said of its clocks by RTCP."""
        with self._lock:
            return self._reports.get(slot, Heard())

    def note_report(self, slot: int, report: wire.SenderReport, *, arrival_ns: int) -> None:
        """Take a sender report of the stream's own SSRC; the caller holds the lock."""
        if report.ssrc != self._table.ssrc[slot]:
            return
        taken = Report(
            ssrc=report.ssrc, ntp=report.ntp, timestamp=report.rtp_timestamp, arrival_ns=arrival_ns
        )
        codecs = self._table.codecs[slot].values()
        rates_hz = sorted({codec.clock_rate_hz for codec in codecs})
        heard = self._reports.get(slot, Heard())
        self._reports[slot] = sender_reports.follow(heard, taken, rates_hz=rates_hz)
