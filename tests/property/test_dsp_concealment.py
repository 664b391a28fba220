"""Whatever stands around a lost stretch: what fills it is bounded, the same each time, and has no step."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dsp import concealment
from tests.support.tones import human_speech

RATES_HZ = st.sampled_from((8000, 11_025, 16_000, 44_100, 48_000))
KINDS = ("noise", "rails", "hum", "silence", "speech", "constant")


def _run(kind: str, size: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    if kind == "speech":
        spoken = human_speech("it_IT_m_Carlo")
        start = seed * 977 % (spoken.size - size)
        return spoken[start : start + size]
    at = np.arange(size)
    made = {
        "noise": random.integers(-32_768, 32_768, size),
        "rails": np.where(random.random(size) < 0.5, -32_768, 32_767),
        "hum": 30_000 * np.sin(at / (3 + seed % 50)),
        "silence": np.zeros(size),
        "constant": np.full(size, random.integers(-32_768, 32_768)),
    }[kind]
    return made.astype(np.int16)


RUNS = st.builds(_run, st.sampled_from(KINDS), st.integers(0, 3000), st.integers(0, 2**16))


def _largest_step(run: np.ndarray) -> int:
    return int(np.abs(np.diff(run.astype(int))).max(initial=0))


@settings(max_examples=300, deadline=None)
@given(before=RUNS, after=RUNS, length=st.integers(1, 6000), rate_hz=RATES_HZ)
def test_no_edge_clicks_and_nothing_around_is_touched(
    before: np.ndarray, after: np.ndarray, length: int, rate_hz: int
) -> None:
    kept = before.copy(), after.copy()
    made = concealment.bridge(before, after, length=length, rate_hz=rate_hz)
    assert made.dtype == np.int16 and made.size == length  # so it lies within 16 bits
    assert (before == kept[0]).all() and (after == kept[1]).all()
    join, history = (concealment.samples_of(ms, rate_hz=rate_hz) for ms in (20, 50))
    more = 0.0 if length > join else 65_535 / (length + 1) + 1
    enough = 2 * concealment.samples_of(3, rate_hz=rate_hz)
    if before.size >= enough:
        step = abs(int(made[0]) - int(before[-1]))
        assert step <= _largest_step(before[-history:]) + more
    if after.size >= enough:
        step = abs(int(made[-1]) - int(after[0]))
        assert step <= _largest_step(after[:history]) + more


@settings(max_examples=100, deadline=None)
@given(before=RUNS, after=RUNS, length=st.integers(0, 2000), rate_hz=RATES_HZ)
def test_backwards_in_time_a_short_stretch_is_filled_alike(
    before: np.ndarray, after: np.ndarray, length: int, rate_hz: int
) -> None:
    length = min(length, concealment.samples_of(20, rate_hz=rate_hz))
    made = concealment.bridge(before, after, length=length, rate_hz=rate_hz)
    turned = concealment.bridge(after[::-1], before[::-1], length=length, rate_hz=rate_hz)[::-1]
    assert np.abs(made.astype(int) - turned).max(initial=0) <= 1  # the last bit of a weight


@settings(max_examples=100, deadline=None)
@given(before=RUNS, after=RUNS, extra=st.integers(0, 20_000), rate_hz=RATES_HZ)
def test_beyond_its_reach_a_stretch_is_silent(
    before: np.ndarray, after: np.ndarray, extra: int, rate_hz: int
) -> None:
    reach = concealment.reach_samples(rate_hz=rate_hz)
    made = concealment.bridge(before, after, length=reach + extra, rate_hz=rate_hz)
    loudest = max(np.abs(run.astype(int)).max(initial=0) for run in (before, after))
    join = concealment.samples_of(concealment.JOIN_MS, rate_hz=rate_hz)
    assert not made[reach - join : made.size - join].any()
    assert np.abs(made.astype(int)).max(initial=0) <= 3 * loudest
