"""Runs: where a mask is false, and for how long."""

from __future__ import annotations

import numpy as np

from dsp.shapes import BOOL, I64


def absent_runs(present: BOOL) -> I64:
    """List the runs where ``present`` is false.

    Shapes: present (n,) -> (n_runs, 2) int64 of start and length, in order.
    """
    if present.all():
        return np.zeros((0, 2), dtype=np.int64)
    edges = np.flatnonzero(np.diff(present.view(np.int8), prepend=np.int8(1), append=np.int8(1)))
    return np.stack([edges[0::2], edges[1::2] - edges[0::2]], axis=-1).astype(np.int64)
