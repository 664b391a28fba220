"""What one front end does for all ends when it leads no more, and another takes it up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from recorderd.app import front_end
from recorderd.app.archive_configuration import ArchiveSection
from recorderd.app.front_end import FrontEnd
from recorderd.archive.catalogue import Catalogue
from recorderd.archive.database import Database
from recorderd.archive.store import Store
from recorderd.core.clock import SystemClock
from recorderd.core.events import EventLog
from tests.support.postgres import PostgresServer
from tests.support.programs import wait_until


class Front:
    """One running front end whose led work is to be there, and to end when it is told to."""

    def __init__(self, root: Path, url: str, name: str) -> None:
        clock = SystemClock()
        section = ArchiveSection(
            id="arc-1",
            bind="tcp://127.0.0.1:7100",
            secret_key_file=root / "none",
            data_dir=root,
            run_dir=root,
            front_end=name,
        )
        log = EventLog(logger=logging.getLogger("test.leading"), clock=clock)
        self.front = FrontEnd(section, Store(root, front_end=name), clock=clock, log=log)
        self.catalogue = Catalogue(Database(url))
        self.front.enter(self.catalogue)
        self.begun = self.ended = 0
        self._is_closed = False
        self._stop = threading.Event()
        loops = self.front.loops({"sweep": self._work})
        self._threads = [
            threading.Thread(target=loop, args=(self._stop,), daemon=True) for loop in loops.values()
        ]
        for thread in self._threads:
            thread.start()

    @property
    def works(self) -> bool:
        return self.begun > self.ended

    def _work(self, stop: threading.Event) -> None:
        self.begun += 1
        stop.wait()
        self.ended += 1

    def end(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        self.front.close()
        self.catalogue.close()


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.new_database()


@pytest.fixture
def fronts(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Front, Front]]:
    monkeypatch.setattr(front_end, "_LOOK_S", 0.1)
    started = Front(tmp_path, url, "left"), Front(tmp_path, url, "right")
    yield started
    for front in started:
        front.end()


def test_who_loses_its_place_ends_what_only_the_leader_does_and_one_takes_it_up(
    fronts: tuple[Front, Front], url: str, postgres_server: PostgresServer
) -> None:
    wait_until(lambda: sum(front.works for front in fronts) == 1, what="one of them to lead")
    first = next(front for front in fronts if front.works)
    name = make_url(url).database
    with postgres_server.connect() as connection:  # as when the server has lost sight of both
        connection.execute(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
            " WHERE l.locktype = 'advisory' AND d.datname = %s",
            [name],
        )
    wait_until(lambda: first.ended == 1, what="its work to end")
    wait_until(lambda: sum(front.works for front in fronts) == 1, what="one of them to lead again")
    assert sum(front.begun for front in fronts) == 2


def test_who_ends_leaves_what_only_the_leader_does_to_the_other(fronts: tuple[Front, Front]) -> None:
    wait_until(lambda: sum(front.works for front in fronts) == 1, what="one of them to lead")
    first, second = sorted(fronts, key=lambda front: not front.works)
    first.end()
    assert first.ended == 1
    wait_until(lambda: second.works, what="the other one to take it up")
    assert [front.front.picture()["front_end"]["leads"] for front in (first, second)] == [False, True]
