"""Who speaks, and how loud: every figure against a signal whose truth is known."""

import time

import numpy as np
import pytest

from dsp import levels
from dsp.activity import Activity, detect, frame_energy, talk_over
from dsp.shapes import ShapeError

RATE_HZ = 8000
FRAME_SAMPLES = 160


def _noise(seconds: float, level_dbfs: float, seed: int = 1) -> np.ndarray:
    wave = np.random.default_rng(seed).normal(size=round(seconds * RATE_HZ))
    return np.round(wave * 32_768 * 10 ** (level_dbfs / 20)).astype(np.int16)


def _speech(seconds: float, level_dbfs: float) -> np.ndarray:
    """A voice's worth of harmonics that swell four times a second, as syllables do."""
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    voiced = sum(np.sin(2 * np.pi * 140 * n * at) / n for n in range(1, 20))
    wave = voiced * (0.15 + np.abs(np.sin(2 * np.pi * 2 * at)))
    return np.round(wave / wave.std() * 32_768 * 10 ** (level_dbfs / 20)).astype(np.int16)


def _active(*streams: np.ndarray, frame_samples: int = FRAME_SAMPLES) -> np.ndarray:
    energy = frame_energy(np.stack(streams), frame_samples=frame_samples)
    found, _ = detect(Activity.of(len(streams)), energy, frame_samples=frame_samples, rate_hz=RATE_HZ)
    return found


def _spurts(active: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(active.astype(np.int8), prepend=0, append=0))
    return [(int(start), int(end)) for start, end in zip(edges[0::2], edges[1::2], strict=True)]


def test_energy_of_frames_is_exact_at_full_scale() -> None:
    blocks = np.full((70, 1610), -32_768, dtype=np.int16)  # more streams than are taken at a time
    blocks[3] = 0
    energy = frame_energy(blocks, frame_samples=160)
    assert energy.shape == (70, 10)
    assert (energy[np.arange(70) != 3] == 160 * 2**30).all()
    assert not energy[3].any()
    assert frame_energy(blocks[:0], frame_samples=160).shape == (0, 10)
    assert frame_energy(blocks[:, :100], frame_samples=160).shape == (70, 0)


@pytest.mark.parametrize(("shape", "frame_samples"), [((160,), 160), ((1, 160), 0), ((1, 160), 2**22 + 1)])
def test_energy_refuses_what_has_no_frames(shape: tuple[int, ...], frame_samples: int) -> None:
    with pytest.raises(ShapeError):
        frame_energy(np.zeros(shape, dtype=np.int16), frame_samples=frame_samples)


@pytest.mark.parametrize("frame_samples", [80, 160])
@pytest.mark.parametrize("noise_dbfs", [-70, -55, -48])
def test_speech_with_breaks_of_200_ms_is_one_talk_spurt(frame_samples: int, noise_dbfs: float) -> None:
    voice = np.zeros(10 * RATE_HZ, dtype=np.int16)
    voice[3 * RATE_HZ : 7 * RATE_HZ] = _speech(4, -30)
    for start_ms in (3700, 4525, 5333, 6111):
        voice[start_ms * 8 : (start_ms + 200) * 8] = 0
    active = _active(voice + _noise(10, noise_dbfs), frame_samples=frame_samples)[0]
    ((start, end),) = _spurts(active)
    frame_ms = frame_samples / 8
    assert 3000 <= start * frame_ms <= 3120
    assert 7000 <= end * frame_ms <= 7300


def test_a_break_longer_than_the_hangover_divides_the_talk_spurt() -> None:
    voice = np.concatenate(
        [_noise(1, -60), _speech(2, -30), _noise(0.5, -60, 2), _speech(2, -30), _noise(1, -60)]
    )
    assert len(_spurts(_active(voice)[0])) == 2


@pytest.mark.parametrize("level_dbfs", [-80, -65, -50, -40])
def test_room_noise_is_nobody_who_speaks(level_dbfs: float) -> None:
    assert not _active(_noise(60, level_dbfs)).any()


def test_noise_with_gaps_of_nothing_is_still_noise() -> None:
    noise = _noise(30, -48)
    for start in range(0, noise.size, 4000):
        noise[start : start + 750] = 0  # three lost packets and a part of a frame
    assert not _active(noise).any()


def test_noise_that_grows_is_taken_for_speech_only_as_long_as_stated() -> None:
    active = _active(np.concatenate([_noise(5, -65), _noise(30, -45, 2)]))[0]
    assert not active[:250].any()
    assert not active[250 + round((20 / 2 - 5 + 1.0) * 50) :].any()


def test_a_click_and_digital_silence_are_no_speech() -> None:
    quiet = np.zeros(2 * RATE_HZ, dtype=np.int16)
    assert not _active(quiet).any()
    quiet[RATE_HZ : RATE_HZ + 40] = 20_000
    assert not _active(quiet).any()


def test_what_is_too_quiet_for_anybody_to_speak_into_a_telephone_is_no_speech() -> None:
    quiet = np.zeros(4 * RATE_HZ, dtype=np.int16)
    quiet[: 2 * RATE_HZ] = _noise(2, -80)
    quiet[2 * RATE_HZ :] = _speech(2, -62)
    assert not _active(quiet).any()


def test_somebody_who_speaks_from_the_first_frame_on_is_heard() -> None:
    active = _active(_speech(1, -25))[0]
    assert active[2:].all()


def test_streams_come_and_go_without_touching_each_other() -> None:
    voices = np.stack([_speech(4, -30), _noise(4, -50), np.zeros(4 * RATE_HZ, dtype=np.int16)])
    energy = frame_energy(voices, frame_samples=FRAME_SAMPLES)
    whole = _active(*voices)
    table = Activity.of(5)
    at = np.array([4, 0, 2])
    pieces = []
    for part in np.split(energy, [1, 30, 31, 100], axis=1):
        found, rows = detect(table.rows(at), part, frame_samples=FRAME_SAMPLES, rate_hz=RATE_HZ)
        table = table.replaced(at, rows)
        pieces.append(found)
    assert (np.concatenate(pieces, axis=1) == whole).all()
    assert np.isnan(table.floor_dbfs[[1, 3]]).all()
    with pytest.raises(ShapeError):
        detect(table, energy, frame_samples=FRAME_SAMPLES, rate_hz=RATE_HZ)


def test_talk_over_counts_frames_in_which_more_than_one_speaks() -> None:
    first = np.array([0, 1, 1, 1, 0], dtype=np.bool_)
    second = np.array([0, 0, 1, 1, 1], dtype=np.bool_)
    third = np.array([0, 1, 0, 1, 0], dtype=np.bool_)
    rows = np.stack([first, first, second, first, second, third])
    assert talk_over(rows, np.array([0, 1, 3])).tolist() == [0, 2, 3]


def test_levels_of_many_streams_are_those_of_each() -> None:
    blocks = np.stack([_noise(0.5, level, seed) for seed, level in enumerate(range(-60, 0, 5))])
    blocks[0] = 0
    blocks[1, 7] = -32_768
    blocks[2, 100:103] = (32_767, -32_768, 32_767)
    found = levels.gather_many(blocks)
    wide = blocks.astype(object)
    assert found.peak.tolist() == np.abs(wide).max(axis=1).tolist()
    assert found.energy.tolist() == (wide * wide).sum(axis=1).tolist()
    assert found.clipped[:4].tolist() == [0, 0, 3, 0]
    frames = frame_energy(blocks, frame_samples=FRAME_SAMPLES)
    again = levels.gather_many(blocks, frames=frames)
    assert again.energy.tolist() == found.energy.tolist()
    for row, block in enumerate(blocks):
        level = levels.gather(levels.Level(speech_frames=9), block)
        assert (level.peak, level.energy, level.clipped, level.speech_frames) == (
            found.peak[row],
            found.energy[row],
            found.clipped[row],
            9,
        )


def test_a_long_block_has_the_energy_of_its_parts() -> None:
    block = np.full(200_001, -32_768, dtype=np.int16)
    assert levels.gather(levels.Level(), block).energy == 200_001 * 2**30


def test_a_long_block_is_added_up_by_the_thread_that_asks() -> None:
    block = np.random.default_rng(7).integers(-32_768, 32_767, (2, 40_000)).astype(np.int16)
    levels.gather_many(block)
    all_ns, own_ns = time.process_time_ns(), time.thread_time_ns()
    for _ in range(400):
        levels.gather_many(block)
    own_ns = time.thread_time_ns() - own_ns
    assert time.process_time_ns() - all_ns < 1.2 * own_ns, "a library's threads have spun beside it"


def test_runs_of_three_at_the_rail_are_clipped_samples() -> None:
    block = np.zeros(40, dtype=np.int16)
    block[0:2] = 32_124  # two: no run
    block[10:13] = -32_124
    block[20:24] = 32_256  # A-law's last value
    block[36:] = 32_123
    assert levels.gather_many(block[np.newaxis]).clipped.tolist() == [7]
    rails = np.array([levels.G711_RAIL, levels.LINEAR_RAIL])
    block[30:33] = -32_768
    assert levels.gather_many(np.stack([block, block]), rail=rails).clipped.tolist() == [10, 3]
    assert levels.gather(levels.Level(clipped=1), block, rail=levels.LINEAR_RAIL).clipped == 4
    assert levels.gather_many(block[np.newaxis, 30:32]).clipped.tolist() == [0]


def test_levels_of_nothing_are_nothing_and_wrong_shapes_are_refused() -> None:
    found = levels.gather_many(np.zeros((3, 0), dtype=np.int16))
    assert found.peak.tolist() == found.energy.tolist() == found.clipped.tolist() == [0, 0, 0]
    with pytest.raises(ShapeError):
        levels.gather_many(np.zeros(3, dtype=np.int16))
    with pytest.raises(ShapeError):
        levels.gather_many(np.zeros((3, 4), dtype=np.int16), frames=np.zeros((2, 1), dtype=np.int64))


def test_windows_of_different_lengths_together_give_what_each_gives_alone() -> None:
    blocks = [_noise(seconds, -30 + 5 * seed, seed) for seed, seconds in enumerate((0.5, 0.24, 0.02))]
    energies = [frame_energy(block[np.newaxis], frame_samples=FRAME_SAMPLES) for block in blocks]
    frames = np.array([one.shape[1] for one in energies])
    together = np.zeros((3, int(frames.max())), dtype=np.int64)
    for row, one in enumerate(energies):
        together[row, : one.shape[1]] = one[0]
    active, after = detect(
        Activity.of(3), together, frame_samples=FRAME_SAMPLES, rate_hz=RATE_HZ, frames=frames
    )
    assert active.any()
    for row, one in enumerate(energies):
        alone, state = detect(Activity.of(1), one, frame_samples=FRAME_SAMPLES, rate_hz=RATE_HZ)
        assert active[row, : one.shape[1]].tolist() == alone[0].tolist()
        assert not active[row, one.shape[1] :].any()
        assert state.floor_dbfs[0] == after.floor_dbfs[row]
        assert state.louder_frames[0] == after.louder_frames[row]
        assert state.hang_frames[0] == after.hang_frames[row]
