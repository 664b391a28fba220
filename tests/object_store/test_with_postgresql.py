"""The archive beyond one machine: the catalogue in PostgreSQL, recordings in an object store with locks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.archive.database import Database
from recorderd.archive.folders import Folders
from recorderd.archive.locks import LockUntil
from recorderd.archive.mirror import Mirror
from recorderd.archive.mirror_checks import mirror_flaws
from recorderd.archive.scrub import Scrubber
from recorderd.core.events import EventLog
from recorderd.policy.retention import RetentionClass
from tests.support.ceph import ObjectServer
from tests.support.golden import FIRST, GOLDEN, IDS, SECOND, THIRD
from tests.support.postgres import PostgresServer
from tests.support.retention import Archive


@pytest.fixture
def archive(
    object_server: ObjectServer, postgres_server: PostgresServer, tmp_path: Path
) -> Iterator[Archive]:
    database = Database(postgres_server.new_database())
    place = object_server.objects(object_server.new_bucket(), lock="GOVERNANCE")
    days = RetentionClass(name="default", minimum_days=0, maximum_days=180)
    (tmp_path / "house").mkdir()
    yield Archive(tmp_path / "house", days, database=database, published=place, lock_until=LockUntil.DUE)
    database.close()


def test_from_taking_in_to_erasing_everything_holds(archive: Archive, tmp_path: Path) -> None:
    assert archive.audit().recordings == len(IDS)
    assert archive.audit().troubles == []
    log = EventLog(logger=logging.getLogger("store"), clock=archive.clock)
    source, place = archive.store.published, Folders(tmp_path / "elsewhere")
    mirror = Mirror(source, place, archive.database, clock=archive.clock, log=log)
    assert mirror.run().is_whole
    number = archive.hold(recording_id=THIRD)
    assert "hold" in archive.erase(THIRD)[0].refusal
    assert archive.anonymise(FIRST).refusal == ""
    assert archive.erase(SECOND)[0].refusal == ""
    archive.release(number)
    assert archive.names(SECOND) == {f"{SECOND}.tombstone.json"}
    assert archive.names(THIRD) == {path.name for path in (GOLDEN / THIRD).iterdir()}
    assert mirror.run().is_whole
    assert list(mirror_flaws(mirror, source, archive.database, is_deep=True)) == []
    scrubber = Scrubber(archive.store, archive.database, clock=archive.clock, log=log)
    assert scrubber.run(advance=lambda _: None).differences == 0
    assert archive.audit().troubles == []
