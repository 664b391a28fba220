"""Puts together what decides over recordings, for the daemon and for each command."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from recorderd.app.archive_catalogue import open_database
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.archive_store import open_locks, open_mirror, open_store
from recorderd.app.host_clock import ask_time_sources
from recorderd.app.retention_configuration import terms_of
from recorderd.app.sweep_clock import SweepClock
from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.database import Database
from recorderd.archive.erasure import Eraser
from recorderd.archive.hold_book import HoldBook
from recorderd.archive.kept_terms import keep_terms
from recorderd.archive.locks import ObjectLocks
from recorderd.archive.migrations import migrate
from recorderd.archive.mirror import Mirror
from recorderd.archive.retention_book import RetentionBook
from recorderd.archive.store import Store
from recorderd.archive.sweeping import Sweeper
from recorderd.core.clock import Clock, SystemClock
from recorderd.core.events import EventLog
from recorderd.evidence.keys import Signer, resolve_secret
from recorderd.evidence.verify import TrustStore
from recorderd.policy.retention import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionParts:
    """Everything, over one database."""

    archive_id: str
    store: Store
    database: Database
    audit: AuditLog
    book: RetentionBook
    holds: HoldBook
    eraser: Eraser
    sweeper: Sweeper
    sweep_clock: SweepClock
    locks: ObjectLocks | None
    mirror: Mirror | None
    signer: Signer
    terms: Terms  # of the configuration
    clock: Clock

    def state_terms(self, who: Actor) -> bool:
        """Sign the configuration's terms if they are others than those in force; tell whether they were.

        Durable: after return they survive in the catalogue; ``keep_terms`` keeps them beside the receipts.
        """
        stated = self.book.state(
            self.terms,
            who=who,
            audit=self.audit,
            archive_id=self.archive_id,
            signer=self.signer,
            now_utc_ns=self.clock.utc_ns(),
        )
        return stated is not None

    def keep_terms(self) -> None:
        """Keep what was signed in the store too; waits for the store.

        Durable: after return it survives the catalogue. Errors: CatalogueFailed; OSError.
        """
        keep_terms(self.store.published, self.database)


def retention_parts(
    configuration: ArchiveConfiguration, *, log: EventLog | None = None, signer: Signer | None = None
) -> RetentionParts:
    """Open the database, to be written, and put the parts together.

    Errors: CatalogueFailed; KeyUnusable.
    """
    clock, archive, receipt = SystemClock(), configuration.archive, configuration.receipt
    events = log or quiet_log(clock)
    signer = signer or Signer.from_files(
        key_file=resolve_secret(receipt.key_file), certificate_file=receipt.certificate_file
    )
    database = open_database(configuration)
    migrate(database)
    store = open_store(configuration)
    audit = AuditLog(database, clock=clock)
    book = RetentionBook(database, trust=TrustStore.from_files([receipt.certificate_file]))
    holds = HoldBook(database, audit=audit)
    locks = open_locks(configuration, store, database, book=book, holds=holds, clock=clock)
    eraser = Eraser(
        store=store,
        database=database,
        book=book,
        holds=holds,
        audit=audit,
        signer=signer,
        archive_id=archive.id,
        clock=clock,
        log=events,
        locks=locks,
    )
    sweep_clock = SweepClock(
        store.root,
        database,
        audit=audit,
        clock=clock,
        is_vouched=lambda: _is_vouched(events),
        log=events,
    )
    sweeper = Sweeper(
        store=store,
        database=database,
        book=book,
        holds=holds,
        eraser=eraser,
        clock=clock,
        log=events,
        doubt=sweep_clock.look,
    )
    return RetentionParts(
        archive_id=archive.id,
        store=store,
        database=database,
        audit=audit,
        book=book,
        holds=holds,
        eraser=eraser,
        sweeper=sweeper,
        sweep_clock=sweep_clock,
        locks=locks,
        mirror=open_mirror(configuration, store, database, clock=clock, log=events),
        signer=signer,
        terms=terms_of(configuration.retention),
        clock=clock,
    )


def _is_vouched(log: EventLog) -> bool:
    found = ask_time_sources(log=log)
    return found is not None and found.synchronised


def quiet_log(clock: Clock) -> EventLog:
    """Give a log for commands, which say by themselves what came of them; the audit log has the rest."""
    logger = logging.getLogger("recorder-archive.command")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return EventLog(logger=logger, clock=clock)
