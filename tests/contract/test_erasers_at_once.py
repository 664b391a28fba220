"""Several processes erase in one archive: each tombstone is decided once, and done in its order."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator

import pytest

from recorderd.archive.audit_log import AuditLog
from recorderd.archive.database import Database
from recorderd.archive.erasure import Eraser, Wish
from recorderd.archive.hold_book import HoldBook
from recorderd.archive.retention_book import RetentionBook
from recorderd.wire.tombstone import Cause, Kind
from tests.support.golden import FIRST, SECOND, THIRD
from tests.support.housing import Housing
from tests.support.retention import AT_ONCE, WHO, Archive


def another(archive: Archive, url: str) -> Eraser:
    """Make the eraser of another process over the same archive."""
    database = Database(url)
    audit = AuditLog(database, clock=archive.clock)
    return Eraser(
        store=archive.store,
        database=database,
        book=RetentionBook(database, trust=archive.receipts),
        holds=HoldBook(database, audit=audit),
        audit=audit,
        signer=archive.signer,
        archive_id="arc-1",
        clock=archive.clock,
        log=archive.log,
    )


@pytest.fixture
def archive(housed: Housing) -> Iterator[Archive]:
    database = Database(housed.url)
    yield Archive(housed.folder, AT_ONCE, database=database, published=housed.published)
    database.close()


def test_sweeps_that_meet_erase_everything_once(archive: Archive, housed: Housing) -> None:
    erasers = [another(archive, housed.url) for _ in range(3)]
    row_ids = [archive.entry(name).row_id for name in (FIRST, SECOND, THIRD)]
    wish = Wish(kind=Kind.ERASED, cause=Cause.DUE, who=WHO, reason="its time is over")
    barrier, problems, done = threading.Barrier(3), [], []

    def sweep(eraser: Eraser) -> None:
        barrier.wait()
        try:
            for row_id in row_ids:
                eraser.finish()
                done.extend(row for row in eraser.dispose([row_id], wish) if not row.refusal)
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=sweep, args=(eraser,)) for eraser in erasers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not problems
    assert sorted(row.row_id for row in done) == sorted(row_ids)
    assert archive.eraser.finish() == 0
    assert [archive.names(name) for name in (FIRST, SECOND, THIRD)] == [
        {f"{name}.tombstone.json"} for name in (FIRST, SECOND, THIRD)
    ]
    assert archive.audit().troubles == []


def test_an_erasure_takes_its_turn_behind_what_another_has_decided_and_not_done(
    archive: Archive, housed: Housing
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "EIO")

    with pytest.MonkeyPatch.context() as cut, pytest.raises(OSError, match="EIO"):
        cut.setattr("recorderd.archive.erasure.settle", fail)
        archive.anonymise(FIRST)
    wish = Wish(kind=Kind.ERASED, cause=Cause.REQUEST, who=WHO, reason="asked for")
    other = another(archive, housed.url)
    (outcome,) = other.dispose([archive.entry(FIRST).row_id], wish)
    assert not outcome.refusal
    assert archive.eraser.finish() == 0
    assert archive.names(FIRST) == {f"{FIRST}.tombstone.json"}  # its new audio did not come back
    assert archive.audit().troubles == []
