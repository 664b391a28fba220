"""Lists of gaps: in order, never overlapping, neighbours of one cause joined. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from recorderd.wire.manifest import Gap

BEFORE_FIRST: Final = "before_first"
NOT_RECEIVED: Final = "not_received"
AFTER_LAST: Final = "after_last"
PAUSED: Final = "paused"
STOPPED: Final = "stopped"
DOUBLED: Final = "doubled"


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


def overlay(gaps: Iterable[Gap], start: int, end: int, cause: str) -> list[Gap]:
    """Let one cause stand for a whole span, whatever stood there."""
    before: list[Gap] = []
    after: list[Gap] = []
    for gap in gaps:
        gap_end = gap.start_samples + gap.length_samples
        append_gap(before, gap.start_samples, min(gap_end, start), gap.cause)
        append_gap(after, max(gap.start_samples, end), gap_end, gap.cause)
    append_gap(before, start, end, cause)
    for gap in after:
        append_gap(before, gap.start_samples, gap.start_samples + gap.length_samples, gap.cause)
    return before


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
