"""The shelf of several archives: a local copy goes when the receipts stand, and somebody always has it."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.core.clock import SystemClock
from recorderd.core.events import EventLog
from recorderd.flush.shelf import JobDone, ReleaseJob, Shelf, StoreJob
from recorderd.spool.layout import Place, Spool, receipt_name
from tests.support.golden import FIRST, GOLDEN
from tests.support.programs import wait_until

NEAR, FAR = "primary", "far"


class Shelved:
    """A shelf of two archives, both of which must have a recording, with one on it."""

    def __init__(self, root: Path) -> None:
        self.spool = Spool(root, quota_bytes=1 << 30, receipts_needed=2)
        self.spool.prepare()
        self.folder = self.spool.path(Place.CLAIMED, FIRST)
        shutil.copytree(GOLDEN / FIRST, self.folder)
        clock = SystemClock()
        self.shelf = Shelf(
            spool=self.spool,
            stamper=None,
            archives=(NEAR, FAR),
            needed=2,
            clock=clock,
            log=EventLog(logger=logging.getLogger("shelf-test"), clock=clock),
        )
        self.shelf.adopt()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.shelf.run, args=(self.stop,))
        self.thread.start()

    def answer(self, archive: str) -> JobDone:
        """Wait for the next answer to an archive's jobs."""
        found: list[JobDone] = []

        def is_there() -> bool:
            found.extend(self.shelf.answers(archive))
            return bool(found)

        wait_until(is_there, what="it answers")
        return found[0]

    def store(self, archive: str) -> JobDone:
        """Have a receipt kept."""
        self.shelf.put(StoreJob(archive=archive, recording_id=FIRST, receipt=b"{}"))
        return self.answer(archive)

    def release(self, archive: str) -> JobDone:
        """Say that an archive's grace is over."""
        self.shelf.put(ReleaseJob(archive=archive, recording_id=FIRST))
        return self.answer(archive)


@pytest.fixture
def shelved(tmp_path: Path) -> Iterator[Shelved]:
    shelved = Shelved(tmp_path / "spool")
    yield shelved
    shelved.stop.set()
    shelved.thread.join(20)


def test_an_archive_whose_receipt_the_disk_refused_is_not_done_with_and_gives_it_again(
    shelved: Shelved,
) -> None:
    blocked = shelved.folder / f".{receipt_name(FAR)}.new"
    blocked.mkdir()  # the disk refuses that one file
    assert shelved.store(FAR).problem
    assert "receipt" in shelved.release(FAR).problem  # its grace is none: it was asked for at once
    assert FIRST in shelved.shelf.wanted_by(FAR)
    blocked.rmdir()
    assert not shelved.store(NEAR).problem
    assert not shelved.release(NEAR).problem
    assert shelved.folder.exists()
    assert not shelved.store(FAR).problem
    assert not shelved.release(FAR).problem
    assert not shelved.folder.exists()


def test_what_was_moved_away_with_its_receipts_is_removed_when_it_is_asked_for_again(
    shelved: Shelved,
) -> None:
    assert not shelved.store(NEAR).problem
    assert not shelved.store(FAR).problem
    assert not shelved.release(NEAR).problem
    shelved.folder.rename(shelved.spool.path(Place.REMOVED, FIRST))  # then the disk refused
    assert not shelved.release(FAR).problem
    assert not shelved.shelf.wanted_by(NEAR)
    assert not shelved.shelf.wanted_by(FAR)
