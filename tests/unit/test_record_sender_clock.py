"""A sender's clock is noted again and again for a recovery, and measured as often as that is worth it."""

from dataclasses import dataclass

import numpy as np
import pytest

from dsp import skew
from dsp.shapes import I64
from recorderd.record.sender_clock import SenderClock
from recorderd.tap.trend import ArrivalTrend

RATE_HZ = 8_000
BIN_S = 10
NOTES_OF_AN_HOUR = 120
PPM = 40.0


@dataclass
class _Source:
    """A stream whose clock runs fast, heard for some time."""

    bins: int = 0

    def arrival_trend(self, slot: int) -> ArrivalTrend:
        ticks: I64 = np.arange(self.bins, dtype=np.int64) * RATE_HZ * BIN_S
        return ArrivalTrend(position_ticks=ticks, delay_ns=-(ticks * 125_000 * PPM / 1e6).astype(np.int64))


def test_notes_of_an_hour_measure_a_clock_a_few_times_and_tell_of_half_of_it_at_least(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, clock, fitted = _Source(), SenderClock(), []
    true_fit = skew.fit

    def counted(position_ticks: I64, delay_ns: I64, *, rate_hz: int) -> skew.Skew:
        fitted.append(delay_ns.size)
        return true_fit(position_ticks, delay_ns, rate_hz=rate_hz)

    monkeypatch.setattr(skew, "fit", counted)
    for note in range(1, NOTES_OF_AN_HOUR + 1):
        source.bins = 3 * note
        noted = clock.fit(source, 0, rate_hz=RATE_HZ, afresh=False)  # type: ignore[arg-type]
        assert noted.ppm == pytest.approx(PPM, abs=0.1)
        assert noted.span_s >= 0.5 * BIN_S * (source.bins - 1) - BIN_S
    assert len(fitted) <= 8
    last = clock.fit(source, 0, rate_hz=RATE_HZ, afresh=True)  # type: ignore[arg-type]
    assert last.span_s == BIN_S * (source.bins - 1)


def test_a_course_of_which_less_is_known_than_before_is_measured_again() -> None:
    source, clock = _Source(bins=100), SenderClock()
    clock.fit(source, 0, rate_hz=RATE_HZ, afresh=False)  # type: ignore[arg-type]
    source.bins = 50
    assert clock.fit(source, 0, rate_hz=RATE_HZ, afresh=False).span_s == BIN_S * 49  # type: ignore[arg-type]
