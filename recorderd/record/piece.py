"""What one stream brought for a span of the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dsp.runs import absent_runs
from dsp.shapes import BOOL, I16

Spans = tuple[tuple[int, int], ...]  # from, to


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

    @property
    def end(self) -> int:
        """The first sample that is not of this piece."""
        return self.start + int(self.samples.shape[0])

    def silenced(self, start: int, end: int, *, masked: bool = False) -> Piece:
        """Silence a part: because another leg brought it, or because it must not be heard."""
        samples = self.samples.copy()
        samples[start - self.start : end - self.start] = 0
        if masked:
            return replace(self, samples=samples, masked=(*self.masked, (start, end)))
        return replace(self, samples=samples, doubled=(*self.doubled, (start, end)))

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
        )

    def _part(self, start: int, end: int) -> Piece:
        return Piece(
            start=start,
            samples=self.samples[start - self.start : end - self.start],
            absent=_within(self.absent, start, end),
            doubled=_within(self.doubled, start, end),
            masked=_within(self.masked, start, end),
            skewed=_within(self.skewed, start, end),
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
