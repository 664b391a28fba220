"""What only a database server can do to us: die, forget, ask for a password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.archive.catalogue import Catalogue
from recorderd.archive.database import Database
from recorderd.core.errors import CatalogueFailed
from tests.support.catalogues import add, entry
from tests.support.postgres import LOCKED, PASSWORD, PostgresServer


@pytest.fixture
def server() -> Iterator[PostgresServer]:  # of its own, as it is stopped and started
    started = PostgresServer()
    yield started
    started.remove()


def test_a_server_that_dies_loses_nothing_and_is_taken_up_again(server: PostgresServer) -> None:
    database = Database(server.new_database())
    catalogue = Catalogue(database)
    added, _ = add(catalogue, entry(1))
    server.crash()
    for _ in range(2):
        with pytest.raises(CatalogueFailed) as told:
            add(catalogue, entry(2))
        assert told.value.retryable
    server.start()
    assert catalogue.all() == [added]
    assert add(catalogue, entry(2))[0].row_id == 2
    database.close()


def test_a_server_that_dies_in_the_midst_of_a_transaction_gives_its_number_again(
    server: PostgresServer,
) -> None:
    database = Database(server.new_database())
    catalogue = Catalogue(database)

    def die(number: int) -> bytes:
        server.crash()
        return b"%d" % number

    with pytest.raises(CatalogueFailed):
        add(catalogue, entry(1), die)
    server.start()
    assert (catalogue.count(), catalogue.issued()) == (0, 0)
    assert add(catalogue, entry(1))[0].row_id == 1
    database.close()


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
def test_a_server_that_would_forget_what_it_confirmed_is_refused(setting: str) -> None:
    server = PostgresServer({setting: "off"})
    try:
        with pytest.raises(CatalogueFailed, match=f"{setting} off"):
            Catalogue(Database(server.new_database()))
    finally:
        server.remove()


def test_the_password_is_used_and_never_told(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    name = url.rpartition("/archive_")[2].partition("?")[0]
    with postgres_server.connect(f"archive_{name}") as connection:
        connection.execute(f"GRANT ALL ON SCHEMA public TO {LOCKED}")
    locked = postgres_server.url(f"archive_{name}", user=LOCKED)
    database = Database(locked, password=PASSWORD)
    assert Catalogue(database).count() == 0
    assert PASSWORD not in database.name
    database.close()
    with pytest.raises(CatalogueFailed) as told:
        Catalogue(Database(locked, password=f"{PASSWORD} wrong"))
    assert "password authentication failed" in str(told.value) and PASSWORD not in str(told.value)


def test_what_is_no_place_for_a_catalogue_is_told(tmp_path: Path) -> None:
    for url, reason in (("nonsense", "none"), ("mysql://x/y", "neither"), (f"sqlite:///{tmp_path}", "open")):
        with pytest.raises(CatalogueFailed, match=reason):
            Catalogue(Database(url))
