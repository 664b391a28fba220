"""G.711 by table: each octet has exactly one linear value.

Source: ITU-T G.711 (11/88), tables 1a to 2b; linear values scaled to 16 bits as G.191 does.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from dsp.shapes import I16, U8, same_length

NOTHING: Final = 0  # law of an octet that never came: decodes to digital silence
MU_LAW: Final = 1
A_LAW: Final = 2


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
