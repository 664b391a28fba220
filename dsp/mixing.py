"""Putting blocks together."""

from __future__ import annotations

import numpy as np

from dsp.shapes import I16, same_length


def add_saturating(first: I16, second: I16) -> I16:
    """Sum two blocks; what exceeds 16 bits stays at the rail.

    Shapes: first (n,), second (n,) -> (n,) int16.
    """
    same_length(first.shape[-1], second.shape[-1], what="blocks")
    wide = first.astype(np.int32) + second
    clipped: I16 = np.clip(wide, -32_768, 32_767).astype(np.int16)
    return clipped
