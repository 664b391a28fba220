"""What reports say depends on no clock's beginning, nor on mad, doubled or disordered reports."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dsp.sender_reports import MIN_REPORTS, UNSET_NS, Heard, Report, Told, follow, tell

NS_PER_S = 1_000_000_000
EPOCH_S = 2_208_988_800
MONO_NS = 7_000 * NS_PER_S
RATES_HZ = st.sampled_from([8_000, 16_000, 48_000])
# 1990 to 2100: the era of NTP changes in 2036, and 2^63 is passed in 1968.
INSTANTS_S = st.integers(631_152_000, 4_102_444_800) | st.integers(-60, 60).map(lambda s: 2_085_978_496 + s)


def ntp_of(utc_ns: int) -> int:
    return ((utc_ns + EPOCH_S * NS_PER_S << 32) // NS_PER_S) % 2**64


def spoken(
    count: int,
    *,
    rate_hz: int = 8_000,
    ppm: float = 0.0,
    utc_ns: int = 1_790_000_000 * NS_PER_S,
    timestamp: int = 0,
    pace_ms: int = 5_000,
    delay_ms: int = 0,
    packet_ms: int = 0,
    wall_ppm: float = 0.0,
    seed: int = 1,
) -> list[Report]:
    """Reports of a sender whose media clock is ``ppm`` fast by its wall clock, that one ``wall_ppm`` by ours.

    With ``packet_ms`` the timestamp is that of the packet sent last.
    """
    chance, reports, at_ns = random.Random(seed), [], 0
    for _ in range(count):
        wall_ns = at_ns + round(at_ns * wall_ppm * 1e-6)
        media_ns = wall_ns + round(wall_ns * ppm * 1e-6)
        ticks = media_ns * rate_hz // NS_PER_S
        if packet_ms:
            ticks -= ticks % (packet_ms * rate_hz // 1_000)
        reports.append(
            Report(
                ssrc=5,
                ntp=ntp_of(utc_ns + wall_ns),
                timestamp=(timestamp + ticks) % 2**32,
                arrival_ns=MONO_NS + at_ns + chance.randint(0, delay_ms) * 1_000_000,
            )
        )
        at_ns += round(pace_ms * chance.uniform(0.5, 1.5)) * 1_000_000  # RFC 3550 section 6.2
    return reports


def heard_of(reports: list[Report], rate_hz: int = 8_000) -> Heard:
    heard = Heard()
    for report in reports:
        heard = follow(heard, report, rates_hz=(rate_hz,))
    return heard


def told(reports: list[Report], *, rate_hz: int = 8_000, utc_s: int = 1_790_000_000) -> Told:
    return tell(heard_of(reports, rate_hz), at_mono_ns=MONO_NS, at_utc_ns=utc_s * NS_PER_S)


@given(RATES_HZ, st.floats(-1_000, 1_000), INSTANTS_S, st.integers(0, 2**32 - 1), st.integers(0, 400))
def test_a_skew_is_told_whenever_it_is_and_wherever_timestamps_begin(
    rate_hz: int, ppm: float, utc_s: int, timestamp: int, delay_ms: int
) -> None:
    reports = spoken(
        60, rate_hz=rate_hz, ppm=ppm, utc_ns=utc_s * NS_PER_S, timestamp=timestamp, delay_ms=delay_ms
    )
    found = told(reports, rate_hz=rate_hz, utc_s=utc_s)
    assert (found.reports, found.is_sure) == (sum(report.ntp != 0 for report in reports), True)
    assert found.skew_ppm == pytest.approx(ppm, abs=1)


@given(st.floats(-200, 200), st.sampled_from([10, 20, 30, 60]), st.integers(0, 999))
def test_timestamps_that_are_cut_to_packets_tell_it_within_5_ppm_after_an_hour(
    ppm: float, packet_ms: int, seed: int
) -> None:
    found = told(spoken(720, ppm=ppm, packet_ms=packet_ms, seed=seed))
    assert found.is_sure
    assert found.skew_ppm == pytest.approx(ppm, abs=5)


@given(INSTANTS_S, st.integers(-UNSET_NS + 2 * NS_PER_S, UNSET_NS - 2 * NS_PER_S), st.integers(0, 300))
def test_the_wall_clocks_offset_is_told_but_for_the_least_delay(
    utc_s: int, offset_ns: int, delay_ms: int
) -> None:
    reports = spoken(40, utc_ns=utc_s * NS_PER_S + offset_ns, delay_ms=delay_ms)
    assume(all(report.ntp for report in reports))
    found = told(reports, utc_s=utc_s)
    early = [report for report in reports if (report.ntp - reports[0].ntp) % 2**64 <= 60 << 32]
    least_ns = min(
        report.arrival_ns - MONO_NS - ((report.ntp - reports[0].ntp) % 2**64 * NS_PER_S >> 32)
        for report in early
    )
    assert found.wall_offset_ns == pytest.approx(offset_ns - least_ns, abs=2)


@given(st.floats(-100, 100), st.floats(-100, 100), st.integers(0, 3_600))
def test_an_offset_is_carried_back_to_the_beginning(ppm: float, wall_ppm: float, later_s: int) -> None:
    reports = spoken(200, ppm=ppm, wall_ppm=wall_ppm)
    long_s = (reports[-1].ntp - reports[0].ntp) / 2**32
    assume(abs(later_s - long_s) > 61)
    media_ppm = ((1 + ppm * 1e-6) * (1 + wall_ppm * 1e-6) - 1) * 1e6
    found = tell(
        heard_of(reports),
        at_mono_ns=MONO_NS - later_s * NS_PER_S,
        at_utc_ns=(1_790_000_000 - later_s) * NS_PER_S,
        media_ppm=media_ppm,
    )
    drift_ns = later_s * wall_ppm * 1_000 if later_s < long_s else 0
    assert found.wall_offset_ns == pytest.approx(-drift_ns, abs=8_000_000)  # six are a minute's drift


MAD = st.builds(
    Report,
    ssrc=st.just(5),
    ntp=st.integers(0, 2**64 - 1),
    timestamp=st.integers(0, 2**32 - 1),
    arrival_ns=st.just(MONO_NS),
)


@given(st.data(), st.floats(-300, 300), st.integers(0, 500))
def test_mad_doubled_and_disordered_reports_change_nothing(
    data: st.DataObject, ppm: float, seed: int
) -> None:
    reports = spoken(80, ppm=ppm, seed=seed, utc_ns=1_790_000_000 * NS_PER_S)
    plain = told(reports)
    spoilt: list[Report] = []
    for number, report in enumerate(reports):
        spoilt.append(report)
        what = data.draw(st.sampled_from(["", "", "", "mad", "doubled", "overtaken"]))
        if what == "mad":
            spoilt.append(data.draw(MAD))
            assume(2**48 < (spoilt[-1].ntp - report.ntp) % 2**64 < 2**64 - 2**48)  # not of its line
        elif what == "doubled":
            spoilt += [report] * data.draw(st.integers(1, 3))
        elif what == "overtaken" and number:
            spoilt.append(reports[number - 1])
    assert told(spoilt) == plain


@given(st.integers(-(10**6), 10**6), st.integers(0, 2**32 - 1), st.integers(15, 45), st.floats(-300, 300))
def test_after_a_clock_was_set_the_longer_run_is_told(
    jump_ms: int, timestamp: int, before: int, ppm: float
) -> None:
    assume(abs(jump_ms) > 1_000)
    reports = spoken(120, ppm=ppm)
    set_anew = [
        replace(
            report,
            ntp=(report.ntp + (jump_ms << 32) // 1_000) % 2**64,
            timestamp=(report.timestamp + timestamp) % 2**32,
        )
        for report in reports[before:]
    ]
    ahead_s = ((timestamp + 2**31) % 2**32 - 2**31) / 8_000 - jump_ms / 1_000
    assume(abs(ahead_s) > 1)  # else both went alike, and the line goes on
    found = told([*reports[:before], *set_anew])
    assert found.reports == len(set_anew)
    assert found.skew_ppm == pytest.approx(ppm, abs=2)


@given(
    st.lists(
        st.builds(
            Report,
            ssrc=st.integers(0, 2),
            ntp=st.integers(0, 2**64 - 1) | st.integers(0, 9),
            timestamp=st.integers(0, 2**32 - 1),
            arrival_ns=st.integers(0, 2**62),
        ),
        max_size=40,
    ),
    INSTANTS_S,
)
def test_nonsense_of_any_kind_gives_figures_within_their_bounds(reports: list[Report], utc_s: int) -> None:
    found = told(reports, utc_s=utc_s)
    assert 0 <= found.reports <= len(reports)
    assert abs(found.skew_ppm) <= 2_000
    assert abs(found.wall_offset_ns) <= UNSET_NS
    assert found.reports or found == Told()
    assert found.reports >= MIN_REPORTS or not found.is_sure
