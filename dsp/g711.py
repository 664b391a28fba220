"""G.711 by table, both ways: each octet has one linear value, each linear value one octet.

Source: ITU-T G.711 (11/88), tables 1a to 2b; linear values scaled to 16 bits as G.191 does.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsp.shapes import I16, I64, U8, ShapeError, same_length

NOTHING: Final = 0  # law of an octet that never came: decodes to digital silence
MU_LAW: Final = 1
A_LAW: Final = 2
MU_LAW_NEGATIVE_ZERO: Final = 0x7F  # the one octet that does not come back from its sample


def _mu_law_table() -> I16:
    code = ~np.arange(256, dtype=np.uint8)
    exponent = (code >> 4).astype(np.int32) & 7
    mantissa = code.astype(np.int32) & 15
    magnitude = ((2 * mantissa + 33) << exponent) - 33
    return (np.where(code & 0x80, -magnitude, magnitude) * 4).astype(np.int16)


def _a_law_table() -> I16:
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = (code >> 4).astype(np.int32) & 7
    mantissa = code.astype(np.int32) & 15
    magnitude = np.where(exponent == 0, 2 * mantissa + 1, (2 * mantissa + 33) << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) * 8).astype(np.int16)


def _tables() -> I16:
    tables = np.zeros((3, 256), dtype=np.int16)
    tables[MU_LAW] = _mu_law_table()
    tables[A_LAW] = _a_law_table()
    tables.setflags(write=False)
    return tables


TABLES: Final = _tables()
_FLAT: Final = TABLES.reshape(-1)


def decode(octets: U8, *, laws: U8) -> I16:
    """Decode G.711 octets, each by its own law; NOTHING gives digital silence.

    Shapes: octets (n,), laws (n,) -> (n,) int16.
    Errors: ShapeError when the lengths differ; IndexError on a law that is none of the three.
    """
    same_length(octets.shape[-1], laws.shape[-1], what="octets and laws")
    samples: I16 = _FLAT[(laws.astype(np.uint16) << 8) | octets]
    return samples


def _pairs() -> NDArray[np.uint32]:
    """Two octets at a time: half the look-ups, from a table that stays in the cache."""
    both = np.arange(65_536, dtype=np.uint16).view(np.uint8)
    pairs = _FLAT.reshape(3, 256)[:, both].copy().view(np.uint32)
    pairs.setflags(write=False)
    return pairs


_PAIRS: Final = _pairs()


def decode_rows(octets: U8, *, laws: U8) -> I16:
    """Decode rows of G.711 octets, each row by one law.

    Shapes: octets (k, n) with n even, laws (k,) -> (k, n) int16.
    Errors: ShapeError when n is odd or the numbers of rows differ.
    """
    same_length(octets.shape[0], laws.shape[-1], what="rows and laws")
    if octets.shape[-1] % 2:
        raise ShapeError(f"rows of {octets.shape[-1]} octets are no whole pairs")
    pairs = np.ascontiguousarray(octets).view(np.uint16)
    samples = np.empty(pairs.shape, dtype=np.uint32)
    if laws.size and (laws == laws[0]).all():  # no row is copied
        np.take(_PAIRS[int(laws[0])], pairs, out=samples, mode="clip")
    else:
        for law in np.unique(laws).tolist():
            rows = laws == law
            # No pair lies outside the table: "clip" only spares the look for one.
            samples[rows] = np.take(_PAIRS[law], pairs[rows], mode="clip")
    decoded: I16 = samples.view(np.int16)
    return decoded


def _digits(magnitude: I64) -> I64:
    """Number of binary digits of each magnitude."""
    count: I64 = np.searchsorted(1 << np.arange(16), magnitude, side="right").astype(np.int64)
    return count


def _mu_law_codes(linear: I64) -> U8:
    magnitude = np.minimum((np.where(linear >= 0, linear, ~linear) >> 2) + 33, 8191)
    exponent = _digits(magnitude) - 6
    code = (exponent << 4) | ((magnitude >> (exponent + 1)) & 15) | np.where(linear >= 0, 0, 0x80)
    codes: U8 = ~code.astype(np.uint8)
    return codes


def _a_law_codes(linear: I64) -> U8:
    magnitude = np.where(linear >= 0, linear, ~linear) >> 4
    exponent = np.maximum(_digits(magnitude) - 4, 0)
    code = (exponent << 4) | ((magnitude >> np.maximum(exponent - 1, 0)) & 15)
    codes: U8 = ((code | np.where(linear >= 0, 0x80, 0)) ^ 0x55).astype(np.uint8)
    return codes


def _codes() -> dict[int, U8]:
    linear = np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int64)  # -1 stands at 65535
    codes = {MU_LAW: _mu_law_codes(linear), A_LAW: _a_law_codes(linear)}
    for table in codes.values():
        table.setflags(write=False)
    return codes


_CODES: Final = _codes()


def encode(samples: I16, *, law: int) -> U8:
    """Encode linear samples; a decision value belongs to the interval above it, as in G.191.

    Every octet comes back from its own linear value, except mu-law's negative zero (0x7F): its value is 0,
    which is encoded as 0xFF. The error is at most half of the interval, or what exceeds the last one.

    Shapes: samples (n,) -> (n,) uint8.
    Errors: KeyError on a law that is neither MU_LAW nor A_LAW.
    """
    octets: U8 = _CODES[law][np.ascontiguousarray(samples, dtype=np.int16).view(np.uint16)]
    return octets
