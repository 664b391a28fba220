"""How full is the spool, and how long will it last at the present rate? A reducer over readings.

Rule: the level is the worse of what is filled and what is left in hours; it falls only when both are a good
way below their marks, so that it does not flutter. A step of the alarm is told once on the way down and again
only after time enough was gained. Nothing is said of hours before a minute was observed.
Pure: no clock, no I/O; instants come with the readings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from recorderd.core.clock import NS_PER_S
from recorderd.policy.admission import SpoolLevel, spool_level

RATE_OVER_S: Final = 300.0  # rates are means that forget with this time constant
OBSERVED_S: Final = 60.0
HIGH_BACK_PERCENT: Final = 5  # so far below its mark high ends
FULL_BACK_PERCENT: Final = 2
BACK_FACTOR: Final = 1.25  # so much more time than a mark or an alarm's step ends it
_S_PER_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What counts as high, and at how many hours an operator is told."""

    high_percent: int = 80
    high_hours: float = 2.0  # 0 = only the fill counts
    alarm_hours: tuple[float, ...] = (24.0, 8.0, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolReading:
    """The spool at an instant."""

    at_mono_ns: int
    used_bytes: int
    quota_bytes: int
    disk_room_bytes: int  # what its file system can take beyond what is set aside; may be negative
    unreceipted_bytes: int  # of it the archive has not confirmed
    written_bytes: int  # audio, since the start of the process
    flushed_per_s: float  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolOutlook:
    """What follows from the readings so far."""

    level: SpoolLevel
    room_bytes: int  # until full
    capacity_bytes: int  # used and room
    written_per_s: float
    flushed_per_s: float
    full_in_s: float | None = None  # None = not at the present rates, or not known yet
    empty_in_s: float | None = None
    reason: str = ""  # of the level
    told_hours: frozenset[float] = frozenset()
    observed_s: float = 0.0
    weight: float = 0.0  # of the mean; 1 after a long time
    last: SpoolReading | None = None

    @property
    def full_in_hours(self) -> float | None:
        """Hours until it is full."""
        return None if self.full_in_s is None else self.full_in_s / _S_PER_HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelChanged:
    """The spool has another level."""

    level: SpoolLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class HoursLeft:
    """A step of the alarm was reached."""

    step_hours: float
    hours: float


Notice = LevelChanged | HoursLeft

BEGINNING: Final = SpoolOutlook(
    level=SpoolLevel.LOW, room_bytes=0, capacity_bytes=0, written_per_s=0.0, flushed_per_s=0.0
)


def look(
    before: SpoolOutlook, reading: SpoolReading, *, marks: Marks
) -> tuple[SpoolOutlook, tuple[Notice, ...]]:
    """Take a reading; tell what has changed."""
    written_per_s, weight, passed_s = _mean(before, reading)
    observed_s = before.observed_s + passed_s
    room = min(reading.quota_bytes - reading.used_bytes, reading.disk_room_bytes)
    net_per_s = written_per_s - reading.flushed_per_s
    is_known = observed_s >= OBSERVED_S
    full_in_s = max(0, room) / net_per_s if is_known and net_per_s > 0 else None
    empty_in_s = reading.unreceipted_bytes / -net_per_s if is_known and net_per_s < 0 else None
    after = SpoolOutlook(
        level=before.level,
        room_bytes=room,
        capacity_bytes=reading.used_bytes + max(0, room),
        written_per_s=written_per_s,
        flushed_per_s=reading.flushed_per_s,
        full_in_s=full_in_s,
        empty_in_s=empty_in_s,
        observed_s=observed_s,
        weight=weight,
        last=reading,
    )
    level, reason = _level(before.level, after, reading, marks)
    told, alarm = _alarm(before.told_hours, after.full_in_hours, marks)
    after = replace(after, level=level, reason=reason, told_hours=told)
    notices: list[Notice] = []
    if alarm is not None and level is not SpoolLevel.FULL:
        notices.append(alarm)
    if level is not before.level:
        notices.append(LevelChanged(level=level))
    return after, tuple(notices)


def _mean(before: SpoolOutlook, reading: SpoolReading) -> tuple[float, float, float]:
    """Take what was written since the last reading into the mean; rate, weight, seconds passed."""
    last = before.last
    if last is None or reading.at_mono_ns <= last.at_mono_ns:
        return before.written_per_s, before.weight, 0.0
    passed_s = (reading.at_mono_ns - last.at_mono_ns) / NS_PER_S
    rate = max(0, reading.written_bytes - last.written_bytes) / passed_s
    share = 1.0 - math.exp(-passed_s / RATE_OVER_S)
    weight = before.weight + share * (1.0 - before.weight)
    total = before.written_per_s * before.weight * (1.0 - share) + rate * share
    return total / weight, weight, passed_s


def _level(
    before: SpoolLevel, outlook: SpoolOutlook, reading: SpoolReading, marks: Marks
) -> tuple[SpoolLevel, str]:
    used, capacity, hours = reading.used_bytes, outlook.capacity_bytes, outlook.full_in_hours
    filled = spool_level(used_bytes=used, quota_bytes=capacity, high_percent=marks.high_percent)
    percent = 100.0 * used / capacity if capacity else 100.0
    if filled is SpoolLevel.FULL:
        what = "the quota" if reading.quota_bytes - used <= reading.disk_room_bytes else "the disk"
        return SpoolLevel.FULL, f"{what} is used up"
    if before is SpoolLevel.FULL and percent > 100 - FULL_BACK_PERCENT:
        return SpoolLevel.FULL, f"{percent:.0f} % are used, not yet {100 - FULL_BACK_PERCENT} %"
    was_high = before is not SpoolLevel.LOW
    back = marks.high_percent - HIGH_BACK_PERCENT
    if filled is SpoolLevel.HIGH or (was_high and percent > back):
        return SpoolLevel.HIGH, f"{percent:.0f} % are used"
    limit_hours = marks.high_hours * (BACK_FACTOR if was_high else 1.0)
    if hours is not None and hours < limit_hours:
        return SpoolLevel.HIGH, f"full in {hours:.1f} h at the present rate"
    return SpoolLevel.LOW, ""


def _alarm(
    told: frozenset[float], hours: float | None, marks: Marks
) -> tuple[frozenset[float], HoursLeft | None]:
    """Tell the tightest step that is new; the wider ones are told with it."""
    if hours is None:
        return frozenset(), None
    reached = [step for step in marks.alarm_hours if hours <= step]
    kept = frozenset(step for step in told if hours <= step * BACK_FACTOR)
    tightest = min(reached, default=None)
    if tightest is None or tightest in kept:
        return kept | frozenset(reached), None
    return kept | frozenset(reached), HoursLeft(step_hours=tightest, hours=hours)
