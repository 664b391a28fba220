"""Putting blocks together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from dsp.shapes import F64, I16, I64, ShapeError

THRESHOLD: Final = 23_197  # -3 dBFS: a sum that stays within it passes bit by bit
CEILING: Final = 32_000  # below the last value of either law of G.711: the limiter's work is no clipping
RELEASE_MS_PER_OCTAVE: Final = 1000.0
_STEPS: Final = 1024  # of the loudness that has a gain of its own, per octave: 0.006 dB
_FINE: Final = 1024  # parts of such a step in which loudness falls
_OCTAVES: Final = 12  # above the threshold; 2**12 channels at full scale
_FLOOR: Final = int(np.ceil(np.log2(THRESHOLD) * _STEPS)) * _FINE  # loudness from which on the gain is 1


def _gains() -> F64:
    """Gain for each step of loudness from the threshold on; the first is 1.

    The curve begins with slope 1 and bends towards the ceiling, so that it has no corner that could be heard.
    """
    loudness = np.exp2(_FLOOR / _FINE / _STEPS + np.arange(_OCTAVES * _STEPS) / _STEPS)
    knee = CEILING - THRESHOLD
    gains: F64 = (THRESHOLD + knee * (1.0 - np.exp(-(loudness - THRESHOLD) / knee))) / loudness
    gains[0] = 1.0
    gains.setflags(write=False)
    return gains


_GAINS: Final = _gains()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limiter:
    """What the mixer remembers between windows: whole numbers, so that no window's edge shows."""

    fall_per_sample: int
    loudness: int = _FLOOR  # of what was loudest a while ago: octaves, in parts of ``_FINE * _STEPS``

    @classmethod
    def of(cls, rate_hz: int) -> Limiter:
        """Begin in silence at a sampling rate."""
        octave_samples = RELEASE_MS_PER_OCTAVE * rate_hz / 1000.0
        return cls(fall_per_sample=max(1, round(_STEPS * _FINE / octave_samples)))


def mix(blocks: I16, state: Limiter) -> tuple[I16, Limiter]:
    """Sum channels; where several together pass ``THRESHOLD`` the gain falls at once and comes back slowly.

    The same samples come out for any division into windows, and never one of several above ``CEILING``. Where
    only one channel sounds, or the sum has not passed the threshold for as long as the gain takes to come
    back, it comes out bit by bit.

    Error bounds: of two full-scale sines (sum +6 dBFS), each product of distortion lies below -45 dB when
    they are 100 Hz apart or more, and below -35 dB when they beat slowly and the gain begins to follow. The
    attack has no look-ahead and bends the first half wave. The gain moves in steps of 0.006 dB.
    Shapes: blocks (k, n) int16 -> (n,) int16, state.
    Errors: ShapeError when blocks has no two axes.
    """
    if blocks.ndim != 2:
        raise ShapeError(f"blocks of shape {blocks.shape} have no two axes")
    total = blocks.sum(axis=0, dtype=np.int32)
    count = total.shape[0]
    magnitude = np.where(np.count_nonzero(blocks, axis=0) > 1, np.abs(total), 0)
    calm = state.loudness == _FLOOR and magnitude.max(initial=0) <= THRESHOLD
    if calm:
        return total.astype(np.int16), state
    loudness = _envelope(magnitude.astype(np.int64), state)
    gain = _GAINS[np.minimum((loudness - _FLOOR + _FINE - 1) // _FINE, _GAINS.size - 1)]
    mixed = np.rint(total * gain).astype(np.int16)
    return mixed, replace(state, loudness=int(loudness[-1])) if count else state


def _envelope(magnitude: I64, state: Limiter) -> I64:
    """Loudness at each sample: its own, or what is left of a louder one before it, in whole numbers."""
    own = np.ceil(np.log2(np.maximum(magnitude, 1)) * _STEPS).astype(np.int64) * _FINE
    fallen = np.arange(1, magnitude.size + 1, dtype=np.int64) * state.fall_per_sample
    held = np.maximum(np.maximum.accumulate(own + fallen), state.loudness) - fallen
    loudness: I64 = np.maximum(held, _FLOOR)
    return loudness
