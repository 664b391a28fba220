"""Finds recordings: criteria in, one page of rows out, in the order that was asked for.

How: few rows at a time, whatever the criteria. Each criterion that an index serves is asked how many rows it
leaves, up to a limit. If one leaves few, its rows are gathered, sifted by the others and sorted. If all leave
many, rows are walked in the order of the page until it is full: along the number or the combinations of
values that were asked for when these are few, else along all. A short walk is tried first; where it does not
fill the page, rows are counted up to a higher limit, and gathered after all if that takes fewer steps.
Sieves are written so that no index serves them: the database then takes the way that was chosen here. Values
are bound, never written into a query.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

from recorderd.archive.call_group_tables import CALL_GROUPS
from recorderd.archive.call_groups import Copy, copies_of
from recorderd.archive.catalogue import ROWS, Entry
from recorderd.archive.criteria import Criteria, Facets, Sort, cursor_of
from recorderd.archive.database import Database
from recorderd.archive.numbers import PART_MIN, canonical, ending
from recorderd.archive.search_tables import FACETS, NOTE_WORDS, NUMBER_PARTS, NUMBERS, SEARCH_ROWS, TAGS
from recorderd.archive.tables import RECORDINGS

FEW_ROWS: Final = 2_000  # are gathered without another thought
SHORT_WALK_ROWS: Final = 10_000  # are walked along before more are counted
GATHERED_MAX: Final = 200_000  # rows of one criterion that are looked through at once
ARMS_MAX: Final = 64  # orders that are merged into one
NUMBERS_MAX: Final = 20_000  # numbers that one part may mean before each row's number is read
LIMIT_S: Final = 10
_S: Final = SEARCH_ROWS.c
_KEYS: Final[dict[Sort, ColumnElement[int]]] = {
    Sort.STARTED: _S.started_ms,
    Sort.DURATION: _S.duration_ms,
    Sort.ARCHIVED: _S.row_id,
}
_TIMES, _DURATIONS = "times", "durations"
_COPIES: Final = "copies"  # leaves nearly all rows
_NATIVE: Final = {Sort.STARTED: _TIMES, Sort.DURATION: _DURATIONS}  # a walk begins and ends where these do
_WITH_TIMES: Final = ("number", "part", "facets")  # in whose indexes the time comes next
_PARTIES: Final = (_S.caller_id, _S.callee_id)
_UNKNOWN_SHARE: Final = 0.05  # of rows that a criterion leaves which no index counts
_LAST_LETTER: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of what was found."""

    entries: tuple[Entry, ...]
    tags: dict[int, tuple[str, ...]]  # by row
    copies: dict[int, tuple[Copy, ...]]  # all recordings of the same call, of rows that are not alone
    next_after: str  # where the next page begins; empty = this is the last one


@dataclass(slots=True, kw_only=True)
class _Criterion:
    """One thing that must hold: how it sifts rows, and by which indexed conditions it finds them."""

    sieve: ColumnElement[bool]
    leads: list[ColumnElement[bool]] = field(default_factory=list)  # any of them; none = it only sifts
    arms: list[ColumnElement[bool]] = field(default_factory=list)  # the same, each in the order of time


@dataclass(slots=True, kw_only=True)
class _Question:
    """Criteria as the database is asked."""

    criteria: Criteria
    parts: dict[str, _Criterion] = field(default_factory=dict)
    nothing: bool = False  # a value that was asked for does not occur

    def sieves(self, *, but: str = "") -> list[ColumnElement[bool]]:
        """Give what must hold, but for what is seen to already."""
        return [part.sieve for name, part in self.parts.items() if name != but]


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
        found: list[tuple[int, int]] = []
        for query in self.queries(connection, criteria):
            found = [(int(key), int(row_id)) for key, row_id in connection.execute(query)]
            if len(found) > criteria.limit:
                break
        return found

    def queries(self, connection: Connection, criteria: Criteria) -> Iterator[Select[Any]]:
        """Choose how to search: the first that fills the page has it, else the last; none = nothing is."""
        question = self._question(connection, criteria)
        if question.nothing:
            return
        counts = {name: 0 for name, part in question.parts.items() if part.leads}
        lead = _fewest(connection, question, counts, most=FEW_ROWS)
        if lead is None and (end := _end_of_short_walk(connection, question)) is not None:
            yield _walk(question, end=end)
        if lead is None:
            lead = _fewest(connection, question, counts, most=GATHERED_MAX)
            if lead is not None and counts[lead] >= _steps_of_walk(connection, question, counts):
                lead = None
        yield _walk(question) if lead is None else _gather(question, lead)

    def _question(self, connection: Connection, criteria: Criteria) -> _Question:
        question = _Question(criteria=criteria)
        for name, column, bounds in (
            (_TIMES, _S.started_ms, (criteria.since_ms, criteria.until_ms)),
            (_DURATIONS, _S.duration_ms, _durations_of(criteria)),
        ):
            if bounds != (None, None):
                sieve = _between(_unindexed(column), bounds)
                question.parts[name] = _Criterion(sieve=sieve, leads=[_between(column, bounds)])
        _ask_people(question)
        if criteria.number:
            _ask_number(question, connection, self._region)
        if criteria.part:
            _ask_part(question, connection, criteria.part)
        _ask_facets(question, connection)
        _ask_once(question, connection)
        return question


# --- criteria to conditions ------------------------------------------------------------------------


def _durations_of(criteria: Criteria) -> tuple[int | None, int | None]:
    longest = criteria.max_duration_ms
    return criteria.min_duration_ms, None if longest is None else longest + 1


def _between(column: ColumnElement[int], bounds: tuple[int | None, int | None]) -> ColumnElement[bool]:
    low, high = bounds
    return and_(column >= low if low is not None else true(), column < high if high is not None else true())


def _ask_people(question: _Question) -> None:
    for tag in question.criteria.tags:
        tagged = select(TAGS.c.row_id).where(TAGS.c.tag == tag)
        question.parts[f"tag {tag}"] = _Criterion(
            sieve=exists().where(TAGS.c.tag == tag, TAGS.c.row_id == _S.row_id),
            leads=[_S.row_id.in_(tagged)],
        )
    for word in question.criteria.words:
        begins = _begins(NOTE_WORDS.c.word, word)
        question.parts[f"word {word}"] = _Criterion(
            sieve=exists().where(NOTE_WORDS.c.row_id == _S.row_id, begins),
            leads=[_S.row_id.in_(select(NOTE_WORDS.c.row_id).where(begins))],
        )


def _ask_number(question: _Question, connection: Connection, region: str) -> None:
    key = canonical(question.criteria.number, region)
    same = select(NUMBERS.c.number_id).where(NUMBERS.c.key == key)
    end = ending(key, region)
    if end:
        same = select(NUMBER_PARTS.c.number_id).where(NUMBER_PARTS.c.part == end)
    ids = [int(number) for number in connection.execute(same.limit(NUMBERS_MAX)).scalars()]
    if not ids:
        question.nothing = True
        return
    question.parts["number"] = _Criterion(
        sieve=or_(*(_unindexed(column).in_(ids) for column in _PARTIES)),
        leads=[column.in_(ids) for column in _PARTIES],
        arms=[column == one for one in ids[:ARMS_MAX] for column in _PARTIES],
    )
    if len(ids) > ARMS_MAX // 2:
        question.parts["number"].arms = []


def _ask_part(question: _Question, connection: Connection, part: str) -> None:
    """Look for a part of a number: by the index of endings, or where it is in too many, in each number."""
    begins = _begins(NUMBER_PARTS.c.part, part)
    meant = select(NUMBER_PARTS.c.number_id).where(begins)
    count = select(func.count()).select_from(meant.limit(NUMBERS_MAX + 1).subquery())
    if len(part) < PART_MIN or int(connection.execute(count).scalar_one()) > NUMBERS_MAX:
        holds = func.instr if connection.dialect.name == "sqlite" else func.strpos
        in_it = (
            exists().where(NUMBERS.c.number_id == column, holds(NUMBERS.c.key, part) > 0)
            for column in _PARTIES
        )
        question.parts["part"] = _Criterion(sieve=or_(*in_it))
        return
    question.nothing |= connection.execute(meant.limit(1)).first() is None
    question.parts["part"] = _Criterion(
        sieve=or_(*(_unindexed(column).in_(meant) for column in _PARTIES)),
        leads=[column.in_(meant) for column in _PARTIES],
    )


def _ask_facets(question: _Question, connection: Connection) -> None:
    criteria = question.criteria
    if not criteria.within and criteria.facets == Facets():
        return
    asked = [_facets(criteria.facets)]
    if criteria.within:
        asked.append(or_(*(_facets(facets) for facets in criteria.within)))
    meant = select(FACETS.c.facet_id).where(*asked)
    ids = [int(facet) for facet in connection.execute(meant.limit(ARMS_MAX + 1)).scalars()]
    question.nothing |= not ids
    few = len(ids) <= ARMS_MAX
    question.parts["facets"] = _Criterion(
        sieve=_unindexed(_S.facet_id).in_(ids if few else meant),
        leads=[_S.facet_id.in_(ids if few else meant)],
        arms=[_S.facet_id == one for one in ids] if few else [],
    )


def _ask_once(question: _Question, connection: Connection) -> None:
    """Leave out what another recorder has better, unless what was asked for may be this one's alone."""
    criteria = question.criteria
    own = (criteria.tags, criteria.words, criteria.facets.recorder, criteria.facets.state, criteria.within)
    if any(own) or connection.execute(select(CALL_GROUPS.c.row_id).limit(1)).first() is None:
        return
    worse = exists().where(CALL_GROUPS.c.row_id == _S.row_id, CALL_GROUPS.c.is_best.is_(False))
    question.parts[_COPIES] = _Criterion(sieve=~worse)


def _facets(facets: Facets) -> ColumnElement[bool]:
    names = ("extension", "queue", "trunk", "direction", "recorder", "state")
    asked = [(FACETS.c[name], getattr(facets, name)) for name in names]
    return and_(true(), *(column.in_(values) for column, values in asked if values))


def _begins(column: ColumnElement[str], beginning: str) -> ColumnElement[bool]:
    return and_(column >= beginning, column < beginning + _LAST_LETTER)


def _unindexed(column: ColumnElement[int]) -> ColumnElement[int]:
    """Have a column compared row by row: an index of it would give the rows in another order."""
    return column + literal(0)


# --- conditions to a query -------------------------------------------------------------------------


def _fewest(connection: Connection, question: _Question, counts: dict[str, int], *, most: int) -> str | None:
    """Count what each criterion leaves; name the one that leaves fewest, if those are not too many."""
    fewest = most
    for name in tuple(counts):
        counts[name] = left = _count(connection, question, name, limit=fewest)
        fewest = min(fewest, left)
    return min(counts, key=lambda name: counts[name]) if fewest < most else None


def _end_of_short_walk(connection: Connection, question: _Question) -> int | None:
    """Give the key at which a short walk ends; None when there are not so many rows."""
    criteria, key = question.criteria, _KEYS[question.criteria.sort]
    native = question.parts.get(_NATIVE.get(criteria.sort, ""))
    bounds = [*(native.leads if native is not None else ()), *_beyond(tuple_(key, _S.row_id), criteria)]
    query = select(key).where(true(), *bounds).order_by(*_order((key, _S.row_id), criteria))
    end = connection.execute(query.offset(SHORT_WALK_ROWS).limit(1)).scalar()
    return None if end is None else int(end)


def _count(connection: Connection, question: _Question, name: str, *, limit: int) -> int:
    """Count the rows that a criterion leaves, up to a limit."""
    left = 0
    for lead in question.parts[name].leads:
        some = select(_S.row_id).where(*_bounded(question, name, lead)).limit(limit).subquery()
        left += int(connection.execute(select(func.count()).select_from(some)).scalar_one())
    return min(left, limit)


def _bounded(question: _Question, name: str, lead: ColumnElement[bool]) -> list[ColumnElement[bool]]:
    """Bound a criterion by the times that were asked for, where its index has them next."""
    times = question.parts.get(_TIMES)
    return [lead, *times.leads] if times is not None and name in _WITH_TIMES else [lead]


def _steps_of_walk(connection: Connection, question: _Question, counts: Mapping[str, int]) -> float:
    """Estimate how many rows are walked for a page, as if criteria had nothing to do with each other."""
    rows = int(connection.execute(select(func.max(_S.row_id))).scalar() or 0) + 1
    along, native = _along(question), _NATIVE.get(question.criteria.sort, "")
    if native == _TIMES and native in counts:
        rows = max(rows if counts[native] >= GATHERED_MAX else counts[native], 1)
    share = 1.0
    for name in question.parts:
        if name not in (along, native, _COPIES):
            share *= min(counts.get(name, rows * _UNKNOWN_SHARE) / rows, 1.0)
    return question.criteria.limit / max(share, 1e-12)


def _along(question: _Question) -> str:
    """Say which criterion is walked along; empty = all rows are."""
    if question.criteria.sort is not Sort.STARTED:
        return ""
    return next(
        (name for name in ("number", "facets") if name in question.parts and question.parts[name].arms), ""
    )


def _gather(question: _Question, name: str) -> Select[Any]:
    """Take all rows of one criterion, sift them by the others, and sort what is left."""
    criteria, key = question.criteria, _KEYS[question.criteria.sort]
    here = tuple_(_unindexed(key), _unindexed(_S.row_id))
    found = [
        select(key.label("key"), _S.row_id).where(
            *_bounded(question, name, lead), *question.sieves(but=name), *_beyond(here, criteria)
        )
        for lead in question.parts[name].leads
    ]
    rows = found[0].subquery() if len(found) == 1 else union(*found).subquery()
    order = _order((_unindexed(rows.c.key), _unindexed(rows.c.row_id)), criteria)
    return select(rows.c.key, rows.c.row_id).order_by(*order).limit(criteria.limit + 1)


def _walk(question: _Question, *, end: int | None = None) -> Select[Any]:
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
