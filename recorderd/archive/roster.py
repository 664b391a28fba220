"""Which recorders may come in, with which keys: those of archive.toml, and what the catalogue says of them.

Rule: a row in the catalogue goes before archive.toml: its key counts alone, and who is revoked there stays
out. Certificates add up, for recordings stay when keys go. The tables are read again every few seconds; while
the database is away what was known last counts, and nothing can be archived anyway.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.database import Database
from recorderd.archive.enrolment_tables import ENROLMENTS, RECORDERS
from recorderd.archive.tables import RECORDINGS
from recorderd.core.errors import RecorderUnknown
from recorderd.evidence.verify import TrustStore

_C: Final = RECORDERS.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """One recorder as archive.toml has it."""

    curve_public_key: str
    trust: TrustStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One recorder as its row has it."""

    recorder_id: str
    curve_public_key: str = ""
    certificates_pem: str = ""
    enrolled_at: str = ""
    revoked_at: str = ""
    reason: str = ""
    quota_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One recorder as people see it."""

    recorder_id: str
    source: str  # archive.toml | enrolled
    state: str  # in | revoked
    enrolled_at: str
    revoked_at: str
    reason: str
    recordings: int
    used_bytes: int
    quota_bytes: int
    latest_at: str  # when its latest recording was archived


class Roster:
    """The recorders of one archive.

    Thread: any; ``recorders`` and ``trusts`` are there to be looked into.
    Errors: CatalogueFailed.
    """

    def __init__(self, configured: Mapping[str, Registered], database: Database) -> None:
        self._configured = dict(configured)
        self._database = database
        self.recorders: dict[str, str] = {}  # CURVE public key -> recorder id
        self.trusts: dict[str, TrustStore] = {}
        self._pems: dict[str, str] = {}
        self._refreshing = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Read the catalogue's part again."""
        with self._refreshing:
            self._refresh()

    def _refresh(self) -> None:
        known = {row.recorder_id: row for row in known_recorders(self._database)}
        keys = {
            entry.curve_public_key: name
            for name, entry in self._configured.items()
            if not _has_own(known.get(name))
        }
        for name, row in known.items():
            if row.curve_public_key and not row.revoked_at:
                keys[row.curve_public_key] = name
        for name in {*self._configured, *known}:
            self._trust(name, known[name].certificates_pem if name in known else "")
        for gone in self.recorders.keys() - keys.keys():
            del self.recorders[gone]
        self.recorders.update(keys)

    def _trust(self, name: str, pem: str) -> None:
        if name in self.trusts and self._pems.get(name) == pem:
            return
        configured = self._configured.get(name)
        trusted = [*configured.trust.certificates] if configured is not None else []
        if pem:
            trusted += TrustStore.from_pem(pem.encode()).certificates
        self.trusts[name], self._pems[name] = TrustStore(trusted), pem

    def standings(self) -> list[Standing]:
        """List every recorder, with what the archive holds of it."""
        known = {row.recorder_id: row for row in known_recorders(self._database)}
        held = _held(self._database)
        names = sorted({*self._configured, *known, *held})
        return [
            _standing(name, known.get(name), held.get(name), is_configured=name in self._configured)
            for name in names
        ]

    def revoke(self, recorder_id: str, *, who: Actor, reason: str, at: str, audit: AuditLog) -> None:
        """Let a recorder in no more, by a code that was made for it neither; what it has delivered stays.

        Durable: after return it survives.
        Errors: RecorderUnknown.
        """
        with self._database.write() as connection:
            self._change(connection, recorder_id, revoked_at=at, reason=reason)
            connection.execute(delete(ENROLMENTS).where(ENROLMENTS.c.recorder_id == recorder_id))
            audit.note(who, "recorder_revoked", recorder_id, reason=reason, connection=connection)

    def set_quota(self, recorder_id: str, quota_bytes: int, *, who: Actor, audit: AuditLog) -> None:
        """Say how much a recorder may have here before somebody is told; 0 = never.

        Durable: after return it survives.
        Errors: RecorderUnknown.
        """
        with self._database.write() as connection:
            self._change(connection, recorder_id, quota_bytes=quota_bytes)
            why = f"{quota_bytes} bytes"
            audit.note(who, "recorder_quota", recorder_id, reason=why, connection=connection)

    def _change(self, connection: Connection, recorder_id: str, **values: Any) -> None:
        row = select(RECORDERS).where(_C.recorder_id == recorder_id)
        if connection.execute(row).first() is not None:
            connection.execute(update(RECORDERS).where(_C.recorder_id == recorder_id).values(**values))
        elif recorder_id in self._configured:
            put_recorder(connection, replace(Known(recorder_id=recorder_id), **values))
        else:
            raise RecorderUnknown(recorder_id=recorder_id)


def known_recorders(database: Database) -> list[Known]:
    """Read every row; none in a catalogue of an earlier release that is only read."""
    if not database.has_table(RECORDERS.name):
        return []
    with database.read() as connection:
        return [Known(**row) for row in connection.execute(select(RECORDERS)).mappings()]


def put_recorder(connection: Any, known: Known) -> None:
    """Add a recorder's row, or put it in place of the one that stands, within the caller's transaction."""
    values = {name: getattr(known, name) for name in Known.__slots__}
    done = connection.execute(update(RECORDERS).where(_C.recorder_id == known.recorder_id).values(values))
    if not done.rowcount:
        connection.execute(insert(RECORDERS), values)


def _has_own(known: Known | None) -> bool:
    """Tell whether a row goes before archive.toml."""
    return known is not None and bool(known.curve_public_key or known.revoked_at)


def _held(database: Database) -> dict[str, tuple[int, int, str]]:
    columns = RECORDINGS.c
    counted = (func.count(), func.sum(columns.size_bytes), func.max(columns.archived_at))
    query = select(columns.recorder_id, *counted).group_by(columns.recorder_id)
    with database.read() as connection:
        return {
            str(row[0]): (int(row[1]), int(row[2] or 0), str(row[3])) for row in connection.execute(query)
        }


def _standing(
    name: str, known: Known | None, held: tuple[int, int, str] | None, *, is_configured: bool
) -> Standing:
    row = known or Known(recorder_id=name)
    recordings, used_bytes, latest_at = held or (0, 0, "")
    enrolled = bool(row.curve_public_key)
    state = "revoked" if row.revoked_at else "in" if enrolled or is_configured else "unknown"
    return Standing(
        recorder_id=name,
        source="enrolled" if enrolled else "archive.toml" if is_configured else "",
        state=state,
        enrolled_at=row.enrolled_at,
        revoked_at=row.revoked_at,
        reason=row.reason,
        recordings=recordings,
        used_bytes=used_bytes,
        quota_bytes=row.quota_bytes,
        latest_at=latest_at,
    )
