"""The daemon's part in who may come in: reads the roster again, lets recorders join, looks at quotas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event as StopToken
from typing import Final

from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.enrolment_configuration import address_of
from recorderd.app.pairing_duty import pairing_loops
from recorderd.archive.audit_log import AuditLog
from recorderd.archive.database import Database
from recorderd.archive.enrolment import Enrolment, Identity
from recorderd.archive.enrolment_desk import EnrolmentDesk
from recorderd.archive.roster import Registered, Roster
from recorderd.archive.store import Store
from recorderd.core.clock import Clock
from recorderd.core.errors import CatalogueFailed, EvidenceError, KeyUnusable
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.verify import TrustStore
from recorderd.flush.curve import public_key_of

_REFRESH_S: Final = 2.0
_QUOTAS_S: Final = 3600.0

Loop = Callable[[StopToken], None]


def make_roster(configuration: ArchiveConfiguration, database: Database) -> Roster:
    """Read who may come in, from archive.toml and the catalogue.

    Errors: KeyUnusable, EvidenceError, CatalogueFailed.
    """
    return Roster(registered(configuration), database)


def registered(configuration: ArchiveConfiguration) -> dict[str, Registered]:
    """Read the recorders of archive.toml with their certificates.

    Errors: KeyUnusable, also when a file holds no certificate.
    """
    return {
        name: Registered(
            curve_public_key=entry.curve_public_key, trust=TrustStore.from_files(entry.certificate_files)
        )
        for name, entry in configuration.recorders.items()
    }


class RosterDuty:
    """Roster and enrolment of one running archive.

    Thread: made by the main thread; the loops have one each.
    Errors: PortTaken, KeyUnusable.
    """

    def __init__(
        self,
        configuration: ArchiveConfiguration,
        store: Store,
        database: Database,
        *,
        curve_secret: str,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self.roster = make_roster(configuration, database)
        self._log = log
        self._near_percent = configuration.retention.quota_warning_percent
        self._pairing = pairing_loops(configuration.pairs, store, database, log=log)
        self._desk: EnrolmentDesk | None = None
        section = configuration.enrolment
        if section is not None:
            identity = Identity(
                archive_id=configuration.archive.id,
                server_public_key=public_key_of(curve_secret),
                receipt_certificate_pem=_read(configuration.receipt.certificate_file),
                endpoints=section.endpoints,
                port=address_of(configuration.archive.bind)[1],
            )
            enrolment = Enrolment(
                database,
                owner_of=self.roster.recorders.get,
                audit=AuditLog(database, clock=clock),
                clock=clock,
                log=log,
            )
            self._desk = EnrolmentDesk(
                enrolment, identity, address=address_of(section.bind), clock=clock, log=log
            )

    def loops(self) -> dict[str, Loop]:
        """Give the work of each thread, by the thread's name."""
        loops: dict[str, Loop] = {"roster": self._keep_fresh}
        desk = self._desk
        if desk is not None:
            loops["enrolment"] = lambda stop: desk.run(stop, self._refresh)
        return loops

    def led(self) -> dict[str, Loop]:
        """Give the work that one front end does for all."""
        return {"recorder-quotas": self._look_at_quotas, **self._pairing}

    def _keep_fresh(self, stop: StopToken) -> None:
        while not stop.wait(_REFRESH_S):
            self._refresh()

    def _refresh(self) -> None:
        before = set(self.roster.recorders)
        try:
            self.roster.refresh()
        except (CatalogueFailed, EvidenceError) as problem:
            self._log.warning(Ev.ROSTER_BEHIND, subject="catalogue", reason=problem)
            return
        for key in before - set(self.roster.recorders):
            self._log.warning(Ev.RECORDER_REVOKED, subject=key)

    def _look_at_quotas(self, stop: StopToken) -> None:
        while not stop.is_set():
            try:
                self.tell_quotas()
            except CatalogueFailed as problem:
                self._log.warning(Ev.ROSTER_BEHIND, subject="catalogue", reason=problem)
            stop.wait(_QUOTAS_S)

    def tell_quotas(self) -> None:
        """Say which recorders have nearly, or more than, what they may.

        Errors: CatalogueFailed.
        """
        for row in self.roster.standings():
            percent = 100 * row.used_bytes // row.quota_bytes if row.quota_bytes else 0
            if percent >= self._near_percent:
                self._log.warning(
                    Ev.QUOTA_EXCEEDED if row.used_bytes > row.quota_bytes else Ev.QUOTA_NEAR,
                    subject=f"recorder {row.recorder_id}",
                    used_bytes=row.used_bytes,
                    quota_bytes=row.quota_bytes,
                    percent=percent,
                )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as problem:
        raise KeyUnusable(path=path, reason=problem) from None
