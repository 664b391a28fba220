"""In-band DTMF over speech: nothing of a key is left, and no voice is taken for one."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from dsp import dtmf
from tests.support import g711_reference, speech
from tests.support.tones import (
    KEYS,
    frequencies_hz,
    goertzel_dbfs,
    human_speech,
    key_tone,
    over_speech,
    textbook_keys,
    to_int16,
)

HERE = Path(__file__).parents[2]
A_LAW = np.array([g711_reference.a_law(code) for code in range(256)], dtype=np.int16)
VOICES = ("en_US_f_Allison", "it_IT_m_Carlo")
MINUTE = 8000 * 60


@pytest.mark.parametrize("voice", VOICES)
def test_no_key_is_found_in_what_people_say(voice: str) -> None:
    spoken = human_speech(voice)
    assert spoken.size > 20 * MINUTE
    assert dtmf.detect(spoken, rate_hz=8000) == ()


def test_no_key_is_found_in_what_machines_say() -> None:
    minutes = 0.0
    english = " ".join((HERE / name).read_text() for name in ("README.md", "recorderd/README.md"))
    options = [
        ("en-us+f3", 150, 70),
        ("en-gb+m2", 175, 35),
        ("en-gb-scotland+f1", 200, 95),
        ("en-us+m7", 120, 10),
    ]
    texts = [(english[:3000], *option) for option in options]
    for language in ("de", "fr", "es", "tr"):
        prompts = tomllib.loads((HERE / f"config/prompts/{language}.toml").read_text())
        told = " ".join(value for value in _strings(prompts))
        voice = {"fr": "fr-fr"}.get(language, language)
        texts += [(told, f"{voice}+f2", 140, 80)]
    for text, voice, words_per_minute, pitch in texts:
        spoken = speech.say(text, voice=voice, options=("-s", str(words_per_minute), "-p", str(pitch)))
        minutes += spoken.size / MINUTE
        heard = A_LAW[np.frombuffer(speech.encode_a_law(spoken), dtype=np.uint8)]
        assert dtmf.detect(heard, rate_hz=8000) == (), voice
    assert minutes > 15


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in _strings(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("voice", VOICES)
@pytest.mark.parametrize("duration_ms", [40, 50, 100])
def test_every_key_over_speech_at_15_db_is_masked_completely(voice: str, duration_ms: int) -> None:
    random = np.random.default_rng(15)
    places = [8000 + 3200 * turn + int(random.integers(0, 800)) for turn in range(10 * len(KEYS))]
    pressed = [(KEYS[turn % len(KEYS)], at) for turn, at in enumerate(places)]
    said = human_speech(voice)[2 * MINUTE :][: places[-1] + 8000]
    signal = to_int16(over_speech(said, pressed, snr_db=15, duration_ms=duration_ms))
    signal = A_LAW[np.frombuffer(speech.encode_a_law(signal), dtype=np.uint8)]

    found = dtmf.detect(signal, rate_hz=8000)
    assert "".join(tone.key for tone in found) == "".join(key for key, _ in pressed)
    masked = signal.copy()
    for start, end in dtmf.mask_spans(found, rate_hz=8000):
        masked[start:end] = 0
    assert dtmf.detect(masked, rate_hz=8000) == ()
    assert len(textbook_keys(signal, rate_hz=8000)) > 100
    assert _over_half_of_the_speech_remains(signal, masked)
    length = 8 * duration_ms
    for key, at in pressed:
        for hz in frequencies_hz(key):
            before = goertzel_dbfs(signal[at : at + length], hz=hz, rate_hz=8000)
            assert goertzel_dbfs(masked[at : at + length], hz=hz, rate_hz=8000) < before - 30
    assert textbook_keys(masked, rate_hz=8000) == textbook_keys(_without(said, masked), rate_hz=8000)


def _without(said: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """Silence speech where the masked signal is silent."""
    return np.where(masked == 0, 0, said).astype(np.int16)


def _over_half_of_the_speech_remains(signal: np.ndarray, masked: np.ndarray) -> bool:
    return bool((masked == signal).mean() > 0.5)


def test_most_keys_are_found_at_12_db_too() -> None:
    random = np.random.default_rng(12)
    places = [8000 + 3200 * turn + int(random.integers(0, 800)) for turn in range(20 * len(KEYS))]
    pressed = [(KEYS[turn % len(KEYS)], at) for turn, at in enumerate(places)]
    said = human_speech("it_IT_m_Carlo")[4 * MINUTE :][: places[-1] + 8000]
    found = dtmf.detect(to_int16(over_speech(said, pressed, snr_db=12, duration_ms=50)), rate_hz=8000)
    assert {tone.key for tone in found} == set(KEYS)
    assert len(found) >= 0.98 * len(pressed)


def test_edges_over_speech_are_within_5_ms() -> None:
    said = human_speech("en_US_f_Allison")[MINUTE:][: 8000 * 40]
    places = [8000 + 8000 * turn for turn in range(30)]
    pressed = [(KEYS[turn % len(KEYS)], at) for turn, at in enumerate(places)]
    found = dtmf.detect(to_int16(over_speech(said, pressed, snr_db=15, duration_ms=120)), rate_hz=8000)
    assert [tone.key for tone in found] == [key for key, _ in pressed]
    for tone, at in zip(found, places, strict=True):
        assert abs(tone.start_sample - at) <= 40
        assert abs(tone.end_sample - (at + key_tone("1", duration_ms=120).size)) <= 40
