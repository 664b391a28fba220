"""Makes what recordings are found by: search rows, with the numbers, parts and facets that they name.

Contract: rows in, search rows in the caller's transaction; a row that has one gets a new one. Rows of before
are made up for in small committed steps, beside a running archive: cut anywhere, the next start goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import Column, Connection, delete, func, insert, select, tuple_, update

from recorderd.archive.database import Database
from recorderd.archive.numbers import canonical, parts_of
from recorderd.archive.search_tables import (
    FACETS,
    NUMBER_PARTS,
    NUMBERS,
    SEARCH_ROWS,
    SEARCH_STATE,
)
from recorderd.archive.tables import NUMBER_MAX, RECORDINGS

Value = TypeVar("Value")

STEP_ROWS: Final = 1000
NOBODY: Final = 0  # for an empty number
_ASKED_AT_ONCE: Final = 500  # values in one query
_TOLD: Final = tuple(
    RECORDINGS.c[name]
    for name in (
        *("row_id", "started_at", "duration_s", "caller", "callee"),
        *("recorder_id", "extension", "queue", "trunk", "direction", "state"),
    )
)
_FACET: Final = tuple(column for column in FACETS.c if column.name != "facet_id")


def index_rows(connection: Connection, rows: Sequence[Any], *, region: str) -> None:
    """Make the search rows of recordings, given as rows or entries."""
    if not rows:
        return
    keys = [(canonical(row.caller, region), canonical(row.callee, region)) for row in rows]
    facets = [
        (row.recorder_id, row.extension, row.queue, row.trunk, row.direction, row.state) for row in rows
    ]
    number_ids = _ids_of_numbers(connection, {key for pair in keys for key in pair if key})
    facet_ids = _ids_of_facets(connection, set(facets))
    row_ids = [row.row_id for row in rows]
    for at in range(0, len(row_ids), _ASKED_AT_ONCE):
        here = row_ids[at : at + _ASKED_AT_ONCE]
        connection.execute(delete(SEARCH_ROWS).where(SEARCH_ROWS.c.row_id.in_(here)))
    connection.execute(
        insert(SEARCH_ROWS),
        [
            {
                "row_id": row.row_id,
                "started_ms": _utc_ms(row.started_at),
                "duration_ms": min(round(row.duration_s * 1000), NUMBER_MAX),
                "caller_id": number_ids.get(caller, NOBODY),
                "callee_id": number_ids.get(callee, NOBODY),
                "facet_id": facet_ids[facet],
            }
            for row, (caller, callee), facet in zip(rows, keys, facets, strict=True)
        ],
    )


class SearchIndex:
    """Makes up for search rows that are missing: of a former release, or for another region.

    Thread: any.
    Errors: CatalogueFailed.
    """

    def __init__(self, database: Database, *, region: str) -> None:
        self._database = database
        self._region = region

    def begin(self) -> int:
        """See what is to be made; returns how many rows."""
        issued = select(func.max(RECORDINGS.c.row_id))
        with self._database.write() as connection:
            state = connection.execute(select(SEARCH_STATE)).first()
            if state is None or state.region != self._region:
                newest = connection.execute(issued).scalar() or 0
                values = {"one": 1, "region": self._region, "done_row_id": 0, "until_row_id": newest}
                connection.execute(delete(SEARCH_STATE))
                connection.execute(insert(SEARCH_STATE), values)
        return self.behind()

    def behind(self) -> int:
        """Tell how many recordings cannot be found yet."""
        with self._database.read() as connection:
            state = connection.execute(select(SEARCH_STATE)).first()
        return max(state.until_row_id - state.done_row_id, 0) if state is not None else 0

    def step(self) -> int:
        """Make the search rows of the next few recordings; returns how many are left.

        Durable: after return they survive.
        """
        with self._database.write() as connection:
            state = connection.execute(select(SEARCH_STATE)).first()
            if state is None or state.done_row_id >= state.until_row_id:
                return 0
            missing = RECORDINGS.c.row_id.between(state.done_row_id + 1, state.until_row_id)
            query = select(*_TOLD).where(missing).order_by(RECORDINGS.c.row_id).limit(STEP_ROWS)
            rows = connection.execute(query).all()
            index_rows(connection, rows, region=state.region)
            done = rows[-1].row_id if len(rows) == STEP_ROWS else state.until_row_id
            connection.execute(update(SEARCH_STATE).values(done_row_id=done))
            return int(state.until_row_id - done)


def _ids_of_numbers(connection: Connection, keys: set[str]) -> dict[str, int]:
    known: dict[str, int] = {}
    for some in _few(sorted(keys)):
        query = select(NUMBERS.c.key, NUMBERS.c.number_id).where(NUMBERS.c.key.in_(some))
        known |= {row.key: row.number_id for row in connection.execute(query)}
    fresh = _numbered(connection, NUMBERS.c.number_id, sorted(keys - known.keys()))
    if fresh:
        connection.execute(
            insert(NUMBERS), [{"number_id": number, "key": key} for key, number in fresh.items()]
        )
        parts = [
            {"part": part, "number_id": number}
            for key, number in fresh.items()
            for part in dict.fromkeys(parts_of(key))
        ]
        connection.execute(insert(NUMBER_PARTS), parts)
    return known | fresh


def _ids_of_facets(connection: Connection, facets: set[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    known: dict[tuple[str, ...], int] = {}
    for some in _few(sorted(facets)):
        query = select(FACETS.c.facet_id, *_FACET).where(tuple_(*_FACET).in_(some))
        known |= {tuple(row[1:]): row[0] for row in connection.execute(query)}
    fresh = _numbered(connection, FACETS.c.facet_id, sorted(facets - known.keys()))
    if fresh:
        names = [column.name for column in _FACET]
        rows = [
            {"facet_id": number, **dict(zip(names, facet, strict=True))} for facet, number in fresh.items()
        ]
        connection.execute(insert(FACETS), rows)
    return known | fresh


def _numbered(connection: Connection, column: Column[int], fresh: Sequence[Value]) -> dict[Value, int]:
    """Give new values their ids; whoever writes is alone, so nobody takes the same."""
    if not fresh:
        return {}
    newest = connection.execute(select(func.max(column))).scalar() or 0
    return {value: newest + number for number, value in enumerate(fresh, start=1)}


def _few(values: Sequence[Value]) -> Iterable[Sequence[Value]]:
    return (values[at : at + _ASKED_AT_ONCE] for at in range(0, len(values), _ASKED_AT_ONCE))


def _utc_ms(text: str) -> int:
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        return 0  # the recording was refused for it, or is told as odd
