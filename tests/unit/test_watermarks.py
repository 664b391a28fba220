"""The spool's level and its outlook: marks in bytes and hours, no flutter, each alarm once and in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.core.clock import NS_PER_S
from recorderd.policy.admission import SpoolLevel
from recorderd.policy.watermarks import (
    BEGINNING,
    HoursLeft,
    LevelChanged,
    Marks,
    Notice,
    SpoolOutlook,
    SpoolReading,
    look,
)

GB = 10**9
HOUR = 3600
FILL_ONLY = Marks(high_hours=0, alarm_hours=())
USUAL = Marks()


def reading(at_s: float, used: int, *, quota: int = 100, disk: int = 10**15, **rest: float) -> SpoolReading:
    known = {"unreceipted_bytes": used, "written_bytes": used, "flushed_per_s": 0.0, **rest}
    return SpoolReading(
        at_mono_ns=int(at_s * NS_PER_S),
        used_bytes=used,
        quota_bytes=quota,
        disk_room_bytes=disk,
        unreceipted_bytes=int(known["unreceipted_bytes"]),
        written_bytes=int(known["written_bytes"]),
        flushed_per_s=known["flushed_per_s"],
    )


def levels(used: list[int], *, disk: list[int] | None = None) -> list[str]:
    outlook, seen = BEGINNING, []
    for number, bytes_used in enumerate(used):
        room = disk[number] if disk else 10**15
        outlook, _ = look(outlook, reading(number, bytes_used, disk=room), marks=FILL_ONLY)
        seen.append(outlook.level.name)
    return seen


def test_the_level_rises_at_its_marks_and_falls_a_good_way_below_them() -> None:
    used = [79, 80, 79, 76, 75, 80, 100, 99, 98, 80, 76, 74]
    assert levels(used) == [
        *("LOW", "HIGH", "HIGH", "HIGH", "LOW", "HIGH"),
        *("FULL", "FULL", "HIGH", "HIGH", "HIGH", "LOW"),
    ]


def test_a_disk_that_is_smaller_than_the_quota_counts() -> None:
    assert levels([40, 40, 40, 40], disk=[60, 10, 0, -5]) == ["LOW", "HIGH", "FULL", "FULL"]
    outlook, _ = look(BEGINNING, reading(0, 40, disk=0), marks=FILL_ONLY)
    assert outlook.reason == "the disk is used up"


def run(outlook: SpoolOutlook, *, start_s: int, hours: float, per_s: float, quota: int, flushed: float = 0.0,
        marks: Marks = USUAL) -> tuple[SpoolOutlook, list[tuple[float, Notice]]]:  # fmt: skip
    """Let audio be written for so long, looked at every minute; when which notice came."""
    told: list[tuple[float, Notice]] = []
    used = outlook.last.used_bytes if outlook.last else 0
    written = outlook.last.written_bytes if outlook.last else 0
    for second in range(start_s, start_s + int(hours * HOUR), 60):
        row = reading(second, int(used), quota=quota, written_bytes=written, flushed_per_s=flushed)
        outlook, notices = look(outlook, row, marks=marks)
        told += [((second - start_s) / HOUR, notice) for notice in notices]
        used = max(0.0, min(quota, used + (per_s - flushed) * 60))
        written += int(per_s * 60)
    return outlook, told


def test_a_spool_that_fills_tells_each_step_once_and_in_order() -> None:
    per_s = 100 * GB / (40 * HOUR)  # full after 40 hours
    outlook, told = run(BEGINNING, start_s=0, hours=41, per_s=per_s, quota=100 * GB)
    said = [
        notice.step_hours if isinstance(notice, HoursLeft) else notice.level.name
        for _, notice in told
    ]  # fmt: skip
    assert said == [24.0, 8.0, "HIGH", 2.0, "FULL"]
    at = [hour for hour, _ in told]
    assert at == pytest.approx([16, 32, 32, 38, 40], abs=0.1)
    assert outlook.level is SpoolLevel.FULL
    assert outlook.full_in_s == 0


def test_an_alarm_comes_again_only_after_time_was_gained() -> None:
    quota = 100 * GB
    fast = quota / (20 * HOUR)
    outlook, first = run(BEGINNING, start_s=0, hours=1, per_s=fast, quota=quota)
    outlook, flutter = run(outlook, start_s=1 * HOUR, hours=1, per_s=fast, quota=quota)
    outlook, gained = run(outlook, start_s=2 * HOUR, hours=3, per_s=fast / 10, quota=quota)
    outlook, again = run(outlook, start_s=5 * HOUR, hours=3, per_s=fast, quota=quota)
    assert [type(notice) for _, notice in first] == [HoursLeft]
    assert flutter == gained == []
    assert [notice.step_hours for _, notice in again if isinstance(notice, HoursLeft)] == [24.0]


def test_hours_make_a_spool_high_before_its_fill_does() -> None:
    quota = 100 * GB
    outlook, told = run(BEGINNING, start_s=0, hours=0.1, per_s=quota / HOUR, quota=quota)
    assert outlook.level is SpoolLevel.HIGH
    assert "full in 0." in outlook.reason
    assert LevelChanged(level=SpoolLevel.HIGH) in [notice for _, notice in told]


def test_a_flush_that_takes_more_than_comes_tells_when_the_spool_is_empty() -> None:
    row = reading(0, 50 * GB, quota=100 * GB)
    outlook, _ = look(BEGINNING, row, marks=USUAL)
    outlook, told = run(outlook, start_s=0, hours=1, per_s=0, quota=100 * GB, flushed=10 * GB / HOUR)
    assert outlook.full_in_s is None
    assert outlook.empty_in_s == pytest.approx(4 * HOUR, rel=0.02)
    assert told == []


def test_nothing_is_said_of_hours_before_a_minute_was_observed() -> None:
    outlook, told = look(BEGINNING, reading(0, 0, quota=GB), marks=USUAL)
    for second in range(5, 60, 5):
        row = reading(second, 10**6 * second, quota=GB)
        outlook, told = look(outlook, row, marks=USUAL)
        assert (outlook.full_in_s, told) == (None, ())
    outlook, told = look(outlook, reading(60, 60 * 10**6, quota=GB), marks=USUAL)
    assert outlook.full_in_s == pytest.approx(940, rel=0.01)
    assert [type(notice) for notice in told] == [HoursLeft, LevelChanged]


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(-20, 120), st.integers(0, 9)), max_size=40))
def test_whatever_is_read_the_level_is_full_exactly_when_there_is_no_room_to_begin(
    rows: list[tuple[int, int, int]],
) -> None:
    outlook = BEGINNING
    for number, (used, disk, flushed) in enumerate(rows):
        row = reading(60 * number, used, disk=disk, flushed_per_s=float(flushed), written_bytes=number * 500)
        outlook, _ = look(outlook, row, marks=USUAL)
        if outlook.room_bytes <= 0:
            assert outlook.level is SpoolLevel.FULL
        if outlook.level is SpoolLevel.LOW:
            assert outlook.room_bytes > 0
            assert outlook.full_in_hours is None or outlook.full_in_hours >= 2
        assert outlook.full_in_s is None or outlook.empty_in_s is None
