"""Does the archive hold what the exchange says was spoken? Call records against recordings. Pure.

Contract: every call ends up in one of ``Standing``'s rows, every recording has its calls or is nobody's.
Identifiers decide first, then both numbers with a time in common, then one number if only one recording fits.
Nothing is guessed: two that fit equally fit neither.
Numbers are compared as they are given: whoever calls has brought them to one form.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

ONE_NUMBER_PERMILLE: Final = 800  # of the talk that a recording must cover if one number alone speaks for it
RECORDED: Final = "archived"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One row of the exchange's call detail records."""

    record_id: int
    call_ids: tuple[str, ...]
    caller: str
    callee: str
    extension: str
    trunk: str
    queue: str
    direction: str
    started_ms: int  # since 1970, UTC
    answered_ms: int
    ended_ms: int
    is_answered: bool

    @property
    def parties(self) -> frozenset[str]:
        """Both numbers, whoever called whom."""
        return frozenset(number for number in (self.caller, self.callee) if number)

    @property
    def talk_ms(self) -> int:
        """How long it was spoken."""
        return max(0, self.ended_ms - self.answered_ms) if self.is_answered else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCall:
    """One recording, or signed entry without audio, of the archive."""

    row_id: int
    recording_id: str
    recorder_id: str
    call_id: str
    parties: frozenset[str]
    extension: str
    started_ms: int
    ended_ms: int
    state: str  # archived, or why there is no audio

    @property
    def is_hidden(self) -> bool:
        """Tell whether nothing says whose call it is: its metadata is encrypted."""
        return not (self.call_id or self.parties or self.extension)


class Ground(StrEnum):
    """What speaks for a recording being of a call."""

    ID = "id"
    NUMBERS = "numbers"
    ONE_NUMBER = "one number"


class Standing(StrEnum):
    """How a call stands in the archive."""

    RECORDED = "recorded"
    SHORT = "short"  # a part of the talk is in no recording
    EXPLAINED = "explained"  # no audio, and a signed entry says why
    MISSING = "missing"
    AGAINST_RULES = "against rules"  # recorded, and no rule wants it
    NOT_WANTED = "not wanted"  # neither wanted nor recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStanding:
    """One call with what is kept of it."""

    record: CallRecord
    standing: Standing
    kept: tuple[KeptCall, ...]
    ground: Ground | None
    rule: str  # that wants it, or why none does
    uncovered_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """What came of it."""

    calls: tuple[CallStanding, ...]
    nobodys: tuple[KeptCall, ...]  # recordings of which no record tells
    hidden: tuple[KeptCall, ...]  # recordings of which the archive may not know whose they are

    def count(self, standing: Standing) -> int:
        """Count the calls that stand so."""
        return sum(row.standing is standing for row in self.calls)


Wanted = Callable[[CallRecord], tuple[bool, str]]  # is it to be recorded, and the rule or reason


def reconcile(
    records: Sequence[CallRecord], kept: Iterable[KeptCall], *, wanted: Wanted, tolerance_ms: int
) -> Reconciliation:
    """Hold call records against recordings; clocks may differ, and words be cut off, by ``tolerance_ms``."""
    shelf = _Shelf(kept, tolerance_ms=tolerance_ms)
    found: dict[int, tuple[list[KeptCall], Ground]] = {}
    for ground, look in (
        (Ground.ID, shelf.by_id),
        (Ground.NUMBERS, shelf.by_numbers),
        (Ground.ONE_NUMBER, shelf.by_one_number),
    ):
        fresh = {
            row.record_id: (rows, ground)
            for row in records
            if row.record_id not in found and (rows := look(row))
        }
        found |= fresh
        shelf.taken |= {one.row_id for rows, _ in fresh.values() for one in rows}
    calls = tuple(_standing(row, found.get(row.record_id), wanted, tolerance_ms) for row in records)
    left = [row for row in shelf.rows if row.row_id not in shelf.taken and row.state == RECORDED]
    return Reconciliation(
        calls=calls,
        nobodys=tuple(row for row in left if not row.is_hidden),
        hidden=tuple(row for row in left if row.is_hidden),
    )


def _standing(
    record: CallRecord, found: tuple[list[KeptCall], Ground] | None, wanted: Wanted, tolerance_ms: int
) -> CallStanding:
    is_wanted, rule = wanted(record)
    rows, ground = found if found is not None else ([], None)
    audio = [row for row in rows if row.state == RECORDED]
    uncovered_ms = _uncovered_ms(record, audio)
    if audio and not is_wanted:
        standing = Standing.AGAINST_RULES
    elif not record.is_answered or not is_wanted:
        standing = Standing.RECORDED if audio else Standing.NOT_WANTED
    elif audio:
        standing = Standing.SHORT if uncovered_ms > tolerance_ms else Standing.RECORDED
    elif rows:
        standing = Standing.EXPLAINED
    else:
        standing = Standing.MISSING if record.talk_ms > tolerance_ms else Standing.NOT_WANTED
    return CallStanding(
        record=record,
        standing=standing,
        kept=tuple(rows),
        ground=ground,
        rule=rule,
        uncovered_ms=uncovered_ms,
    )


def _uncovered_ms(record: CallRecord, audio: Sequence[KeptCall]) -> int:
    """Say how much of the talk is in no recording."""
    at, missing_ms = record.answered_ms, 0
    for row in sorted(audio, key=lambda row: row.started_ms):
        missing_ms += max(0, min(row.started_ms, record.ended_ms) - at)
        at = max(at, row.ended_ms)
    return (missing_ms + max(0, record.ended_ms - at)) if record.is_answered else 0


class _Shelf:
    """Recordings by what one looks for."""

    def __init__(self, kept: Iterable[KeptCall], *, tolerance_ms: int) -> None:
        self.rows = sorted(kept, key=lambda row: (row.started_ms, row.row_id))
        self.taken: set[int] = set()
        self._tolerance_ms = tolerance_ms
        self._longest_ms = max((row.ended_ms - row.started_ms for row in self.rows), default=0)
        self._by_call_id: dict[str, list[KeptCall]] = defaultdict(list)
        self._by_number: dict[str, list[KeptCall]] = defaultdict(list)
        for row in self.rows:
            if row.call_id:
                self._by_call_id[row.call_id].append(row)
            for number in {*row.parties, row.extension} - {""}:
                self._by_number[number].append(row)

    def by_id(self, record: CallRecord) -> list[KeptCall]:
        """Find recordings that bear one of the call's identifiers.

        Identifiers come again after a restart of an exchange: the times must have something in common.
        """
        rows = {row.row_id: row for name in record.call_ids for row in self._by_call_id.get(name, ())}
        return [row for row in rows.values() if self._meets(record, row)]

    def by_numbers(self, record: CallRecord) -> list[KeptCall]:
        """Find recordings of both numbers with a time in common, that no identifier has spoken for."""
        if len(record.parties) < 2:
            return []
        return [
            row
            for row in self._near(record, record.caller)
            if record.parties <= row.parties | {row.extension} and self._common_ms(record, row) > 0
        ]

    def by_one_number(self, record: CallRecord) -> list[KeptCall]:
        """Find the one recording that has one of the numbers and nearly all of the talk."""
        least_ms = record.talk_ms * ONE_NUMBER_PERMILLE // 1000
        if least_ms <= 0:
            return []
        rows = {
            row.row_id: row
            for number in {*record.parties, record.extension} - {""}
            for row in self._near(record, number)
            if self._common_ms(record, row) >= least_ms
        }
        return list(rows.values()) if len(rows) == 1 else []

    def _near(self, record: CallRecord, number: str) -> Iterator[KeptCall]:
        rows = self._by_number.get(number, [])
        begin = record.started_ms - self._tolerance_ms - self._longest_ms
        first = bisect_left(rows, begin, key=lambda row: row.started_ms)
        last = bisect_right(rows, record.ended_ms + self._tolerance_ms, key=lambda row: row.started_ms)
        return (row for row in rows[first:last] if row.row_id not in self.taken)

    def _meets(self, record: CallRecord, row: KeptCall) -> bool:
        return (
            row.started_ms <= record.ended_ms + self._tolerance_ms
            and row.ended_ms >= record.started_ms - self._tolerance_ms
        )

    def _common_ms(self, record: CallRecord, row: KeptCall) -> int:
        begin = max(record.started_ms - self._tolerance_ms, row.started_ms)
        return min(record.ended_ms + self._tolerance_ms, row.ended_ms) - begin
