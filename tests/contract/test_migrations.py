"""A catalogue is brought to this release's tables: without loss, at once or not at all, and never back."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from recorderd.archive.catalogue import Catalogue
from recorderd.archive.database import Database
from recorderd.core.errors import CatalogueFailed
from tests.support.catalogues import add, entry, write_0_1


@pytest.mark.parametrize("heads", [True, False], ids=["with heads", "older"])
def test_a_file_of_release_0_1_is_taken_over_without_loss(tmp_path: Path, heads: bool) -> None:
    path = tmp_path / "catalogue.sqlite3"
    write_0_1(path, 3, heads=heads)
    reading = Catalogue(path, read_only=True)  # `list` beside a daemon that was not started yet
    before, heads_before = reading.all(), reading.heads()
    reading.close()
    for _ in range(2):
        catalogue = Catalogue(path)
        assert (catalogue.all()[:3], catalogue.heads()) == (before, heads_before)
        catalogue.close()
    catalogue = Catalogue(path)
    assert (len(before), len(heads_before), catalogue.issued()) == (3, int(heads), 4)
    assert add(catalogue, entry(4))[0].row_id == 5  # 4 was given once
    assert catalogue.find("rec-1", "id-4").chain == "linked"  # type: ignore[union-attr]
    catalogue.close()


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite3"
    write_0_1(path, 1, heads=False)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE issued (something_else)")
        before = database.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
        with pytest.raises(CatalogueFailed, match="already exists"):
            Catalogue(path)
        assert database.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall() == before


def test_a_catalogue_of_a_later_release_is_refused(catalogue_url: str) -> None:
    Catalogue(Database(catalogue_url))
    with Database(catalogue_url).write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CatalogueFailed, match="later release"):
        Catalogue(Database(catalogue_url))


def test_programs_that_start_at_once_take_each_step_once(catalogue_url: str) -> None:
    barrier, problems = threading.Barrier(4), []

    def start() -> None:
        database = Database(catalogue_url)
        barrier.wait()
        try:
            Catalogue(database)
        except CatalogueFailed as problem:
            problems.append(problem)
        database.close()

    starters = [threading.Thread(target=start) for _ in range(4)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert problems == []
