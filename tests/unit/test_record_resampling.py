"""The resampler's figures: pitch, phase, passband, images and aliases, for every pair of rates."""

import numpy as np
import pytest

from dsp.shapes import ShapeError
from recorderd.record.resampling import Resampler

RATES_HZ = [
    (8000, 16_000),
    (8000, 48_000),
    (16_000, 48_000),
    (16_000, 8000),
    (48_000, 8000),
    (48_000, 16_000),
    (44_100, 8000),
    (44_100, 16_000),
    (44_100, 48_000),
    (48_000, 44_100),
]
AMPLITUDE = 30_000


def _resampled_tone(in_hz: int, out_hz: int, tone_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """The middle half of a second of a sine, and the times at which its samples ought to stand."""
    resampler = Resampler(in_hz, out_hz)
    tone = np.round(AMPLITUDE * np.sin(2 * np.pi * tone_hz * np.arange(in_hz) / in_hz)).astype(np.int16)
    out = resampler.feed(tone)
    assert out.size == out_hz
    middle = slice(out_hz // 4, out_hz // 4 * 3)
    at_s = np.arange(out_hz)[middle] / out_hz - resampler.delay_samples_in / in_hz
    return out[middle].astype(np.float64), at_s


def _db(amplitude: float) -> float:
    return float(20 * np.log10(max(amplitude, 1e-6) / AMPLITUDE))


@pytest.mark.parametrize(("in_hz", "out_hz"), RATES_HZ)
def test_a_tone_passes_with_its_level_its_phase_and_nothing_beside_it(in_hz: int, out_hz: int) -> None:
    for of_nyquist in (0.05, 0.25, 0.5, 0.7, 0.85, 0.9):
        tone_hz = of_nyquist * min(in_hz, out_hz) / 2
        out, at_s = _resampled_tone(in_hz, out_hz, tone_hz)
        waves = np.stack([np.sin(2 * np.pi * tone_hz * at_s), np.cos(2 * np.pi * tone_hz * at_s)], axis=1)
        (in_phase, across), *_ = np.linalg.lstsq(waves, out, rcond=None)
        assert _db(np.hypot(in_phase, across)) == pytest.approx(0, abs=0.01)
        assert abs(np.arctan2(across, in_phase)) < 1e-3  # delayed by exactly what it says
        window = np.kaiser(out.size, 16)
        beside = np.abs(np.fft.rfft((out - waves @ (in_phase, across)) * window)) * 2 / window.sum()
        assert _db(beside.max()) < -95


@pytest.mark.parametrize(("in_hz", "out_hz"), [pair for pair in RATES_HZ if pair[0] > pair[1]])
def test_what_the_lower_rate_cannot_hold_leaves_no_alias(in_hz: int, out_hz: int) -> None:
    for of_nyquist in (1.0, 1.05, 1.2, 1.6, 2.5, 4.5):
        tone_hz = of_nyquist * out_hz / 2
        if tone_hz < 0.95 * in_hz / 2:
            out, _ = _resampled_tone(in_hz, out_hz, tone_hz)
            assert np.abs(out).max() <= 1  # -89.5 dB: the last bit


def test_one_rate_passes_untouched_and_at_once() -> None:
    resampler = Resampler(8000, 8000)
    samples = np.arange(-100, 100, dtype=np.int16)
    out = resampler.feed(samples)
    assert out.tolist() == samples.tolist()
    assert not np.shares_memory(out, samples)
    assert (resampler.delay_samples_in, resampler.delay_samples_out) == (0, 0)


def test_zeros_bring_out_the_rest() -> None:
    resampler = Resampler(8000, 48_000)
    steady = np.full(800, 1000, dtype=np.int16)
    out = np.concatenate(
        [resampler.feed(steady), resampler.feed(np.zeros(resampler.delay_samples_in, dtype=np.int16))]
    )
    voice = out[resampler.delay_samples_out :]
    assert voice.size == 4800
    assert np.abs(voice[600:-600].astype(int) - 1000).max() <= 1
    assert 400 < out[resampler.delay_samples_out - 3] < 600  # half way up, half a sample before the first


def test_what_passes_above_the_samples_stays_at_the_rail() -> None:
    square = np.repeat(np.array([32_767, -32_768], dtype=np.int16), 40)
    out = Resampler(8000, 48_000).feed(np.tile(square, 20))
    assert out.max() == 32_767
    assert out.min() == -32_768
    assert np.count_nonzero(np.abs(np.diff(out.astype(int))) > 40_000) == 0  # no sample wraps round


def test_windows_that_are_no_whole_number_of_samples_are_refused() -> None:
    with pytest.raises(ShapeError, match="whole"):
        Resampler(48_000, 8000).feed(np.zeros(481, dtype=np.int16))
    assert Resampler(48_000, 8000).feed(np.zeros(0, dtype=np.int16)).size == 0
