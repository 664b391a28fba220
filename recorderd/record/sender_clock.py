"""How a stream's sender counts time against ours, for journal and manifest.

Contract: what a manifest states is measured over all that came. What a recovery would find in the journal is
as old as its last note, and says over how long it was observed: it is measured anew once that has doubled,
because the estimate of an hour costs as much as a second of recording it.
Thread: the recording's.
"""

from __future__ import annotations

from typing import Final

from dsp import sender_reports, skew
from recorderd.core.clock import NS_PER_S
from recorderd.record.source import Source
from recorderd.record.steering import Steering
from recorderd.wire.manifest_rows import ClockEntry, Correction

_GROWN: Final = 2


class SenderClock:
    """The clock of one stream's sender."""

    __slots__ = ("_found", "_points")

    def __init__(self) -> None:
        self._found = skew.Skew()
        self._points = 0

    def fit(self, source: Source, slot: int, *, rate_hz: int, afresh: bool) -> skew.Skew:
        """Compare it with ours over all that came; unless ``afresh``, as it was not long ago."""
        trend = source.arrival_trend(slot)
        points = trend.delay_ns.size
        if afresh or not self._points <= points < self._points * _GROWN:
            self._found = skew.fit(trend.position_ticks, trend.delay_ns, rate_hz=rate_hz)
            self._points = points
        return self._found


def clock_entry(
    found: skew.Skew,
    source: Source,
    slot: int,
    *,
    placed_ns: int,
    steering: Steering,
    origin: int,
    start_mono_ns: int,
    start_utc_ns: int,
    rate_hz: int,
) -> ClockEntry:
    """State what was found of a clock, what its sender says of it itself, and what was corrected.

    Its own statement corrects nothing. What puts two streams side by side is how fast samples come by our
    clock; that its wall clock agrees with its media clock, or does not, moves no sample of either.
    ``start_mono_ns`` and ``start_utc_ns`` are the session's start on our two clocks.
    """
    begins_ns = origin * NS_PER_S // rate_hz
    told = sender_reports.tell(
        source.reported(slot),
        at_mono_ns=start_mono_ns + begins_ns,
        at_utc_ns=start_utc_ns + begins_ns,
        media_ppm=found.ppm if found.span_s else None,
    )
    return ClockEntry(
        skew_ppb=round(found.ppm * 1000),
        offset_us=round((placed_ns - found.offset_ns) / 1000) if found.span_s else 0,
        residual_us=round(found.residual_ns / 1000),
        span_s=round(found.span_s),
        corrected_samples=steering.corrected,
        corrections=tuple(
            Correction(at_samples=max(0, at - origin), samples=count) for at, count in steering.corrections
        ),
        reports=told.reports,
        reported_skew_ppb=round(told.skew_ppm * 1000),
        wall_offset_us=round(told.wall_offset_ns / 1000),
    )
