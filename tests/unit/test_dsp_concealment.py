"""Lost speech is filled so that it goes on for a moment, fades, and clicks nowhere."""

from itertools import pairwise

import numpy as np
import pytest

from dsp import concealment
from dsp.runs import absent_runs
from dsp.shapes import ShapeError
from tests.support.tones import active_rms, human_speech

RATES_HZ = (8000, 11_025, 16_000, 24_000, 48_000)
VOICES = ("en_US_f_Allison", "it_IT_m_Carlo")


def _hum(hz: float, *, rate_hz: int, duration_ms: int, level: int = 8000) -> np.ndarray:
    """Make a voice-like sound: a fundamental with harmonics that fall."""
    at = np.arange(duration_ms * rate_hz // 1000) / rate_hz
    wave = sum(np.sin(2 * np.pi * hz * k * at + k) / k for k in range(1, 6))
    return np.rint(level * wave).astype(np.int16)


def _bridged(sound: np.ndarray, *, start: int, length: int, rate_hz: int) -> np.ndarray:
    return concealment.bridge(sound[:start], sound[start + length :], length=length, rate_hz=rate_hz)


def _decibels(signal: np.ndarray, reference: np.ndarray) -> float:
    powers = [np.mean(samples.astype(float) ** 2) for samples in (signal, reference)]
    return float(10 * np.log10(max(powers[0], 1e-9) / powers[1]))


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("hz", [80, 125, 200, 310, 400])
def test_a_steady_voice_goes_on_where_10_ms_are_lost(rate_hz: int, hz: int) -> None:
    sound = _hum(hz, rate_hz=rate_hz, duration_ms=300)
    start, length = sound.size // 2, rate_hz // 100
    lost = sound[start : start + length]
    made = _bridged(sound, start=start, length=length, rate_hz=rate_hz)
    assert _decibels(made.astype(float) - lost, lost) < -11.5  # a pitch of whole samples, at 8 kHz


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_what_is_made_fades_after_10_ms_and_is_silent_from_60_ms_on(rate_hz: int) -> None:
    sound = _hum(100, rate_hz=rate_hz, duration_ms=200)
    nothing = np.zeros(0, dtype=np.int16)
    made = concealment.bridge(sound, nothing, length=rate_hz // 2, rate_hz=rate_hz)
    pieces = made[: rate_hz // 100 * 10].reshape(10, -1)
    levels = [float(np.sqrt(np.mean(piece.astype(float) ** 2))) for piece in pieces]
    assert levels[0] == pytest.approx(np.sqrt(np.mean(sound.astype(float) ** 2)), rel=0.05)
    assert all(later < earlier for earlier, later in pairwise(levels[:6]))
    assert levels[5] < 0.13 * levels[0]
    assert not made[60 * rate_hz // 1000 :].any()


def test_what_follows_is_led_into_over_the_last_20_ms_only() -> None:
    sound = _hum(125, rate_hz=8000, duration_ms=200)
    made = concealment.bridge(np.zeros(0, dtype=np.int16), sound, length=4000, rate_hz=8000)
    assert not made[: 4000 - 160].any()
    assert _decibels(made[-40:], sound) > -3
    assert made[-1] == sound[63] + sound[0] - sound[64]  # a period of 64: it meets the first sample as 63 did


def test_a_longer_stretch_holds_the_same_with_silence_within() -> None:
    before, after = _hum(125, rate_hz=8000, duration_ms=90), _hum(180, rate_hz=8000, duration_ms=90)
    reach, join = concealment.reach_samples(rate_hz=8000), 160
    shorter = concealment.bridge(before, after, length=reach, rate_hz=8000)
    longer = concealment.bridge(before, after, length=8000, rate_hz=8000)
    assert (longer[: reach - join] == shorter[: reach - join]).all()
    assert (longer[-join:] == shorter[-join:]).all()
    assert not longer[reach - join : -join].any()


def test_only_50_ms_of_either_side_count() -> None:
    before, after = _hum(125, rate_hz=8000, duration_ms=90), _hum(180, rate_hz=8000, duration_ms=90)
    whole = concealment.bridge(before, after, length=300, rate_hz=8000)
    assert (concealment.bridge(before[-400:], after[:400], length=300, rate_hz=8000) == whole).all()


def test_beside_silence_nothing_is_made() -> None:
    silence = np.zeros(800, dtype=np.int16)
    assert not concealment.bridge(silence, silence, length=480, rate_hz=8000).any()
    assert not concealment.bridge(silence[:0], silence[:0], length=480, rate_hz=8000).any()


def test_beside_too_little_for_a_pitch_the_last_sample_fades() -> None:
    scrap = np.full(20, 6000, dtype=np.int16)
    made = concealment.bridge(scrap, scrap[:0], length=480, rate_hz=8000)
    assert made[:24].tolist() == [round(6000 * (1 - at / 24)) for at in range(24)]
    assert not made[24:].any()


def test_a_stretch_of_no_samples_needs_none() -> None:
    sound = _hum(125, rate_hz=8000, duration_ms=90)
    assert concealment.bridge(sound, sound, length=0, rate_hz=8000).size == 0


@pytest.mark.parametrize(("length", "rate_hz"), [(-1, 8000), (10, 7999), (10, 48_001)])
def test_what_is_no_stretch_of_sound_is_refused(length: int, rate_hz: int) -> None:
    with pytest.raises(ShapeError):
        concealment.bridge(
            np.zeros(9, dtype=np.int16), np.zeros(9, dtype=np.int16), length=length, rate_hz=rate_hz
        )


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("share", [0.05, 0.10])
def test_of_real_speech_the_lost_packets_keep_their_level_and_come_nearer_than_silence(
    voice: str, share: float
) -> None:
    spoken = human_speech(voice)[: 8000 * 60]
    came = np.repeat(np.random.default_rng(7).random(spoken.size // 160) >= share, 160)
    heard = np.where(came, spoken, 0).astype(np.int16)
    runs = absent_runs(came)
    ends = [*runs[1:, 0].tolist(), heard.size]
    for (start, length), end in zip(runs.tolist(), ends, strict=True):
        behind = heard[start + length : end]
        made = concealment.bridge(heard[:start], behind, length=length, rate_hz=8000)
        heard[start : start + length] = made
    assert (heard[came] == spoken[came]).all()
    wanted, made = spoken[~came].astype(float), heard[~came].astype(float)
    assert _decibels(made - wanted, wanted) < -1.0  # silence is at 0 dB
    assert -2.0 < _decibels(made, wanted) < 0.5  # silence is at minus infinity
    assert active_rms(heard) == pytest.approx(active_rms(spoken), rel=0.05)
