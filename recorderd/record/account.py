"""A stream's account: what is missing and why, how loud it is, which keys were heard.

Contract: ``keep`` takes adjoining pieces. What was said of a span can be taken back; causes may be told
before or after the span they explain was kept. Samples are counted from the session's start.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from dsp import levels
from recorderd.core.gap_causes import (
    BEFORE_FIRST,
    DOUBLED,
    HOLD,
    MASKED,
    NETWORK_LOSS,
    NOT_RECEIVED,
    SILENCE_SUPPRESSED,
    SKEW,
)
from recorderd.record.gaps import SLIVER_MS, WORSE, Cause, after_last, append_gap, explained, overlay
from recorderd.record.piece import Piece
from recorderd.wire.manifest import Gap

LEVELS_KEPT: Final = 32  # windows whose levels can still be taken back: 16 s
CAUSES_KEPT: Final = 4_096
_QUIET: Final = (NOT_RECEIVED, SILENCE_SUPPRESSED)  # what a hold explains better


@dataclass(slots=True)
class Account:
    """One stream's account.

    Thread: one.
    """

    gaps: list[Gap] = field(default_factory=list)
    level: levels.Level = field(default_factory=levels.Level)
    speech_frames: int = 0
    doubled: bool = False
    is_dirty: bool = False  # gaps that were noted have changed
    _causes: deque[Cause] = field(default_factory=lambda: deque(maxlen=CAUSES_KEPT))
    _levels: deque[tuple[int, levels.Level]] = field(default_factory=lambda: deque(maxlen=LEVELS_KEPT))

    def keep(self, piece: Piece, *, first_sample: int | None, rate_hz: int, rail: int) -> None:
        """Take a piece into the account; ``first_sample`` is None as long as the stream has no place."""
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
            self.note_level(levels.gather(self.level, piece.samples, rail=rail), end=piece.end)

    def outline(self, end: int) -> tuple[int, bool]:
        """Say how many gaps there are, and whether the last one reaches ``end``."""
        last = self.gaps[-1] if self.gaps else None
        return len(self.gaps), last is not None and last.start_samples + last.length_samples >= end

    def explain(self, cause: Cause) -> None:
        """Take note why nothing came for a span, kept already or still to be kept."""
        self._causes.append(cause)
        over = (NOT_RECEIVED, NETWORK_LOSS) if cause.cause in WORSE else (NOT_RECEIVED,)
        self._relabel(cause, _QUIET if cause.cause == HOLD else over)

    def note_level(self, level: levels.Level, *, end: int) -> None:
        """Take over the level up to a sample; what it was before can come back, see ``take_back``."""
        self._levels.append((end, self.level))
        self.level = level

    def silence(self, start: int, end: int, cause: str) -> None:
        """Note that a span is silent, whatever came."""
        self.gaps = overlay(self.gaps, start, end, cause)

    def take_back(self, start: int) -> None:
        """Let the levels know nothing from ``start`` on: whole windows go, or all when that is far back."""
        taken = 0
        while self._levels and self._levels[-1][0] > start:
            self.level = self._levels.pop()[1]
            taken += 1
        if taken == LEVELS_KEPT:
            self.level = levels.Level()

    def forget(self) -> None:
        """Forget what was learnt from the audio."""
        self.gaps, self.level, self.doubled, self.speech_frames = [], levels.Level(), False, 0
        self._levels.clear()
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
