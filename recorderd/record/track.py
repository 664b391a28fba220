"""One stream on its way into the recording: where it lies, what is missing, how loud it is.

Contract: ``read`` or ``skip`` is called with adjoining spans of the session. ``read`` gives exactly that many
samples: the decoded ones where packets came, digital silence elsewhere; ``keep`` takes them into the stream's
account. ``skip`` throws the octets away undecoded. The stream's place is fixed once, when its first packets
are due, whatever becomes of them; from then on the RTP timestamp alone decides. Samples are counted from the
session's start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np

from dsp import g711, l16, levels
from dsp.runs import absent_runs
from dsp.shapes import I16, I64, U8
from recorderd.core.clock import NS_PER_S
from recorderd.core.ids import StreamId
from recorderd.core.messages import Encoding, StreamEnd, StreamOpened
from recorderd.record.gaps import (
    BEFORE_FIRST,
    DOUBLED,
    NOT_RECEIVED,
    after_last,
    append_gap,
    overlay,
    within,
)
from recorderd.wire.manifest import Gap, StreamEntry

LEVELS_KEPT: Final = 32  # windows whose levels can still be taken back: 16 s


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
    def last_arrival_ns(self) -> int: ...


class Source(Protocol):
    """The side of the tap that the recording sees."""

    @property
    def heard_until_ns(self) -> int:
        """Everything that had come by this moment is in the ring; monotonic."""
        ...

    def slot_of(self, stream: StreamId) -> int:
        """Name a stream by its number, for columns."""
        ...

    def clock_of(self, stream: StreamId) -> Clocked:
        """Say where a stream lies in time."""
        ...

    def take_spans(self, slots: I64, starts: I64, *, length_ticks: int) -> tuple[U8, U8]:
        """Read spans of one length of many streams that have one pace, once."""
        ...

    def take(self, stream: StreamId, *, start_ticks: int, end_ticks: int) -> tuple[U8, U8]:
        """Read a span of the ring once."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one stream brought for a span.

    Shapes: samples (n,) int16.
    """

    start: int
    samples: I16
    absent: tuple[tuple[int, int], ...]  # from, to
    doubled: tuple[tuple[int, int], ...] = ()  # silenced: another leg of the party brought the same

    @property
    def end(self) -> int:
        """The first sample that is not of this piece."""
        return self.start + int(self.samples.shape[0])

    def silenced(self, start: int, end: int) -> Piece:
        """Silence a part that another leg brought."""
        samples = self.samples.copy()
        samples[start - self.start : end - self.start] = 0
        return replace(self, samples=samples, doubled=(*self.doubled, (start, end)))

    def since(self, start: int) -> Piece:
        """Leave out what lies before ``start``."""
        if start <= self.start:
            return self
        return Piece(
            start=start,
            samples=self.samples[start - self.start :],
            absent=_since(self.absent, start),
            doubled=_since(self.doubled, start),
        )


def blank_piece(start: int, end: int) -> Piece:
    """Make the piece of a stream that brought nothing."""
    return Piece(start=start, samples=np.zeros(end - start, dtype=np.int16), absent=((start, end),))


@dataclass(slots=True, kw_only=True)
class Track:
    """One stream of a recording."""

    opened: StreamOpened
    channel: int = 0
    slot: int = -1  # its number in the tap's columns, once somebody has asked for it
    end_cause: StreamEnd | None = None
    placement: int | None = None  # sample of the session where position 0 of the ring lies
    first_sample: int = -1
    gaps: list[Gap] = field(default_factory=list)
    level: levels.Level = field(default_factory=levels.Level)
    taken_on_at: int = 0  # samples before this one are another session's
    taken_on_from: str = ""
    let_go_at: int | None = None  # samples from this one on are another session's
    doubled: bool = False
    _counted: Counted | None = None  # of a stream that was let go, as it stood then
    _end_ticks: int = 0
    _levels: deque[tuple[int, levels.Level]] = field(default_factory=lambda: deque(maxlen=LEVELS_KEPT))

    def window(self, source: Source, *, start: int, end: int, start_mono_ns: int) -> I16:
        """Render samples ``start`` to ``end`` of the session.

        Shapes: -> (end - start,) int16.
        """
        piece = self.read(source, start=start, end=end, start_mono_ns=start_mono_ns)
        self.keep(piece)
        return piece.samples

    def read(self, source: Source, *, start: int, end: int, start_mono_ns: int) -> Piece:
        """Take a span out of the ring and decode it; the stream's account does not change yet."""
        low, high = self._own(source, start=start, end=end, start_mono_ns=start_mono_ns)
        if self.placement is None or low >= high:
            return blank_piece(start, end)
        octets, marks = source.take(
            self.opened.stream, start_ticks=low - self.placement, end_ticks=high - self.placement
        )
        return self.piece_of(octets, marks, low=low, high=high, start=start, end=end)

    def piece_of(self, octets: U8, marks: U8, *, low: int, high: int, start: int, end: int) -> Piece:
        """Decode what the ring gave for ``low`` to ``high``, within the span that was asked for.

        Shapes: octets, marks ((high - low) * octets_per_tick,); both are used up.
        """
        codec = self.opened.codecs[0]
        absent = [(low + at, low + at + length) for at, length in _absent(marks, codec.octets_per_tick)]
        if codec.encoding is Encoding.L16:
            octets[marks == 0] = 0
            decoded = l16.decode(octets, channels=codec.channels)
        else:
            decoded = g711.decode(octets, laws=marks)
        if (low, high) == (start, end):
            return Piece(start=start, samples=decoded, absent=tuple(absent))
        samples = np.zeros(end - start, dtype=np.int16)
        samples[low - start : high - start] = decoded
        outside = [(start, low), *absent, (high, end)]
        return Piece(start=start, samples=samples, absent=tuple(row for row in outside if row[0] < row[1]))

    def skip(self, source: Source, *, start: int, end: int, start_mono_ns: int) -> None:
        """Take a span out of the ring and throw it away; nothing of it is decoded."""
        low, high = self._own(source, start=start, end=end, start_mono_ns=start_mono_ns)
        if self.placement is None or low >= high:
            return
        octets, marks = source.take(
            self.opened.stream, start_ticks=low - self.placement, end_ticks=high - self.placement
        )
        octets[:] = 0
        marks[:] = 0

    def keep(self, piece: Piece) -> None:
        """Take a piece into the account: what is missing, how loud it is."""
        gaps: list[Gap] = []
        for start, end in piece.absent:
            edge = self.first_sample if self.placement is not None else end
            append_gap(gaps, start, min(end, edge), BEFORE_FIRST)
            append_gap(gaps, max(start, edge), end, NOT_RECEIVED)
        for start, end in piece.doubled:
            self.doubled = True
            gaps = overlay(gaps, start, end, DOUBLED)
        for gap in gaps:
            append_gap(self.gaps, gap.start_samples, gap.start_samples + gap.length_samples, gap.cause)
        if self.placement is not None:
            self.note_level(levels.gather(self.level, piece.samples), end=piece.end)

    def note_level(self, level: levels.Level, *, end: int) -> None:
        """Take over the level up to a sample; what it was before can come back, see ``take_back``."""
        self._levels.append((end, self.level))
        self.level = level

    def silence(self, start: int, end: int, cause: str) -> None:
        """Note that a span is silent, whatever came."""
        self.gaps = overlay(self.gaps, start, end, cause)

    def take_back(self, start: int) -> None:
        """Let the levels know nothing from ``start`` on: whole windows go, or all when that is far back."""
        taken = 0
        while self._levels and self._levels[-1][0] > start:
            self.level = self._levels.pop()[1]
            taken += 1
        if taken == LEVELS_KEPT:
            self.level = levels.Level()

    def forget(self) -> None:
        """Forget what was learnt from the audio."""
        self.gaps, self.level, self.doubled = [], levels.Level(), False
        self._levels.clear()

    def let_go(self, source: Source, *, head: int, at: int, start_mono_ns: int) -> None:
        """Leave the samples from ``at`` on to another session; the stream stays open for it.

        ``head`` is the first sample that was not rendered yet.
        """
        clock = source.clock_of(self.opened.stream)
        self._settle(clock, start=max(head, self.taken_on_at), end=at, start_mono_ns=start_mono_ns)
        self._end_ticks = clock.end_ticks
        self._counted = source.stats(self.opened.stream)
        self.let_go_at = at
        self.end_cause = StreamEnd.JOINED

    def is_steady(self, rendered: int) -> bool:
        """Tell whether the stream's next window is its own, and its place is decided."""
        return self.placement is not None and self.let_go_at is None and self.taken_on_at <= rendered

    def audio_end(self, source: Source) -> int:
        """Say at which sample the audio that came so far ends; 0 when none is placed."""
        if self.placement is None:
            return 0
        if self.let_go_at is not None:
            return min(self.placement + self._end_ticks, self.let_go_at)
        return self.placement + source.clock_of(self.opened.stream).end_ticks

    def last_arrival_ns(self, source: Source) -> int:
        """Say when the last packet came; monotonic."""
        return self._stats(source).last_arrival_ns

    def finish(self, source: Source, *, duration_samples: int) -> None:
        """Tell the silence after the last packet from silence within."""
        end = max(self.audio_end(source), 0)
        if self.placement is not None and end < duration_samples:
            self.gaps = after_last(self.gaps, end)

    def entry(self, source: Source, *, origin: int = 0, end: int | None = None) -> StreamEntry:
        """Describe the stream for the manifest of a recording that begins at ``origin``."""
        stats = self._stats(source)
        counters = stats.counters
        end = end if end is not None else max((_gap_end(gap) for gap in self.gaps), default=origin)
        heard = self.first_sample if self.placement is not None and self.first_sample < end else -1
        return StreamEntry(
            stream=self.opened.stream,
            label=self.opened.label,
            channel=self.channel,
            participant_ids=self.opened.participant_ids,
            encoding=self.opened.codecs[0].encoding.value,
            clock_rate_hz=self.opened.codecs[0].clock_rate_hz,
            ssrcs=stats.ssrcs,
            first_sample=max(0, heard - origin) if heard >= 0 else -1,
            packets_received=counters["received"],
            packets_lost=stats.packets_lost,
            packets_duplicate=counters["duplicate"],
            packets_late=counters["late"],
            packets_foreign=counters["foreign"],
            packets_malformed=counters["malformed"],
            packets_kernel_dropped=counters["kernel_dropped"],
            peak_dbfs=round(self.level.peak_dbfs),
            rms_dbfs=round(self.level.rms_dbfs),
            end_cause=self.end_cause.value if self.end_cause else "",
            gaps=tuple(within(self.gaps, start=origin, end=end)),
            party=self.opened.party,
            moved_from=self.taken_on_from,
            doubled=self.doubled,
        )

    def _stats(self, source: Source) -> Counted:
        return self._counted if self._counted is not None else source.stats(self.opened.stream)

    def _own(self, source: Source, *, start: int, end: int, start_mono_ns: int) -> tuple[int, int]:
        """Cut a span to the samples that are this session's, and place the stream if it is time."""
        low = max(start, self.taken_on_at)
        high = end if self.let_go_at is None else min(end, self.let_go_at)
        if self.placement is None and low < high:
            clock = source.clock_of(self.opened.stream)
            self._settle(clock, start=low, end=high, start_mono_ns=start_mono_ns)
        return low, high

    def _settle(self, clock: Clocked, *, start: int, end: int, start_mono_ns: int) -> None:
        if self.placement is not None or not clock.started:
            return
        rate = self.opened.codecs[0].clock_rate_hz
        by_arrival = round((clock.origin_ns - start_mono_ns) * rate / NS_PER_S)
        # Nothing that came is lost before the beginning; it shifts by the reordering at the very start.
        placement = max(by_arrival, start - clock.first_ticks)
        if placement + clock.first_ticks < end:
            self.placement = placement
            self.first_sample = placement + clock.first_ticks


def _absent(marks: U8, octets_per_tick: int) -> list[list[int]]:
    present = marks[::octets_per_tick] != 0
    runs: list[list[int]] = absent_runs(present).tolist()
    return runs


def _since(rows: Sequence[tuple[int, int]], start: int) -> tuple[tuple[int, int], ...]:
    return tuple((max(row[0], start), row[1]) for row in rows if row[1] > start)


def _gap_end(gap: Gap) -> int:
    return gap.start_samples + gap.length_samples
