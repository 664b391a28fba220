"""How long is a recording kept, and may it be erased now? Pure: terms, holds and a time in, decisions out.

Rule: a hold beats everything. What nobody knows is kept: an unknown class is never due. Terms are signed in
steps; the newest decide, but under a step with ``worm`` a recording's time, once told, only moves later.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from recorderd.policy.holds import Hold, HoldIndex
from recorderd.policy.selection import RecordingFacts

DEFAULT_CLASS: Final = "default"
DEFAULT_DAYS: Final = 180
DAY_S: Final = 86_400


class Erase(StrEnum):
    """What goes when a recording's time is over."""

    ALL = "all"  # all but what the chain needs
    AUDIO = "audio"  # manifest and signatures stay


class Verdict(StrEnum):
    """What becomes of a recording now."""

    KEEP = "keep"
    DUE = "due"
    HELD = "held"  # due, and on hold
    UNKNOWN_CLASS = "unknown class"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionClass:
    """How long recordings of one kind are kept."""

    name: str
    minimum_days: int = 0  # nobody erases them before
    maximum_days: int = DEFAULT_DAYS  # then they are erased
    erase: Erase = Erase.ALL
    right_to_erasure: bool = False  # whether a person's right goes before the minimum


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """One step: the classes, and from which row of the catalogue on recordings came under them."""

    classes: tuple[RetentionClass, ...]
    worm: bool = False
    from_row: int = 1

    def of(self, name: str) -> RetentionClass | None:
        """Find a class by name; the default class is always there."""
        found = next((entry for entry in self.classes if entry.name == name), None)
        return found or (RetentionClass(name=DEFAULT_CLASS) if name == DEFAULT_CLASS else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRecording:
    """What decides over one recording."""

    row_id: int
    ended_utc_s: int
    size_bytes: int
    has_audio: bool
    facts: RecordingFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """When a recording may go, and when it must; None = never."""

    earliest_utc_s: int | None  # by hand
    due_utc_s: int | None
    floor_utc_s: int | None = None  # under WORM nobody erases before, with whatever right
    retention_class: RetentionClass | None = None


# Class, and after how many seconds it may go by hand, must go, may go under WORM; None = never, or unknown.
_Span = tuple[RetentionClass | None, int | None, int | None, int | None]


class Ruling:
    """All terms that were ever signed, the oldest first."""

    def __init__(self, steps: Sequence[Terms]) -> None:
        self.number = len(steps)  # of the newest terms; 0 = none were ever stated
        self._steps = tuple(steps) or (Terms(classes=()),)
        self._from_rows = [step.from_row for step in self._steps]
        self._spans: dict[tuple[int, str], _Span] = {}

    @property
    def newest(self) -> Terms:
        """The terms in force."""
        return self._steps[-1]

    def due(self, *, row_id: int, ended_utc_s: int, name: str) -> Due:
        """Say when a recording of a class, the ``row_id``-th that came, may go and must go."""
        first = max(bisect_right(self._from_rows, row_id) - 1, 0)
        span = self._spans.get((first, name))
        if span is None:
            span = self._spans[first, name] = self._span(first, name)
        found, earliest_s, latest_s, floor_s = span
        return Due(
            earliest_utc_s=None if earliest_s is None else ended_utc_s + earliest_s,
            due_utc_s=None if latest_s is None else ended_utc_s + latest_s,
            floor_utc_s=None if floor_s is None else ended_utc_s + floor_s,
            retention_class=found,
        )

    def _span(self, first: int, name: str) -> _Span:
        """Say how long recordings of a class are kept that came under the ``first`` step."""
        floor_days = self._floor(first, name)
        floor_s = None if floor_days is None else floor_days * DAY_S
        found = self.newest.of(name)
        if found is None:
            return None, None, None, floor_s
        earliest_s = max(found.minimum_days * DAY_S, floor_s or 0)
        return found, earliest_s, max(found.maximum_days * DAY_S, earliest_s), floor_s

    def _floor(self, first: int, name: str) -> int | None:
        """Give the most days that any step with WORM has promised since the ``first``."""
        found = [step.of(name) for step in self._steps[first:] if step.worm]
        return max(
            (max(row.maximum_days, row.minimum_days) for row in found if row is not None), default=None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of one recording, and why."""

    recording: KeptRecording
    verdict: Verdict
    due: Due
    holds: tuple[Hold, ...] = ()


def decide(recording: KeptRecording, ruling: Ruling, holds: HoldIndex, *, now_utc_s: int) -> Decision:
    """Decide over one recording."""
    name = recording.facts.retention_class
    due = ruling.due(row_id=recording.row_id, ended_utc_s=recording.ended_utc_s, name=name)
    if due.retention_class is None:
        return Decision(recording=recording, verdict=Verdict.UNKNOWN_CLASS, due=due)
    nothing_to_erase = due.retention_class.erase is Erase.AUDIO and not recording.has_audio
    if nothing_to_erase or due.due_utc_s is None or now_utc_s < due.due_utc_s:
        return Decision(recording=recording, verdict=Verdict.KEEP, due=due)
    applying = holds.of(recording.facts)
    verdict = Verdict.HELD if applying else Verdict.DUE
    return Decision(recording=recording, verdict=verdict, due=due, holds=applying)


def plan(
    recordings: Iterable[KeptRecording], ruling: Ruling, holds: HoldIndex, *, now_utc_s: int
) -> Iterator[Decision]:
    """Decide over recordings, one after the other."""
    for recording in recordings:
        yield decide(recording, ruling, holds, now_utc_s=now_utc_s)


def refusal(
    recording: KeptRecording,
    ruling: Ruling,
    holds: HoldIndex,
    *,
    now_utc_s: int,
    claims_right: bool,
) -> str:
    """Say why somebody may not erase or anonymise a recording now; empty when he may."""
    applying = holds.of(recording.facts)
    if applying:
        return f"is on legal hold {', '.join(str(hold.number) for hold in applying)}"
    name = recording.facts.retention_class
    due = ruling.due(row_id=recording.row_id, ended_utc_s=recording.ended_utc_s, name=name)
    if due.floor_utc_s is not None and now_utc_s < due.floor_utc_s:
        return "is kept under WORM until its time is over; nobody can shorten that"
    if due.retention_class is None or due.earliest_utc_s is None:
        return f"is of class {name}, which [retention] does not know"
    if now_utc_s >= due.earliest_utc_s:
        return ""
    if not claims_right:
        return f"class {name} keeps it for at least {due.retention_class.minimum_days} days"
    if not due.retention_class.right_to_erasure:
        return f"class {name} does not let the right to erasure go before its minimum"
    return ""


@dataclass(slots=True, kw_only=True)
class ClassTally:
    """How much of one class there is, and what becomes of it."""

    recordings: int = 0
    size_bytes: int = 0
    due: int = 0
    due_bytes: int = 0
    held: int = 0
    next_due_utc_s: int | None = None


@dataclass(slots=True, kw_only=True)
class PlanTally:
    """A plan in figures, by class; decisions are counted as they pass."""

    classes: dict[str, ClassTally] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)

    def count(self, decision: Decision) -> None:
        """Add one decision."""
        recording, verdict = decision.recording, decision.verdict
        name = recording.facts.retention_class
        row = self.classes.get(name)
        if row is None:
            row = self.classes[name] = ClassTally()
        row.recordings += 1
        row.size_bytes += recording.size_bytes
        if verdict is Verdict.DUE:
            row.due += 1
            row.due_bytes += recording.size_bytes
        elif verdict is Verdict.HELD:
            row.held += 1
        elif verdict is Verdict.UNKNOWN_CLASS:
            self.unknown.add(name)
        elif decision.due.due_utc_s is not None and (
            row.next_due_utc_s is None or decision.due.due_utc_s < row.next_due_utc_s
        ):
            row.next_due_utc_s = decision.due.due_utc_s
