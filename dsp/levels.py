"""Levels of 16-bit audio, gathered window by window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from dsp.shapes import I16, I64

FULL_SCALE: Final = 32_768
FLOOR_DBFS: Final = -96  # one step of 16 bits lies at -90.3; digital silence is reported as the floor


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Peak and energy so far."""

    peak: int = 0
    energy: int = 0  # sum of squares
    samples: int = 0

    @property
    def peak_dbfs(self) -> float:
        """Peak relative to full scale."""
        return _dbfs(self.peak)

    @property
    def rms_dbfs(self) -> float:
        """Root mean square relative to full scale; a full-scale square wave is 0."""
        return _dbfs(math.sqrt(self.energy / self.samples) if self.samples else 0.0)


def gather(level: Level, block: I16) -> Level:
    """Add a block to the levels so far.

    Shapes: block (n,) int16.
    """
    if block.shape[-1] == 0:
        return level
    wide = block.astype(np.float64)  # exact: squares sum below 2**53 for any window under an hour
    return Level(
        peak=max(level.peak, int(wide.max()), -int(wide.min())),
        energy=level.energy + int(np.dot(wide, wide)),
        samples=level.samples + block.shape[-1],
    )


def gather_many(blocks: I16) -> tuple[I64, I64]:
    """Give the peak and the energy (sum of squares) of each row, exactly.

    Shapes: blocks (k, n) int16 -> (k,), (k,) int64.
    """
    if blocks.shape[-1] == 0:
        return np.zeros(blocks.shape[0], dtype=np.int64), np.zeros(blocks.shape[0], dtype=np.int64)
    peaks = np.maximum(blocks.max(axis=1).astype(np.int64), -blocks.min(axis=1).astype(np.int64))
    wide = blocks.astype(np.float64)  # exact, see ``gather``
    energies: I64 = np.einsum("kn,kn->k", wide, wide).astype(np.int64)
    return peaks, energies


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
