"""Tones made by rule."""

from __future__ import annotations

from typing import Final

import numpy as np

from dsp.shapes import I16

RAMP_MS: Final = 5  # a tone that starts at once clicks


def beep(*, hz: float, duration_ms: int, level_dbfs: float, rate_hz: int) -> I16:
    """Make a sine that rises and falls over ``RAMP_MS``.

    Shapes: -> (duration_ms * rate_hz // 1000,) int16.
    Units:  level is that of the peak; 0 dBFS == 32767.
    """
    count = duration_ms * rate_hz // 1000
    at = np.arange(count)
    edge = np.minimum(at, count - 1 - at) / max(1, RAMP_MS * rate_hz // 1000)
    envelope = np.sin(np.pi / 2 * np.minimum(edge, 1.0)) ** 2
    wave = 32_767 * 10 ** (level_dbfs / 20) * envelope * np.sin(2 * np.pi * hz * at / rate_hz)
    samples: I16 = np.round(wave).astype(np.int16)
    return samples
