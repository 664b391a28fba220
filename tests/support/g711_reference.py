"""G.711 decoders written from the recommendation, one octet at a time, without the product's tables.

Source: ITU-T G.711 (11/88) tables 1a, 1b, 2a, 2b; 16-bit scaling as in G.191.
"""

from __future__ import annotations

import numpy as np

_A_STEP = (2, 2, 4, 8, 16, 32, 64, 128)  # in units of the 12-bit magnitude, per segment
_A_START = (0, 32, 64, 128, 256, 512, 1024, 2048)


def a_law(code: int) -> int:
    """Decode one A-law octet to 16 bits."""
    code ^= 0x55
    segment, step = (code >> 4) & 7, code & 15
    magnitude = _A_START[segment] + _A_STEP[segment] * step + _A_STEP[segment] // 2
    return (magnitude if code & 0x80 else -magnitude) * 8


def mu_law(code: int) -> int:
    """Decode one mu-law octet to 16 bits."""
    code = 255 - code
    segment, step = (code >> 4) & 7, code & 15
    lowest = 0
    for below in range(segment):
        lowest += 16 * (2 << below)
    magnitude = lowest + (2 << segment) * step + (((2 << segment) // 2 - 1) if segment else 0)
    return (-magnitude if code & 0x80 else magnitude) * 4


def decode(payload: bytes, *, law: str) -> np.ndarray:
    """Decode a payload; ``law`` is PCMA or PCMU."""
    table = np.array([(a_law if law == "PCMA" else mu_law)(code) for code in range(256)], dtype=np.int16)
    return table[np.frombuffer(payload, dtype=np.uint8)]
