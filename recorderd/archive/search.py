"""Finds recordings: criteria in, one page of rows out, in the order that was asked for.

How: few rows at a time, whatever the criteria. Each criterion that an index serves is asked how many rows it
leaves, up to a limit. If one leaves few, its rows are gathered, sifted by the others and sorted. If all leave
many, rows are walked in the order of the page: along the number or the combinations of values that were asked
for when these are few, else along all. A page of the order of time that a short walk does not fill is filled
by ``search_spans``; one of another order is walked to its end, or where the short walk says that it would be
far, rows are counted up to higher limits, and gathered after all if it is cheaper.
Sieves are written so that no index serves them (``search_question``), and PostgreSQL is told to join as we
say: the database then takes the way that was chosen here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select, text

from recorderd.archive.call_groups import Copy, copies_of
from recorderd.archive.catalogue import ROWS, Entry
from recorderd.archive.criteria import Criteria, Sort, cursor_of
from recorderd.archive.database import Database
from recorderd.archive.search_queries import NATIVE, along_of, bounded, gather, key_at, rows_of, walk
from recorderd.archive.search_question import COPIES, TIMES, Question, question_of
from recorderd.archive.search_spans import fill_page
from recorderd.archive.search_tables import SEARCH_ROWS, TAGS
from recorderd.archive.tables import RECORDINGS

FEW_ROWS: Final = 2_000  # are gathered without another thought
SHORT_WALK_ROWS: Final = 10_000  # are walked along before more are counted
SHORT_WALKS_MAX: Final = 10  # are walked without counting, where the first tells that so many fill the page
MANY_ROWS: Final = 50_000  # up to here first: mostly enough to see that walking is cheaper
GATHERED_MAX: Final = 200_000  # rows of one criterion that are looked through at once
LIMIT_S: Final = 10
_S: Final = SEARCH_ROWS.c
_UNKNOWN_SHARE: Final = 0.05  # of rows that a criterion leaves which no index counts
# Where a plan is bound to be good, and the planner's guesses of millions of rows are not. A sequential scan
# for a few rows of one time goes through all that lie before them.
_OUR_WAY: Final = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "max_parallel_workers_per_gather")


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
            end = key_at(connection, criteria, SHORT_WALK_ROWS)
            query = walk(question, end=end)
            found = rows_of(connection, query)
            if end is None or len(found) > criteria.limit:
                return query, found
            if criteria.sort is Sort.STARTED:
                last, found = fill_page(
                    connection, question, counts, found=found, end=end, rows=SHORT_WALK_ROWS
                )
                return (query if last is None else last), found
            if len(found) * SHORT_WALKS_MAX < criteria.limit:
                lead = _weighed(connection, question, counts)
        query = walk(question) if lead is None else gather(question, lead, dialect=connection.dialect.name)
        return query, rows_of(connection, query)


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


def _count(connection: Connection, question: Question, name: str, *, limit: int) -> int:
    """Count the rows that a criterion leaves, up to a limit."""
    left, named = 0, question.parts[name].named
    if question.parts[name].places // 2 >= limit:  # caller or callee of one at least
        return limit
    if named is not None:
        some = named.limit(limit).subquery()
        return int(connection.execute(select(func.count()).select_from(some)).scalar_one())
    for lead in question.parts[name].leads:
        some = select(_S.row_id).where(*bounded(question, name, lead)).limit(limit).subquery()
        left += int(connection.execute(select(func.count()).select_from(some)).scalar_one())
    return min(left, limit)


def _steps_of_walk(
    connection: Connection, question: Question, counts: Mapping[str, int], *, most: int
) -> float:
    """Estimate how many rows are walked for a page, as if criteria had nothing to do with each other."""
    rows = int(connection.execute(select(func.max(_S.row_id))).scalar() or 0) + 1
    along, native = along_of(question), NATIVE.get(question.criteria.sort, "")
    if native == TIMES and native in counts:
        rows = max(rows if counts[native] >= most else counts[native], 1)
    share = 1.0
    for name in question.parts:
        if name not in (along, native, COPIES):
            share *= min(counts.get(name, rows * _UNKNOWN_SHARE) / rows, 1.0)
    return question.criteria.limit / max(share, 1e-12)


def _tags_of(connection: Connection, row_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    query = select(TAGS.c.row_id, TAGS.c.tag).where(TAGS.c.row_id.in_(row_ids)).order_by(TAGS.c.tag)
    tags: dict[int, tuple[str, ...]] = {}
    for row_id, tag in connection.execute(query):
        tags[row_id] = (*tags.get(row_id, ()), tag)
    return tags
