"""What one stream brought for a span of the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from dsp.runs import absent_runs
from dsp.shapes import BOOL, I16, I64

Spans = tuple[tuple[int, int], ...]  # from, to
NONE: Final[I64] = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Samples, and where there are none.

    Shapes: samples (n,) int16. Spans are counted from the session's start.
    """

    start: int
    samples: I16
    absent: Spans
    doubled: Spans = ()  # silenced: another leg of the party brought the same
    masked: Spans = ()  # silenced: a key was heard
    skewed: Spans = ()  # put in for the sender's clock
    pressed: Spans = ()  # about where an event says that a key began: not to be heard where keys are masked
    negative_zeros: I64 = field(default_factory=lambda: NONE)  # mu-law's second zero, from the start

    @property
    def end(self) -> int:
        """The first sample that is not of this piece."""
        return self.start + int(self.samples.shape[0])

    def silenced(self, start: int, end: int, *, masked: bool = False) -> Piece:
        """Silence a part: because another leg brought it, or because it must not be heard."""
        samples = self.samples.copy()
        low, high = start - self.start, end - self.start
        samples[low:high] = 0
        zeros = self.negative_zeros[(self.negative_zeros < low) | (self.negative_zeros >= high)]
        if masked:
            return replace(self, samples=samples, negative_zeros=zeros, masked=(*self.masked, (start, end)))
        return replace(self, samples=samples, negative_zeros=zeros, doubled=(*self.doubled, (start, end)))

    def since(self, start: int) -> Piece:
        """Leave out what lies before ``start``."""
        return self if start <= self.start else self._part(start, self.end)

    def before(self, end: int) -> Piece:
        """Leave out what lies from ``end`` on."""
        return self if end >= self.end else self._part(self.start, end)

    def followed_by(self, later: Piece) -> Piece:
        """Join with the piece that begins where this one ends."""
        return Piece(
            start=self.start,
            samples=np.concatenate([self.samples, later.samples]),
            absent=(*self.absent, *later.absent),
            doubled=(*self.doubled, *later.doubled),
            masked=(*self.masked, *later.masked),
            skewed=(*self.skewed, *later.skewed),
            pressed=(*self.pressed, *later.pressed),
            negative_zeros=np.concatenate(
                [self.negative_zeros, later.negative_zeros + self.samples.shape[0]]
            ),
        )

    def _part(self, start: int, end: int) -> Piece:
        zeros = self.negative_zeros - (start - self.start)
        return Piece(
            start=start,
            samples=self.samples[start - self.start : end - self.start],
            absent=_within(self.absent, start, end),
            doubled=_within(self.doubled, start, end),
            masked=_within(self.masked, start, end),
            skewed=_within(self.skewed, start, end),
            pressed=_within(self.pressed, start, end),
            negative_zeros=zeros[(zeros >= 0) & (zeros < end - start)],
        )


def blank_piece(start: int, end: int) -> Piece:
    """Make the piece of a stream that brought nothing."""
    return Piece(start=start, samples=np.zeros(end - start, dtype=np.int16), absent=((start, end),))


def absent_spans(present: BOOL, *, start: int) -> Spans:
    """List where nothing is present, counted from where ``present`` begins at ``start``."""
    runs: list[list[int]] = absent_runs(present).tolist()
    return tuple((start + at, start + at + length) for at, length in runs)


def _within(rows: Sequence[tuple[int, int]], start: int, end: int) -> Spans:
    return tuple((max(low, start), min(high, end)) for low, high in rows if high > start and low < end)
