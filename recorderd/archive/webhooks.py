"""Tells other systems what happened to recordings: archived, held, released, erased; and what was missing.

Contract: what is to be told is not kept twice: the catalogue, the audit log and the missing calls are the
queue, and how far each hook has come stands in the database. It moves on only after the other side has
answered with success, so each thing is told at least once, in order, also after an outage or a kill; its id
tells a repetition. A hook that takes nothing waits longer and longer, alone. A new hook begins with what
comes after it was configured.

POST, JSON, `X-Recorder-Signature: t=SECONDS,v1=HEX`: HMAC-SHA256 by the shared secret over SECONDS, a dot and
the body. Numbers of people are not in it: who may know them asks the archive.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, func, select, update

from recorderd.archive.asking import ask_http
from recorderd.archive.audit_tables import AUDIT, AUDIT_EXPORTS
from recorderd.archive.call_tables import MISSING_CALLS
from recorderd.archive.database import Database
from recorderd.archive.tables import RECORDINGS
from recorderd.core.clock import NS_PER_MS, NS_PER_S, Clock, utc_text
from recorderd.core.errors import WebhookFailed
from recorderd.core.events import Ev, EventLog
from recorderd.wire.canonical import canonical_json

KINDS: Final = ("archived", "held", "released", "erased", "missing")
FIRST_WAIT_S: Final = 5.0
LONGEST_WAIT_S: Final = 3600.0
_TIMEOUT_S: Final = 15.0  # for a whole answer
_AT_ONCE: Final = 100
_KIND_OF: Final = {"hold_added": "held", "hold_released": "released", "recording_erased": "erased"}
_SOURCES: Final = {
    "recordings": RECORDINGS.c.row_id,
    "audit": AUDIT.c.number,
    "missing": MISSING_CALLS.c.number,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """Whom to tell what."""

    name: str
    url: str
    secret: str = field(repr=False)
    kinds: frozenset[str]
    ca_file: Path | None = None  # who may vouch for the server; None = the system's


class Teller:
    """Tells one hook.

    Thread: one.
    Errors: CatalogueFailed.
    """

    def __init__(
        self, database: Database, hook: Hook, *, archive_id: str, clock: Clock, log: EventLog
    ) -> None:
        self._database = database
        self._hook = hook
        self._archive_id = archive_id
        self._clock = clock
        self._log = log
        self._wait_s = FIRST_WAIT_S

    def begin(self) -> None:
        """See that the hook has a place from which on it is told."""
        with self._database.write() as connection:
            for source, number in _SOURCES.items():
                target = self._target(source)
                known = select(AUDIT_EXPORTS.c.number).where(AUDIT_EXPORTS.c.target == target)
                if connection.execute(known).scalar() is None:
                    newest = int(connection.execute(select(func.max(number))).scalar() or 0)
                    connection.execute(AUDIT_EXPORTS.insert().values(target=target, number=newest))

    def run(self, wait: Callable[[float], bool], *, every_s: float = 1.0) -> None:
        """Tell what comes until ``wait`` says that it is over."""
        self.begin()
        pause_s = 0.0
        while not wait(pause_s or every_s):
            pause_s = self.step()

    def step(self) -> float:
        """Tell what is due; say how many seconds to wait because the other side does not listen, or 0."""
        try:
            for source in _SOURCES:
                while self._tell_some(source):
                    pass
        except WebhookFailed as problem:
            self._log.warning(Ev.WEBHOOK_FAILED, subject=self._hook.name, reason=problem)
            wait_s, self._wait_s = self._wait_s, min(self._wait_s * 2, LONGEST_WAIT_S)
            return wait_s
        return 0.0

    def _tell_some(self, source: str) -> bool:
        """Tell a few things of one source; False when there are no more."""
        target = self._target(source)
        with self._database.read() as connection:
            query = select(AUDIT_EXPORTS.c.number).where(AUDIT_EXPORTS.c.target == target)
            reached = int(connection.execute(query).scalar() or 0)
            rows = list(_FIND[source](connection, reached))
        told = reached
        try:
            for number, content in rows:
                if content is not None and content["kind"] in self._hook.kinds:
                    self._post({"id": f"{self._archive_id}/{source}/{number}", **content})
                    self._wait_s = FIRST_WAIT_S  # it listens
                told = number
        finally:
            if told > reached:
                mine = (AUDIT_EXPORTS.c.target == target, AUDIT_EXPORTS.c.number < told)
                with self._database.write() as connection:
                    connection.execute(update(AUDIT_EXPORTS).where(*mine).values(number=told))
        return len(rows) == _AT_ONCE

    def _post(self, content: dict[str, Any]) -> None:
        body = canonical_json(content)
        seconds = str(self._clock.utc_ns() // NS_PER_S)
        request = urllib.request.Request(
            self._hook.url,
            data=body,
            method="POST",
            headers={
                "Content-Type": "application/json",
                "User-Agent": "recorder-archive",
                "X-Recorder-Signature": signature(self._hook.secret, seconds, body),
            },
        )
        try:
            ask_http(request, ca_file=self._hook.ca_file, within_s=_TIMEOUT_S, limit_bytes=1024)
        except urllib.error.HTTPError as problem:
            raise WebhookFailed(url=self._hook.url, reason=f"answers {problem.code}") from None
        except (OSError, http.client.HTTPException) as problem:
            reason = getattr(problem, "reason", problem)
            raise WebhookFailed(url=self._hook.url, reason=reason) from None

    def _target(self, source: str) -> str:
        return f"webhook:{self._hook.name}:{source}"


def signature(secret: str, seconds: str, body: bytes) -> str:
    """Sign a body as it is sent at a time."""
    digest = hmac.new(secret.encode(), seconds.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def _archived(connection: Connection, reached: int) -> Iterator[tuple[int, dict[str, Any] | None]]:
    columns = [RECORDINGS.c[name] for name in ("row_id", "id", "recorder_id", "archived_at", "started_at")]
    query = select(*columns).where(RECORDINGS.c.row_id > reached).order_by(RECORDINGS.c.row_id)
    for row in connection.execute(query.limit(_AT_ONCE)):
        told = {"recording": row.id, "recorder": row.recorder_id, "started_at": row.started_at}
        yield int(row.row_id), {"kind": "archived", "at": row.archived_at, **told}


def _audited(connection: Connection, reached: int) -> Iterator[tuple[int, dict[str, Any] | None]]:
    columns = [AUDIT.c[name] for name in ("number", "at", "what", "subject", "outcome")]
    query = select(*columns).where(AUDIT.c.number > reached).order_by(AUDIT.c.number)
    for row in connection.execute(query.limit(_AT_ONCE)):
        kind = _KIND_OF.get(row.what)
        is_deed = kind is not None and row.outcome == "done"
        yield (
            int(row.number),
            {"kind": kind, "at": row.at, "subject": row.subject} if is_deed else None,
        )


def _missing(connection: Connection, reached: int) -> Iterator[tuple[int, dict[str, Any] | None]]:
    table = MISSING_CALLS
    query = select(table).where(table.c.number > reached).order_by(table.c.number)
    for row in connection.execute(query.limit(_AT_ONCE)):
        started_at = utc_text(row.started_ms * NS_PER_MS)
        told = {"call": row.call_id, "call_record": row.record_id, "started_at": started_at}
        yield int(row.number), {"kind": "missing", "at": row.found_at, **told}


_FIND: Final = {"recordings": _archived, "audit": _audited, "missing": _missing}
