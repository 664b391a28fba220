"""Criteria as conditions: what a database is asked for, for each thing that must hold.

Contract: values are bound, never written into a query. A sieve is written so that no index serves it; a lead
is one that an index finds rows by.
"""

from __future__ import annotations

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
)

from recorderd.archive.call_group_tables import CALL_GROUPS
from recorderd.archive.criteria import Criteria, Facets
from recorderd.archive.numbers import PART_MIN, canonical, ending
from recorderd.archive.search_tables import FACETS, NOTE_WORDS, NUMBER_PARTS, NUMBERS, SEARCH_ROWS, TAGS

ARMS_MAX: Final = 64  # orders that are merged into one
NUMBERS_MAX: Final = 20_000  # numbers that one part may mean before each row's number is read
SCATTERED_STEPS: Final = 5  # rows that lie apart from each other are looked up one by one
LOOK_UP_STEPS: Final = 15.0  # two numbers are looked up
TIMES, DURATIONS = "times", "durations"
COPIES: Final = "copies"  # leaves nearly all rows
_S: Final = SEARCH_ROWS.c
_PARTIES: Final = (_S.caller_id, _S.callee_id)
_LAST_LETTER: Final = "\U0010ffff"


@dataclass(slots=True, kw_only=True)
class Criterion:
    """One thing that must hold: how it sifts rows, and by which indexed conditions it finds them."""

    sieve: ColumnElement[bool]
    sieve_steps: float = 0.0  # of a walk take as long as to sift one row, beyond the step itself
    leads: list[ColumnElement[bool]] = field(default_factory=list)  # any of them; none = it only sifts
    named: Select[Any] | None = None  # the rows of its lead, where a table names them
    steps: int = 1  # of a walk take as long as one row that its leads find
    places: int = 1  # of an index, apart from each other, where its rows lie
    by_place: list[tuple[ColumnElement[int], Select[Any]]] = field(default_factory=list)  # leads, as pairs
    arms: list[ColumnElement[bool]] = field(default_factory=list)  # the same, each in the order of time


@dataclass(slots=True, kw_only=True)
class Question:
    """Criteria as the database is asked."""

    criteria: Criteria
    parts: dict[str, Criterion] = field(default_factory=dict)
    nothing: bool = False  # a value that was asked for does not occur

    def sieves(self, *, but: tuple[str, ...] = ()) -> list[ColumnElement[bool]]:
        """Give what must hold, but for what is seen to already."""
        return [part.sieve for name, part in self.parts.items() if name not in but]


def question_of(connection: Connection, criteria: Criteria, *, region: str) -> Question:
    """Put criteria as the database is asked."""
    question = Question(criteria=criteria)
    for name, column, bounds in (
        (TIMES, _S.started_ms, (criteria.since_ms, criteria.until_ms)),
        (DURATIONS, _S.duration_ms, durations_of(criteria)),
    ):
        if bounds != (None, None):
            sieve = between(unindexed(column), bounds)
            question.parts[name] = Criterion(sieve=sieve, leads=[between(column, bounds)])
    _ask_people(question)
    if criteria.number:
        _ask_number(question, connection, region)
    if criteria.part:
        _ask_part(question, connection, criteria.part)
    _ask_facets(question, connection)
    _ask_once(question, connection)
    return question


def durations_of(criteria: Criteria) -> tuple[int | None, int | None]:
    """Give the bounds of a duration in ms, the second exclusive."""
    longest = criteria.max_duration_ms
    return criteria.min_duration_ms, None if longest is None else longest + 1


def between(column: ColumnElement[int], bounds: tuple[int | None, int | None]) -> ColumnElement[bool]:
    """Hold a column between two bounds, the second exclusive; None = no bound."""
    low, high = bounds
    return and_(column >= low if low is not None else true(), column < high if high is not None else true())


def _ask_people(question: Question) -> None:
    for tag in question.criteria.tags:
        tagged = select(TAGS.c.row_id).where(TAGS.c.tag == tag)
        question.parts[f"tag {tag}"] = Criterion(
            sieve=exists().where(TAGS.c.tag == tag, TAGS.c.row_id == _S.row_id),
            leads=[_S.row_id.in_(tagged)],
            by_place=[(_S.row_id, tagged)],
            named=tagged,
            steps=SCATTERED_STEPS,
        )
    for word in question.criteria.words:
        begins = _begins(NOTE_WORDS.c.word, word)
        noted = select(NOTE_WORDS.c.row_id).where(begins)
        question.parts[f"word {word}"] = Criterion(
            sieve=exists().where(NOTE_WORDS.c.row_id == _S.row_id, begins),
            leads=[_S.row_id.in_(noted)],
            by_place=[(_S.row_id, noted.distinct())],
            named=noted,
            steps=SCATTERED_STEPS,
        )


def _ask_number(question: Question, connection: Connection, region: str) -> None:
    key = canonical(question.criteria.number, region)
    same = select(NUMBERS.c.number_id).where(NUMBERS.c.key == key)
    end = ending(key, region)
    if end:
        same = select(NUMBER_PARTS.c.number_id).where(NUMBER_PARTS.c.part == end)
    ids = [int(number) for number in connection.execute(same.limit(NUMBERS_MAX)).scalars()]
    if not ids:
        question.nothing = True
        return
    question.parts["number"] = Criterion(
        sieve=or_(*(unindexed(column).in_(ids) for column in _PARTIES)),
        leads=[column.in_(ids) for column in _PARTIES],
        arms=[column == one for one in ids[:ARMS_MAX] for column in _PARTIES],
        places=len(ids) * len(_PARTIES),
    )
    if len(ids) > ARMS_MAX // 2:
        question.parts["number"].arms = []


def _ask_part(question: Question, connection: Connection, part: str) -> None:
    """Look for a part of a number: by the index of endings, or where it is in too many, in each number."""
    begins = _begins(NUMBER_PARTS.c.part, part)
    meant = select(NUMBER_PARTS.c.number_id).where(begins)
    count = select(func.count()).select_from(meant.limit(NUMBERS_MAX + 1).subquery())
    numbers = int(connection.execute(count).scalar_one()) if len(part) >= PART_MIN else NUMBERS_MAX + 1
    if numbers > NUMBERS_MAX:
        holds = func.instr if connection.dialect.name == "sqlite" else func.strpos
        keys = (
            select(NUMBERS.c.key).where(NUMBERS.c.number_id == column).scalar_subquery()
            for column in _PARTIES
        )  # one number is looked up per row: with EXISTS PostgreSQL would read all numbers first
        in_it = (holds(key, part) > 0 for key in keys)
        question.parts["part"] = Criterion(sieve=or_(*in_it), sieve_steps=LOOK_UP_STEPS)
        return
    question.nothing |= not numbers
    question.parts["part"] = Criterion(
        sieve=or_(*(unindexed(column).in_(meant) for column in _PARTIES)),
        leads=[column.in_(meant) for column in _PARTIES],
        by_place=[(column, meant.distinct()) for column in _PARTIES],
        steps=SCATTERED_STEPS,
        places=numbers * len(_PARTIES),
    )


def _ask_facets(question: Question, connection: Connection) -> None:
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
    count = select(func.count()).select_from(meant.subquery())
    question.parts["facets"] = Criterion(
        sieve=unindexed(_S.facet_id).in_(ids if few else meant).is_(true()),  # IS keeps it from being a join
        leads=[_S.facet_id.in_(ids if few else meant)],
        by_place=[] if few else [(_S.facet_id, meant)],
        arms=[_S.facet_id == one for one in ids] if few else [],
        places=len(ids) if few else int(connection.execute(count).scalar_one()),
    )


def _ask_once(question: Question, connection: Connection) -> None:
    """Leave out what another recorder has better, unless what was asked for may be this one's alone."""
    criteria = question.criteria
    own = (criteria.tags, criteria.words, criteria.facets.recorder, criteria.facets.state, criteria.within)
    if any(own) or connection.execute(select(CALL_GROUPS.c.row_id).limit(1)).first() is None:
        return
    worse = exists().where(CALL_GROUPS.c.row_id == _S.row_id, CALL_GROUPS.c.is_best.is_(False))
    question.parts[COPIES] = Criterion(sieve=~worse)


def _facets(facets: Facets) -> ColumnElement[bool]:
    names = ("extension", "queue", "trunk", "direction", "recorder", "state")
    asked = [(FACETS.c[name], getattr(facets, name)) for name in names]
    return and_(true(), *(column.in_(values) for column, values in asked if values))


def _begins(column: ColumnElement[str], beginning: str) -> ColumnElement[bool]:
    return and_(column >= beginning, column < beginning + _LAST_LETTER)


def unindexed(column: ColumnElement[int]) -> ColumnElement[int]:
    """Have a column compared row by row: an index of it would give the rows in another order."""
    return column + literal(0)
