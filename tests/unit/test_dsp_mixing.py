"""Channels become one: bit by bit while there is room, and never clipped when there is not."""

import numpy as np
import pytest

from dsp.mixing import CEILING, THRESHOLD, Limiter, mix
from dsp.shapes import ShapeError


def _sines(
    *pitches_hz: float, rate_hz: int = 8000, seconds: float = 2, amplitude: int = 32_767
) -> np.ndarray:
    at = np.arange(round(seconds * rate_hz)) / rate_hz
    waves = [amplitude * np.sin(2 * np.pi * hz * at + number) for number, hz in enumerate(pitches_hz)]
    return np.round(waves).astype(np.int16)


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_a_sum_within_the_threshold_passes_bit_by_bit(channels: int) -> None:
    rng = np.random.default_rng(channels)
    most = THRESHOLD // channels
    blocks = rng.integers(-most, most + 1, (channels, 4000)).astype(np.int16)
    mixed, state = mix(blocks, Limiter.of(8000))
    assert mixed.tolist() == blocks.sum(axis=0, dtype=int).tolist()
    assert state == Limiter.of(8000)
    edge, _ = mix(np.array([[THRESHOLD, -THRESHOLD]], dtype=np.int16), state)
    assert edge.tolist() == [THRESHOLD, -THRESHOLD]


@pytest.mark.parametrize("channels", [2, 8, 300])
@pytest.mark.parametrize("rail", [32_767, -32_768])
def test_nothing_ever_clips(channels: int, rail: int) -> None:
    blocks = np.full((channels, 400), rail, dtype=np.int16)
    blocks[:, ::3] = 0
    mixed, _ = mix(blocks, Limiter.of(8000))
    assert np.abs(mixed.astype(int)).max() <= CEILING < 32_124
    assert (np.sign(mixed) == np.sign(blocks[0])).all()


def test_whoever_speaks_alone_comes_out_bit_by_bit_however_loud() -> None:
    rng = np.random.default_rng(3)
    blocks = np.zeros((3, 900), dtype=np.int16)
    for row in range(3):
        blocks[row, 300 * row : 300 * (row + 1)] = rng.integers(-32_768, 32_768, 300)
    mixed, state = mix(blocks, Limiter.of(8000))
    assert np.array_equal(mixed, blocks.sum(axis=0))
    assert state == Limiter.of(8000)


def test_louder_never_comes_out_quieter_by_more_than_a_step_of_the_gain() -> None:
    loud = np.arange(0, 32_768, 7, dtype=np.int16)[np.newaxis]
    mixed, _ = mix(np.repeat(loud, 3, axis=0), Limiter.of(8000))
    step = CEILING * (1 - 10 ** (-0.006 / 20))  # of the gain
    assert (np.maximum.accumulate(mixed) - mixed <= step).all()


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 48_000])
@pytest.mark.parametrize(
    ("pitches_hz", "bound_db"),
    [((440, 620), -45), ((300, 3000), -45), ((100, 200), -45), ((1000, 1013), -35), ((1000, 1000), -70)],
)
def test_two_full_scale_sines_are_hardly_distorted(
    rate_hz: int, pitches_hz: tuple[int, int], bound_db: float
) -> None:
    mixed, _ = mix(_sines(*pitches_hz, rate_hz=rate_hz), Limiter.of(rate_hz))
    middle = slice(rate_hz // 2, rate_hz // 2 * 3)
    at = np.arange(mixed.size)[middle] / rate_hz
    waves = np.stack([f(2 * np.pi * hz * at) for hz in set(pitches_hz) for f in (np.sin, np.cos)], axis=1)
    parts, *_ = np.linalg.lstsq(waves, mixed[middle].astype(float), rcond=None)
    window = np.kaiser(at.size, 12)
    beside = np.abs(np.fft.rfft((mixed[middle] - waves @ parts) * window)) * 2 / window.sum()
    assert 20 * np.log10(beside.max() / np.hypot(parts[0], parts[1])) < bound_db


def test_the_gain_comes_back_slowly_and_completely() -> None:
    quiet = _sines(500, amplitude=8000, seconds=3)
    state = Limiter.of(8000)
    _, state = mix(_sines(300, 310, seconds=0.1), state)
    after, state = mix(quiet, state)
    assert np.abs(after[:800].astype(int)).max() < 7000  # held down for a while
    levels = [np.abs(part.astype(int)).max() for part in np.split(after, 30)]
    assert levels == sorted(levels)
    assert (after[16_000:] == quiet[0, 16_000:]).all()
    assert state == Limiter.of(8000)


def test_a_mix_of_nothing_changes_nothing() -> None:
    _, state = mix(_sines(300, 310, seconds=0.1), Limiter.of(8000))
    mixed, after = mix(np.zeros((2, 0), dtype=np.int16), state)
    assert (mixed.size, after) == (0, state)
    with pytest.raises(ShapeError):
        mix(np.zeros(4, dtype=np.int16), state)
