"""The tests' own measuring instruments are right before anything is judged by them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.audio import (
    envelope_dbfs,
    find_sound,
    onset_samples,
    resampled,
    tone_level_dbfs,
    tone_spans,
    without_tones,
)

RATE_HZ = 8000


def tone(hz: float, n_samples: int, *, dbfs: float = -12.0) -> NDArray[np.float64]:
    """Return a sine that starts at its zero crossing."""
    return np.asarray(10 ** (dbfs / 20) * np.sin(2 * np.pi * hz / RATE_HZ * np.arange(n_samples)))


@pytest.mark.parametrize("dbfs", [0.0, -12.0, -60.0])
@pytest.mark.parametrize("hz", [400.0, 437.0, 1000.3])
def test_a_tone_has_its_level(hz: float, dbfs: float) -> None:
    assert tone_level_dbfs(tone(hz, RATE_HZ, dbfs=dbfs), RATE_HZ, hz) == pytest.approx(dbfs, abs=0.01)


def test_int16_full_scale_is_0_dbfs() -> None:
    samples = np.round(32767 * tone(400, RATE_HZ, dbfs=0)).astype(np.int16)
    assert tone_level_dbfs(samples, RATE_HZ, 400) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("hz", "n_samples"), [(400.0, RATE_HZ), (405.5, RATE_HZ), (437.3, 1013), (440.0, 1600)]
)
def test_another_tone_leaks_in_below_90_db(hz: float, n_samples: int) -> None:
    assert tone_level_dbfs(tone(hz, n_samples, dbfs=0), RATE_HZ, 1000) < -90


def test_a_tone_five_bins_away_leaks_in_below_90_db() -> None:
    assert tone_level_dbfs(tone(1005.1, RATE_HZ, dbfs=0), RATE_HZ, 1000) < -90


def test_silence_has_a_finite_level_and_no_onset() -> None:
    silence = np.zeros(RATE_HZ, np.int16)
    assert tone_level_dbfs(silence, RATE_HZ, 400) == -200
    assert tone_spans(silence, RATE_HZ, 400) == []
    with pytest.raises(ValueError, match="no tone of 400 Hz"):
        onset_samples(silence, RATE_HZ, 400)


@pytest.mark.parametrize("start", [0, 1, 160, 803, 7000])
def test_an_onset_is_found_under_another_louder_tone(start: int) -> None:
    samples = tone(1000, RATE_HZ, dbfs=0) * 0.5
    samples[start:] += tone(400, RATE_HZ - start)
    assert onset_samples(samples, RATE_HZ, 400) == pytest.approx(start, abs=0.002 * RATE_HZ)


def test_spans_show_a_pause() -> None:
    samples = np.concatenate((np.zeros(500), tone(400, 4000), np.zeros(800), tone(400, 4000), np.zeros(100)))
    spans = np.array(tone_spans(samples, RATE_HZ, 400))
    assert np.abs(spans - np.array([[500, 4500], [5300, 9300]])).max() <= 0.002 * RATE_HZ


def test_envelope_follows_the_level() -> None:
    levels = envelope_dbfs(np.concatenate((tone(400, 1600), np.zeros(1650))), RATE_HZ)
    assert levels.shape == (20,)
    assert levels[:10] == pytest.approx(-12, abs=0.1)
    assert (levels[10:] == -200).all()


def test_two_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="one channel"):
        tone_level_dbfs(np.zeros((2, 100)), RATE_HZ, 400)


def test_a_sound_is_found_where_it_is_whatever_its_level_and_the_tones_over_it() -> None:
    noise = np.random.default_rng(1)
    sound = 0.1 * noise.standard_normal(4000)
    samples = tone(1000, 3 * RATE_HZ)
    samples[9000:13_000] += 0.3 * sound
    tones_hz = [1000]
    start, likeness = find_sound(
        without_tones(samples, RATE_HZ, tones_hz), without_tones(sound, RATE_HZ, tones_hz)
    )
    assert start == 9000
    assert likeness > 0.95
    _, other = find_sound(samples, 0.1 * noise.standard_normal(4000))
    assert other < 0.2


def test_a_sound_that_lost_its_beginning_is_still_found_and_silence_is_like_nothing() -> None:
    sound = np.random.default_rng(1).standard_normal(4000)
    start, likeness = find_sound(sound[400:], sound)
    assert start == -400
    assert likeness > 0.9
    assert find_sound(np.zeros(8000), sound)[1] < 0.01


def test_a_tone_keeps_its_level_and_pitch_at_another_rate() -> None:
    at_22050 = 0.25 * np.sin(2 * np.pi * 440 / 22_050 * np.arange(22_050))
    samples = resampled(at_22050, 22_050, RATE_HZ)
    assert samples.size == RATE_HZ
    assert tone_level_dbfs(samples, RATE_HZ, 440) == pytest.approx(20 * np.log10(0.25), abs=0.05)
