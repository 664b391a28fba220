"""An archive of the golden chain in which one may hold, erase and sweep, in the test's own process."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from recorderd.archive.anonymising import stage_audio
from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.catalogue import CATALOGUE_NAME, Entry
from recorderd.archive.database import Database
from recorderd.archive.erasure import Eraser, Outcome, Wish
from recorderd.archive.hold_book import HoldBook
from recorderd.archive.kept_terms import keep_terms
from recorderd.archive.locks import LockUntil, ObjectLocks
from recorderd.archive.objects import Objects
from recorderd.archive.published import Published
from recorderd.archive.retention_book import RetentionBook
from recorderd.core.clock import SystemClock, utc_text
from recorderd.evidence.keys import Signer
from recorderd.policy.retention import RetentionClass, Terms
from recorderd.policy.selection import Selection
from recorderd.wire.tombstone import Cause, Kind
from tests.support.vault import Vault

WHO = Actor(name="cli:keeper")
AT_ONCE = RetentionClass(name="default", maximum_days=0)  # everything is due when it comes


def _fail(*_: object) -> None:
    raise OSError(errno.EIO, "EIO")


class Archive(Vault):
    """A vault with everything that decides over its recordings."""

    def __init__(
        self,
        folder: Path,
        *classes: RetentionClass,
        worm: bool = False,
        take: bool = True,
        database: Database | None = None,
        published: Published | None = None,
        lock_until: LockUntil | None = None,
    ) -> None:
        super().__init__(folder, database, published=published)
        self.signer = Signer.from_files(
            key_file=folder / "archive.key.pem", certificate_file=folder / "archive.cert.pem"
        )
        self.database = database or Database.of_file(self.root / CATALOGUE_NAME)
        self.clock = SystemClock()
        self.audit_log = AuditLog(self.database, clock=self.clock)
        self.book = RetentionBook(self.database, trust=self.receipts)
        self.holds = HoldBook(self.database, audit=self.audit_log)
        self.locks = None
        if lock_until is not None:
            assert isinstance(published, Objects)
            self.locks = ObjectLocks(
                published, self.database, book=self.book, holds=self.holds, until=lock_until, clock=self.clock
            )
            self.custody = self.make_custody(self.locks)
        self.eraser = Eraser(
            store=self.store,
            database=self.database,
            book=self.book,
            holds=self.holds,
            audit=self.audit_log,
            signer=self.signer,
            archive_id="arc-1",
            clock=self.clock,
            log=self.log,
            locks=self.locks,
        )
        self.state(*classes, worm=worm)
        if take:
            self.take_all()
            self.enrol()

    def state(self, *classes: RetentionClass, worm: bool = False) -> None:
        """Sign these terms."""
        self.book.state(
            Terms(classes=classes, worm=worm),
            who=WHO,
            audit=self.audit_log,
            archive_id="arc-1",
            signer=self.signer,
            now_utc_ns=self.clock.utc_ns(),
        )
        keep_terms(self.store.published, self.database)

    def enrol(self) -> int:
        """Note what new recordings are kept by."""
        return sum(self.book.enrol(self.store))

    def entry(self, recording_id: str) -> Entry:
        """Give a recording's row."""
        (entry,) = self.custody._catalogue.by_id(recording_id)
        return entry

    def hold(self, *, until: str = "", **selection: str) -> int:
        """Put something on hold; give the hold's number."""
        now = utc_text(self.clock.utc_ns())
        return self.holds.add(
            Selection(**selection), reason="case 7", until=until, who=WHO, now_utc=now
        ).number

    def release(self, number: int) -> None:
        """End a hold."""
        self.holds.release(number, reason="closed", who=WHO, now_utc=utc_text(self.clock.utc_ns()))

    def erase(self, *recording_ids: str, cause: Cause = Cause.REQUEST) -> list[Outcome]:
        """Erase recordings."""
        wish = Wish(kind=Kind.ERASED, cause=cause, who=WHO, reason="asked for")
        return self.eraser.dispose([self.entry(name).row_id for name in recording_ids], wish)

    def cut_erasure(self, recording_id: str) -> None:
        """Decide on an erasure, and be cut before any file is gone."""
        with pytest.MonkeyPatch.context() as cut, pytest.raises(OSError, match="EIO"):
            cut.setattr("recorderd.archive.erasure.settle", _fail)
            self.erase(recording_id)

    def anonymise(self, recording_id: str) -> Outcome:
        """Make a recording anonymous."""
        entry = self.entry(recording_id)
        wish = Wish(kind=Kind.ANONYMISED, cause=Cause.RIGHT, who=WHO, reason="opposed")
        audio = {entry.row_id: stage_audio(self.store, entry)}
        (outcome,) = self.eraser.dispose([entry.row_id], wish, audio=audio)
        return outcome

    def names(self, recording_id: str) -> set[str]:
        """Name the files of a recording in the store."""
        return set(self.store.group(self.entry(recording_id).path).names())
