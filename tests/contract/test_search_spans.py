"""A search that leaves few of many rows: which rows of which indexes it looks at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Select, event

from recorderd.archive import search, search_question, search_spans
from recorderd.archive.catalogue import Catalogue
from recorderd.archive.criteria import Criteria, Facets, Sort
from recorderd.archive.database import Database
from recorderd.archive.search import Search
from recorderd.archive.search_queries import rows_of
from tests.support.catalogues import entry, receipt
from tests.support.found import REGION, START_UTC_S, Kept, expected, key_of, make_rows
from tests.support.plans import looked_at, planned
from tests.support.postgres import fresh_url

ROWS = 400
YEAR_MS = 365 * 86_400_000


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Database, list[Kept]]]:
    database = Database(fresh_url(request, tmp_path_factory))
    kept = make_rows(ROWS, seed=11)
    added = Catalogue(database, region=REGION).add_all([(one.row, receipt) for one in kept])
    for one, (row, _) in zip(kept, added, strict=True):
        one.row = row
    yield database, kept
    database.close()


@pytest.fixture(autouse=True)
def far_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have few rows be as many."""
    monkeypatch.setattr(search, "FEW_ROWS", 5)
    monkeypatch.setattr(search, "SHORT_WALK_ROWS", 10)


def asked(
    monkeypatch: pytest.MonkeyPatch, database: Database, criteria: Criteria
) -> tuple[list[Select[Any]], list[int]]:
    """Search, and tell what the database was asked for rows, in order."""
    queries: list[Select[Any]] = []

    def noted(connection: Connection, query: Select[Any]) -> list[tuple[int, int]]:
        queries.append(query)
        return rows_of(connection, query)

    monkeypatch.setattr(search, "rows_of", noted)
    monkeypatch.setattr(search_spans, "rows_of", noted)
    with database.read() as connection:
        _, found = Search(database, region=REGION).answer(connection, criteria)
    return queries, [row_id for _, row_id in found]


@pytest.mark.parametrize(
    ("criteria", "indexes"),
    [
        (Criteria(part="7946", min_duration_ms=500, limit=1000), ("search_by_caller", "search_by_callee")),
        (
            Criteria(facets=Facets(direction=("inbound",)), min_duration_ms=500, limit=1000),
            ("search_by_facet",),
        ),
    ],
    ids=["numbers", "combinations"],
)
def test_rows_of_many_places_are_gathered_place_by_place(
    house: tuple[Database, list[Kept]],
    monkeypatch: pytest.MonkeyPatch,
    criteria: Criteria,
    indexes: tuple[str, ...],
) -> None:
    database, kept = house
    monkeypatch.setattr(search_question, "ARMS_MAX", 0)  # as with more than are merged
    monkeypatch.setattr(search_spans, "PLACE_STEPS", {"sqlite": 0.0, "postgresql": 0.0})
    queries, found = asked(monkeypatch, database, criteria)
    assert found == expected(kept, criteria)
    assert len(queries) > 1
    with database.read() as connection:
        for query in queries[1:]:
            plan = planned(connection, query)
            assert all(index in plan for index in indexes), plan
            assert "search_by_start" not in plan, plan


@pytest.mark.parametrize(
    "criteria",
    [
        Criteria(since_ms=START_UTC_S * 1000),
        Criteria(since_ms=START_UTC_S * 1000, facets=Facets(direction=("inbound",))),
        Criteria(part="7946", min_duration_ms=500, since_ms=START_UTC_S * 1000),
        Criteria(part="7946", until_ms=START_UTC_S * 1000 + YEAR_MS, sort=Sort.DURATION),
    ],
    ids=["since", "combinations", "numbers", "longest first"],
)
def test_no_query_of_a_search_reads_the_rows_from_their_beginning(
    house: tuple[Database, list[Kept]], criteria: Criteria
) -> None:
    database, _ = house
    asked_for: list[tuple[str, Any]] = []

    def noted(_c: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        asked_for.append((statement, values))

    how = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    with database.read() as connection:
        event.listen(connection, "before_cursor_execute", noted)
        Search(database, region=REGION).row_ids(connection, criteria)
        event.remove(connection, "before_cursor_execute", noted)
        selects = [(words, values) for words, values in asked_for if words.startswith("SELECT")]
        assert any("LIMIT" in words and "search_rows" in words for words, _ in selects)
        for words, values in selects:
            plan = "\n".join(str(row[-1]) for row in connection.exec_driver_sql(f"{how} {words}", values))
            assert not re.search(r"Seq Scan on search_rows|SCAN search_rows(?! USING)", plan), plan


def test_a_short_walk_within_a_year_looks_at_no_more_than_one_within_all_times(
    house: tuple[Database, list[Kept]], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, _ = house
    looked = []
    for since_ms in (None, START_UTC_S * 1000 - YEAR_MS):
        criteria = Criteria(since_ms=since_ms, min_duration_ms=61_000, limit=1000)
        queries, _ = asked(monkeypatch, database, criteria)
        with database.read() as connection:
            looked.append(looked_at(connection, queries[0]))
    assert 0 < looked[1] < 2 * looked[0]


def test_a_page_that_starts_late_looks_at_no_row_of_the_pages_before(
    house: tuple[Database, list[Kept]], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, kept = house
    until_ms = START_UTC_S * 1000 + YEAR_MS
    everything = expected(kept, Criteria(until_ms=until_ms, limit=1000))
    rows = {one.row.row_id: one.row for one in kept}
    looked = []
    for at in (20, len(everything) - 40):
        after = (key_of(rows[everything[at]], Sort.STARTED), everything[at])
        criteria = Criteria(until_ms=until_ms, min_duration_ms=61_000, limit=1000, after=after)
        queries, _ = asked(monkeypatch, database, criteria)
        with database.read() as connection:
            looked.append(looked_at(connection, queries[0]))
    assert 0 < looked[1] < 2 * looked[0]


@pytest.mark.parametrize("descending", [True, False], ids=["newest first", "oldest first"])
@pytest.mark.parametrize("steps", [0.0, 1e9], ids=["places", "walks"])
def test_recordings_a_millisecond_apart_are_found_once_each_over_all_spans(
    catalogue_url: str, monkeypatch: pytest.MonkeyPatch, descending: bool, steps: float
) -> None:
    monkeypatch.setattr(search, "SHORT_WALK_ROWS", 3)
    monkeypatch.setattr(search_spans, "AMPLE", 0.1)
    monkeypatch.setattr(search_spans, "PLACE_STEPS", {"sqlite": steps, "postgresql": steps})
    database = Database(catalogue_url)
    made = [
        entry(number, started_at=f"2026-11-23T06:00:00.{100 + number // 2:03d}Z", duration_s=number % 3)
        for number in range(1, 62)
    ]
    Catalogue(database).add_all([(row, receipt) for row in made])
    archived = Facets(state=("archived",))
    criteria = Criteria(facets=archived, min_duration_ms=1, descending=descending, limit=40)
    queries, found = asked(monkeypatch, database, criteria)
    wanted = [number for number in range(1, 62) if number % 3]
    assert found == (wanted[::-1] if descending else wanted)
    assert len(queries) > 2
    database.close()
