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
    edges = (
        np.flatnonzero(present[1:] != present[:-1]) + 1
    )  # ``np.diff`` with both ends costs five times that
    if not present[0]:
        edges = np.concatenate([[0], edges])
    if not present[-1]:
        edges = np.concatenate([edges, [present.size]])
    return np.stack([edges[0::2], edges[1::2] - edges[0::2]], axis=-1).astype(np.int64)
