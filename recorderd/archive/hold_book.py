"""Legal holds of one archive: added, released, listed.

Contract: a hold that was added applies to whatever is erased afterwards, by whatever process: both take their
turn in the database. What was erased before stays so, and is told. A hold is never removed, only released.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, Final

from sqlalchemy import Connection, func, insert, select, update

from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.call_groups import ids_of_copies
from recorderd.archive.database import Database
from recorderd.archive.retention_book import ERASED
from recorderd.archive.retention_tables import HOLDS
from recorderd.archive.tables import RECORDINGS
from recorderd.core.errors import HoldRefused, SelectionEmpty
from recorderd.policy.holds import Hold, HoldIndex
from recorderd.policy.selection import Selection, end_of, is_day_or_time, time_flaw

_H: Final = HOLDS.c
_SELECTION: Final = frozenset(entry.name for entry in fields(Selection))


class HoldBook:
    """The holds in one database.

    Thread: any.
    Errors: CatalogueFailed.
    """

    def __init__(self, database: Database, *, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit

    def add(self, selection: Selection, *, reason: str, until: str, who: Actor, now_utc: str) -> Hold:
        """Put what a selection covers on hold, now and later.

        Durable: after return the hold survives, with its row in the audit log.
        Errors: SelectionEmpty; HoldRefused without a reason, with times that are none, or for one recording
        that is erased already.
        """
        if selection.is_empty:
            raise SelectionEmpty(reason="a hold needs a recording, a number or another condition")
        why = "" if reason.strip() else "it needs a reason"
        if why := why or time_flaw(selection) or _unfit_end(until, now_utc=now_utc):
            raise HoldRefused(number="(new)", reason=why)
        with self._database.write() as connection:
            if selection.recording_id:
                _see_that_it_stands(connection, selection.recording_id)
            number = int(connection.execute(select(func.max(_H.number))).scalar() or 0) + 1
            hold = Hold(
                number=number,
                selection=selection,
                reason=reason,
                by=who.name,
                added_at=now_utc,
                until=until,
            )
            connection.execute(insert(HOLDS), _row_of(hold))
            self._audit.note(
                who,
                "hold_added",
                f"hold {number}",
                reason=reason,
                detail=f"{selection}{f', until {until}' if until else ''}",
                connection=connection,
            )
        return hold

    def release(self, number: int, *, reason: str, who: Actor, now_utc: str) -> Hold:
        """End a hold.

        Durable: after return it is ended, with its row in the audit log.
        Errors: HoldRefused: there is none of that number, it was released before, there is no reason.
        """
        if not reason.strip():
            raise HoldRefused(number=number, reason="its release needs a reason")
        with self._database.write() as connection:
            hold = next((row for row in self.all(connection) if row.number == number), None)
            if hold is None or hold.released_at:
                why = f"was released by {hold.released_by}" if hold else "there is none of this number"
                raise HoldRefused(number=number, reason=why)
            values = {"released_at": now_utc, "released_by": who.name, "release_reason": reason}
            connection.execute(update(HOLDS).where(_H.number == number).values(**values))
            self._audit.note(
                who,
                "hold_released",
                f"hold {number}",
                reason=reason,
                detail=str(hold.selection),
                connection=connection,
            )
            return next(row for row in self.all(connection) if row.number == number)

    def all(self, connection: Connection) -> list[Hold]:
        """Give every hold that there ever was, the oldest first."""
        return [_hold(row) for row in connection.execute(select(HOLDS).order_by(_H.number))]

    def listed(self) -> list[Hold]:
        """Give every hold, for people."""
        with self._database.read() as connection:
            return self.all(connection)

    def index(self, connection: Connection, *, now_utc: str) -> HoldIndex:
        """Give those in force, to be asked."""
        return HoldIndex(self.in_force(connection, now_utc=now_utc), now_utc=now_utc)

    def in_force(self, connection: Connection, *, now_utc: str) -> list[Hold]:
        """Give those in force; one of a recording once more for each other recording of its call."""
        holds = [hold for hold in self.all(connection) if hold.in_force(now_utc)]
        return [*holds, *_of_copies(connection, holds)]


def _of_copies(connection: Connection, holds: Sequence[Hold]) -> Iterator[Hold]:
    """Let a hold of one recording hold what other recorders have of its call, also what came later."""
    named = [row for row in holds if row.selection.recording_id]
    copies = ids_of_copies(connection, [hold.selection.recording_id for hold in named])
    for hold in named:
        for other in copies.get(hold.selection.recording_id, ()):
            yield replace(hold, selection=replace(hold.selection, recording_id=other, recorder_id=""))


def _see_that_it_stands(connection: Connection, recording_id: str) -> None:
    query = select(RECORDINGS.c.state).where(RECORDINGS.c.id == recording_id)
    states = connection.execute(query).scalars().all()
    if states and all(state == ERASED for state in states):
        raise HoldRefused(number="(new)", reason=f"{recording_id} is erased already")


def _unfit_end(until: str, *, now_utc: str) -> str:
    """Say what is wrong with a hold's end; empty when nothing is, or it has none."""
    if not until:
        return ""
    if not is_day_or_time(until):
        return f"its end is no day (2026-11-23) and no time (2026-11-23T06:22:00Z), UTC: {until!r}"
    return "its end is past" if end_of(until) <= now_utc else ""


def _row_of(hold: Hold) -> dict[str, Any]:
    row = asdict(hold)
    named = {name: value for name, value in row["selection"].items() if value}
    return row | {"selection": json.dumps(named, sort_keys=True)}


def _hold(row: Any) -> Hold:
    values = dict(row._mapping)
    told = json.loads(values["selection"])
    selection = Selection(**{name: value for name, value in told.items() if name in _SELECTION})
    return Hold(**(values | {"selection": selection}))
