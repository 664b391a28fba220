"""However a stream is divided into windows, it is resampled to the same samples."""

from math import gcd

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.record.resampling import Resampler

RATES_HZ = [8000, 16_000, 44_100, 48_000]


@settings(max_examples=60, deadline=None)
@given(
    in_hz=st.sampled_from(RATES_HZ),
    out_hz=st.sampled_from(RATES_HZ),
    seed=st.integers(0, 2**32 - 1),
    windows=st.lists(st.integers(0, 9600), min_size=1, max_size=6),
)
def test_the_division_into_windows_is_a_matter_of_rounding(
    in_hz: int, out_hz: int, seed: int, windows: list[int]
) -> None:
    step = in_hz // gcd(in_hz, out_hz)
    lengths = [window // step * step for window in windows]
    samples = np.random.default_rng(seed).integers(-32_768, 32_768, sum(lengths)).astype(np.int16)
    whole = Resampler(in_hz, out_hz).feed(samples)
    resampler = Resampler(in_hz, out_hz)
    pieces = [resampler.feed(piece) for piece in np.split(samples, np.cumsum(lengths)[:-1])]
    assert [piece.size * in_hz for piece in pieces] == [length * out_hz for length in lengths]
    assert np.abs(np.concatenate(pieces).astype(int) - whole).max(initial=0) <= 1
