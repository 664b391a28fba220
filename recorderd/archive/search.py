"""Finds recordings: criteria in, one page of rows out, in the order that was asked for.

How: few rows at a time, whatever the criteria. Each criterion that an index serves is asked how many rows it
leaves, up to a limit. If one leaves few, its rows are gathered, sifted by the others and sorted. If all leave
many, rows are walked in the order of the page until it is full: along the number or the combinations of
values that were asked for when these are few, else along all. A short walk is tried first; where that says
that the page would be far, rows are counted up to higher limits, and gathered after all if it is cheaper.
Sieves are written so that no index serves them (``search_question``), and PostgreSQL is told to join as we
say: the database then takes the way that was chosen here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, func, literal, select, text, true, tuple_, union

from recorderd.archive.call_groups import Copy, copies_of
from recorderd.archive.catalogue import ROWS, Entry
from recorderd.archive.criteria import Criteria, Sort, cursor_of
from recorderd.archive.database import Database
from recorderd.archive.search_question import COPIES, DURATIONS, TIMES, Question, question_of, unindexed
from recorderd.archive.search_tables import SEARCH_ROWS, TAGS
from recorderd.archive.tables import RECORDINGS

FEW_ROWS: Final = 2_000  # are gathered without another thought
SHORT_WALK_ROWS: Final = 10_000  # are walked along before more are counted
SHORT_WALKS_MAX: Final = 10  # are walked without counting, where the first tells that so many fill the page
MANY_ROWS: Final = 50_000  # up to here first: mostly enough to see that walking is cheaper
GATHERED_MAX: Final = 200_000  # rows of one criterion that are looked through at once
LIMIT_S: Final = 10
_S: Final = SEARCH_ROWS.c
_KEYS: Final[dict[Sort, ColumnElement[int]]] = {
    Sort.STARTED: _S.started_ms,
    Sort.DURATION: _S.duration_ms,
    Sort.ARCHIVED: _S.row_id,
}
_NATIVE: Final = {Sort.STARTED: TIMES, Sort.DURATION: DURATIONS}  # a walk begins and ends where these do
_WITH_TIMES: Final = ("number", "part", "facets")  # in whose indexes the time comes next
_UNKNOWN_SHARE: Final = 0.05  # of rows that a criterion leaves which no index counts
# Where a plan is bound to be good, and the planner's guesses of millions of rows are not.
_OUR_WAY: Final = ("enable_hashjoin", "enable_mergejoin", "max_parallel_workers_per_gather")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of what was found."""

    entries: tuple[Entry, ...]
    tags: dict[int, tuple[str, ...]]  # by row
    copies: dict[int, tuple[Copy, ...]]  # all recordings of the same call, of rows that are not alone
    next_after: str  # where the next page begins; empty = this is the last one


class Search:
    """Searches one catalogue.

    Thread: any.
    Errors: CatalogueFailed; SearchTooWide.
    """

    def __init__(self, database: Database, *, region: str = "") -> None:
        self._database = database
        self._region = region

    def page(self, criteria: Criteria) -> Page:
        """Find one page of recordings."""
        with self._database.read(limit_s=LIMIT_S) as connection:
            found = self.row_ids(connection, criteria)
            more = len(found) > criteria.limit
            found = found[: criteria.limit]
            row_ids = [row_id for _, row_id in found]
            entries = {
                row["row_id"]: Entry(**row)
                for row in connection.execute(ROWS.where(RECORDINGS.c.row_id.in_(row_ids))).mappings()
            }
            tags, copies = _tags_of(connection, row_ids), copies_of(connection, row_ids)
        return Page(
            entries=tuple(entries[row_id] for row_id in row_ids if row_id in entries),
            tags=tags,
            copies=copies,
            next_after=cursor_of(*found[-1]) if more else "",
        )

    def row_ids(self, connection: Connection, criteria: Criteria) -> list[tuple[int, int]]:
        """Find key and row of one page, and of one more when there is one."""
        return self.answer(connection, criteria)[1]

    def answer(
        self, connection: Connection, criteria: Criteria
    ) -> tuple[Select[Any] | None, list[tuple[int, int]]]:
        """Give what ``row_ids`` does, and the query that found it; None = a value does not occur."""
        if connection.dialect.name == "postgresql":
            for setting in _OUR_WAY:
                connection.execute(text(f"SET LOCAL {setting} = 0"))
        question = question_of(connection, criteria, region=self._region)
        if question.nothing:
            return None, []
        counts = {name: 0 for name, part in question.parts.items() if part.leads}
        lead = _fewest(connection, question, counts, most=FEW_ROWS)
        if lead is None:
            end = _end_of_short_walk(connection, question)
            query = _walk(question, end=end)
            found = _rows(connection, query)
            if end is None or len(found) > criteria.limit:
                return query, found
            if len(found) * SHORT_WALKS_MAX < criteria.limit:
                lead = _weighed(connection, question, counts)
        query = _walk(question) if lead is None else _gather(question, lead)
        return query, _rows(connection, query)


# --- conditions to a query -------------------------------------------------------------------------


def _rows(connection: Connection, query: Select[Any]) -> list[tuple[int, int]]:
    return [(int(key), int(row_id)) for key, row_id in connection.execute(query)]


def _fewest(connection: Connection, question: Question, counts: dict[str, int], *, most: int) -> str | None:
    """Count what each criterion leaves; name the one that leaves fewest, if those are not too many."""
    fewest = most
    for name in tuple(counts):
        counts[name] = left = _count(connection, question, name, limit=fewest)
        fewest = min(fewest, left)
    return min(counts, key=lambda name: counts[name]) if fewest < most else None


def _weighed(connection: Connection, question: Question, counts: dict[str, int]) -> str | None:
    """Name the criterion whose rows are to be gathered; None when walking comes to a page sooner."""
    for most in (MANY_ROWS, GATHERED_MAX):
        lead = _fewest(connection, question, counts, most=most)
        steps = _steps_of_walk(connection, question, counts, most=most)
        if lead is not None:
            return lead if counts[lead] * question.parts[lead].steps < steps else None
        if steps <= most:  # at most, for each leaves more than was counted
            return None
    return None


def _end_of_short_walk(connection: Connection, question: Question) -> int | None:
    """Give the key at which a short walk ends; None when there are not so many rows."""
    criteria, key = question.criteria, _KEYS[question.criteria.sort]
    native = question.parts.get(_NATIVE.get(criteria.sort, ""))
    bounds = [*(native.leads if native is not None else ()), *_beyond(tuple_(key, _S.row_id), criteria)]
    query = select(key).where(true(), *bounds).order_by(*_order((key, _S.row_id), criteria))
    end = connection.execute(query.offset(SHORT_WALK_ROWS).limit(1)).scalar()
    return None if end is None else int(end)


def _count(connection: Connection, question: Question, name: str, *, limit: int) -> int:
    """Count the rows that a criterion leaves, up to a limit."""
    left, named = 0, question.parts[name].named
    if named is not None:
        some = named.limit(limit).subquery()
        return int(connection.execute(select(func.count()).select_from(some)).scalar_one())
    for lead in question.parts[name].leads:
        some = select(_S.row_id).where(*_bounded(question, name, lead)).limit(limit).subquery()
        left += int(connection.execute(select(func.count()).select_from(some)).scalar_one())
    return min(left, limit)


def _bounded(question: Question, name: str, lead: ColumnElement[bool]) -> list[ColumnElement[bool]]:
    """Bound a criterion by the times that were asked for, where its index has them next."""
    times = question.parts.get(TIMES)
    return [lead, *times.leads] if times is not None and name in _WITH_TIMES else [lead]


def _steps_of_walk(
    connection: Connection, question: Question, counts: Mapping[str, int], *, most: int
) -> float:
    """Estimate how many rows are walked for a page, as if criteria had nothing to do with each other."""
    rows = int(connection.execute(select(func.max(_S.row_id))).scalar() or 0) + 1
    along, native = _along(question), _NATIVE.get(question.criteria.sort, "")
    if native == TIMES and native in counts:
        rows = max(rows if counts[native] >= most else counts[native], 1)
    share = 1.0
    for name in question.parts:
        if name not in (along, native, COPIES):
            share *= min(counts.get(name, rows * _UNKNOWN_SHARE) / rows, 1.0)
    return question.criteria.limit / max(share, 1e-12)


def _along(question: Question) -> str:
    """Say which criterion is walked along; empty = all rows are."""
    if question.criteria.sort is not Sort.STARTED:
        return ""
    return next(
        (name for name in ("number", "facets") if name in question.parts and question.parts[name].arms), ""
    )


def _gather(question: Question, name: str) -> Select[Any]:
    """Take all rows of one criterion, sift them by the others, and sort what is left."""
    criteria, key = question.criteria, _KEYS[question.criteria.sort]
    here = tuple_(unindexed(key), unindexed(_S.row_id))
    found = [
        select(key.label("key"), _S.row_id).where(
            *_bounded(question, name, lead), *question.sieves(but=name), *_beyond(here, criteria)
        )
        for lead in question.parts[name].leads
    ]
    rows = found[0].subquery() if len(found) == 1 else union(*found).subquery()
    order = _order((unindexed(rows.c.key), unindexed(rows.c.row_id)), criteria)
    return select(rows.c.key, rows.c.row_id).order_by(*order).limit(criteria.limit + 1)


def _walk(question: Question, *, end: int | None = None) -> Select[Any]:
    """Go along rows in the page's order: those of the arms, merged, or all; to that key, if it is given."""
    criteria, along, native = question.criteria, _along(question), _NATIVE.get(question.criteria.sort, "")
    key = _KEYS[criteria.sort]
    sieves = [part.sieve for name, part in question.parts.items() if name not in (along, native)]
    if native in question.parts:
        sieves += question.parts[native].leads
    if end is not None:
        sieves.append(key >= end if criteria.descending else key <= end)
    base = select(key.label("key"), _S.row_id).where(
        true(), *sieves, *_beyond(tuple_(key, _S.row_id), criteria)
    )
    base = base.order_by(*_order((key, _S.row_id), criteria)).limit(criteria.limit + 1)
    if not along:
        return base
    arms = [base.where(arm).subquery() for arm in question.parts[along].arms]
    merged = union(*(select(arm.c.key, arm.c.row_id) for arm in arms)).subquery()
    order = _order((merged.c.key, merged.c.row_id), criteria)
    return select(merged.c.key, merged.c.row_id).order_by(*order).limit(criteria.limit + 1)


def _beyond(here: ColumnElement[Any], criteria: Criteria) -> list[ColumnElement[bool]]:
    """Leave out what was on the pages before."""
    if criteria.after is None:
        return []
    last = tuple_(*(literal(value) for value in criteria.after))
    return [here < last if criteria.descending else here > last]


def _order(columns: Sequence[ColumnElement[int]], criteria: Criteria) -> Iterator[ColumnElement[int]]:
    return (column.desc() if criteria.descending else column.asc() for column in columns)


def _tags_of(connection: Connection, row_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    query = select(TAGS.c.row_id, TAGS.c.tag).where(TAGS.c.row_id.in_(row_ids)).order_by(TAGS.c.tag)
    tags: dict[int, tuple[str, ...]] = {}
    for row_id, tag in connection.execute(query):
        tags[row_id] = (*tags.get(row_id, ()), tag)
    return tags
