"""A stream's account: what is missing and why, how loud it is, which keys were heard.

Contract: ``keep`` takes adjoining pieces. What was said of a span can be taken back; causes may be told
before or after the span they explain was kept. Samples are counted from the session's start.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from dsp import levels
from recorderd.core.gap_causes import (
    BEFORE_FIRST,
    DOUBLED,
    HOLD,
    MASKED,
    NETWORK_LOSS,
    NOT_RECEIVED,
    SKEW,
)
from recorderd.record.gaps import QUIET, SLIVER_MS, WORSE, Cause, after_last, append_gap, explained, overlay
from recorderd.record.piece import Piece
from recorderd.wire.manifest import Gap

LEVELS_KEPT: Final = 32  # windows whose levels can still be taken back: 16 s
# The end of a window, and before it: energy, peak, samples, clipped. A tuple of them takes twice as much.
_LEVELS: Final = Struct("=q12sqqq")
_ENERGY_BYTES: Final = 12  # more than any recording comes to
CAUSES_KEPT: Final = 4_096


@dataclass(slots=True)
class Account:
    """One stream's account.

    Thread: one.
    """

    gaps: list[Gap] = field(default_factory=list)
    peak: int = 0
    energy: int = 0  # sum of squares
    samples: int = 0
    clipped: int = 0
    speech_frames: int = 0
    doubled: bool = False
    is_dirty: bool = False  # gaps that were noted have changed
    _causes: list[Cause] = field(default_factory=list)  # an empty deque takes ten times as much
    _before: deque[bytes] = field(default_factory=lambda: deque(maxlen=LEVELS_KEPT))

    def begun_here(self) -> Account:
        """Give an account of what follows only; why something may be missing is known in it."""
        return Account(_causes=list(self._causes))

    @property
    def level(self) -> levels.Level:
        """The levels so far."""
        return levels.Level(peak=self.peak, energy=self.energy, samples=self.samples, clipped=self.clipped)

    def keep(self, piece: Piece, *, first_sample: int | None, rate_hz: int, level: levels.Level) -> None:
        """Take a piece and its level into the account; ``first_sample`` is None while it has no place."""
        gaps: list[Gap] = []
        for start, end in piece.absent:
            edge = first_sample if first_sample is not None else end
            append_gap(gaps, start, min(end, edge), BEFORE_FIRST)
            low = max(start, edge)
            if low < end:
                for row in explained(low, end, self._causes, sliver=SLIVER_MS * rate_hz // 1000):
                    append_gap(gaps, row.start, row.end, row.cause)
        for spans, cause in ((piece.skewed, SKEW), (piece.doubled, DOUBLED), (piece.masked, MASKED)):
            for start, end in spans:
                gaps = overlay(gaps, start, end, cause)
        self.doubled |= bool(piece.doubled)
        for gap in gaps:
            append_gap(self.gaps, gap.start_samples, gap.start_samples + gap.length_samples, gap.cause)
        if first_sample is not None:
            self.add_level(level.peak, level.energy, level.samples, level.clipped, end=piece.end)

    def outline(self, end: int) -> tuple[int, bool]:
        """Say how many gaps there are, and whether the last one reaches ``end``."""
        last = self.gaps[-1] if self.gaps else None
        return len(self.gaps), last is not None and last.start_samples + last.length_samples >= end

    def explain(self, cause: Cause) -> None:
        """Take note why nothing came for a span, kept already or still to be kept."""
        self._causes.append(cause)
        del self._causes[:-CAUSES_KEPT]
        over = (NOT_RECEIVED, NETWORK_LOSS) if cause.cause in WORSE else (NOT_RECEIVED,)
        self._relabel(cause, QUIET if cause.cause == HOLD else over)

    def add_level(self, peak: int, energy: int, samples: int, clipped: int, *, end: int) -> None:
        """Take in the levels of a window that ends at ``end``; they can be taken back, see ``take_back``."""
        squares = self.energy.to_bytes(_ENERGY_BYTES)
        self._before.append(_LEVELS.pack(end, squares, self.peak, self.samples, self.clipped))
        self.peak = max(self.peak, peak)
        self.energy += energy
        self.samples += samples
        self.clipped += clipped

    def silence(self, start: int, end: int, cause: str) -> None:
        """Note that a span is silent, whatever came."""
        self.gaps = overlay(self.gaps, start, end, cause)

    def take_back(self, start: int) -> None:
        """Let the levels know nothing from ``start`` on: whole windows go, or all when that is far back."""
        taken = 0
        while self._before:
            end, squares, peak, samples, clipped = _LEVELS.unpack(self._before[-1])
            if end <= start:
                break
            self.energy, self.peak = int.from_bytes(squares), peak
            self.samples, self.clipped = samples, clipped
            self._before.pop()
            taken += 1
        if taken == LEVELS_KEPT:
            self.peak = self.energy = self.samples = self.clipped = 0

    def forget(self) -> None:
        """Forget what was learnt from the audio."""
        self.gaps, self.doubled, self.speech_frames = [], False, 0
        self.peak = self.energy = self.samples = self.clipped = 0
        self._before.clear()
        self._causes.clear()

    def finish(self, audio_end: int) -> None:
        """Tell the silence after the last packet from silence within."""
        self.gaps = after_last(self.gaps, audio_end)

    def _relabel(self, cause: Cause, over: tuple[str, ...]) -> None:
        if not self.gaps or self.gaps[-1].start_samples + self.gaps[-1].length_samples <= cause.start:
            return
        told = overlay(self.gaps, cause.start, cause.end, cause.cause, over=over)
        if told != self.gaps:
            self.gaps, self.is_dirty = told, True
