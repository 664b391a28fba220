"""Lists of gaps: in order, never overlapping, neighbours of one cause joined. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from recorderd.core.gap_causes import (
    AFTER_LAST,
    KERNEL_DROP,
    LATE,
    NETWORK_LOSS,
    NOT_RECEIVED,
    RING_OVERRUN,
    SILENCE_SUPPRESSED,
)
from recorderd.wire.manifest import Gap

SLIVER_MS: Final = 20  # of a gap that is explained but for so little, the rest has the same cause
WORSE: Final = (KERNEL_DROP, RING_OVERRUN, LATE)  # say better than a missing number what became of packets
QUIET: Final = (NOT_RECEIVED, SILENCE_SUPPRESSED)  # what a hold explains better


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why nothing may be there for a span."""

    start: int
    end: int
    cause: str


def append_gap(gaps: list[Gap], start: int, end: int, cause: str) -> None:
    """Add a gap behind all others; an empty one is nothing."""
    if end <= start:
        return
    if gaps:
        last = gaps[-1]
        if last.cause == cause and last.start_samples + last.length_samples == start:
            start = last.start_samples
            gaps.pop()
    gaps.append(Gap(start_samples=start, length_samples=end - start, cause=cause))


def overlay(
    gaps: Iterable[Gap], start: int, end: int, cause: str, *, over: Collection[str] | None = None
) -> list[Gap]:
    """Let one cause stand for a whole span, whatever stood there; or only where a cause of ``over`` stood."""
    known = list(gaps)
    if over is not None:
        told: list[Gap] = []
        for gap in known:
            gap_end = gap.start_samples + gap.length_samples
            low, high = max(gap.start_samples, start), min(gap_end, end)
            if gap.cause not in over or low >= high:
                append_gap(told, gap.start_samples, gap_end, gap.cause)
                continue
            append_gap(told, gap.start_samples, low, gap.cause)
            append_gap(told, low, high, cause)
            append_gap(told, high, gap_end, gap.cause)
        return told
    before: list[Gap] = []
    after: list[Gap] = []
    for gap in known:
        gap_end = gap.start_samples + gap.length_samples
        append_gap(before, gap.start_samples, min(gap_end, start), gap.cause)
        append_gap(after, max(gap.start_samples, end), gap_end, gap.cause)
    append_gap(before, start, end, cause)
    for gap in after:
        append_gap(before, gap.start_samples, gap.start_samples + gap.length_samples, gap.cause)
    return before


def explained(start: int, end: int, causes: Sequence[Cause], *, sliver: int) -> list[Cause]:
    """Divide a span without packets by what is known of it; the later of two causes stands.

    What is left unexplained has no known cause, unless it is shorter than ``sliver`` beside a part with one.
    """
    rows: list[Gap] = []
    append_gap(rows, start, end, NOT_RECEIVED)
    for known in causes:
        low, high = max(start, known.start), min(end, known.end)
        if low < high:
            over = (NOT_RECEIVED,) if known.cause not in WORSE else (NOT_RECEIVED, NETWORK_LOSS)
            rows = overlay(rows, low, high, known.cause, over=over)
    told: list[Gap] = []
    for number, row in enumerate(rows):
        cause = row.cause
        if cause == NOT_RECEIVED and row.length_samples < sliver and len(rows) > 1:
            cause = rows[number - 1 if number else 1].cause
        append_gap(told, row.start_samples, row.start_samples + row.length_samples, cause)
    return [
        Cause(start=row.start_samples, end=row.start_samples + row.length_samples, cause=row.cause)
        for row in told
    ]


def after_last(gaps: Iterable[Gap], end: int) -> list[Gap]:
    """Tell the silence after the last packet, which ended at ``end``, from silence within."""
    told: list[Gap] = []
    for gap in gaps:
        gap_end = gap.start_samples + gap.length_samples
        if gap.cause == NOT_RECEIVED:
            append_gap(told, gap.start_samples, min(gap_end, end), NOT_RECEIVED)
            append_gap(told, max(gap.start_samples, end), gap_end, AFTER_LAST)
        else:
            append_gap(told, gap.start_samples, gap_end, gap.cause)
    return told


def within(gaps: Iterable[Gap], *, start: int, end: int) -> list[Gap]:
    """Cut the gaps to a span and count them from its beginning."""
    cut: list[Gap] = []
    for gap in gaps:
        low, high = max(gap.start_samples, start), min(gap.start_samples + gap.length_samples, end)
        append_gap(cut, low - start, high - start, gap.cause)
    return cut


def merged(gaps: list[Gap]) -> list[Gap]:
    """Drop what a later, longer version of the same gap covers."""
    longest: dict[int, Gap] = {}
    for gap in gaps:
        if gap.start_samples not in longest or longest[gap.start_samples].length_samples < gap.length_samples:
            longest[gap.start_samples] = gap
    return [longest[start] for start in sorted(longest)]
