"""However a stream is divided into windows: the same mix, the same talkers, the same levels."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dsp import levels
from dsp.activity import Activity, detect, frame_energy
from dsp.mixing import CEILING, Limiter, mix
from dsp.skew import fit

SEEDS = st.integers(0, 2**32 - 1)
CUTS = st.lists(st.floats(0, 1), max_size=6).map(sorted)


def _swelling(seed: int, channels: int, count: int) -> np.ndarray:
    """Noise that goes between silence and full scale."""
    rng = np.random.default_rng(seed)
    swell = np.interp(np.arange(count), np.linspace(0, count, 9), rng.uniform(-90, 3, 9))
    wave = rng.normal(size=(channels, count)) * 10_000 * 10 ** (swell / 20)
    return np.clip(np.round(wave), -32_768, 32_767).astype(np.int16)


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, channels=st.integers(1, 8), cuts=CUTS, rate_hz=st.sampled_from([8000, 16_000, 48_000]))
def test_the_mix_does_not_know_its_windows(seed: int, channels: int, cuts: list[float], rate_hz: int) -> None:
    blocks = _swelling(seed, channels, 3000)
    whole, last = mix(blocks, Limiter.of(rate_hz))
    state, pieces = Limiter.of(rate_hz), []
    for block in np.split(blocks, [int(cut * 3000) for cut in cuts], axis=1):
        mixed, state = mix(block, state)
        pieces.append(mixed)
    assert (np.concatenate(pieces) == whole).all()
    assert state == last
    together = np.count_nonzero(blocks, axis=0) > 1
    assert np.abs(whole[together].astype(int)).max(initial=0) <= CEILING


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, cuts=CUTS)
def test_who_speaks_and_how_loud_does_not_depend_on_windows(seed: int, cuts: list[float]) -> None:
    blocks = _swelling(seed, 5, 16_000)
    energy = frame_energy(blocks, frame_samples=160)
    whole, last = detect(Activity.of(5), energy, frame_samples=160, rate_hz=8000)
    state, found = Activity.of(5), []
    level = levels.Level()
    frames = [int(cut * 100) for cut in cuts]
    for block in np.split(blocks, [frame * 160 for frame in frames], axis=1):
        active, state = detect(state, frame_energy(block, frame_samples=160), frame_samples=160, rate_hz=8000)
        found.append(active)
        level = levels.gather(level, block[0])
    assert (np.concatenate(found, axis=1) == whole).all()
    assert (state.floor_dbfs == last.floor_dbfs).all()
    once = levels.gather(levels.Level(), blocks[0])
    assert (level.peak, level.energy, level.samples) == (once.peak, once.energy, once.samples)
    assert level.clipped <= once.clipped <= level.clipped + 4 * len(cuts)  # runs that a window's edge divides


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-(2**40), 2**40), st.integers(-(2**62), 2**62)),
        max_size=60,
    )
)
def test_any_points_have_a_finite_skew(points: list[tuple[int, int]]) -> None:
    ticks = np.array([tick for tick, _ in points], dtype=np.int64)
    delay_ns = np.array([delay for _, delay in points], dtype=np.int64)
    skew = fit(ticks, delay_ns, rate_hz=8000)
    assert np.isfinite([skew.ppm, skew.offset_ns, skew.residual_ns, skew.span_s]).all()
