"""Finds recordings: criteria in, one page of rows out, in the order that was asked for.

How: few rows at a time, whatever the criteria. Each criterion that an index serves is asked how many rows it
leaves, up to a limit. The one that leaves fewest gives the candidates, which the others sift. When all leave
many, rows are walked in the order of the page until it is full: along the number or the combinations of
values that were asked for when these are few, else along all. Values are bound, never written into a query.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
    union,
)

from recorderd.archive.catalogue import ROWS, Entry
from recorderd.archive.criteria import Criteria, Facets, Sort, cursor_of
from recorderd.archive.database import Database
from recorderd.archive.numbers import PART_MIN, canonical, ending
from recorderd.archive.search_tables import FACETS, NOTE_WORDS, NUMBER_PARTS, NUMBERS, SEARCH_ROWS, TAGS
from recorderd.archive.tables import RECORDINGS

CANDIDATES_MAX: Final = 5_000  # rows that are sorted after they were found
ARMS_MAX: Final = 64  # orders that are merged into one
NUMBERS_MAX: Final = 20_000  # numbers that one part may mean before each row's number is read
LIMIT_S: Final = 10
_S: Final = SEARCH_ROWS.c
_KEYS: Final[dict[Sort, ColumnElement[int]]] = {
    Sort.STARTED: _S.started_ms,
    Sort.DURATION: _S.duration_ms,
    Sort.ARCHIVED: _S.row_id,
}
_LAST_LETTER: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of what was found."""

    entries: tuple[Entry, ...]
    tags: dict[int, tuple[str, ...]]  # by row
    next_after: str  # where the next page begins; empty = this is the last one


@dataclass(slots=True, kw_only=True)
class _Question:
    """Criteria as the database is asked: what sifts, what may lead, and what may be walked along."""

    sieves: dict[str, ColumnElement[bool]] = field(default_factory=dict)
    leads: dict[str, list[Select[Any]]] = field(default_factory=dict)  # of row ids, each by an index
    arms: list[tuple[str, ColumnElement[bool]]] = field(default_factory=list)  # the sieve that each replaces
    nothing: bool = False  # a value that was asked for does not occur


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
            tags = _tags_of(connection, row_ids)
        return Page(
            entries=tuple(entries[row_id] for row_id in row_ids if row_id in entries),
            tags=tags,
            next_after=cursor_of(*found[-1]) if more else "",
        )

    def row_ids(self, connection: Connection, criteria: Criteria) -> list[tuple[int, int]]:
        """Find key and row of one page, and of one more when there is one."""
        query = self.query(connection, criteria)
        return (
            [(int(key), int(row_id)) for key, row_id in connection.execute(query)]
            if query is not None
            else []
        )

    def query(self, connection: Connection, criteria: Criteria) -> Select[Any] | None:
        """Choose how to search; None when nothing can be found."""
        question = self._question(connection, criteria)
        if question.nothing:
            return None
        lead = _narrowest(connection, question)
        if lead is None:
            return _walk(question, criteria)
        sieves = list(question.sieves.values())
        return _sorted(_sifted(criteria, *sieves, _S.row_id.in_(_capped(lead))), criteria)

    def _question(self, connection: Connection, criteria: Criteria) -> _Question:
        question = _Question()
        _ask_times(question, criteria)
        _ask_people(question, criteria)
        if criteria.number:
            _ask_number(question, connection, criteria.number, self._region)
        if criteria.part:
            _ask_part(question, connection, criteria.part)
        _ask_facets(question, connection, criteria)
        return question


# --- criteria to conditions ------------------------------------------------------------------------


def _ask_times(question: _Question, criteria: Criteria) -> None:
    for name, column, low, high in (
        ("times", _S.started_ms, criteria.since_ms, criteria.until_ms),
        (
            "durations",
            _S.duration_ms,
            criteria.min_duration_ms,
            criteria.max_duration_ms + 1 if criteria.max_duration_ms is not None else None,
        ),
    ):
        bounds = [column >= low] if low is not None else []
        bounds += [column < high] if high is not None else []
        if bounds:
            question.sieves[name] = and_(*bounds)
            question.leads[name] = [select(_S.row_id).where(*bounds)]


def _ask_people(question: _Question, criteria: Criteria) -> None:
    for tag in criteria.tags:
        name = f"tag {tag}"
        question.sieves[name] = exists().where(TAGS.c.tag == tag, TAGS.c.row_id == _S.row_id)
        question.leads[name] = [select(TAGS.c.row_id).where(TAGS.c.tag == tag)]
    for word in criteria.words:
        name, begins = f"word {word}", _begins(NOTE_WORDS.c.word, word)
        question.sieves[name] = exists().where(NOTE_WORDS.c.row_id == _S.row_id, begins)
        question.leads[name] = [select(NOTE_WORDS.c.row_id).where(begins)]


def _ask_number(question: _Question, connection: Connection, written: str, region: str) -> None:
    key = canonical(written, region)
    same = select(NUMBERS.c.number_id).where(NUMBERS.c.key == key)
    end = ending(key, region)
    if end:
        same = select(NUMBER_PARTS.c.number_id).where(NUMBER_PARTS.c.part == end)
    ids = [int(number) for number in connection.execute(same.limit(NUMBERS_MAX)).scalars()]
    if not ids:
        question.nothing = True
        return
    question.sieves["number"] = or_(_unindexed(_S.caller_id).in_(ids), _unindexed(_S.callee_id).in_(ids))
    question.leads["number"] = [
        select(_S.row_id).where(column.in_(ids), _times_of(question))
        for column in (_S.caller_id, _S.callee_id)
    ]
    if len(ids) * 2 <= ARMS_MAX:
        question.arms += [("number", column == one) for one in ids for column in (_S.caller_id, _S.callee_id)]


def _ask_part(question: _Question, connection: Connection, part: str) -> None:
    """Look for a part of a number: by the index of endings, or where it is in too many, in each number."""
    begins = _begins(NUMBER_PARTS.c.part, part)
    meant = select(NUMBER_PARTS.c.number_id).where(begins)
    count = select(func.count()).select_from(meant.limit(NUMBERS_MAX + 1).subquery())
    many = len(part) < PART_MIN or int(connection.execute(count).scalar_one()) > NUMBERS_MAX
    if many:
        holds = func.instr if connection.dialect.name == "sqlite" else func.strpos
        question.sieves["part"] = or_(
            *(
                exists().where(NUMBERS.c.number_id == column, holds(NUMBERS.c.key, part) > 0)
                for column in (_S.caller_id, _S.callee_id)
            )
        )
        return
    if connection.execute(meant.limit(1)).first() is None:
        question.nothing = True
    question.sieves["part"] = or_(_unindexed(_S.caller_id).in_(meant), _unindexed(_S.callee_id).in_(meant))
    question.leads["part"] = [
        select(_S.row_id).where(column.in_(meant), _times_of(question))
        for column in (_S.caller_id, _S.callee_id)
    ]


def _ask_facets(question: _Question, connection: Connection, criteria: Criteria) -> None:
    asked = [_facets(criteria.facets)]
    if criteria.within:
        asked.append(or_(*(_facets(facets) for facets in criteria.within)))
    if not criteria.within and criteria.facets == Facets():
        return
    meant = select(FACETS.c.facet_id).where(*asked)
    ids = [int(facet) for facet in connection.execute(meant.limit(ARMS_MAX + 1)).scalars()]
    if not ids:
        question.nothing = True
    elif len(ids) <= ARMS_MAX:
        question.sieves["facets"] = _unindexed(_S.facet_id).in_(ids)
        question.leads["facets"] = [select(_S.row_id).where(_S.facet_id.in_(ids), _times_of(question))]
        if not question.arms:
            question.arms = [("facets", _S.facet_id == one) for one in ids]
    else:
        question.sieves["facets"] = _unindexed(_S.facet_id).in_(meant)


def _facets(facets: Facets) -> ColumnElement[bool]:
    names = ("extension", "queue", "trunk", "direction", "recorder", "state")
    asked = [(FACETS.c[name], getattr(facets, name)) for name in names]
    return and_(true(), *(column.in_(values) for column, values in asked if values))


def _times_of(question: _Question) -> ColumnElement[bool]:
    return question.sieves.get("times", true())


def _begins(column: ColumnElement[str], beginning: str) -> ColumnElement[bool]:
    return and_(column >= beginning, column < beginning + _LAST_LETTER)


def _unindexed(column: ColumnElement[int]) -> ColumnElement[int]:
    """Have a column compared row by row: an index of it would give the rows in another order."""
    return column + literal(0)


# --- conditions to a query -------------------------------------------------------------------------


def _narrowest(connection: Connection, question: _Question) -> list[Select[Any]] | None:
    """Find the criterion that leaves fewest rows, if any leaves few."""
    best: list[Select[Any]] | None = None
    fewest = CANDIDATES_MAX + 1
    for lead in question.leads.values():
        count = select(func.count()).select_from(_capped(lead, fewest).subquery())
        left = int(connection.execute(count).scalar_one())
        if left < fewest:
            best, fewest = lead, left
    return best


def _capped(lead: Sequence[Select[Any]], limit: int = CANDIDATES_MAX + 1) -> Select[Any]:
    parts = [select(one.limit(limit).subquery().c.row_id) for one in lead]
    return parts[0] if len(parts) == 1 else select(union(*parts).subquery().c.row_id)


def _walk(question: _Question, criteria: Criteria) -> Select[Any]:
    """Go along rows in the page's order: those of the arms, merged, or all."""
    if criteria.sort is not Sort.STARTED or not question.arms:
        return _sorted(_sifted(criteria, *question.sieves.values()), criteria)
    arms = []
    for replaced, along in question.arms:
        sieves = [sieve for name, sieve in question.sieves.items() if name != replaced]
        arm = _sorted(_sifted(criteria, along, *sieves), criteria).subquery()
        arms.append(select(arm.c.key, arm.c.row_id))
    merged = union(*arms).subquery()
    order = _order((merged.c.key, merged.c.row_id), criteria)
    return select(merged.c.key, merged.c.row_id).order_by(*order).limit(criteria.limit + 1)


def _sifted(criteria: Criteria, *conditions: ColumnElement[bool]) -> Select[Any]:
    key = _KEYS[criteria.sort]
    query = select(key.label("key"), _S.row_id).where(*conditions)
    if criteria.after is not None:
        last = tuple_(*(literal(value) for value in criteria.after))
        here = tuple_(key, _S.row_id)
        query = query.where(here < last if criteria.descending else here > last)
    return query


def _sorted(query: Select[Any], criteria: Criteria) -> Select[Any]:
    return query.order_by(*_order((_KEYS[criteria.sort], _S.row_id), criteria)).limit(criteria.limit + 1)


def _order(columns: Sequence[ColumnElement[int]], criteria: Criteria) -> Iterator[ColumnElement[int]]:
    return (column.desc() if criteria.descending else column.asc() for column in columns)


def _tags_of(connection: Connection, row_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    query = select(TAGS.c.row_id, TAGS.c.tag).where(TAGS.c.row_id.in_(row_ids)).order_by(TAGS.c.tag)
    tags: dict[int, tuple[str, ...]] = {}
    for row_id, tag in connection.execute(query):
        tags[row_id] = (*tags.get(row_id, ()), tag)
    return tags
