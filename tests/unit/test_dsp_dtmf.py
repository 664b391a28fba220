"""In-band DTMF: every key within the limits of ITU-T Q.24, nothing beyond them."""

import numpy as np
import pytest

from dsp import dtmf
from dsp.shapes import ShapeError
from tests.support import g711_reference, speech
from tests.support.tones import KEYS, frequencies_hz, goertzel_dbfs, key_tone, sine, textbook_keys, to_int16

EDGE_MS = 1.5  # how far from the truth a tone's edge may be reported where nothing else sounds
A_LAW = np.array([g711_reference.a_law(code) for code in range(256)], dtype=np.int16)


def placed(tone: np.ndarray, *, at_ms: float = 200, rate_hz: int = 8000, total_ms: int = 600) -> np.ndarray:
    """Put a tone into silence."""
    signal = np.zeros(total_ms * rate_hz // 1000)
    at = round(at_ms * rate_hz / 1000)
    signal[at : at + tone.size] = tone[: signal.size - at]
    return signal


def keys(signal: np.ndarray, *, rate_hz: int = 8000) -> str:
    return "".join(tone.key for tone in dtmf.detect(to_int16(signal), rate_hz=rate_hz))


def a_law(signal: np.ndarray) -> np.ndarray:
    return A_LAW[np.frombuffer(speech.encode_a_law(to_int16(signal)), dtype=np.uint8)]


def assert_found(
    signal: np.ndarray, key: str, start_ms: float, end_ms: float, *, rate_hz: int = 8000
) -> None:
    (tone,) = dtmf.detect(to_int16(signal), rate_hz=rate_hz)
    assert tone.key == key
    assert abs(tone.start_sample * 1000 / rate_hz - start_ms) <= EDGE_MS
    assert abs(tone.end_sample * 1000 / rate_hz - end_ms) <= EDGE_MS


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 48_000])
@pytest.mark.parametrize("key", KEYS)
def test_each_key_is_found_where_it_sounds(key: str, rate_hz: int) -> None:
    tone = key_tone(key, duration_ms=50, rate_hz=rate_hz)
    assert_found(placed(tone, rate_hz=rate_hz, at_ms=203.3), key, 203.3, 253.3, rate_hz=rate_hz)


@pytest.mark.parametrize("level_dbm0", [0, -10, -25, -40])
@pytest.mark.parametrize("detune", [(0.015, 0.015), (-0.015, -0.015), (0.015, -0.015), (-0.015, 0.015)])
@pytest.mark.parametrize("twist_db", [-8, 0, 4])
def test_keys_within_the_limits_are_found_at_any_phase(
    level_dbm0: float, detune: tuple[float, float], twist_db: float
) -> None:
    random = np.random.default_rng(24)
    for key in KEYS:
        tone = key_tone(
            key,
            duration_ms=40,
            level_dbm0=level_dbm0 - max(0, twist_db),
            detune=detune,
            twist_db=twist_db if level_dbm0 > -40 else 0,
            phases=tuple(random.uniform(0, 6.28, 2)),
        )
        at_ms = float(random.uniform(100, 200))
        assert keys(a_law(placed(tone, at_ms=at_ms))) == key


@pytest.mark.parametrize("detune", [0.035, -0.035])
def test_frequencies_out_of_tune_are_no_key(detune: float) -> None:
    for key in KEYS:
        assert keys(placed(key_tone(key, duration_ms=100, detune=(detune, 0.0)))) == ""
        assert keys(placed(key_tone(key, duration_ms=100, detune=(0.0, detune)))) == ""


def test_neither_short_nor_lopsided_nor_faint_pairs_nor_single_tones_are_keys() -> None:
    for key in KEYS:
        row, column = frequencies_hz(key)
        assert keys(placed(key_tone(key, duration_ms=20))) == ""
        assert keys(placed(key_tone(key, duration_ms=100, twist_db=12))) == ""
        assert keys(placed(key_tone(key, duration_ms=100, twist_db=-14))) == ""
        assert keys(placed(key_tone(key, duration_ms=100, level_dbm0=-55))) == ""
        assert keys(placed(sine(row, duration_ms=100, rate_hz=8000))) == ""
        assert keys(placed(sine(column, duration_ms=100, rate_hz=8000))) == ""


def test_a_key_pressed_twice_is_two_and_an_interrupted_one_is_one() -> None:
    tone = key_tone("5", duration_ms=40)
    pressed = placed(tone, at_ms=100) + placed(tone, at_ms=180)
    assert keys(pressed) == "55"
    longer = placed(key_tone("5", duration_ms=150), at_ms=100)
    longer[8 * 170 : 8 * 180] = 0
    assert_found(longer, "5", 100, 250)


def test_a_key_that_is_drowned_for_a_moment_is_one_key() -> None:
    signal = placed(key_tone("9", duration_ms=300), at_ms=100)
    noise = np.random.default_rng(9).normal(0, 14_000, 8 * 22)
    signal[8 * 220 : 8 * 242] += noise
    assert_found(signal, "9", 100, 400)


def test_keys_that_follow_each_other_without_a_pause_are_told_apart_and_masked_together() -> None:
    pressed = [key_tone(key, duration_ms=60) for key in KEYS]
    found = dtmf.detect(to_int16(np.concatenate([np.zeros(800), *pressed, np.zeros(800)])), rate_hz=8000)
    assert "".join(tone.key for tone in found) == KEYS
    ((start, end),) = dtmf.mask_spans(found, rate_hz=8000)
    assert 0 <= 800 - start <= 80
    assert 0 <= end - (800 + 16 * 480) <= 80


@pytest.mark.parametrize("progress_hz", [(350, 440), (425,), (350, 450), (440, 480), (400,)])
def test_keys_are_found_over_tones_of_the_exchange_and_hum(progress_hz: tuple[int, ...]) -> None:
    for key in KEYS:
        signal = placed(key_tone(key, duration_ms=50, level_dbm0=-12))
        for hz in (*progress_hz, 50):
            signal += sine(hz, duration_ms=600, rate_hz=8000, level_dbm0=-12, phase=hz)
        assert keys(a_law(signal)) == key


def test_the_exchange_itself_is_no_key() -> None:
    # ITU-T E.180 and national tones; T.30 (1100 CNG, 2100 CED); special information tone; modem answer.
    pairs = [
        (350, 440),
        (440, 480),
        (480, 620),
        (425, 425),
        (400, 450),
        (1100, 1100),
        (2100, 2100),
        (950, 1400),
    ]
    pairs += [(950, 1800), (1400, 1800), (1300, 2100), (1004, 1004), (700, 900), (700, 1100), (1300, 1500)]
    for low, high in pairs:
        signal = sine(low, duration_ms=600, rate_hz=8000) + sine(high, duration_ms=600, rate_hz=8000)
        assert keys(signal) == ""


def test_keys_driven_into_clipping_are_found() -> None:
    for key in KEYS:
        assert_found(placed(key_tone(key, duration_ms=60, level_dbm0=12)), key, 200, 260)


def test_silence_noise_and_nothing_at_all_are_no_key() -> None:
    noise = np.random.default_rng(3).normal(0, 3000, 8000 * 60)
    assert keys(np.zeros(0)) == keys(np.zeros(8000)) == keys(noise) == ""


def test_a_key_at_the_very_beginning_and_one_cut_off_by_the_end_are_found() -> None:
    tone = key_tone("7", duration_ms=60)
    found = dtmf.detect(to_int16(np.concatenate([tone, np.zeros(400), tone])), rate_hz=8000)
    assert [tone.key for tone in found] == ["7", "7"]
    assert found[0].start_sample <= 12
    assert found[1].end_sample == 480 + 400 + 480


def test_what_is_masked_is_gone_and_what_is_not_is_untouched() -> None:
    signal = to_int16(placed(key_tone("#", duration_ms=80)) + np.random.default_rng(1).normal(0, 30, 4800))
    ((start, end),) = dtmf.mask_spans(dtmf.detect(signal, rate_hz=8000), rate_hz=8000)
    assert 8 * 190 < start <= 8 * 200
    assert 8 * 280 <= end < 8 * 290
    masked = signal.copy()
    masked[start:end] = 0
    assert textbook_keys(signal, rate_hz=8000) == "#"
    assert textbook_keys(masked, rate_hz=8000) == ""
    assert dtmf.detect(masked, rate_hz=8000) == ()
    for hz in frequencies_hz("#"):
        assert goertzel_dbfs(signal[1600:2240], hz=hz, rate_hz=8000) > -20
        assert goertzel_dbfs(masked[1600:2240], hz=hz, rate_hz=8000) == -200
        assert goertzel_dbfs(masked[1200:2640], hz=hz, rate_hz=8000) < -70


def test_spans_are_in_order_apart_and_within_the_signals_begin() -> None:
    tones = [dtmf.Tone("2", 900, 1300), dtmf.Tone("1", 10, 400), dtmf.Tone("3", 1390, 1800)]
    assert dtmf.mask_spans(tones, rate_hz=8000, guard_ms=5) == [(0, 440), (860, 1840)]
    assert dtmf.mask_spans([dtmf.Tone("1", 0, 800), dtmf.Tone("2", 100, 300)], rate_hz=8000) == [(0, 840)]
    assert dtmf.mask_spans([], rate_hz=8000) == []


def test_a_running_key_is_reported_with_each_block_and_once_when_it_ended() -> None:
    signal = to_int16(placed(key_tone("4", duration_ms=900), total_ms=2000))
    detector = dtmf.Detector(8000)
    reports = [detector.feed(signal[at : at + 1600]) for at in range(0, 16_000, 1600)]
    assert [len(report) for report in reports] == [0, 1, 1, 1, 1, 1, 0, 0, 0, 0]
    tones = [tone for report in reports for tone in report]
    assert len({tone.start_sample for tone in tones}) == 1
    assert sorted(tones, key=lambda tone: tone.end_sample) == tones
    assert abs(tones[-1].end_sample - 8 * 1100) <= 8 * EDGE_MS


def test_blocks_of_a_few_samples_serve_as_well() -> None:
    signal = to_int16(placed(key_tone("C", duration_ms=50, rate_hz=48_000), rate_hz=48_000))
    detector = dtmf.Detector(48_000)
    reports = [detector.feed(signal[at : at + 5]) for at in range(0, signal.size, 5)]
    ended = detector.finish(total_samples=signal.size)
    assert [report for report in reports if report][-1] == dtmf.detect(signal, rate_hz=48_000)
    assert ended == ()


@pytest.mark.parametrize("rate_hz", [0, 11_025, -8000])
def test_rates_that_are_no_multiple_of_8_khz_are_refused(rate_hz: int) -> None:
    with pytest.raises(ShapeError, match="8000"):
        dtmf.Detector(rate_hz)
