"""Conditions as queries: rows of one criterion gathered and sorted, or rows walked in the order of the page.

Contract: each query gives key and row, at most one more than a page has; ``span`` bounds it to some of the
times that were asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, literal, select, true, tuple_, union

from recorderd.archive.criteria import Criteria, Sort
from recorderd.archive.search_question import DURATIONS, TIMES, Question, between, durations_of, unindexed
from recorderd.archive.search_tables import SEARCH_ROWS

_S: Final = SEARCH_ROWS.c
KEYS: Final[dict[Sort, ColumnElement[int]]] = {
    Sort.STARTED: _S.started_ms,
    Sort.DURATION: _S.duration_ms,
    Sort.ARCHIVED: _S.row_id,
}
NATIVE: Final = {Sort.STARTED: TIMES, Sort.DURATION: DURATIONS}  # a walk begins and ends where these do
WITH_TIMES: Final = ("number", "part", "facets")  # in whose indexes the time comes next


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Some of the times that were asked for; None = no bound."""

    low_ms: int | None
    high_ms: int | None  # exclusive


def bounded(
    question: Question, name: str, lead: ColumnElement[bool], *, span: Span | None = None
) -> list[ColumnElement[bool]]:
    """Bound a criterion by the times that are asked for, where its index has them next."""
    if span is not None:
        column = _S.started_ms if name in WITH_TIMES else unindexed(_S.started_ms)
        return [lead, between(column, (span.low_ms, span.high_ms))]
    times = question.parts.get(TIMES)
    return [lead, *times.leads] if times is not None and name in WITH_TIMES else [lead]


def gather(question: Question, name: str, *, dialect: str, span: Span | None = None) -> Select[Any]:
    """Take all rows of one criterion, sift them by the others, and sort what is left."""
    criteria, part = question.criteria, question.parts[name]
    key = KEYS[criteria.sort]
    seen_to = (name,) if span is None else (name, TIMES)
    here = tuple_(unindexed(key), unindexed(_S.row_id))
    sieves = [*question.sieves(but=seen_to), *beyond(here, criteria)]
    if dialect == "postgresql" and part.by_place:
        found = [
            _place_by_place(key, column, places, [*bounded(question, name, true(), span=span), *sieves])
            for column, places in part.by_place
        ]
    else:
        found = [
            select(key.label("key"), _S.row_id).where(*bounded(question, name, lead, span=span), *sieves)
            for lead in part.leads
        ]
    rows = found[0].subquery() if len(found) == 1 else union(*found).subquery()
    order = order_of((unindexed(rows.c.key), unindexed(rows.c.row_id)), criteria)
    return select(rows.c.key, rows.c.row_id).order_by(*order).limit(criteria.limit + 1)


def _place_by_place(
    key: ColumnElement[int],
    column: ColumnElement[int],
    places: Select[Any],
    conditions: Sequence[ColumnElement[bool]],
) -> Select[Any]:
    """Have PostgreSQL go to each place of an index: it would rather look at all rows of the same time."""
    place = places.subquery()
    rows = select(key.label("key"), _S.row_id).where(column == next(iter(place.c)), *conditions)
    there = rows.offset(0).lateral()  # OFFSET keeps it from being made one query with the rest
    return select(there.c.key, there.c.row_id).select_from(place.join(there, true()))


def walk(question: Question, *, end: int | None = None) -> Select[Any]:
    """Go along rows in the page's order: those of the arms, merged, or all; to that key, if it is given."""
    criteria, along = question.criteria, along_of(question)
    sieves = question.sieves(but=(along, NATIVE.get(criteria.sort, "")))
    base = _in_order(criteria, [*ahead(criteria, end=end), *sieves])
    if not along:
        return base
    arms = [base.where(arm).subquery() for arm in question.parts[along].arms]
    merged = union(*(select(arm.c.key, arm.c.row_id) for arm in arms)).subquery()
    order = order_of((merged.c.key, merged.c.row_id), criteria)
    return select(merged.c.key, merged.c.row_id).order_by(*order).limit(criteria.limit + 1)


def walk_span(question: Question, span: Span) -> Select[Any]:
    """Go along all rows of some times in the page's order, which is that of time."""
    bounds = between(_S.started_ms, (span.low_ms, span.high_ms))
    return _in_order(question.criteria, [bounds, *question.sieves(but=(TIMES,))])


def along_of(question: Question) -> str:
    """Say which criterion is walked along; empty = all rows are."""
    if question.criteria.sort is not Sort.STARTED or "part" in question.parts:
        return ""  # what sifts by a part would be made anew for each arm
    return next(
        (name for name in ("number", "facets") if name in question.parts and question.parts[name].arms), ""
    )


def beyond(here: ColumnElement[Any], criteria: Criteria) -> list[ColumnElement[bool]]:
    """Leave out what was on the pages before."""
    if criteria.after is None:
        return []
    last = tuple_(*(literal(value) for value in criteria.after))
    return [here < last if criteria.descending else here > last]


def order_of(columns: Sequence[ColumnElement[int]], criteria: Criteria) -> Iterator[ColumnElement[int]]:
    """Order by columns as the page is."""
    return (column.desc() if criteria.descending else column.asc() for column in columns)


def ahead(criteria: Criteria, *, end: int | None = None) -> list[ColumnElement[bool]]:
    """Hold rows to those that a walk may still come to, up to a key if it is given.

    One bound each way: of several, SQLite begins at the first and looks at all before the others.
    """
    key, lows, highs = KEYS[criteria.sort], *_bounds_of(criteria)
    if criteria.after is not None:
        (highs if criteria.descending else lows).append(criteria.after[0] + criteria.descending)
    if end is not None:
        (lows if criteria.descending else highs).append(end + (not criteria.descending))
    bounds = (max(lows, default=None), min(highs, default=None))
    return [between(key, bounds), *beyond(tuple_(key, _S.row_id), criteria)]


def _bounds_of(criteria: Criteria) -> tuple[list[int], list[int]]:
    """Give what was asked for of the page's key: not below, and below."""
    low, high = {
        Sort.STARTED: (criteria.since_ms, criteria.until_ms),
        Sort.DURATION: durations_of(criteria),
    }.get(criteria.sort, (None, None))
    return [] if low is None else [low], [] if high is None else [high]


def key_at(connection: Connection, criteria: Criteria, rows: int) -> int | None:
    """Give the key of the row that a walk comes to after so many; None when there are not so many."""
    key = KEYS[criteria.sort]
    query = select(key).where(true(), *ahead(criteria)).order_by(*order_of((key, _S.row_id), criteria))
    found = connection.execute(query.offset(rows).limit(1)).scalar()
    return None if found is None else int(found)


def rows_of(connection: Connection, query: Select[Any]) -> list[tuple[int, int]]:
    """Ask for key and row of what a query finds."""
    return [(int(key), int(row_id)) for key, row_id in connection.execute(query)]


def _in_order(criteria: Criteria, conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    key = KEYS[criteria.sort]
    query = select(key.label("key"), _S.row_id).where(true(), *conditions)
    return query.order_by(*order_of((key, _S.row_id), criteria)).limit(criteria.limit + 1)
