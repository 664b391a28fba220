"""One stream on its way into the recording: where it lies, what is missing, how loud it is.

Contract: ``window`` is called with adjoining spans of the recording and gives exactly that many samples:
the decoded ones where packets came, digital silence elsewhere. The stream's place is fixed once, when its
first packets are due; from then on the RTP timestamp alone decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from dsp import g711, l16, levels
from dsp.runs import absent_runs
from dsp.shapes import I16, U8
from recorderd.core.clock import NS_PER_S
from recorderd.core.ids import StreamId
from recorderd.core.messages import Encoding, StreamEnd, StreamOpened
from recorderd.wire.manifest import Gap, StreamEntry

BEFORE_FIRST: Final = "before_first"
NOT_RECEIVED: Final = "not_received"
AFTER_LAST: Final = "after_last"


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

    def clock_of(self, stream: StreamId) -> Clocked:
        """Say where a stream lies in time."""
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


@dataclass(slots=True, kw_only=True)
class Track:
    """One stream of a recording."""

    opened: StreamOpened
    channel: int = 0
    end_cause: StreamEnd | None = None
    placement: int | None = None  # sample of the recording where position 0 of the ring lies
    first_sample: int = -1
    gaps: list[Gap] = field(default_factory=list)
    level: levels.Level = field(default_factory=levels.Level)

    def window(self, source: Source, *, start: int, end: int, start_mono_ns: int) -> I16:
        """Render samples ``start`` to ``end`` of the recording.

        Shapes: -> (end - start,) int16.
        """
        if self.placement is None:
            self._settle(
                source.clock_of(self.opened.stream), start=start, end=end, start_mono_ns=start_mono_ns
            )
        if self.placement is None:
            self._missing(start, end - start)
            return np.zeros(end - start, dtype=np.int16)
        octets, marks = source.take(
            self.opened.stream, start_ticks=start - self.placement, end_ticks=end - self.placement
        )
        codec = self.opened.codecs[0]
        present = marks[:: codec.octets_per_tick] != 0
        for at, length in absent_runs(present).tolist():
            self._missing(start + at, length)
        if codec.encoding is Encoding.L16:
            octets[marks == 0] = 0
            samples = l16.decode(octets, channels=codec.channels)
        else:
            samples = g711.decode(octets, laws=marks)
        self.level = levels.gather(self.level, samples)
        return samples

    def audio_end(self, source: Source) -> int:
        """Say at which sample the audio that came so far ends; 0 when none is placed."""
        if self.placement is None:
            return 0
        return self.placement + source.clock_of(self.opened.stream).end_ticks

    def finish(self, source: Source, *, duration_samples: int) -> None:
        """Tell the silence after the last packet from silence within."""
        end = max(self.audio_end(source), 0)
        if self.gaps and self.placement is not None and end < duration_samples:
            last = self.gaps[-1]
            if last.start_samples + last.length_samples == duration_samples:
                self.gaps.pop()
                self._gap(last.start_samples, end, NOT_RECEIVED)
                self._gap(max(end, last.start_samples), duration_samples, AFTER_LAST)

    def entry(self, source: Source) -> StreamEntry:
        """Describe the stream for the manifest as it stands."""
        stats = source.stats(self.opened.stream)
        counters = stats.counters
        return StreamEntry(
            stream=self.opened.stream,
            label=self.opened.label,
            channel=self.channel,
            participant_ids=self.opened.participant_ids,
            encoding=self.opened.codecs[0].encoding.value,
            clock_rate_hz=self.opened.codecs[0].clock_rate_hz,
            ssrcs=stats.ssrcs,
            first_sample=self.first_sample,
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
            gaps=tuple(self.gaps),
        )

    def _settle(self, clock: Clocked, *, start: int, end: int, start_mono_ns: int) -> None:
        if not clock.started:
            return
        rate = self.opened.codecs[0].clock_rate_hz
        by_arrival = round((clock.origin_ns - start_mono_ns) * rate / NS_PER_S)
        # Nothing that came is lost before the beginning; it shifts by the reordering at the very start.
        placement = max(by_arrival, start - clock.first_ticks)
        if placement + clock.first_ticks < end:
            self.placement = placement
            self.first_sample = placement + clock.first_ticks

    def _missing(self, start: int, length: int) -> None:
        end = start + length
        edge = self.first_sample if self.placement is not None else end
        self._gap(start, min(end, edge), BEFORE_FIRST)
        self._gap(max(start, edge), end, NOT_RECEIVED)

    def _gap(self, start: int, end: int, cause: str) -> None:
        if end <= start:
            return
        if self.gaps:
            last = self.gaps[-1]
            if last.cause == cause and last.start_samples + last.length_samples == start:
                self.gaps[-1] = Gap(
                    start_samples=last.start_samples, length_samples=end - last.start_samples, cause=cause
                )
                return
        self.gaps.append(Gap(start_samples=start, length_samples=end - start, cause=cause))
