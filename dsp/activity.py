"""Who speaks: energy per frame, and a rule with an adaptive noise floor, for many streams at once.

Rule: a frame counts when it is louder than its stream's noise floor by ``MARGIN_DB`` and louder than
``QUIETEST_DBFS``; as many in a row as make ``ONSET_MS`` begin a talk spurt, which lasts until ``HANGOVER_MS``
have passed without one. The floor falls quickly and rises slowly, so that the shortest pause shows what noise
is. A frame without any sound (nothing came, or a peer that sends zeros) tells nothing of the noise and leaves
the floor where it is.

Limits: noise that grows by x dB counts as speech for x/2 - 5 s, as does music until a pause. A talk spurt
holds its hangover. Source: ITU-T P.56 (12/2011) for the hangover; margin and rates are our own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from dsp.shapes import BOOL, F64, I16, I64, ShapeError

MARGIN_DB: Final = 10.0
QUIETEST_DBFS: Final = -55.0  # quieter is nobody who speaks into a telephone
HANGOVER_MS: Final = 300  # P.56 has 200; ours spans breaks of 200 ms between two quiet ends of syllables
ONSET_MS: Final = 40  # shorter is a click
LOWEST_FLOOR_DBFS: Final = -75.0
HIGHEST_FIRST_FLOOR_DBFS: Final = -45.0  # somebody may speak from the first frame on
FALL_MS: Final = 70  # time constant
RISE_DB_PER_S: Final = 2.0
_CHUNK_SAMPLES: Final = 65_536  # what is widened to float64 at a time stays in the cache: 512 KiB
_FULL_SCALE: Final = 32_768.0


def frame_energy(blocks: I16, *, frame_samples: int) -> I64:
    """Give the sum of squares of each frame, exactly; what is left after the last whole frame is ignored.

    Shapes: blocks (k, n) -> (k, n // frame_samples).
    Errors: ShapeError when blocks has no two axes, or a frame more than 2**22 samples.
    """
    if blocks.ndim != 2 or not 0 < frame_samples <= 2**22:
        raise ShapeError(f"blocks of shape {blocks.shape} have no frames of {frame_samples} samples")
    streams, count = blocks.shape[0], blocks.shape[1] // frame_samples
    framed = blocks[:, : count * frame_samples].reshape(streams, count, frame_samples)
    energy = np.empty((streams, count))
    rows = max(1, _CHUNK_SAMPLES // max(1, count * frame_samples))
    wide = np.empty((min(rows, streams), count, frame_samples))
    for start in range(0, streams, rows):  # a Python loop per chunk of streams
        chunk = framed[start : start + rows]
        np.copyto(wide[: len(chunk)], chunk)
        # Sums of squares of 16 bits stay below 2**53: float64 is exact in any order of addition.
        np.vecdot(wide[: len(chunk)], wide[: len(chunk)], out=energy[start : start + rows])
    return energy.astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What the rule remembers of each stream between windows.

    Shapes: all (k,).
    """

    floor_dbfs: F64  # NaN until a sound came
    louder_frames: I64  # in a row, up to now
    hang_frames: I64  # of the present talk spurt, still to come

    @classmethod
    def of(cls, streams: int) -> Activity:
        """Begin with streams of which nothing is known."""
        return cls(
            floor_dbfs=np.full(streams, np.nan),
            louder_frames=np.zeros(streams, dtype=np.int64),
            hang_frames=np.zeros(streams, dtype=np.int64),
        )

    def rows(self, index: I64) -> Activity:
        """Take some streams out, in this order.

        Shapes: index (m,) -> Activity of m streams.
        """
        return Activity(**{each.name: getattr(self, each.name)[index] for each in fields(self)})

    def replaced(self, index: I64, part: Activity) -> Activity:
        """Put streams back to where ``rows`` took them.

        Shapes: index (m,), part of m streams -> Activity of k streams.
        """
        columns = {each.name: getattr(self, each.name).copy() for each in fields(self)}
        for name, column in columns.items():
            column[index] = getattr(part, name)
        return Activity(**columns)


def detect(
    activity: Activity, energy: I64, *, frame_samples: int, rate_hz: int, frames: I64 | None = None
) -> tuple[BOOL, Activity]:
    """Tell for each frame whether somebody speaks; windows may be divided between any two frames.

    With ``frames`` only so many of each stream's frames are there; in the others nobody speaks.

    Shapes: activity of k streams, energy (k, f), frames (k,) -> (k, f), Activity of k streams.
    Errors: ShapeError when the numbers of streams differ.
    """
    streams, count = energy.shape
    if activity.floor_dbfs.shape[0] != streams or (frames is not None and frames.shape[0] != streams):
        raise ShapeError(f"activity of {activity.floor_dbfs.shape[0]} streams, energy of {streams}")
    ends = None if frames is None or frames.min(initial=count) == count else frames
    frame_ms = 1000.0 * frame_samples / rate_hz
    onset, hangover = max(1, round(ONSET_MS / frame_ms)), max(1, round(HANGOVER_MS / frame_ms))
    fall, rise_db = 1.0 - np.exp(-frame_ms / FALL_MS), RISE_DB_PER_S * frame_ms / 1000.0
    sounds = np.ascontiguousarray((energy > 0).T)
    mean_square = np.maximum(energy.T, 1) / (frame_samples * _FULL_SCALE**2)
    level_dbfs = 10.0 * np.log10(np.ascontiguousarray(mean_square))

    floor, louder, hang = activity.floor_dbfs, activity.louder_frames, activity.hang_frames
    active = np.empty((count, streams), dtype=np.bool_)
    for frame in range(count):  # a Python loop per frame, over all streams
        level, sound = level_dbfs[frame], sounds[frame]
        before = floor, louder, hang
        floor = np.where(np.isnan(floor) & sound, np.minimum(level, HIGHEST_FIRST_FLOOR_DBFS), floor)
        above_db = level - floor
        is_louder = sound & (above_db > MARGIN_DB) & (level > QUIETEST_DBFS)
        louder = np.where(is_louder, louder + 1, 0)
        hang = np.where(
            is_louder & ((louder >= onset) | (hang > 0)), hangover + 1, hang
        )  # one more: this frame is itself one of them
        hang = np.maximum(hang - 1, 0)
        active[frame] = hang > 0
        step = np.where(above_db < 0, fall * above_db, np.minimum(rise_db, above_db))
        floor = np.where(sound, np.maximum(floor + step, LOWEST_FLOOR_DBFS), floor)
        if ends is not None:
            there = frame < ends
            active[frame] &= there
            floor, louder, hang = (
                np.where(there, new, old) for new, old in zip((floor, louder, hang), before, strict=True)
            )
    return np.ascontiguousarray(active.T), Activity(floor_dbfs=floor, louder_frames=louder, hang_frames=hang)


def talk_over(active: BOOL, starts: I64) -> I64:
    """Count the frames in which more than one channel of a group speaks.

    Shapes: active (k, f), starts (g,), the rows where groups begin, ascending from 0 -> (g,).
    """
    speakers = np.add.reduceat(active.view(np.uint8), starts, axis=0)
    return np.asarray((speakers > 1).sum(axis=1), dtype=np.int64)
