"""What a recovery has put into a draft from the tail, as the draft's journal tells it.

Rule: within such a span the tail knows what came, whatever the journal noted of it before: what is missing
there is missing for no known reason, unless it goes on with a gap that was explained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recorderd.core.gap_causes import BEFORE_FIRST, NOT_RECEIVED
from recorderd.record.gaps import append_gap, merged, overlay
from recorderd.wire.manifest import Gap, StreamEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class TailLine:
    """A span of the draft, counted from its beginning, and what is missing in it."""

    start: int
    frames: int
    gaps: tuple[tuple[tuple[int, int], ...], ...]  # by channel: start in the span, and length

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> TailLine:
        """Read a line. Errors: ValueError, KeyError or TypeError when it is none."""
        gaps = tuple(tuple((int(at), int(count)) for at, count in line) for line in row["gaps"])
        return cls(start=int(row["start"]), frames=int(row["frames"]), gaps=gaps)


def told_by_tail(entries: Sequence[StreamEntry], tails: Sequence[TailLine]) -> list[StreamEntry]:
    """Let the streams' gaps be what the tail tells of its spans."""
    told = list(entries)
    for line in tails:
        told = [replace(entry, gaps=_gaps(entry, line)) for entry in told]
    return told


def _gaps(entry: StreamEntry, line: TailLine) -> tuple[Gap, ...]:
    known = merged(list(entry.gaps))
    if entry.channel >= len(line.gaps):
        return tuple(known)
    start, end = line.start, line.start + line.frames
    before = [gap for gap in known if gap.start_samples < start <= gap.start_samples + gap.length_samples]
    kept: list[Gap] = []
    for gap in known:
        gap_end = gap.start_samples + gap.length_samples
        append_gap(kept, gap.start_samples, min(gap_end, start), gap.cause)
        append_gap(kept, max(gap.start_samples, end), gap_end, gap.cause)
    for at, count in line.gaps[entry.channel]:
        cause = before[-1].cause if at == 0 and before else NOT_RECEIVED
        kept = overlay(kept, start + at, start + at + count, cause)
        if start + at < entry.first_sample:
            kept = overlay(kept, start + at, min(start + at + count, entry.first_sample), BEFORE_FIRST)
    return tuple(kept)
