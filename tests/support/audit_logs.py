"""An audit log of its own for a test, and a hand that forges it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.database import Database
from recorderd.archive.migrations import migrate
from recorderd.core.clock import SystemClock

ALICE = Actor(name="account:alice", address="192.0.2.7")


def open_log(place: Path | str, *, rows: int = 0) -> tuple[Database, AuditLog]:
    """Make a log in an SQLite file, or in the database of a URL, with so many rows."""
    database = Database(place) if isinstance(place, str) else Database.of_file(place)
    migrate(database)
    log = AuditLog(database, clock=SystemClock())
    for number in range(1, rows + 1):
        log.note(ALICE, "recording_played", f"rec-{number}", reason=f"complaint {number}")
    return database, log


def forge(path: Path, *statements: str) -> None:
    """Write into the log as somebody would who holds the file: the triggers are dropped first."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
