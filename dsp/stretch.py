"""A block longer or shorter by a few samples: moved in time so that nobody hears it, or cut in silence.

Method: ``stretch`` reads the block at positions that run a little faster or slower in its middle and evenly
elsewhere, so that a block begins and ends with its own samples and joins its neighbours. Between samples
stands a sinc of ``TAPS`` under a Kaiser window, as polynomials of the fraction (Farrow's structure).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from dsp.shapes import F64, I16, ShapeError

TAPS: Final = 48
EDGE_SAMPLES: Final = TAPS // 2  # at both ends stay as they are: the sinc between them needs no neighbour
MOST_CHANGE: Final = 0.01  # of the block
SPREAD_SAMPLES: Final = 800  # over which each sample of change is spread, where the block is that long
THRESHOLD_DBFS: Final = -45.0
QUIET_SAMPLES: Final = 16  # at least so many in a row must be quiet
_KAISER_BETA: Final = 9.0
_ORDER: Final = 7  # of the polynomials; they miss the kernel by less than 1e-6


def _farrow() -> F64:
    """Polynomials, one per tap, in the fraction less one half; highest power first."""
    fractions = (1.0 - np.cos(np.pi * (np.arange(64) + 0.5) / 64)) / 2.0
    at = np.arange(TAPS)[:, np.newaxis] - (TAPS // 2 - 1) - fractions
    window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(0.0, 1.0 - (at / (TAPS / 2)) ** 2))) / np.i0(
        _KAISER_BETA
    )
    kernel = np.sinc(at) * window
    polynomials: F64 = np.polyfit(fractions - 0.5, kernel.T, _ORDER)
    polynomials.setflags(write=False)
    return polynomials


_FARROW: Final = _farrow()


def positions(count: int, *, length: int) -> F64:
    """Tell where in a block of ``count`` samples each sample of its stretched form stands.

    The speed differs by at most 1.5 / SPREAD_SAMPLES, or 1.5 * |count - length| / (length - 2 * EDGE_SAMPLES)
    where a shorter block has no room for that.

    Shapes: -> (length,); whole outside of the middle.
    """
    at = np.arange(length, dtype=np.float64)
    start, end = _middle(count, length=length)
    inner = np.clip((at - (start - 1)) / (end - start + 1), 0.0, 1.0)
    stands: F64 = at + (count - length) * inner**2 * (3.0 - 2.0 * inner)
    return stands


def _middle(count: int, *, length: int) -> tuple[int, int]:
    """Range of the stretched block that is made anew."""
    room = length - 2 * EDGE_SAMPLES
    width = max(1, min(room, SPREAD_SAMPLES * abs(length - count)))
    start = (length - width) // 2
    return start, start + width


def stretch(samples: I16, *, length: int) -> I16:
    """Change the length of a block; for that time its pitch changes, usually by 0.2 %.

    Error bounds: against a moved sine of full scale at 8 kHz, 1 LSB at 1 kHz, 1.5 at 3 kHz, 3 at 3.4 kHz.
    Shapes: samples (n,) -> (length,); at least ``EDGE_SAMPLES`` at both ends stay bit by bit.
    Errors: ShapeError when the length changes by more than ``MOST_CHANGE`` of n.
    """
    count = samples.shape[-1]
    if abs(length - count) > MOST_CHANGE * count:
        raise ShapeError(f"{count} samples cannot become {length}: more than {MOST_CHANGE:.0%}")
    if length == count:
        return samples.copy()
    start, end = _middle(count, length=length)
    inner = positions(count, length=length)[start:end]
    whole = np.floor(inner).astype(np.int64)
    around = sliding_window_view(samples, TAPS)[whole - (TAPS // 2 - 1)].astype(np.float64)
    powers = around @ _FARROW.T
    beyond = inner - whole - 0.5
    between = powers[:, 0]
    for power in range(1, _ORDER + 1):  # Horner's scheme
        between = between * beyond + powers[:, power]
    rounded = np.clip(np.rint(between), -32_768, 32_767).astype(np.int16)
    return np.concatenate([samples[:start], rounded, samples[count - (length - end) :]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Spliced:
    """A block whose length was changed in silence."""

    samples: I16
    position: int  # of the first sample that was put in, or that is missing


def insert_in_silence(samples: I16, *, count: int, threshold: float = THRESHOLD_DBFS) -> Spliced | None:
    """Put ``count`` zeros in where the block is quietest; None when it is nowhere below the threshold.

    Shapes: samples (n,) -> (n + count,).
    Units:  threshold in dBFS, of the RMS of ``QUIET_SAMPLES``; a full-scale square wave is 0.
    Errors: ShapeError on a count below 1.
    """
    start = _quietest(samples, count=count, width=QUIET_SAMPLES, threshold=threshold)
    if start is None:
        return None
    position = start + QUIET_SAMPLES // 2
    return Spliced(
        samples=np.insert(samples, position, np.zeros(count, dtype=np.int16)),
        position=position,
    )


def drop_from_silence(samples: I16, *, count: int, threshold: float = THRESHOLD_DBFS) -> Spliced | None:
    """Take ``count`` samples out where the block is quietest; None when it is nowhere below the threshold.

    Shapes: samples (n,) -> (n - count,).
    Units:  threshold in dBFS, of the RMS of ``QUIET_SAMPLES`` or of all that go, whichever are more.
    Errors: ShapeError on a count below 1.
    """
    width = max(count, QUIET_SAMPLES)
    start = _quietest(samples, count=count, width=width, threshold=threshold)
    if start is None:
        return None
    position = start + (width - count) // 2
    return Spliced(samples=np.delete(samples, slice(position, position + count)), position=position)


def _quietest(samples: I16, *, count: int, width: int, threshold: float) -> int | None:
    """Start of the quietest stretch, the first of several; digital silence is quieter than anything."""
    if count < 1:
        raise ShapeError(f"{count} samples cannot be inserted or dropped")
    if samples.shape[-1] < width:
        return None
    wide = samples.astype(np.int64)
    sums = np.concatenate([[0], np.cumsum(wide * wide)])
    energy = sums[width:] - sums[:-width]
    start = int(np.argmin(energy))
    limit = width * 32_768.0**2 * 10.0 ** (threshold / 10.0)
    return start if energy[start] < limit else None
