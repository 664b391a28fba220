"""One catalogue, two databases: rows, numbers and heads are as promised on SQLite and on PostgreSQL."""

from __future__ import annotations

import importlib
import pkgutil
import random
import threading
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from recorderd import archive
from recorderd.archive.catalogue import Catalogue
from recorderd.archive.database import Database
from recorderd.archive.tables import METADATA
from recorderd.core.errors import CatalogueFailed
from recorderd.wire.chain_head import HeadBody
from tests.support.catalogues import add, entry


@pytest.fixture
def database(catalogue_url: str) -> Iterator[Database]:
    opened = Database(catalogue_url)
    yield opened
    opened.close()


@pytest.fixture
def catalogue(database: Database) -> Catalogue:
    return Catalogue(database)


def _head(number: int) -> HeadBody:
    return HeadBody(
        recorder_id="rec-1",
        number=number,
        previous_head_sha256="0" * 64,
        sequence=number * 10,
        manifest_sha256=f"{number:064d}",
        count=10,
        cause="day",
        stated_at="2026-11-23T06:22:36.125Z",
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_arrival_changes_nothing(catalogue: Catalogue, seed: int) -> None:
    rows = [entry(1), entry(2), entry(3, previous="f" * 64), entry(5)]
    random.Random(seed).shuffle(rows)
    reported = {link.sequence for row in rows for link in add(catalogue, row)[1]}
    assert {row.sequence: row.chain for row in catalogue.all()} == {
        **{1: "linked", 2: "linked"},
        **{3: "broken", 5: "pending"},
    }
    assert reported == {3}


def test_a_row_comes_back_as_it_was_given(catalogue: Catalogue) -> None:
    given = entry(1, caller="+442079460000", callee="Zoë \U0001f4de", duration_s=0.123456, size_bytes=1 << 40)
    added, _ = add(catalogue, given)
    assert catalogue.find("rec-1", "id-1") == added
    assert catalogue.by_id("id-1") == catalogue.all() == [added]
    assert catalogue.by_path("store/id-1") == added and catalogue.by_path("store/id-2") is None
    assert (added.callee, added.duration_s, added.size_bytes) == (given.callee, 0.123456, 1 << 40)
    assert (added.row_id, added.receipt) == (1, b"1")


def test_rows_are_sorted_by_their_octets_whatever_the_databases_language(catalogue: Catalogue) -> None:
    times = ["2026-11-23T06:22:36.125Z", "2026-11-23T06:22:36+00:00", "2026-11-23t06:22:36.1Z"]
    for number, started_at in enumerate(times, start=1):
        add(catalogue, entry(number, started_at=started_at))
    assert [row.started_at for row in catalogue.all()] == sorted(times)


def test_rows_are_committed_together_or_not_at_all_and_no_number_is_lost(catalogue: Catalogue) -> None:
    def refuse(number: int) -> bytes:
        raise OSError(f"the key went away at {number}")

    with pytest.raises(OSError, match="went away at 2"):
        catalogue.add_all([(entry(1), lambda number: b"%d" % number), (entry(2), refuse)])
    assert (catalogue.count(), catalogue.issued()) == (0, 0)
    add(catalogue, entry(1))
    with pytest.raises(CatalogueFailed, match=r"(?i)unique"):
        add(catalogue, entry(1))
    assert (catalogue.count(), catalogue.issued()) == (1, 1)
    assert add(catalogue, entry(2))[0].row_id == 2


def test_a_refusal_does_not_tell_what_was_written(catalogue: Catalogue) -> None:
    add(catalogue, entry(1, caller="+442079460000"))
    with pytest.raises(CatalogueFailed) as told:
        add(catalogue, entry(1, caller="+442079460000"))
    assert "+442079460000" not in str(told.value) and "id-1" not in str(told.value)


def test_writers_that_come_at_once_get_every_number_once(catalogue_url: str) -> None:
    catalogues = [Catalogue(Database(catalogue_url)) for _ in range(3)]  # as three processes would open it
    barrier, problems = threading.Barrier(3), []

    def write(mine: int) -> None:
        barrier.wait()
        for number in range(12):
            try:
                add(catalogues[mine], entry(mine * 100 + number + 1))
            except CatalogueFailed as problem:
                problems.append(problem)

    writers = [threading.Thread(target=write, args=(mine,)) for mine in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    rows = catalogues[0].all()
    assert problems == []
    assert sorted(row.row_id for row in rows) == list(range(1, 37))
    assert all(row.receipt == b"%d" % row.row_id for row in rows)
    assert {row.chain for row in rows if row.sequence % 100 != 1} == {"linked"}
    for one in catalogues:
        one.database.close()


def test_the_newest_number_is_not_given_again_when_its_row_was_removed(
    catalogue: Catalogue, database: Database
) -> None:
    for number in (1, 2):
        add(catalogue, entry(number))
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM recordings WHERE row_id = 2")
    assert catalogue.issued() == 2
    assert add(catalogue, entry(3))[0].row_id == 3


def test_a_reader_sees_one_state_of_everything(catalogue: Catalogue, database: Database) -> None:
    add(catalogue, entry(1))
    with database.read() as connection:
        count = "SELECT count(*) FROM recordings"
        before = connection.exec_driver_sql(count).scalar()
        add(catalogue, entry(2))
        assert (before, connection.exec_driver_sql(count).scalar()) == (1, 1)
    assert catalogue.count() == 2


def test_heads_are_kept_once_each_in_their_order(catalogue: Catalogue) -> None:
    for number in (3, 1, 2):
        assert catalogue.keep_head(_head(number), b"head %d" % number, kept_at="2026-11-24T00:00:00Z")
        assert not catalogue.keep_head(_head(number), b"head %d" % number, kept_at="2026-11-25T00:00:00Z")
    assert catalogue.heads() == [("rec-1", b"head %d" % number) for number in (1, 2, 3)]
    assert catalogue.heads_beside("rec-1", 1) == [b"head 1", b"head 2"]
    assert catalogue.heads_beside("rec-2", 1) == []
    assert catalogue.stated_at("rec-1", [20]) == {20: {f"{2:064d}"}}


def test_the_migrations_make_the_tables_that_the_code_knows(catalogue: Catalogue, database: Database) -> None:
    with database.read() as connection:
        for module in pkgutil.iter_modules(archive.__path__, "recorderd.archive."):
            if module.name.endswith("tables"):  # each room has its own
                importlib.import_module(module.name)
        differences = compare_metadata(MigrationContext.configure(connection), METADATA)
    assert differences == []


def test_what_is_open_to_be_read_cannot_be_written(catalogue: Catalogue, catalogue_url: str) -> None:
    reading = Catalogue(Database(catalogue_url, read_only=True), read_only=True)
    with pytest.raises(CatalogueFailed, match="read only"):
        add(reading, entry(1))
    with pytest.raises(CatalogueFailed), reading.database.read() as connection:
        connection.exec_driver_sql("DELETE FROM issued")
    with pytest.raises(CatalogueFailed), catalogue.database.read() as connection:
        connection.exec_driver_sql("INSERT INTO issued VALUES ('x', 1)")
    assert reading.count() == 0
    reading.database.close()
