"""dsp against numbers that were written down elsewhere."""

import numpy as np
import pytest

from dsp import g711, l16, levels
from dsp.modular import as_i64, extend16, extend32
from dsp.runs import absent_runs
from dsp.shapes import ShapeError

# ITU-T G.711 tables 1a and 2a: decoder output of the first code of each segment, positive side,
# scaled to 16 bits (A-law 13 bits by 8, mu-law 14 bits by 4).
A_LAW_SEGMENTS = {0xD5: 8, 0xC5: 264, 0xF5: 528, 0xE5: 1056, 0x95: 2112, 0x85: 4224, 0xB5: 8448, 0xA5: 16896}
MU_LAW_SEGMENTS = {0xFF: 0, 0xEF: 132, 0xDF: 396, 0xCF: 924, 0xBF: 1980, 0xAF: 4092, 0x9F: 8316, 0x8F: 16764}


@pytest.mark.parametrize(("law", "segments"), [(g711.A_LAW, A_LAW_SEGMENTS), (g711.MU_LAW, MU_LAW_SEGMENTS)])
def test_g711_gives_the_values_of_the_recommendation(law: int, segments: dict[int, int]) -> None:
    codes = np.array(list(segments), dtype=np.uint8)
    decoded = g711.decode(codes, laws=np.full(codes.size, law, dtype=np.uint8))
    assert decoded.tolist() == list(segments.values())
    negative = g711.decode(codes ^ 0x80, laws=np.full(codes.size, law, dtype=np.uint8))
    assert negative.tolist() == [-value for value in segments.values()]


def test_an_octet_that_never_came_is_digital_silence() -> None:
    octets = np.arange(256, dtype=np.uint8)
    assert not g711.decode(octets, laws=np.zeros(256, dtype=np.uint8)).any()


def test_g711_refuses_octets_without_a_law() -> None:
    with pytest.raises(ShapeError):
        g711.decode(np.zeros(3, dtype=np.uint8), laws=np.zeros(2, dtype=np.uint8))


def test_l16_is_big_endian_and_averages_channels() -> None:
    octets = np.array([0x01, 0x02, 0xFF, 0xFE], dtype=np.uint8)
    assert l16.decode(octets).tolist() == [0x0102, -2]
    assert l16.decode(octets, channels=2).tolist() == [(0x0102 - 2) // 2]
    with pytest.raises(ShapeError):
        l16.decode(octets[:3])


def test_runs_of_absence_are_found_at_both_edges() -> None:
    mask = np.array([0, 0, 1, 1, 0, 1, 0], dtype=np.bool_)
    assert absent_runs(mask).tolist() == [[0, 2], [4, 1], [6, 1]]
    assert absent_runs(np.ones(4, dtype=np.bool_)).shape == (0, 2)
    assert absent_runs(np.zeros(0, dtype=np.bool_)).shape == (0, 2)


def test_counters_extend_across_their_wrap() -> None:
    assert extend16(as_i64(3), near=as_i64(65_534)) == 65_539
    assert extend16(as_i64(65_530), near=as_i64(65_540)) == 65_530
    assert extend32(as_i64(100), near=as_i64(2**32 - 50)) == 2**32 + 100
    assert extend32(as_i64(2**32 - 50), near=as_i64(2**32 + 100)) == 2**32 - 50


def test_levels_of_full_scale_and_silence() -> None:
    square = np.array([32_767, -32_768] * 400, dtype=np.int16)
    level = levels.gather(levels.gather(levels.Level(), square), np.zeros(0, dtype=np.int16))
    assert level.peak_dbfs == pytest.approx(0.0, abs=0.001)
    assert level.rms_dbfs == pytest.approx(0.0, abs=0.001)
    assert levels.Level().rms_dbfs == levels.FLOOR_DBFS
    assert levels.gather(levels.Level(), np.zeros(80, dtype=np.int16)).peak_dbfs == levels.FLOOR_DBFS


def test_a_sine_has_its_textbook_rms() -> None:
    sine = np.round(16_384 * np.sin(2 * np.pi * np.arange(8000) * 437 / 8000)).astype(np.int16)
    level = levels.gather(levels.Level(), sine)
    assert level.rms_dbfs == pytest.approx(-9.03, abs=0.01)
    assert level.peak_dbfs == pytest.approx(-6.02, abs=0.01)


def test_envelope_shows_where_it_is_loud() -> None:
    block = np.zeros(100, dtype=np.int16)
    block[50:] = -32_768
    envelope = levels.envelope_dbfs(block, points=4)
    assert envelope[:2] == [levels.FLOOR_DBFS] * 2
    assert envelope[2:] == pytest.approx([0.0, 0.0])
    assert levels.envelope_dbfs(block[:0], points=2) == [levels.FLOOR_DBFS] * 2


@pytest.mark.parametrize("kinds", [(g711.MU_LAW, g711.A_LAW, g711.NOTHING, g711.A_LAW), (g711.A_LAW,) * 4])
def test_rows_of_octets_decode_as_their_octets_do(kinds: tuple[int, ...]) -> None:
    octets = np.random.default_rng(5).integers(0, 256, (4, 320)).astype(np.uint8)
    laws = np.array(kinds, dtype=np.uint8)
    rows = g711.decode_rows(octets, laws=laws)
    for row, octet, law in zip(rows, octets, laws, strict=True):
        assert np.array_equal(row, g711.decode(octet, laws=np.full(320, law, dtype=np.uint8)))
    with pytest.raises(ShapeError):
        g711.decode_rows(octets[:, :319], laws=laws)
    with pytest.raises(ShapeError):
        g711.decode_rows(octets, laws=laws[:3])
