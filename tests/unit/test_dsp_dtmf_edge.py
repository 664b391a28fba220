"""The remains of a key at a cut, which no detector would call a key."""

import numpy as np
import pytest

from dsp.dtmf_edge import EDGE_MS, cut_key_samples
from tests.support.tones import KEYS, key_tone, to_int16


def _noise(rate_hz: int, *, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 300, rate_hz // 10)


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 48_000])
@pytest.mark.parametrize("left_ms", [10, 15, 22, 30, 38])
def test_the_remains_of_every_key_are_counted_whole_and_little_else(rate_hz: int, left_ms: int) -> None:
    for place, key in enumerate(KEYS):
        signal = _noise(rate_hz, seed=place)
        tone = key_tone(key, duration_ms=left_ms, rate_hz=rate_hz, phases=(0.4 * place, 0.9 * place))
        signal[signal.size - tone.size :] += tone
        found_ms = cut_key_samples(to_int16(signal), rate_hz=rate_hz) * 1000 / rate_hz
        assert left_ms <= found_ms <= min(EDGE_MS, left_ms / 0.7 + 5), key


def test_noise_silence_one_tone_and_too_little_are_no_keys() -> None:
    single = 8000 * np.sin(2 * np.pi * 425 * np.arange(800) / 8000)
    quiet = key_tone("5", duration_ms=100, level_dbm0=-60)
    for signal in (_noise(8000), np.zeros(800), single, quiet, _noise(8000)[:40], np.zeros(0)):
        assert cut_key_samples(to_int16(signal), rate_hz=8000) == 0
