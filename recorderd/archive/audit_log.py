"""The audit log: who did what to which recording, when, from where, why, and what came of it.

Contract: ``note`` adds one row, numbered without gaps, that carries the hash of the row before; it takes part
in the caller's transaction when given one, so that a deed and its row stand together or not at all. That no
number is given twice is ``Database.write``'s promise: one writer at a time. Nothing here changes or removes a
row. ``audit_check`` judges the log without this file's help.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, select

from recorderd.archive.audit_tables import AUDIT
from recorderd.archive.criteria import parse_criteria
from recorderd.archive.database import Database, storable
from recorderd.core.clock import NS_PER_MS, Clock, utc_text
from recorderd.wire.canonical import canonical_json

FIRST_SHA256: Final = "0" * 64  # what the first row names as the one before
OUTCOMES: Final = ("done", "refused", "failed")
TEXT_LIMIT: Final = 500  # characters of a subject, a reason; what is longer is cut and says so
DETAIL_LIMIT: Final = 2000
_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts: ``account:NAME``, ``token:NAME/TOKEN``, ``share:NUMBER``, ``cli:USER``, or a part of ours."""

    name: str
    address: str = ""  # from where; empty on this host


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One row as it stands."""

    number: int
    at: str  # RFC 3339, UTC
    who: str
    address: str
    what: str
    subject: str
    reason: str
    outcome: str
    detail: str
    previous_sha256: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which rows are wanted; what is empty or zero does not matter."""

    who: str = ""
    what: str = ""
    subject: str = ""
    outcome: str = ""
    since: str = ""  # a day or a time, as in a search: without a zone UTC
    until: str = ""  # the same; a day to its end
    before_number: int = 0  # a page of older rows


class AuditLog:
    """Writes and reads the log.

    Thread: any.
    Errors: CatalogueFailed.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def note(
        self,
        who: Actor,
        what: str,
        subject: str,
        *,
        reason: str = "",
        outcome: str = "done",
        detail: str = "",
        connection: Connection | None = None,
    ) -> int:
        """Add a row; return its number.

        Durable: after return, or after the commit of the transaction that was given, the row survives.
        Errors: ValueError when ``what`` or ``outcome`` is no word of ours: a mistake in the program.
        """
        if _WORD.fullmatch(what) is None or outcome not in OUTCOMES:
            raise ValueError(f"not for the audit log: {what!r}, {outcome!r}")
        values = {
            "at": utc_text(self._clock.utc_ns()),
            "who": _plain(who.name, TEXT_LIMIT),
            "address": _plain(who.address, TEXT_LIMIT),
            "what": what,
            "subject": _plain(subject, TEXT_LIMIT),
            "reason": _plain(reason, TEXT_LIMIT),
            "outcome": outcome,
            "detail": _plain(detail, DETAIL_LIMIT),
        }
        if connection is not None:
            return _append(connection, values)
        with self._database.write() as own:
            return _append(own, values)

    def rows(self, wanted: AuditFilter | None = None, *, limit: int = 100) -> list[AuditRow]:
        """Return the newest rows that are wanted, newest first.

        Errors: SearchRefused when a time is none.
        """
        wanted = wanted or AuditFilter()
        span = parse_criteria(
            {name: [text] for name in ("since", "until") if (text := getattr(wanted, name))}
        )
        query = select(AUDIT).order_by(AUDIT.c.number.desc()).limit(limit)
        for name in ("who", "what", "subject", "outcome"):
            if value := getattr(wanted, name):
                query = query.where(AUDIT.c[name] == value)
        if span.since_ms is not None:
            query = query.where(AUDIT.c.at >= utc_text(span.since_ms * NS_PER_MS))
        if span.until_ms is not None:
            query = query.where(AUDIT.c.at < utc_text(span.until_ms * NS_PER_MS))
        if wanted.before_number:
            query = query.where(AUDIT.c.number < wanted.before_number)
        with self._database.read() as connection:
            return [AuditRow(**row._mapping) for row in connection.execute(query)]

    def after(self, number: int, *, limit: int) -> list[AuditRow]:
        """Return rows after a number, oldest first: for whoever follows the log."""
        query = select(AUDIT).where(AUDIT.c.number > number).order_by(AUDIT.c.number).limit(limit)
        with self._database.read() as connection:
            return [AuditRow(**row._mapping) for row in connection.execute(query)]

    def all(self) -> Iterator[AuditRow]:
        """Give every row, oldest first, a thousand at a time."""
        number = 0
        while page := self.after(number, limit=1000):
            yield from page
            number = page[-1].number

    def last(self, connection: Connection | None = None) -> tuple[int, str]:
        """Tell number and hash of the newest row; 0 and zeros while there is none."""
        if connection is not None:
            return _last(connection)
        with self._database.read() as own:
            return _last(own)


def _append(connection: Connection, values: dict[str, str]) -> int:
    number, previous_sha256 = _last(connection)
    row = {"number": number + 1, **values, "previous_sha256": previous_sha256}
    sha256 = hashlib.sha256(canonical_json(row)).hexdigest()
    connection.execute(AUDIT.insert().values(**row, sha256=sha256))
    return number + 1


def _last(connection: Connection) -> tuple[int, str]:
    newest = select(func.max(AUDIT.c.number)).scalar_subquery()
    row = connection.execute(select(AUDIT.c.number, AUDIT.c.sha256).where(AUDIT.c.number == newest)).first()
    return (int(row[0]), str(row[1])) if row is not None else (0, FIRST_SHA256)


def _plain(value: str, limit: int) -> str:
    """Make a text fit for every database, and no longer than ``limit``."""
    clean = storable(value)
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"
