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

Spans = tuple[tuple[int, int, str], ...]  # start, length, cause


@dataclass(frozen=True, slots=True, kw_only=True)
class TailLine:
    """A span of the draft, counted from its beginning, and what is missing in it."""

    start: int
    frames: int
    gaps: tuple[Spans, ...]  # by stream, in the order in which the journal names them; from the span's start

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> TailLine:
        """Read a line. Errors: ValueError, KeyError or TypeError when it is none."""
        gaps = tuple(
            tuple((int(at), int(count), str(cause)) for at, count, cause in one) for one in row["gaps"]
        )
        return cls(start=int(row["start"]), frames=int(row["frames"]), gaps=gaps)


def told_by_tail(entries: Sequence[StreamEntry], tails: Sequence[TailLine]) -> list[StreamEntry]:
    """Let the streams' gaps be what the tail tells of its spans."""
    told = list(entries)
    for line in tails:
        told = [
            _told(entry, line, line.gaps[number]) if number < len(line.gaps) else entry
            for number, entry in enumerate(told)
        ]
    return told


def _told(entry: StreamEntry, line: TailLine, missing: Spans) -> StreamEntry:
    """Let one stream be what the tail tells of it in a span."""
    silent = sum(count for _, count, _ in missing)
    if silent < line.frames and entry.first_sample < 0:  # its first packets were not noted yet
        first = next((at + count for at, count, _ in missing if at == 0), 0)
        entry = replace(entry, first_sample=line.start + first)
    if silent < line.frames and not entry.packets_received:
        entry = replace(entry, packets_received=1)  # how many more came was not noted
    return replace(entry, gaps=_gaps(entry, line, missing))


def _gaps(entry: StreamEntry, line: TailLine, told: Spans) -> tuple[Gap, ...]:
    start, end = line.start, line.start + line.frames
    known = merged(list(entry.gaps))
    before = [gap for gap in known if gap.start_samples < start <= gap.start_samples + gap.length_samples]
    kept: list[Gap] = []
    for gap in known:
        gap_end = gap.start_samples + gap.length_samples
        append_gap(kept, gap.start_samples, min(gap_end, start), gap.cause)
        append_gap(kept, max(gap.start_samples, end), gap_end, gap.cause)
    for at, count, cause in told:
        goes_on = at == 0 and before and cause == NOT_RECEIVED
        kept = overlay(kept, start + at, start + at + count, before[-1].cause if goes_on else cause)
        if start + at < entry.first_sample:
            kept = overlay(kept, start + at, min(start + at + count, entry.first_sample), BEFORE_FIRST)
    return tuple(kept)
