"""Runs of octets as single items, so that numpy moves each with one copy instead of octet by octet."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsp.shapes import U8

MARKS_MAX: Final = 7
VOID = NDArray[np.void]


def runs_at_any_octet(octets: U8, length: int) -> VOID:
    """View contiguous octets as runs that begin at every octet; item ``i`` is ``octets[i : i + length]``.

    The items overlap: reading copies one out, writing puts one in place.
    Shapes: octets (n,) -> (n - length + 1,).
    """
    count = octets.size - length + 1
    return np.ndarray(shape=(count,), dtype=_run_of(length), buffer=octets.data, strides=(1,))


def runs_in_rows(rows: U8, *, offset: int, length: int) -> VOID:
    """View the same part of each row as one item.

    Shapes: rows (n, row_octets), contiguous within a row -> (n,).
    """
    return rows[:, offset : offset + length].view(_run_of(length))[:, 0]


def as_octets(runs: VOID) -> U8:
    """View items as rows of octets.

    Shapes: runs (n,), contiguous -> (n, length).
    """
    return runs.view(np.uint8).reshape(runs.size, runs.dtype.itemsize)


@lru_cache(maxsize=64)
def runs_of_marks(length: int) -> VOID:
    """Give an item of ``length`` equal octets for each mark that octets can have in the ring.

    Shapes: -> (MARKS_MAX + 1,).
    """
    values = np.repeat(np.arange(MARKS_MAX + 1, dtype=np.uint8), length).reshape(-1, length)
    values.setflags(write=False)
    return values.view(_run_of(length))[:, 0]


def blank_run(length: int) -> VOID:
    """Give one item of zeros.

    Shapes: -> (1,).
    """
    return np.zeros(1, dtype=_run_of(length))


def _run_of(length: int) -> np.dtype[Any]:
    return np.dtype((np.void, length))
