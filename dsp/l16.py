"""Linear 16-bit PCM as RTP carries it.

Source: RFC 3551 section 4.5.11.
"""

from __future__ import annotations

import numpy as np

from dsp.shapes import I16, U8, ShapeError


def decode(octets: U8, *, channels: int = 1) -> I16:
    """Decode big-endian 16-bit samples; several channels are averaged to one.

    Shapes: octets (2 * channels * n,) -> (n,) int16.
    Errors: ShapeError when the octets are no whole number of frames.
    """
    if octets.shape[-1] % (2 * channels):
        raise ShapeError(f"{octets.shape[-1]} octets are no whole frames of {channels} channels")
    samples: I16 = np.ascontiguousarray(octets).view(">i2").astype(np.int16)
    if channels == 1:
        return samples
    frames = samples.reshape(-1, channels).astype(np.int32)
    averaged: I16 = np.floor_divide(frames.sum(axis=-1), channels).astype(np.int16)
    return averaged


def encode(samples: I16, *, channels: int = 1) -> U8:
    """Encode to big-endian 16-bit samples; every channel gets the same.

    Shapes: samples (n,) -> (2 * channels * n,) uint8.
    """
    octets: U8 = np.repeat(samples, channels).astype(">i2").view(np.uint8)
    return octets
