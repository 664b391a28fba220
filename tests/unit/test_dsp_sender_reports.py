"""What a sender reports of its clocks: which reports count, and what they come to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsp.sender_reports import MIN_REPORTS, UNSET_NS, Heard, Report, Told, follow, tell

NS_PER_S = 1_000_000_000
UTC_S = 1_790_000_000  # September 2026
EPOCH_S = 2_208_988_800
MONO_NS = 50 * NS_PER_S
RATES_HZ = (8_000, 48_000)


def report(
    number: int, *, wall_s: float = 0.0, media_s: float = 0.0, rate_hz: int = 8_000, ssrc: int = 1
) -> Report:
    """One of a report every five seconds; ``wall_s`` and ``media_s`` are what its clocks are ahead."""
    at_s = 5 * number
    return Report(
        ssrc=ssrc,
        ntp=round((EPOCH_S + UTC_S + at_s + wall_s) * 2**32) % 2**64,
        timestamp=round((at_s + media_s) * rate_hz) % 2**32,
        arrival_ns=MONO_NS + at_s * NS_PER_S,
    )


def heard_of(*reports: Report, rates_hz: tuple[int, ...] = RATES_HZ) -> Heard:
    heard = Heard()
    for one in reports:
        heard = follow(heard, one, rates_hz=rates_hz)
    return heard


def told(*reports: Report, rates_hz: tuple[int, ...] = RATES_HZ) -> Told:
    return tell(heard_of(*reports, rates_hz=rates_hz), at_mono_ns=MONO_NS, at_utc_ns=UTC_S * NS_PER_S)


def test_who_reports_nothing_tells_nothing() -> None:
    assert told() == Told(reports=0, skew_ppm=0.0, is_sure=False, wall_offset_ns=0)


def test_one_report_tells_the_wall_clock_but_no_skew() -> None:
    found = told(report(0, wall_s=-3_600))
    assert (found.reports, found.is_sure, found.skew_ppm) == (1, False, 0.0)
    assert found.wall_offset_ns == pytest.approx(-3_600 * NS_PER_S, abs=1_000)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_skew_is_told_from_a_minute_of_reports_on_whatever_the_rate(rate_hz: int) -> None:
    reports = [report(n, media_s=5 * n * 80e-6, rate_hz=rate_hz) for n in range(MIN_REPORTS)]
    assert not told(*reports[:-1]).is_sure
    found = told(*reports)
    assert found.is_sure
    assert found.skew_ppm == pytest.approx(80, abs=2)
    heard = heard_of(*reports)
    assert heard.run is not None
    assert (heard.run.first, heard.run.last) == (reports[0], reports[-1])


def test_timestamps_that_jitter_are_told_when_there_are_enough_of_them() -> None:
    reports = [report(n, media_s=-0.02 * (n * 7 % 10) / 10) for n in range(200)]
    assert not told(*reports[:20]).is_sure
    assert told(*reports).is_sure
    assert told(*reports).skew_ppm == pytest.approx(0, abs=5)


@pytest.mark.parametrize(
    "ntp",
    [
        [0] * 40,
        [UTC_S + 5 * n << 32 for n in range(40)],  # seconds since 1970
        [5 * n + 1 << 32 for n in range(40)],  # since it was switched on
        [EPOCH_S + 946_684_800 + 5 * n << 32 for n in range(40)],  # a clock that begins in 2000
        [7 << 32] * 40,
    ],
    ids=["zero", "1970", "uptime", "2000", "still"],
)
def test_a_wall_clock_that_is_none_tells_nothing(ntp: list[int]) -> None:
    assert told(*(replace(report(n), ntp=value) for n, value in enumerate(ntp))) == Told()


def test_zero_is_no_wall_clock_when_the_era_begins_anew_either() -> None:
    began_s = 2_085_978_496  # 7 February 2036
    zeros = heard_of(*(replace(report(n), ntp=0) for n in range(40)))
    assert tell(zeros, at_mono_ns=MONO_NS, at_utc_ns=began_s * NS_PER_S) == Told()
    good = heard_of(*(report(n, wall_s=began_s - UTC_S - 50) for n in range(20)))
    found = tell(good, at_mono_ns=MONO_NS, at_utc_ns=(began_s - 50) * NS_PER_S)
    assert (found.reports, found.is_sure) == (19, True)  # but the one of that very instant
    assert found.wall_offset_ns == pytest.approx(0, abs=1_000)


def test_a_clock_more_than_a_year_off_was_never_set() -> None:
    year_s = UNSET_NS // NS_PER_S
    for sign in (-1, 1):
        assert told(report(0, wall_s=sign * (year_s - 2))).reports == 1
        assert told(report(0, wall_s=sign * (year_s + 2))) == Told()


def test_a_clock_that_is_set_during_the_call_tells_from_then_on() -> None:
    boot = [replace(report(n), ntp=5 * n + 1 << 32) for n in range(100)]
    found = told(*boot, *(report(n) for n in range(100, 130)))
    assert (found.reports, found.is_sure) == (30, True)
    assert found.wall_offset_ns == pytest.approx(0, abs=1_000)


def test_a_step_of_the_wall_clock_is_no_skew() -> None:
    reports = [report(n, wall_s=0.2 if n >= 30 else 0.0) for n in range(70)]
    found = told(*reports)
    assert (found.reports, found.skew_ppm) == (40, pytest.approx(0, abs=0.1))
    assert found.wall_offset_ns == pytest.approx(200_000_000, abs=1_000)


def test_timestamps_that_begin_anew_begin_another_run_and_the_longer_is_told() -> None:
    held = [report(n, media_s=-37.0 if n >= 20 else 0.0) for n in range(30)]
    assert told(*held).reports == 20
    assert told(*held, *(report(n, media_s=-37.0) for n in range(30, 60))).reports == 40


def test_another_ssrc_begins_another_run_at_once() -> None:
    heard = heard_of(*(report(n) for n in range(5)), report(5, ssrc=2, wall_s=9), report(6, ssrc=2, wall_s=9))
    assert heard.run is not None and heard.before is not None
    assert (heard.run.last.ssrc, heard.run.reports, heard.before.reports) == (2, 2, 5)


def test_another_clock_rate_begins_another_run() -> None:
    heard = heard_of(*(report(n) for n in range(5)), *(report(n, rate_hz=48_000) for n in range(5, 10)))
    assert heard.run is not None and heard.before is not None
    assert (heard.run.reports, heard.before.reports) == (5, 5)


def test_timestamps_that_count_on_at_another_clock_rate_go_on_with_the_run() -> None:
    before = [report(n, media_s=5 * n * 80e-6) for n in range(10)]
    after = [report(n, media_s=5 * n * 80e-6, rate_hz=48_000) for n in range(9, 20)]
    moved = before[-1].timestamp - after[0].timestamp
    found = told(*before, *(replace(one, timestamp=(one.timestamp + moved) % 2**32) for one in after[1:]))
    assert (found.reports, found.skew_ppm) == (20, pytest.approx(80, abs=2))


def test_one_mad_report_moves_nothing() -> None:
    reports = [report(n) for n in range(20)]
    mad = report(10, wall_s=777, media_s=5)
    assert told(*reports[:10], mad, *reports[10:]) == told(*reports)
    assert told(*reports[:10], mad, mad, *reports[10:]) == told(*reports)


def test_a_report_that_comes_twice_or_late_is_left_out() -> None:
    reports = [report(n) for n in range(20)]
    assert told(*reports[:9], reports[4], reports[8], *reports[9:]) == told(*reports)


def test_a_timestamp_that_stands_still_while_nobody_speaks_moves_nothing() -> None:
    reports = [report(n, media_s=-5 * max(0, min(n, 12) - 6) if n < 13 else 0) for n in range(30)]
    found = told(*reports)
    assert (found.reports, found.skew_ppm) == (24, pytest.approx(0, abs=0.1))


def test_half_a_day_without_a_report_begins_another_run() -> None:
    late = [report(n) for n in range(9_000, 9_003)]
    heard = heard_of(*(report(n) for n in range(5)), *late)
    assert heard.run is not None
    assert heard.run.reports == 3


def test_a_mad_pace_is_no_skew() -> None:
    reports = [
        Report(ssrc=1, ntp=(EPOCH_S + UTC_S << 32) + n * 2**26, timestamp=n * 500, arrival_ns=MONO_NS)
        for n in range(1, 40)
    ]
    found = told(*reports)
    assert (found.reports, found.is_sure, found.skew_ppm) == (39, False, 0.0)


def test_the_report_that_was_held_up_least_tells_the_wall_clock() -> None:
    reports = [
        replace(one, arrival_ns=one.arrival_ns + (30 if n == 3 else 200) * 1_000_000)
        for n, one in enumerate(report(n) for n in range(20))
    ]
    assert told(*reports).wall_offset_ns == pytest.approx(-30_000_000, abs=1_000)


@pytest.mark.parametrize(("media_ppm", "drift_ppm"), [(50.0, 50.0), (5_000.0, 0.0)])
def test_an_offset_is_carried_back_by_a_pace_that_a_clock_may_have(
    media_ppm: float, drift_ppm: float
) -> None:
    heard = heard_of(*(report(n) for n in range(100)))
    began_s = 400
    found = tell(
        heard,
        at_mono_ns=MONO_NS - began_s * NS_PER_S,
        at_utc_ns=(UTC_S - began_s) * NS_PER_S,
        media_ppm=media_ppm,
    )
    assert found.wall_offset_ns == pytest.approx(-began_s * drift_ppm * 1_000, abs=1_000)


def test_a_stream_without_a_codec_has_no_line() -> None:
    assert told(report(0), report(1), report(2), rates_hz=()).reports == 1
