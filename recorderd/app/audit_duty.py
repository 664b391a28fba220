"""The daemon's part in the audit log: signs its head, and takes its rows to the journal and to syslog."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event as StopToken

from recorderd.app.audit_configuration import AuditSection
from recorderd.archive.audit_following import Follower, JournalTarget, SyslogTarget, Target
from recorderd.archive.audit_heads import AuditHeads
from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.database import Database
from recorderd.core.clock import Clock
from recorderd.core.errors import CatalogueFailed, KeyUnusable
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.keys import Signer

_SELF = Actor(name="archive")


class AuditDuty:
    """Log, heads and followers of one running archive.

    Thread: made and ended by the main thread; the loops have one each.
    """

    def __init__(
        self,
        settings: AuditSection,
        database: Database,
        *,
        archive_id: str,
        signer: Signer,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._settings = settings
        self._database = database
        self._archive_id = archive_id
        self._log = log
        self.audit_log = AuditLog(database, clock=clock)
        self._heads = AuditHeads(database, self.audit_log, archive_id=archive_id, signer=signer, clock=clock)
        targets: list[Target] = [JournalTarget(log)]
        if settings.syslog:
            targets.append(SyslogTarget(settings.syslog))
        self._followers = {
            target.name: Follower(database, self.audit_log, target, log=log) for target in targets
        }

    def begin(self) -> None:
        """Note the start and sign the head.

        Errors: CatalogueFailed.
        """
        self.audit_log.note(_SELF, "archive_started", self._archive_id)
        self._state("start")

    def loops(self) -> dict[str, Callable[[StopToken], None]]:
        """Give the work of each thread, by the thread's name."""
        follow = {
            f"audit-{name}": (lambda stop, one=follower: self._follow(one, stop))
            for name, follower in self._followers.items()
        }
        return {"audit-head": self._sign, **follow}

    def end(self) -> None:
        """Note the stop, sign the head, and hand over what is due."""
        try:
            self.audit_log.note(_SELF, "archive_stopped", self._archive_id)
            self._state("stop")
            for follower in self._followers.values():
                follower.step()
        except CatalogueFailed as problem:
            self._log.error(Ev.AUDIT_HEAD_FAILED, subject=self._archive_id, reason=problem)

    def _sign(self, stop: StopToken) -> None:
        while not stop.wait(self._settings.head_every_s):
            self._state("hour")

    def _follow(self, follower: Follower, stop: StopToken) -> None:
        while not stop.is_set():
            try:
                follower.follow(stop.wait)
            except CatalogueFailed as problem:  # the database is away: rows wait in it
                self._log.warning(Ev.AUDIT_EXPORT_FAILED, subject="catalogue", reason=problem)
                stop.wait(5)

    def _state(self, cause: str) -> None:
        """Sign a head; a key that is away is told, and the next one covers what this one missed."""
        try:
            body = self._heads.state(cause)
        except (KeyUnusable, CatalogueFailed) as problem:
            self._log.error(Ev.AUDIT_HEAD_FAILED, subject=self._archive_id, reason=problem)
            return
        if body is not None:
            self._log.info(
                Ev.AUDIT_HEAD_STATED,
                subject=self._archive_id,
                number=body.number,
                rows=body.rows,
                sha256=body.row_sha256,
            )
