"""Modular arithmetic of RTP counters: the nearest extended value of a 16- or 32-bit number.

Source: RFC 3550 appendix A.1; RFC 1982.
"""

from __future__ import annotations

import numpy as np

from dsp.shapes import I64


def extend16(values: I64, *, near: I64) -> I64:
    """Extend 16-bit numbers to the value closest to ``near``.

    Shapes: values (n,), near (n,) or scalar array -> (n,) int64; ties go down.
    """
    return near + ((values - near + 0x8000) & 0xFFFF) - 0x8000


def extend32(values: I64, *, near: I64) -> I64:
    """Extend 32-bit numbers to the value closest to ``near``.

    Shapes: values (n,), near (n,) or scalar array -> (n,) int64; ties go down.
    """
    return near + ((values - near + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


def as_i64(value: int) -> I64:
    """Wrap one number for the functions above."""
    return np.asarray(value, dtype=np.int64)
