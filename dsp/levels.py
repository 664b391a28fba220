"""Levels of 16-bit audio, gathered window by window, of one stream or of many at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np

from dsp.activity import frame_energy
from dsp.shapes import I16, I64, ShapeError

FULL_SCALE: Final = 32_768
FLOOR_DBFS: Final = -96  # one step of 16 bits lies at -90.3; digital silence is reported as the floor
G711_RAIL: Final = 32_124  # mu-law's last value; A-law's is 32256, and its last but one lies below this
LINEAR_RAIL: Final = 32_767
_PIECE: Final = 1 << 13  # samples of a block whose energy is found at a time; from 10,000 on OpenBLAS would
# wake threads of its own for it, which then spin
RUN_SAMPLES: Final = 3  # fewer at the rail may be a peak that just reaches it


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Peak and energy so far."""

    peak: int = 0
    energy: int = 0  # sum of squares
    samples: int = 0
    clipped: int = 0  # samples in runs at the rail
    speech_frames: int = 0  # as ``activity`` found them; ``gather`` leaves them alone

    @property
    def peak_dbfs(self) -> float:
        """Peak relative to full scale."""
        return _dbfs(self.peak)

    @property
    def rms_dbfs(self) -> float:
        """Root mean square relative to full scale; a full-scale square wave is 0."""
        return _dbfs(math.sqrt(self.energy / self.samples) if self.samples else 0.0)


def gather(level: Level, block: I16, *, rail: int = G711_RAIL) -> Level:
    """Add a block to the levels so far; a run at the rail counts within its block.

    Shapes: block (n,) int16.
    """
    if block.shape[-1] == 0:
        return level
    found = gather_many(block[np.newaxis], rail=rail).each(samples=block.shape[-1])[0]
    return replace(
        level,
        peak=max(level.peak, found.peak),
        energy=level.energy + found.energy,
        samples=level.samples + found.samples,
        clipped=level.clipped + found.clipped,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Levels of one window of many streams.

    Shapes: all (k,).
    """

    peak: I64
    energy: I64  # sum of squares
    clipped: I64

    def each(self, *, samples: int) -> list[Level]:
        """Give each stream's levels by themselves, of a window of so many samples."""
        columns = zip(self.peak.tolist(), self.energy.tolist(), self.clipped.tolist(), strict=True)
        return [
            Level(peak=peak, energy=energy, samples=samples, clipped=clipped)
            for peak, energy, clipped in columns
        ]


def gather_many(blocks: I16, *, rail: int | I64 = G711_RAIL, frames: I64 | None = None) -> Levels:
    """Find peak, energy and clipped samples of one window of each stream; exact.

    ``frames`` are energies that ``activity.frame_energy`` found already for all of these samples. A run at
    the rail counts when it has ``RUN_SAMPLES`` within the window.

    Shapes: blocks (k, n) int16, rail scalar or (k,), frames (k, f) -> (k,) each.
    Errors: ShapeError when blocks has no two axes, or frames another number of streams.
    """
    if blocks.ndim != 2 or (frames is not None and frames.shape[0] != blocks.shape[0]):
        raise ShapeError(
            f"blocks of shape {blocks.shape}, frames of {None if frames is None else frames.shape}"
        )
    if blocks.size == 0:
        nothing = np.zeros(blocks.shape[0], dtype=np.int64)
        return Levels(peak=nothing, energy=nothing, clipped=nothing)
    peak = np.maximum(blocks.max(axis=1).astype(np.int64), -blocks.min(axis=1).astype(np.int64))
    if frames is None:
        pieces = [blocks[:, at : at + _PIECE] for at in range(0, blocks.shape[1], _PIECE)]
        energy = sum(
            (frame_energy(piece, frame_samples=piece.shape[1])[:, 0] for piece in pieces), np.int64(0)
        )
    else:
        energy = frames.sum(axis=1)
    clipped = np.zeros(blocks.shape[0], dtype=np.int64)
    loud = np.flatnonzero(peak >= rail)
    if loud.size:  # few streams: the rest was never near the rail
        chosen = blocks if loud.size == blocks.shape[0] else blocks[loud]
        clipped[loud] = _in_runs(chosen, rails=np.broadcast_to(rail, peak.shape)[loud])
    return Levels(peak=peak, energy=np.asarray(energy, dtype=np.int64), clipped=clipped)


def _in_runs(blocks: I16, *, rails: I64) -> I64:
    """Count the samples at the rail that stand in runs."""
    rail = rails[0] if (rails == rails[0]).all() else rails[:, np.newaxis]
    # Shifted by the rail, what lies within it is below twice the rail: one comparison for both signs.
    shifted = blocks.view(np.uint16) + (rail - 1).astype(np.uint16)
    at_rail = shifted > (2 * rail - 2).astype(np.uint16)
    inner = max(0, at_rail.shape[1] - RUN_SAMPLES + 1)
    begins = at_rail[:, :inner] & at_rail[:, 1 : inner + 1]
    for lag in range(2, RUN_SAMPLES):
        begins &= at_rail[:, lag : lag + inner]
    counts = np.zeros(blocks.shape[0], dtype=np.int64)
    rows = np.flatnonzero(
        begins.any(axis=1)
    )  # single samples at the rail, as loud noise has them, are no run
    if rows.size:
        in_run = np.zeros((rows.size, at_rail.shape[1]), dtype=np.bool_)
        for lag in range(RUN_SAMPLES):
            in_run[:, lag : lag + inner] |= begins[rows]
        counts[rows] = in_run.sum(axis=1)
    return counts


def envelope_dbfs(block: I16, *, points: int) -> list[float]:
    """Give the peak level of ``points`` equal stretches, for drawing.

    Shapes: block (n,) int16 -> (points,).
    """
    edges = np.linspace(0, block.shape[-1], points + 1).astype(np.int64)
    return [
        _dbfs(float(np.abs(block[start:end].astype(np.int32)).max())) if end > start else float(FLOOR_DBFS)
        for start, end in pairwise(edges.tolist())
    ]


def _dbfs(amplitude: float) -> float:
    if amplitude <= 0:
        return float(FLOOR_DBFS)
    return max(float(FLOOR_DBFS), 20.0 * math.log10(amplitude / FULL_SCALE))
