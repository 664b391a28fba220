"""Takes the rows of the audit log to the journal and to a syslog server, in order, each at least once.

Contract: how far each target has come stands in the database, and moves on only after the rows were handed
over; a target that is away is asked again, and gets what it has missed. Cut between the two, rows come twice:
their numbers tell. Over UDP and Unix sockets, handed over means sent; over TCP, given to the kernel.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final, Protocol

from sqlalchemy import select, update

from recorderd.archive.audit_log import AuditLog, AuditRow
from recorderd.archive.audit_tables import AUDIT_EXPORTS
from recorderd.archive.database import Database
from recorderd.core.errors import AuditExportFailed
from recorderd.core.events import Ev, EventLog
from recorderd.wire.canonical import canonical_json
from recorderd.wire.syslog import INFORMATIONAL, WARNING, octet_counted, syslog_message

_AT_ONCE: Final = 200
_TIMEOUT_S: Final = 5.0


class Target(Protocol):
    """Where rows go."""

    name: str

    def take(self, rows: Sequence[AuditRow]) -> None:
        """Hand rows over.

        Errors: AuditExportFailed.
        """
        ...


class JournalTarget:
    """The event log, and with it the journal: each row is one event with its columns as fields."""

    name = "journal"

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def take(self, rows: Sequence[AuditRow]) -> None:
        """Emit one event for each row."""
        for row in rows:
            fields = {key: value for key, value in asdict(row).items() if key not in ("subject", "number")}
            self._log.info(Ev.AUDITED, subject=row.subject, number=row.number, **fields)


class SyslogTarget:
    """A syslog server at ``udp://HOST:PORT``, ``tcp://HOST:PORT`` or ``unix:PATH``."""

    name = "syslog"

    def __init__(self, url: str) -> None:
        self._url = url
        self._socket: socket.socket | None = None
        self._is_stream = url.startswith("tcp:")

    def take(self, rows: Sequence[AuditRow]) -> None:
        """Send one message for each row.

        Errors: AuditExportFailed; what was sent before comes again.
        """
        try:
            link = self._connected()
            for row in rows:
                message = _message(row)
                link.sendall(octet_counted(message) if self._is_stream else message)
        except OSError as problem:
            self.close()
            raise AuditExportFailed(target=self._url, reason=problem.strerror or problem) from None

    def close(self) -> None:
        """Let go of the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is not None and self._is_stream and _has_left(self._socket):
            self.close()
        if self._socket is None:
            self._socket = _connect(self._url)
        return self._socket


class Follower:
    """Follows the log for one target.

    Thread: one.
    Errors: CatalogueFailed.
    """

    def __init__(self, database: Database, audit_log: AuditLog, target: Target, *, log: EventLog) -> None:
        self._database = database
        self._audit_log = audit_log
        self._target = target
        self._log = log

    def step(self) -> int:
        """Hand over some rows that are due; return how many, 0 when there are none or the target is away."""
        reached = self._reached()
        rows = self._audit_log.after(reached, limit=_AT_ONCE)
        if not rows:
            return 0
        try:
            self._target.take(rows)
        except AuditExportFailed as problem:
            self._log.warning(Ev.AUDIT_EXPORT_FAILED, subject=self._target.name, reason=problem)
            return 0
        moved = update(AUDIT_EXPORTS).where(
            AUDIT_EXPORTS.c.target == self._target.name, AUDIT_EXPORTS.c.number == reached
        )
        with self._database.write() as connection:  # of two that follow at once, one moves it on
            connection.execute(moved.values(number=rows[-1].number))
        return len(rows)

    def follow(self, wait: Callable[[float], bool], *, every_s: float = 1.0) -> None:
        """Follow until ``wait`` says that it is over; what is due then is still handed over."""
        while not wait(every_s):
            while self.step():
                pass
        self.step()

    def _reached(self) -> int:
        query = select(AUDIT_EXPORTS.c.number).where(AUDIT_EXPORTS.c.target == self._target.name)
        with self._database.read() as connection:
            number = connection.execute(query).scalar()
        if number is not None:
            return int(number)
        with self._database.write() as connection:
            if connection.execute(query).scalar() is None:
                connection.execute(AUDIT_EXPORTS.insert().values(target=self._target.name, number=0))
        return 0


def _message(row: AuditRow) -> bytes:
    return syslog_message(
        severity=INFORMATIONAL if row.outcome == "done" else WARNING,
        at=row.at,
        host=socket.gethostname(),
        program="recorder-archive",
        process_id=os.getpid(),
        kind=row.what,
        text=canonical_json(asdict(row)),
    )


def _connect(url: str) -> socket.socket:
    scheme, _, rest = url.partition(":")
    if scheme == "unix":
        link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        address: Any = rest
    else:
        host, _, port = rest.removeprefix("//").rpartition(":")
        kind = socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=kind)[0]
        link = socket.socket(family, kind, protocol)
    try:
        link.settimeout(_TIMEOUT_S)
        link.connect(address)
    except BaseException:
        link.close()
        raise
    return link


def _has_left(link: socket.socket) -> bool:
    """Tell whether the server has closed the connection: it says nothing else, ever."""
    try:
        link.setblocking(False)
        return link.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        link.settimeout(_TIMEOUT_S)
