"""Searches that leave few of many rows: a page is filled span by span of time, each by the cheapest way.

How: a sample of rows tells what share each criterion leaves. In each span either all rows are walked, or
those of one criterion are gathered from the places of an index where they lie. How long a span is and which
way is taken follows from what the page still misses, and from what the spans before have given. A criterion
whose index knows no time may be gathered as a whole, which ends the search.
Contract: a wrong estimate costs time; what is found never depends on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, case, func, select, true

from recorderd.archive.criteria import Criteria
from recorderd.archive.search_queries import (
    WITH_TIMES,
    Span,
    ahead,
    gather,
    key_at,
    rows_of,
    walk_span,
)
from recorderd.archive.search_question import TIMES, Question
from recorderd.archive.search_tables import SEARCH_ROWS

WALK: Final = ""
SAMPLE_ROWS: Final = 2_500
# Steps of a walk that take as long as going to one place of an index.
PLACE_STEPS: Final = {"sqlite": 6.0, "postgresql": 15.0}
MOST: Final = 0.6  # of what is left is not worth another step for the rest
AMPLE: Final = 1.4  # a span is so much longer than a page is expected to need
_S: Final = SEARCH_ROWS.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way through a span: by the places of a criterion's index, or along all rows."""

    share: float  # of all rows lie on it
    places: int = 0
    has_times: bool = True  # else all its rows are gathered at once, of whatever time
    steps: float = 1.0  # of a walk take as long as one of its rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is done next."""

    way: str  # a criterion, or WALK
    part: float  # of the time that is left; 1 = all of it


@dataclass(slots=True, kw_only=True)
class Outlook:
    """What is known of the rows that were not looked at yet."""

    ways: Mapping[str, Way]
    all_rows: float
    left_rows: float  # expected in the time that is left
    expected: float  # share of rows that all criteria leave, from the sample
    place_steps: float
    seen_rows: float = 0.0
    hits: int = 0

    def step(self, missing: int) -> Step:
        """Choose what is done next for a page that misses so many rows."""
        rate = (self.hits + 1) / (self.seen_rows + 1 / self.expected)
        needed = max(AMPLE * missing / rate, self.seen_rows)  # spans that give nothing soon become long
        needed = min(needed, self.left_rows)
        _, name = min((self._cost(way, needed), name) for name, way in self.ways.items())
        way = self.ways[name]
        if not way.has_times:
            return Step(way=name, part=1.0)
        if way.places:  # going there again costs more than to stay as long as it took to come
            needed = max(needed, way.places * self.place_steps / max(way.share, 1e-9))
        is_most = needed >= MOST * self.left_rows
        return Step(way=name, part=1.0 if is_most else needed / self.left_rows)

    def done(self, step: Step, hits: int) -> None:
        """Note what a step has found."""
        rows = self.left_rows * step.part
        self.seen_rows += rows
        self.left_rows -= rows
        self.hits += hits

    def _cost(self, way: Way, needed: float) -> float:
        rows = needed if way.has_times else self.all_rows
        return way.places * self.place_steps + rows * way.share * way.steps


def fill_page(
    connection: Connection,
    question: Question,
    counts: Mapping[str, int],
    *,
    found: list[tuple[int, int]],
    end: int,
    rows: int,
) -> tuple[Select[Any] | None, list[tuple[int, int]]]:
    """Go on behind a walk of so many rows; give the last query, and what was found with what is found now.

    ``end`` is the key that the walk came to, and ``counts`` what each criterion leaves at least.
    """
    criteria, query = question.criteria, None
    begin = key_at(connection, criteria, 0) or end
    rest = _rest(connection, criteria, end)
    outlook = _outlook(connection, question, counts)
    outlook.left_rows = min(outlook.all_rows, (rest[1] - rest[0]) * rows / max(abs(begin - end), 1))
    outlook.seen_rows, outlook.hits = float(rows), len(found)
    while len(found) <= criteria.limit and rest[0] < rest[1]:
        step = outlook.step(criteria.limit + 1 - len(found))
        span, rest = _cut(rest, step.part, criteria)
        query = (
            walk_span(question, span)
            if step.way == WALK
            else gather(question, step.way, dialect=connection.dialect.name, span=span)
        )
        here = rows_of(connection, query)
        outlook.done(step, len(here))
        found = [*found, *here]
    return query, found[: criteria.limit + 1]


def _rest(connection: Connection, criteria: Criteria, end: int) -> tuple[int, int]:
    """Give the times behind a key, of those that were asked for and occur: from, and up to."""
    if criteria.descending:
        low = criteria.since_ms
        if low is None:
            low = int(connection.execute(select(func.min(_S.started_ms))).scalar_one())
        return low, end
    high = criteria.until_ms
    if high is None:
        high = int(connection.execute(select(func.max(_S.started_ms))).scalar_one()) + 1
    return end + 1, high


def _cut(rest: tuple[int, int], part: float, criteria: Criteria) -> tuple[Span, tuple[int, int]]:
    """Cut the part off that comes next; at least a millisecond, and all that is left if it is 1."""
    low, high = rest
    length = high - low if part >= 1 else min(max(int((high - low) * part), 1), high - low)
    if criteria.descending:
        return Span(low_ms=high - length, high_ms=high), (low, high - length)
    return Span(low_ms=low, high_ms=low + length), (low + length, high)


def _outlook(connection: Connection, question: Question, counts: Mapping[str, int]) -> Outlook:
    all_rows = float(connection.execute(select(func.max(_S.row_id))).scalar() or 0) + 1
    shares = _shares(connection, question, {name: count / all_rows for name, count in counts.items()})
    ways = {WALK: Way(share=1.0, steps=1.0 + _sifting(question, shares, WALK))}
    for name, part in question.parts.items():
        if name != TIMES and part.leads:
            ways[name] = Way(
                share=shares[name],
                places=part.places,
                has_times=name in WITH_TIMES,
                steps=(1.0 if part.named is None else float(part.steps)) + _sifting(question, shares, name),
            )
    return Outlook(
        ways=ways,
        all_rows=all_rows,
        left_rows=all_rows,
        expected=math.prod(shares.values()),
        place_steps=PLACE_STEPS[connection.dialect.name],
    )


def _sifting(question: Question, shares: Mapping[str, float], way: str) -> float:
    """Tell what sieves that take long add to each row of a way: rows come to them that all others leave."""
    others = math.prod(
        share for name, share in shares.items() if name != way and not question.parts[name].sieve_steps
    )
    return others * sum(part.sieve_steps for name, part in question.parts.items() if name != way)


def _shares(connection: Connection, question: Question, least: Mapping[str, float]) -> dict[str, float]:
    """Tell from the next few rows what share each criterion leaves; it is not less than what was counted."""
    parts = [(name, part) for name, part in question.parts.items() if name != TIMES]
    bounds = ahead(question.criteria, end=key_at(connection, question.criteria, SAMPLE_ROWS))
    sums = (func.sum(case((part.sieve, 1), else_=0)) for _, part in parts)
    rows, *hits = connection.execute(select(func.count(), *sums).where(true(), *bounds)).one()
    return {
        name: max((count or 0.5) / max(rows, 1), least.get(name, 0.0))
        for (name, _), count in zip(parts, hits, strict=True)
    }
