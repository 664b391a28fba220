"""The side of the tap that the recording sees.

What the tap gives is named here by its shape, so that the two rooms need not know each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dsp.sender_reports import Heard
from dsp.shapes import BOOL, I64, U8
from recorderd.core.ids import StreamId
from recorderd.record.frames import WholePacket
from recorderd.record.reading import Packets


class Clocked(Protocol):
    """Where a stream lies in time (see ``tap.drain.StreamClock``)."""

    @property
    def started(self) -> bool: ...
    @property
    def origin_ns(self) -> int: ...
    @property
    def first_ticks(self) -> int: ...
    @property
    def end_ticks(self) -> int: ...


class Counted(Protocol):
    """What was counted for a stream (see ``tap.table.StreamStats``)."""

    @property
    def counters(self) -> dict[str, int]: ...
    @property
    def packets_lost(self) -> int: ...
    @property
    def ssrcs(self) -> tuple[int, ...]: ...
    @property
    def jitter_ns(self) -> int: ...
    @property
    def sources(self) -> tuple[str, ...]: ...


class Clocks(Protocol):
    """Where many streams lie in time, as columns (see ``tap.drain.StreamClocks``)."""

    @property
    def last_arrival_ns(self) -> I64: ...
    @property
    def last_heard_ns(self) -> I64: ...


class Lifted(Protocol):
    """Spans of one length of many streams (see ``tap.ring.Lifted``)."""

    @property
    def octets(self) -> U8: ...
    @property
    def laws(self) -> U8: ...
    def marks(self, number: int) -> U8: ...


class Runs(Protocol):
    """What of many streams came last without a gap (see ``tap.reading.Runs``)."""

    @property
    def start_ticks(self) -> I64: ...
    @property
    def end_ticks(self) -> I64: ...
    @property
    def laws(self) -> U8: ...


class Trend(Protocol):
    """How a stream's packets came over its life (see ``tap.trend.ArrivalTrend``)."""

    @property
    def position_ticks(self) -> I64: ...
    @property
    def delay_ns(self) -> I64: ...


class Explained(Protocol):
    """Why nothing came for a span of positions (see ``tap.causes.GapCause``)."""

    @property
    def stream(self) -> StreamId: ...
    @property
    def start_ticks(self) -> int: ...
    @property
    def end_ticks(self) -> int: ...
    @property
    def cause(self) -> str: ...


class Pressed(Protocol):
    """How far the event of a key has come (see ``tap.keys.KeyEvent``)."""

    @property
    def stream(self) -> StreamId: ...
    @property
    def key(self) -> str: ...
    @property
    def position_ticks(self) -> int: ...
    @property
    def duration_ticks(self) -> int: ...


class Source(Packets, Protocol):
    """The side of the tap that the recording sees."""

    @property
    def heard_until_ns(self) -> int:
        """Everything that had come by this moment is in the ring; monotonic."""
        ...

    @property
    def drains(self) -> int:
        """How often the tap had its turn."""
        ...

    @property
    def rendered_until_ns(self) -> int:
        """What had come by this moment was read, as the recording said."""
        ...

    @rendered_until_ns.setter
    def rendered_until_ns(self, until_ns: int) -> None: ...

    def slot_of(self, stream: StreamId) -> int:
        """Name a stream by its number, for columns."""
        ...

    def clock_of(self, stream: StreamId) -> Clocked:
        """Say where a stream lies in time."""
        ...

    def take_spans(self, slots: I64, starts: I64, *, length_ticks: int) -> Lifted:
        """Read spans of one length of many streams that have one pace, once."""
        ...

    def runs(self, slots: I64) -> Runs:
        """Say what of streams that have one pace came last without a gap."""
        ...

    def peek_spans(self, slots: I64, starts: I64, *, length_ticks: int) -> U8:
        """Copy spans of such runs; they can be taken yet."""
        ...

    def peek(self, stream: StreamId, *, start_ticks: int, end_ticks: int) -> tuple[U8, U8]:
        """Copy a span of the ring; it can be taken yet."""
        ...

    def peek_frames(self, stream: StreamId, *, start_ticks: int, end_ticks: int) -> Sequence[WholePacket]:
        """Give the packets of a span; they can be taken yet."""
        ...

    def clocks(self, slots: I64) -> Clocks:
        """Say where streams lie in time."""
        ...

    def recent_delay_ns(self, slots: I64) -> tuple[I64, BOOL]:
        """Give the lowest arrival less position of late, and whether it is known."""
        ...

    def arrival_trend(self, slot: int) -> Trend:
        """Give the lowest arrival less position over the whole stream."""
        ...

    def reported(self, slot: int) -> Heard:
        """Give what the stream's sender has said of its clocks."""
        ...

    def key_events(self) -> Sequence[Pressed]:
        """Take what was learnt since the last call of keys that were pressed."""
        ...

    def gap_causes(self) -> Sequence[Explained]:
        """Take what was learnt since the last call of why packets are missing."""
        ...

    def stats(self, stream: StreamId) -> Counted:
        """Return what was counted for a stream."""
        ...

    def end_stream(self, stream: StreamId) -> None:
        """Stop listening after the next drain."""
        ...

    def release_stream(self, stream: StreamId) -> None:
        """Forget a stream."""
        ...
