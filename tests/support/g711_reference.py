"""G.711 written from the recommendation, one octet at a time, without the product's tables.

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


def a_law_code(sample: int) -> int:
    """Encode 16 bits to one A-law octet; a decision value belongs to the interval above it."""
    magnitude = (sample if sample >= 0 else ~sample) >> 4
    segment = max(0, magnitude.bit_length() - 4)
    step = (magnitude >> max(0, segment - 1)) & 15
    return ((0x80 if sample >= 0 else 0) | segment << 4 | step) ^ 0x55


def mu_law_code(sample: int) -> int:
    """Encode 16 bits to one mu-law octet; what is louder than the last interval is limited to it."""
    magnitude = min(((sample if sample >= 0 else ~sample) >> 2) + 33, 8191)
    segment = magnitude.bit_length() - 6
    step = (magnitude >> (segment + 1)) & 15
    return 255 - ((0 if sample >= 0 else 0x80) | segment << 4 | step)


def encode(samples: np.ndarray, *, law: str) -> bytes:
    """Encode 16-bit samples; ``law`` is PCMA or PCMU."""
    code = a_law_code if law == "PCMA" else mu_law_code
    return bytes(code(int(sample)) for sample in samples)
