"""What a sender says of its clocks by RTCP: its media clock by its wall clock, and that by ours.

Rule: reports of one SSRC that lie on one line, of timestamp against wall clock, make a run. One that lies off
it moves nothing; when the next agrees with it instead, the sender has set one of its clocks, or started anew,
and they begin another run. The longest run is told. A report that comes twice, or after a later one, is left
out. What is kept is a few numbers, however many reports there are.
A wall clock that is zero says nothing, and one that is more than a year off was never set: many telephones
count from 1970, or from when they were switched on. What happens to lie within a year of ours is believed; so
are, from 2035 to 2037, those that count from when they were switched on: the era of NTP begins anew then.
Pure. Source: RFC 3550 section 6.4.1; RFC 5905 section 6 (32.32 fixed point seconds since 1900, modulo 2^64).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

NS_PER_S: Final = 1_000_000_000
STEP_NS: Final = 125_000_000  # off the line: ntpd steps a clock by 128 ms and more, and slews it by less
RUNS_OFF: Final = 500  # and a part in so many, 2000 ppm; no clock is worse
APART_MAX_NS: Final = 12 * 3600 * NS_PER_S  # half of the way around for timestamps at 48 kHz is 12.4 h
UNSET_NS: Final = 366 * 86_400 * NS_PER_S
SOON_NS: Final = 60 * NS_PER_S  # in which the report that was held up least is looked for
MIN_REPORTS: Final = 12  # a minute's; fewer may lie on a line by chance
SURE_PPM: Final = 10.0  # the standard error up to which a skew is told
_EPOCH_S: Final = 2_208_988_800  # from 1900 to 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One sender report, and when it came."""

    ssrc: int
    ntp: int  # 32.32 fixed point seconds since 1900, modulo 2^64
    timestamp: int  # 32 bits
    arrival_ns: int  # monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Sums for a straight line through points, in whole numbers and therefore exact."""

    points: int = 0
    x: int = 0
    y: int = 0
    xx: int = 0
    xy: int = 0
    yy: int = 0

    def through(self, x: int, y: int) -> Line:
        """Take one more point."""
        return Line(
            points=self.points + 1,
            x=self.x + x,
            y=self.y + y,
            xx=self.xx + x * x,
            xy=self.xy + x * y,
            yy=self.yy + y * y,
        )

    def slope(self) -> tuple[float, float]:
        """Give the slope by least squares, and its standard error; three points at least, of different x."""
        spread = self.points * self.xx - self.x**2
        shared = self.points * self.xy - self.x * self.y
        left = (self.points * self.yy - self.y**2) * spread - shared**2  # never negative: whole numbers
        return shared / spread, math.sqrt(left / (self.points - 2)) / spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Reports on one line."""

    first: Report
    last: Report
    soonest: Report  # of the first minute's, the one that was held up least
    ahead_ns: int = 0  # by which the timestamps have gone further than the wall clock
    line: Line = field(default_factory=lambda: Line().through(0, 0))  # of ``ahead_ns`` over wall ns

    @property
    def reports(self) -> int:
        """How many there are."""
        return self.line.points

    @property
    def span_ns(self) -> int:
        """How long it lasts by the sender's wall clock."""
        return _wall_ns(self.first, self.last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What one stream's reports have come to."""

    run: Run | None = None  # that goes on
    stray: Report | None = None  # the last one, when it lay off the run
    before: Run | None = None  # the longest of those that are over


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a sender says of its clocks."""

    reports: int = 0  # that say it; 0 = none that can be used, and the rest is 0
    skew_ppm: float = 0.0  # positive = its media clock runs fast by its own wall clock; 0 = not sure enough
    is_sure: bool = False  # of the skew
    wall_offset_ns: int = 0  # its wall clock less ours


def follow(heard: Heard, report: Report, *, rates_hz: Sequence[int]) -> Heard:
    """Take one more report of a stream whose timestamps count in one of the given rates."""
    if report.ntp == 0:
        return heard
    run, stray = heard.run, heard.stray
    if run is None or run.last.ssrc != report.ssrc:
        return Heard(run=_begin(report), before=_longest(heard.before, run))
    rate_hz = _rate_of(run.last, report, rates_hz)
    if rate_hz:
        is_later = _wall_ns(run.last, report) > 0
        return replace(heard, run=_joined(run, report, rate_hz), stray=None) if is_later else heard
    rate_hz = _rate_of(stray, report, rates_hz) if stray is not None else 0
    if stray is None or not rate_hz:
        return replace(heard, stray=report)
    if _wall_ns(stray, report) <= 0:
        return heard
    return Heard(run=_joined(_begin(stray), report, rate_hz), before=_longest(heard.before, run))


def tell(heard: Heard, *, at_mono_ns: int, at_utc_ns: int, media_ppm: float | None = None) -> Told:
    """Say what the longest run says, of the wall clock as it stood when ours said ``at_utc_ns``.

    ``media_ppm`` is the sender's media clock by ours, where it is known: with it the wall clock's own pace is
    known as well, and what it said in a report is carried to the instant asked for, but no further than the
    run is long: beyond, the pace is worth less than none.

    Error bounds: skew within 5 ppm after an hour of reports every 5 s, within 1 ppm where timestamps are not
    cut to packets, told from a standard error of ``SURE_PPM`` on; the offset is too low by what the report
    that was held up least was held up by.
    """
    best: Run | None = None
    for run in (heard.before, heard.run):
        if run is not None and abs(_offset_ns(run.soonest, at_mono_ns, at_utc_ns)) <= UNSET_NS:
            best = _longest(run, best)
    if best is None:
        return Told()
    skew_ppm = _skew_ppm(best)
    offset_ns = _offset_ns(best.soonest, at_mono_ns, at_utc_ns)
    since_ns = best.soonest.arrival_ns - at_mono_ns
    if skew_ppm is not None and media_ppm is not None and abs(since_ns) <= best.span_ns:
        pace = (media_ppm - skew_ppm) * 1e-6
        offset_ns -= round(since_ns * pace) if abs(pace) <= 1 / RUNS_OFF else 0
    return Told(
        reports=best.reports,
        skew_ppm=skew_ppm or 0.0,
        is_sure=skew_ppm is not None,
        wall_offset_ns=offset_ns,
    )


def _begin(report: Report) -> Run:
    return Run(first=report, last=report, soonest=report)


def _joined(run: Run, report: Report, rate_hz: int) -> Run:
    since_first_ns = _wall_ns(run.first, report)
    ahead_ns = run.ahead_ns + _ahead_ns(run.last, report, rate_hz)
    held_up_ns = report.arrival_ns - run.soonest.arrival_ns - _wall_ns(run.soonest, report)
    is_soonest = since_first_ns <= SOON_NS and held_up_ns < 0
    return Run(
        first=run.first,
        last=report,
        soonest=report if is_soonest else run.soonest,
        ahead_ns=ahead_ns,
        line=run.line.through(since_first_ns, ahead_ns),
    )


def _longest(first: Run | None, second: Run | None) -> Run | None:
    """Give the one that lasts longer; the first when they are alike."""
    if first is None or second is None:
        return first or second
    return first if first.span_ns >= second.span_ns else second


def _skew_ppm(run: Run) -> float | None:
    """Give the media clock's pace by the wall clock; None when it is not sure enough."""
    if run.reports < MIN_REPORTS:
        return None
    slope, error = run.line.slope()
    is_sure = 1e6 * error <= SURE_PPM and abs(slope) <= 1 / RUNS_OFF  # within STEP_NS anything may run
    return 1e6 * slope if is_sure else None


def _rate_of(before: Report, after: Report, rates_hz: Sequence[int]) -> int:
    """Find the rate by which two reports lie on one line; 0 = by none."""
    apart_ns = abs(_wall_ns(before, after))
    if apart_ns > APART_MAX_NS or not rates_hz:
        return 0
    off_ns, rate_hz = min((abs(_ahead_ns(before, after, rate_hz)), rate_hz) for rate_hz in rates_hz)
    return rate_hz if off_ns <= STEP_NS + apart_ns // RUNS_OFF else 0


def _ahead_ns(before: Report, after: Report, rate_hz: int) -> int:
    """How much further the timestamps went than the wall clock, as near to nothing as 2^32 lets it be."""
    due = _wall_ns(before, after) * rate_hz // NS_PER_S
    gone = due + _signed(after.timestamp - before.timestamp - due, bits=32)
    return gone * NS_PER_S // rate_hz - _wall_ns(before, after)


def _wall_ns(before: Report, after: Report) -> int:
    """How far the sender's wall clock went."""
    return _signed(after.ntp - before.ntp, bits=64) * NS_PER_S >> 32


def _offset_ns(report: Report, at_mono_ns: int, at_utc_ns: int) -> int:
    """How far a report's wall clock was ahead of ours when it came."""
    ours_ns = at_utc_ns + report.arrival_ns - at_mono_ns + _EPOCH_S * NS_PER_S
    return _signed(report.ntp - (ours_ns << 32) // NS_PER_S, bits=64) * NS_PER_S >> 32


def _signed(value: int, *, bits: int) -> int:
    half = 1 << bits - 1
    return (value + half) % (2 * half) - half
