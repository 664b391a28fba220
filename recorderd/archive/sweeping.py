"""The retention sweep: plans over every recording, then erases what is due, a few at a time.

Contract: a plan changes nothing. A sweep takes each recording's decision again when it erases; stopped or cut
anywhere, the next one goes on. Memory holds the numbers of the rows that are due, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, select

from recorderd.archive.audit_log import Actor
from recorderd.archive.audit_tables import AUDIT
from recorderd.archive.database import Database
from recorderd.archive.erasure import AT_ONCE, Eraser, Wish
from recorderd.archive.hold_book import HoldBook
from recorderd.archive.retention_book import ERASED, RetentionBook
from recorderd.archive.store import Store
from recorderd.archive.tables import RECORDINGS
from recorderd.core.clock import NS_PER_S, Clock, utc_text
from recorderd.core.events import Ev, EventLog
from recorderd.policy.quota import QuotaLevel, Quotas, quota_levels
from recorderd.policy.retention import Decision, PlanTally, Terms, Verdict, plan
from recorderd.wire.tombstone import Cause, Kind

WHY_SWEPT: Final = "its time is over"


@dataclass(slots=True, kw_only=True)
class Swept:
    """What came of a sweep."""

    due: int = 0
    erased: int = 0
    refused: int = 0  # held meanwhile, or unreadable
    left: int = 0
    stopped_for: str = ""  # empty = it went to its end


class Sweeper:
    """Plans and sweeps in one archive.

    Thread: any, one at a time.
    """

    def __init__(
        self,
        *,
        store: Store,
        database: Database,
        book: RetentionBook,
        holds: HoldBook,
        eraser: Eraser,
        clock: Clock,
        log: EventLog,
        doubt: Callable[[], str] = lambda: "",
    ) -> None:
        self._store = store
        self._database = database
        self._book = book
        self._holds = holds
        self._eraser = eraser
        self._clock = clock
        self._log = log
        self._doubt = doubt  # says why nothing is to be erased by this clock

    def enrol(self, advance: Callable[[int], None] | None = None) -> None:
        """Note what new recordings are kept by."""
        for count in self._book.enrol(self._store):
            if advance is not None:
                advance(count)

    def decisions(self, connection: Connection, *, foreseen: Terms | None = None) -> Iterator[Decision]:
        """Decide over every recording; with ``foreseen`` as if those terms were stated.

        Errors: EvidenceError when the terms in force are not as they were signed.
        """
        now_utc_ns = self._clock.utc_ns()
        ruling = self._book.ruling(connection, foreseen=foreseen)
        holds = self._holds.index(connection, now_utc=utc_text(now_utc_ns))
        yield from plan(self._book.kept(connection), ruling, holds, now_utc_s=now_utc_ns // NS_PER_S)

    def sweep(
        self,
        who: Actor,
        *,
        put_off: Callable[[], str] = lambda: "",
        advance: Callable[[int], None] | None = None,
    ) -> Swept:
        """Erase what is due; before each few the clock is looked at, and ``put_off`` says why not to go on.

        Errors: CatalogueFailed, EvidenceError, KeyUnusable, OSError.
        """
        self._eraser.finish()
        self.enrol()
        tally, due = PlanTally(), []
        with self._database.read() as connection:
            for decision in self.decisions(connection):
                tally.count(decision)
                if decision.verdict is Verdict.DUE:
                    due.append(decision.recording.row_id)
        for name in sorted(tally.unknown):
            self._log.warning(
                Ev.RETENTION_CLASS_UNKNOWN, subject=name or "?", kept=tally.classes[name].recordings
            )
        swept = Swept(due=len(due), left=len(due))
        wish = Wish(kind=Kind.ERASED, cause=Cause.DUE, who=who, reason=WHY_SWEPT)
        for at in range(0, len(due), AT_ONCE):
            swept.stopped_for = self._doubt() or put_off()
            if swept.stopped_for:
                break
            group = due[at : at + AT_ONCE]
            outcomes = self._eraser.dispose(group, wish)
            swept.erased += sum(not row.refusal for row in outcomes)
            swept.refused += sum(bool(row.refusal) for row in outcomes)
            swept.left -= len(group)
            if advance is not None:
                advance(len(group))
        self._log.info(
            Ev.RETENTION_SWEPT,
            subject=who.name,
            due=swept.due,
            erased=swept.erased,
            refused=swept.refused,
            left=swept.left,
        )
        return swept

    def used_bytes(self) -> dict[str, int]:
        """Tell how many octets are kept, by extension."""
        extension = RECORDINGS.c.extension
        query = select(extension, func.sum(RECORDINGS.c.size_bytes)).where(RECORDINGS.c.state != ERASED)
        with self._database.read() as connection:
            return {str(row[0]): int(row[1] or 0) for row in connection.execute(query.group_by(extension))}

    def look_at_quotas(self, quotas: Quotas) -> list[QuotaLevel]:
        """Find quotas that are nearly used up or exceeded, and tell of each."""
        if not (quotas.total_bytes or quotas.user_bytes):
            return []
        levels = list(quota_levels(quotas, self.used_bytes()))
        for level in levels:
            event = Ev.QUOTA_EXCEEDED if level.is_exceeded else Ev.QUOTA_NEAR
            self._log.warning(
                event,
                subject=level.subject,
                used_bytes=level.used_bytes,
                quota_bytes=level.quota_bytes,
                percent=level.percent,
            )
        return levels


def newest_sign(database: Database) -> str:
    """Tell when this archive last gave a receipt or noted a deed, by its clock of then; empty = never."""
    receipt = select(RECORDINGS.c.archived_at).order_by(RECORDINGS.c.row_id.desc()).limit(1)
    deed = select(AUDIT.c.at).order_by(AUDIT.c.number.desc()).limit(1)
    with database.read() as connection:
        return max(str(connection.execute(query).scalar() or "") for query in (receipt, deed))
