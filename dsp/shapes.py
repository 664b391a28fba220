"""Array types and the one error that dsp raises."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
I16 = NDArray[np.int16]
I64 = NDArray[np.int64]
BOOL = NDArray[np.bool_]
F64 = NDArray[np.float64]


class ShapeError(ValueError):
    """An array does not have the rank or length that the function states."""


def same_length(first: int, second: int, *, what: str) -> None:
    """Raise ShapeError unless both lengths agree."""
    if first != second:
        raise ShapeError(f"{what}: {first} and {second} differ in length")
