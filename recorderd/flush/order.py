"""Whose turn it is: which recordings are claimed next, which goes on with its chunks.

Rule: the more important ones first (their rule's priority), of those the smallest, so that a long one does
not hold up the short ones; and every fourth turn is the oldest's, so that none starves: whatever else comes
in, the oldest has a quarter of the line. On battery (``urgent``) the oldest of the most important ones has
that quarter, so that nothing unimportant goes before them. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

OLDEST_EVERY: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One that waits for its turn."""

    recording_id: str  # sorts by time
    priority: int
    size_bytes: int  # that are still to go


def whose_turn(candidates: Collection[Candidate], *, turn: int, urgent: bool = False) -> Candidate:
    """Choose one; ``turn`` counts the choices."""
    if turn % OLDEST_EVERY:
        return min(candidates, key=_rank)
    return min(candidates, key=_urgent_age if urgent else _age)


def in_turn(candidates: Sequence[Candidate], *, turn: int, wanted: int) -> list[Candidate]:
    """Choose so many one after the other, the first of them in this turn."""
    oldest, ranked = iter(sorted(candidates, key=_age)), iter(sorted(candidates, key=_rank))
    chosen: dict[str, Candidate] = {}
    while len(chosen) < min(wanted, len(candidates)):
        source = oldest if (turn + len(chosen)) % OLDEST_EVERY == 0 else ranked
        entry = next(entry for entry in source if entry.recording_id not in chosen)
        chosen[entry.recording_id] = entry
    return list(chosen.values())


def _age(entry: Candidate) -> tuple[int, int, str]:
    return (0, 0, entry.recording_id)


def _urgent_age(entry: Candidate) -> tuple[int, int, str]:
    return (-entry.priority, 0, entry.recording_id)


def _rank(entry: Candidate) -> tuple[int, int, str]:
    return (-entry.priority, entry.size_bytes, entry.recording_id)
