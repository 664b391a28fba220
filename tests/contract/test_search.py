"""Search finds what the slow way finds, page by page, whichever way the database was asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recorderd.archive import search, search_question, search_spans
from recorderd.archive.annotations import Annotations
from recorderd.archive.catalogue import Catalogue
from recorderd.archive.criteria import Criteria, Facets, Sort, parse_criteria
from recorderd.archive.database import Database
from recorderd.archive.search import Search
from recorderd.archive.search_index import SearchIndex
from recorderd.core.errors import SearchRefused, SearchTooWide
from tests.support.catalogues import add, entry, receipt
from tests.support.found import CALLERS, REGION, START_UTC_S, TAGS, Kept, expected, make_rows
from tests.support.plans import planned
from tests.support.postgres import fresh_url

ROWS = 200
DAY_MS = 86_400_000


@dataclass
class Filled:
    """A catalogue with recordings, and what they are."""

    database: Database
    kept: list[Kept]

    def find(self, criteria: Criteria, *, region: str = REGION) -> list[int]:
        """Find all, page by page."""
        found, after, finder = [], criteria.after, Search(self.database, region=region)
        while True:
            page = finder.page(replace(criteria, after=after))
            found += [row.row_id for row in page.entries]
            assert len(page.entries) == criteria.limit or not page.next_after
            if not page.next_after:
                return found
            after = parse_criteria({"after": [page.next_after]}).after


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    database = Database(fresh_url(request, tmp_path_factory))
    kept = make_rows(ROWS, seed=4)
    catalogue = Catalogue(database, region=REGION)
    added = catalogue.add_all([(one.row, receipt) for one in kept])
    annotations = Annotations(database)
    who, at = "cli:test", "2026-11-28T00:00:00Z"
    with database.write() as connection:
        for one, (row, _) in zip(kept, added, strict=True):
            one.row = row
            for tag in one.tags:
                annotations.add_tag(row.row_id, tag.upper(), who=who, at=at, connection=connection)
            for text in one.notes:
                annotations.add_note(row.row_id, text, who=who, at=at, connection=connection)
    yield Filled(database, kept)
    database.close()


def _some(values: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=2, unique=True).map(tuple)


FACETS = st.builds(
    Facets,
    extension=_some(("2001", "2002", "none")),
    queue=_some(("", "sales")),
    trunk=_some(("a", "c")),
    direction=_some(("inbound", "outbound")),
    recorder=_some(("rec-0", "rec-1")),
    state=_some(("archived",)),
)
TIMES = st.none() | st.integers(START_UTC_S * 1000 - DAY_MS, START_UTC_S * 1000 + 21 * DAY_MS)
CRITERIA = st.builds(
    Criteria,
    number=st.just("") | st.sampled_from([*CALLERS, "+44 20 7946 0001", "2003", "sip:alice@office"]),
    part=st.just("") | st.sampled_from(["4", "44", "794", "7946000", "0001", "200", "lic", "nobody"]),
    facets=FACETS,
    within=st.lists(FACETS, max_size=2).map(tuple),
    since_ms=TIMES,
    until_ms=TIMES,
    min_duration_ms=st.none() | st.sampled_from([500, 501, 60_000]),
    max_duration_ms=st.none() | st.sampled_from([500, 61_250]),
    tags=_some(TAGS),
    words=_some(("invoice", "inv", "4711", "übergabe", "zzz")),
    sort=st.sampled_from(Sort),
    descending=st.booleans(),
    limit=st.sampled_from([30, 400]),
)
FAR = {"FEW_ROWS": 5, "SHORT_WALK_ROWS": 10, "AMPLE": 0.3}
WAYS: dict[str, dict[str, Any]] = {
    "gathers few": {},
    "walks": {"FEW_ROWS": 0, "MANY_ROWS": 0, "GATHERED_MAX": 0},
    "walks all": {"FEW_ROWS": 0, "MANY_ROWS": 0, "GATHERED_MAX": 0, "ARMS_MAX": 0},
    "weighs": {
        **{"FEW_ROWS": 5, "MANY_ROWS": 30, "NUMBERS_MAX": 1},
        **{"SHORT_WALK_ROWS": 10, "SHORT_WALKS_MAX": 0},
    },
    "walks a little first": {"FEW_ROWS": 5, "SHORT_WALK_ROWS": 60},
    "walks spans": {**FAR, "PLACE_STEPS": {"sqlite": 1e9, "postgresql": 1e9}},
    "gathers spans": {**FAR, "PLACE_STEPS": {"sqlite": 0.0, "postgresql": 0.0}},
    "gathers spans from many places": {
        **FAR,
        "ARMS_MAX": 0,
        "PLACE_STEPS": {"sqlite": 0.0, "postgresql": 0.0},
    },
}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_search_finds_what_the_slow_way_finds(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    for name, value in WAYS[way].items():
        room = next(one for one in (search, search_question, search_spans) if hasattr(one, name))
        monkeypatch.setattr(room, name, value)
    longest = 0

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(CRITERIA)
    def compare(criteria: Criteria) -> None:
        nonlocal longest
        found = filled.find(criteria)
        assert found == expected(filled.kept, criteria)
        longest = max(longest, len(found))

    compare()
    assert longest > 20  # or it was compared with nothing


@pytest.mark.parametrize("sort", Sort)
def test_a_search_that_leaves_many_walks_an_index_in_the_pages_order_and_counts_no_further(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, sort: Sort
) -> None:
    monkeypatch.setattr(search, "FEW_ROWS", 5)
    monkeypatch.setattr(search, "SHORT_WALK_ROWS", 100)
    monkeypatch.setattr(search, "_weighed", lambda *_: pytest.fail("it was counted"))
    monkeypatch.setattr(search_question, "ARMS_MAX", 0)  # as with more combinations than are merged
    criteria = Criteria(facets=Facets(direction=("inbound",)), sort=sort, limit=5)
    with filled.database.read() as connection:
        query, found = Search(filled.database, region=REGION).answer(connection, criteria)
        assert len(found) == 6
        plan = planned(connection, query)
    assert "ORDER BY" not in plan and "Sort" not in plan, plan
    index = {Sort.STARTED: "search_by_start", Sort.DURATION: "search_by_duration"}.get(sort, "search_rows")
    assert index in plan


def test_a_part_of_a_number_finds_its_rows_by_the_indexes_of_both_parties(filled: Filled) -> None:
    with filled.database.read() as connection:
        query, _ = Search(filled.database, region=REGION).answer(connection, Criteria(part="7946"))
        plan = planned(connection, query)
    assert "search_by_caller" in plan and "search_by_callee" in plan, plan
    assert "Hash Join" not in plan and "Merge" not in plan, plan  # they would read millions of rows


@pytest.mark.parametrize(
    "written",
    ["+442079460001", "+44 20 7946 0001", "0044 20 7946-0001", "(020) 7946 0001", "020.7946.0001",
     "442079460001", "tel:+442079460001", "sip:02079460001@pbx;user=phone", "\uff10\uff12\uff1079460001"],
)  # fmt: skip
def test_a_number_is_found_in_any_notation(filled: Filled, written: str) -> None:
    criteria = parse_criteria({"number": [written], "limit": ["1000"]})
    found = filled.find(criteria)
    assert found == expected(filled.kept, Criteria(number="+442079460001"))
    assert len(found) > 10


def test_a_national_number_is_found_by_its_end_where_no_country_is_configured(filled: Filled) -> None:
    found = filled.find(Criteria(number="020 7946 0001", limit=1000), region="")
    assert found == expected(filled.kept, Criteria(number="+442079460001"))


@pytest.mark.parametrize(
    "text", ["' OR '1'='1", '"; DROP TABLE recordings; --', "%", "_", "*", "\\", "a' UNION SELECT 1 --"]
)
def test_sql_in_a_search_is_text_that_is_not_found(filled: Filled, text: str) -> None:
    before = len(filled.find(Criteria(limit=1000)))
    for kind in ("number", "part", "extension", "queue", "trunk", "direction", "recorder", "tag"):
        try:
            criteria = parse_criteria({kind: [text]})
        except SearchRefused:
            continue
        assert filled.find(criteria) == []
    assert len(filled.find(Criteria(limit=1000))) == before == ROWS


def test_pages_go_on_where_they_ended_whatever_comes_in_between(catalogue_url: str) -> None:
    database = Database(catalogue_url)
    catalogue = Catalogue(database)
    for number in range(1, 8):
        add(catalogue, entry(number, started_at=f"2026-11-23T06:0{number}:00.000Z"))
    finder = Search(database)
    first = finder.page(Criteria(limit=3))
    add(catalogue, entry(8, started_at="2026-11-23T06:09:00.000Z"))  # newer than the first page
    second = finder.page(Criteria(limit=3, after=parse_criteria({"after": [first.next_after]}).after))
    assert [row.sequence for row in (*first.entries, *second.entries)] == [7, 6, 5, 4, 3, 2]
    database.close()


def test_a_search_that_takes_too_long_is_cut_short_and_the_next_one_is_not(filled: Filled) -> None:
    with pytest.raises(SearchTooWide), filled.database.read(limit_s=1) as connection:
        many = "SELECT count(*) FROM recordings a, recordings b, recordings c, recordings d"
        connection.exec_driver_sql(many)
    assert len(filled.find(Criteria(limit=1000))) == ROWS


def test_rows_of_before_are_made_up_for_in_steps_and_for_another_region_again(
    catalogue_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorderd.archive.search_index.STEP_ROWS", 4)
    database = Database(catalogue_url)
    catalogue = Catalogue(database)  # no region: the national number is digits
    for number in range(1, 11):
        add(catalogue, entry(number, caller="(020) 7946 0001"))
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM search_rows")
        connection.exec_driver_sql("DELETE FROM numbers")
        connection.exec_driver_sql("DELETE FROM number_parts")
    looked = Criteria(number="+442079460001")
    assert not Search(database, region="GB").page(looked).entries
    assert SearchIndex(database, region="GB").begin() == 10
    assert SearchIndex(database, region="GB").step() == 6
    assert len(Search(database, region="GB").page(looked).entries) == 4
    index = SearchIndex(database, region="GB")  # a process that was started again goes on
    assert (index.begin(), index.step(), index.step(), index.step(), index.behind()) == (6, 2, 0, 0, 0)
    assert len(Search(database, region="GB").page(looked).entries) == 10
    other = SearchIndex(database, region="DE")
    assert other.begin() == 10
    while other.step():
        pass
    assert not Search(database, region="DE").page(looked).entries
    database.close()
