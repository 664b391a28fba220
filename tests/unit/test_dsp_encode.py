"""Encoding against the recommendation: every code, every sample, and a reference of one octet at a time."""

import numpy as np
import pytest

from dsp import g711, l16
from dsp.shapes import ShapeError
from dsp.tone import beep
from tests.support import audio, g711_reference

EVERY_SAMPLE = np.arange(-32_768, 32_768).astype(np.int16)
LAWS = [(g711.A_LAW, "PCMA"), (g711.MU_LAW, "PCMU")]

# ITU-T G.711 tables 1a and 2a: decision values, scaled to 16 bits, and the code of the interval above each.
A_LAW_DECISIONS = {0: 0xD5, 16: 0xD4, 512: 0xF5, 1024: 0xE5, 2048: 0x95, 4096: 0x85, 8192: 0xB5, 16_384: 0xA5}
MU_LAW_DECISIONS = {
    0: 0xFF,
    4: 0xFE,
    12: 0xFD,
    124: 0xEF,
    380: 0xDF,
    892: 0xCF,
    1916: 0xBF,
    3964: 0xAF,
    16_252: 0x8F,
}


def _decode(octets: np.ndarray, law: int) -> np.ndarray:
    return g711.decode(octets, laws=np.full(octets.size, law, dtype=np.uint8))


@pytest.mark.parametrize(("law", "name"), LAWS)
def test_every_code_comes_back_from_its_value(law: int, name: str) -> None:
    codes = np.arange(256, dtype=np.uint8)
    back = g711.encode(_decode(codes, law), law=law)
    different = np.flatnonzero(back != codes).tolist()
    assert different == ([0x7F] if name == "PCMU" else [])
    if name == "PCMU":
        assert back[0x7F] == 0xFF  # negative zero is zero


@pytest.mark.parametrize(
    ("law", "decisions"), [(g711.A_LAW, A_LAW_DECISIONS), (g711.MU_LAW, MU_LAW_DECISIONS)]
)
def test_a_decision_value_belongs_to_the_interval_above(law: int, decisions: dict[int, int]) -> None:
    at = np.array(list(decisions), dtype=np.int16)
    assert g711.encode(at, law=law).tolist() == list(decisions.values())
    mirrored = [code ^ 0x80 for code in decisions.values()]
    assert g711.encode((-at - 1).astype(np.int16), law=law).tolist() == mirrored


@pytest.mark.parametrize(("law", "name"), LAWS)
def test_every_sample_is_encoded_as_the_reference_does(law: int, name: str) -> None:
    assert g711.encode(EVERY_SAMPLE, law=law).tobytes() == g711_reference.encode(EVERY_SAMPLE, law=name)


@pytest.mark.parametrize(("law", "bias", "last_value"), [(g711.A_LAW, 0, 32_256), (g711.MU_LAW, 132, 32_124)])
def test_a_louder_sample_never_comes_out_quieter_and_the_error_is_bounded(
    law: int, bias: int, last_value: int
) -> None:
    decoded = _decode(g711.encode(EVERY_SAMPLE, law=law), law).astype(np.int64)
    assert (np.diff(decoded) >= 0).all()
    linear = EVERY_SAMPLE.astype(np.int64)
    # Half an interval: a segment has 16 intervals and starts where its width is reached (mu-law: less 132).
    half = np.maximum(8 if bias == 0 else 0, (np.abs(linear) + bias) / 32)
    inside = np.abs(linear) <= last_value
    assert (np.abs(decoded - linear)[inside] <= half[inside]).all()
    assert (np.abs(decoded)[~inside] == last_value).all()


def test_g711_refuses_a_law_that_it_does_not_know() -> None:
    with pytest.raises(KeyError):
        g711.encode(EVERY_SAMPLE, law=g711.NOTHING)


def test_a_view_with_gaps_is_encoded_like_a_copy() -> None:
    strided = EVERY_SAMPLE[::7]
    assert (g711.encode(strided, law=g711.A_LAW) == g711.encode(strided.copy(), law=g711.A_LAW)).all()
    assert (l16.encode(strided) == l16.encode(strided.copy())).all()


@pytest.mark.parametrize("channels", [1, 2])
def test_l16_comes_back_exactly(channels: int) -> None:
    octets = l16.encode(EVERY_SAMPLE, channels=channels)
    assert octets[: 2 * channels].tolist() == [0x80, 0x00] * channels
    assert (l16.decode(octets, channels=channels) == EVERY_SAMPLE).all()
    with pytest.raises(ShapeError):
        l16.decode(octets[:-1], channels=channels)


def test_a_beep_has_its_pitch_level_and_length_and_does_not_click() -> None:
    samples = beep(hz=1400, duration_ms=500, level_dbfs=-20, rate_hz=8000)
    assert samples.size == 4000
    assert audio.tone_level_dbfs(samples[400:-400], 8000, 1400) == pytest.approx(-20, abs=0.1)
    assert np.abs(samples[:4]).max() < 50
    assert np.abs(samples[-4:]).max() < 50
