"""An archive in the test's own process: store, catalogue and custody, with recordings and heads taken in."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from pathlib import Path

from recorderd.archive.audit import Audit, Auditor
from recorderd.archive.catalogue import CATALOGUE_NAME, Catalogue, Entry
from recorderd.archive.custody import Custody
from recorderd.archive.database import Database
from recorderd.archive.intake import BundleRefused
from recorderd.archive.locks import ObjectLocks
from recorderd.archive.mirror import Mirror
from recorderd.archive.published import Published
from recorderd.archive.store import Key, Store
from recorderd.core.clock import NS_PER_S, SystemClock
from recorderd.core.events import EventLog
from recorderd.evidence.verify import TrustStore
from tests.support.bundles import make_signer
from tests.support.golden import GOLDEN, IDS, RECORDER


class Vault:
    """One archive that takes in the golden chain or its twins."""

    def __init__(
        self, folder: Path, database: Database | None = None, *, published: Published | None = None
    ) -> None:
        self.root = folder / "archive"
        self.place: Path | Database = database or self.root / CATALOGUE_NAME
        self.root.mkdir(parents=True)
        self._signer = make_signer(folder, "archive")
        self.receipts = TrustStore.from_pem(self._signer.certificate_pem)
        self.trusts = {RECORDER: TrustStore.from_files([GOLDEN / "ca.pem"])}
        self.store = Store(self.root, published)
        self.store.prepare()
        self.log = EventLog(logger=logging.getLogger("vault"), clock=SystemClock())
        self.custody = self.make_custody()

    def make_custody(self, locks: ObjectLocks | None = None, mirror: Mirror | None = None) -> Custody:
        """Put together what takes recordings in."""
        return Custody(
            archive_id="arc-1",
            store=self.store,
            catalogue=Catalogue(self.place),
            trusts=self.trusts,
            signer=self._signer,
            clock=SystemClock(),
            log=self.log,
            locks=locks,
            mirror=mirror,
        )

    def take(self, folder: Path, *, recording_id: str = "") -> Entry | BundleRefused:
        """Take in one recording's folder."""
        key = Key(RECORDER, recording_id or folder.name)
        shutil.copytree(folder, self.store.incoming(key))
        (taken,) = self.custody.take_in_all([(key, self.custody.verify(key))])
        assert isinstance(taken, Entry | BundleRefused), taken
        if isinstance(taken, Entry):
            self.custody.conclude([key])
        return taken

    def take_all(self, chain: Path = GOLDEN) -> None:
        """Take in the recordings of a chain, and its heads."""
        for recording_id in IDS:
            assert isinstance(self.take(chain / recording_id), Entry)
        self.take_heads(chain)

    def take_heads(self, chain: Path = GOLDEN) -> None:
        """Take in the heads of a chain."""
        for path in sorted((chain / "heads").iterdir()):
            assert self.custody.keep_head(RECORDER, path.read_bytes()) == ""

    def folder(self, recording_id: str) -> Path:
        """Find a recording in the store."""
        return next(self.root.glob(f"store/*/*/*/{recording_id}"))

    def execute(self, statement: str, *values: object) -> None:
        """Tamper with the catalogue."""
        with sqlite3.connect(self.root / CATALOGUE_NAME) as database:
            assert database.execute(statement, values).rowcount > 0
        database.close()

    def audit(self) -> Audit:
        """Look at everything, as `recorder-archive fsck` does."""
        catalogue = Catalogue(self.place, read_only=True)
        return Auditor(
            store=self.store,
            catalogue=catalogue,
            trusts=self.trusts,
            receipts=self.receipts,
            now_utc_s=SystemClock().utc_ns() // NS_PER_S,
        ).run()

    def told(self) -> set[tuple[str, str]]:
        """Subjects and codes of what an audit finds."""
        return {(trouble.subject, trouble.code) for trouble in self.audit().troubles}
