"""Blocks that become longer or shorter: nobody hears it, and nothing else moves."""

import numpy as np
import pytest

from dsp import stretch
from dsp.shapes import ShapeError

RATE_HZ = 8000
LENGTHS = [(100, 101), (100, 99), (200, 202), (4000, 4001), (4000, 3999), (4000, 4040), (4000, 3960)]


def _sine(at: np.ndarray, hz: float) -> np.ndarray:
    return 32_767 * np.sin(2 * np.pi * hz * at / RATE_HZ + 0.7)


@pytest.mark.parametrize(("count", "length"), LENGTHS)
@pytest.mark.parametrize(("hz", "bound"), [(1000, 1.0), (3000, 1.5), (3400, 3.0)])
def test_a_sine_stays_the_sine_that_it_was(count: int, length: int, hz: float, bound: float) -> None:
    block = np.round(_sine(np.arange(count), hz)).astype(np.int16)
    stretched = stretch.stretch(block, length=length)
    assert stretched.size == length
    moved = _sine(stretch.positions(count, length=length), hz)
    assert np.abs(stretched - moved).max() <= bound


@pytest.mark.parametrize(("count", "length"), LENGTHS)
def test_a_block_joins_its_neighbours(count: int, length: int) -> None:
    at = stretch.positions(count, length=length)
    edge = stretch.EDGE_SAMPLES
    assert at[:edge].tolist() == list(range(edge))
    assert at[-edge:].tolist() == list(range(count - edge, count))
    assert (np.diff(at) > 0).all()
    noise = np.random.default_rng(1).integers(-32_768, 32_768, count).astype(np.int16)
    stretched = stretch.stretch(noise, length=length)
    assert (stretched[:edge] == noise[:edge]).all()
    assert (stretched[-edge:] == noise[-edge:]).all()


def test_one_sample_more_changes_only_the_middle_and_the_pitch_by_a_fifth_of_a_percent() -> None:
    noise = np.random.default_rng(2).integers(-9000, 9000, 4000).astype(np.int16)
    stretched = stretch.stretch(noise, length=4001)
    assert (stretched[:1600] == noise[:1600]).all()
    assert (stretched[2401:] == noise[2400:]).all()
    speed = np.diff(stretch.positions(4000, length=4001))
    assert np.abs(speed - 1).max() < 0.002
    assert np.abs(np.diff(speed)).max() < 2e-5  # the pitch glides, it does not jump


def test_there_and_back_again_is_the_same_voice() -> None:
    at = np.arange(4000)
    voice = np.round(sum(_sine(at, hz) / 8 for hz in (200, 400, 800, 1600, 2400))).astype(np.int16)
    back = stretch.stretch(stretch.stretch(voice, length=4001), length=4000)
    assert np.abs(back[1600:2400].astype(int) - voice[1600:2400]).max() < 400  # moved by 0.05 samples at most
    assert (back[:1500] == voice[:1500]).all()


def test_what_passes_above_the_samples_stays_at_the_rail() -> None:
    square = np.repeat(np.array([32_767, -32_768] * 50, dtype=np.int16), 8)
    stretched = stretch.stretch(square, length=808)
    assert (stretched.max(), stretched.min()) == (32_767, -32_768)


def test_an_unchanged_length_is_a_copy_and_a_large_change_is_refused() -> None:
    block = np.arange(300, dtype=np.int16)
    same = stretch.stretch(block, length=300)
    assert (same == block).all()
    assert not np.shares_memory(same, block)
    assert stretch.stretch(block[:0], length=0).size == 0
    for length in (296, 304):
        with pytest.raises(ShapeError):
            stretch.stretch(block, length=length)
    with pytest.raises(ShapeError):
        stretch.stretch(block[:99], length=100)


def _talk_with_a_pause() -> np.ndarray:
    block = np.round(np.random.default_rng(3).normal(size=4000) * 3000).astype(np.int16)
    block[2000:2200] = np.random.default_rng(4).integers(-60, 61, 200)
    return block


def test_zeros_go_where_it_is_quietest() -> None:
    block = _talk_with_a_pause()
    spliced = stretch.insert_in_silence(block, count=3)
    assert spliced is not None
    at = spliced.position
    assert 2000 <= at <= 2200
    assert spliced.samples.tolist() == [*block[:at].tolist(), 0, 0, 0, *block[at:].tolist()]


@pytest.mark.parametrize("count", [1, 3, 100])
def test_samples_go_from_where_it_is_quietest(count: int) -> None:
    block = _talk_with_a_pause()
    spliced = stretch.drop_from_silence(block, count=count)
    assert spliced is not None
    at = spliced.position
    assert 2000 <= at <= 2200 - count
    assert spliced.samples.tolist() == [*block[:at].tolist(), *block[at + count :].tolist()]


def test_digital_silence_comes_first() -> None:
    block = _talk_with_a_pause()
    block[700:716] = 0
    for splice in (stretch.insert_in_silence, stretch.drop_from_silence):
        spliced = splice(block, count=1)
        assert spliced is not None
        assert 700 <= spliced.position < 716


def test_where_it_is_loud_everywhere_nothing_is_touched() -> None:
    block = _talk_with_a_pause()
    assert stretch.insert_in_silence(block, count=1, threshold=-70) is None
    assert stretch.drop_from_silence(block, count=1, threshold=-70) is None
    assert stretch.drop_from_silence(block, count=300) is None  # more than the pause has
    assert stretch.insert_in_silence(block[:15], count=1) is None
    assert stretch.drop_from_silence(np.zeros(100, dtype=np.int16), count=101) is None


def test_the_threshold_is_a_level() -> None:
    square = np.array([184, -184] * 100, dtype=np.int16)  # -45.01 dBFS
    assert stretch.insert_in_silence(square, count=1) is not None
    assert stretch.insert_in_silence(square, count=1, threshold=-45.1) is None


@pytest.mark.parametrize("count", [0, -1])
def test_nothing_to_insert_or_drop_is_refused(count: int) -> None:
    for splice in (stretch.insert_in_silence, stretch.drop_from_silence):
        with pytest.raises(ShapeError):
            splice(np.zeros(100, dtype=np.int16), count=count)
