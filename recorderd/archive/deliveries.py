"""Which recordings go to a customer's own server, and the log of what was delivered: the receipts of that.

Contract: each recording is delivered once to a place; the log's row stands only when every file was read back
there. What could not be delivered is noted with its reason and tried again the next time. What was erased
before it was delivered is not. A recording that was delivered is the customer's: erasing reaches no further.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, delete, func, insert, select

from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.catalogue import ROWS, Entry
from recorderd.archive.database import Database, storable
from recorderd.archive.delivery_tables import DELIVERED
from recorderd.archive.retention_tables import RECORDING_TERMS, TOMBSTONES
from recorderd.archive.sftp import Parcel, SftpSettings, deliver
from recorderd.archive.store import Store
from recorderd.archive.tables import RECORDINGS
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import FormatError
from recorderd.core.events import Ev, EventLog
from recorderd.wire.receipt import parse_receipt

_AT_ONCE: Final = 100
_R: Final = RECORDINGS.c
_D: Final = DELIVERED.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One place to deliver to, and what goes there."""

    name: str
    server: SftpSettings
    classes: tuple[str, ...] = ()  # of retention; empty = all
    recorders: tuple[str, ...] = ()  # empty = all


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One row of the log."""

    recording_id: str
    delivered_utc_s: int
    path: str
    files: dict[str, str]
    tries: int
    reason: str


@dataclass(slots=True, kw_only=True)
class Delivered:
    """What came of one round."""

    delivered: int = 0
    failed: int = 0


class Deliveries:
    """Deliveries of one archive.

    Thread: one at a time for each route.
    Errors: CatalogueFailed; OSError when the server cannot be reached, or is another.
    """

    def __init__(
        self, store: Store, database: Database, *, audit: AuditLog, clock: Clock, log: EventLog
    ) -> None:
        self._store = store
        self._database = database
        self._audit = audit
        self._clock = clock
        self._log = log

    def run(
        self,
        route: Route,
        who: Actor,
        *,
        advance: Callable[[int], None] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Delivered:
        """Deliver what was not delivered yet."""
        told, waiting = Delivered(), self._waiting(route)
        entries: dict[str, Entry] = {}

        def parcels() -> Parcel | None:
            while not stopped() and (entry := next(waiting, None)) is not None:
                try:
                    files = {row.name: row.sha256 for row in parse_receipt(entry.receipt).body.files}
                except FormatError as problem:
                    told.failed += 1
                    self._note(route, entry, {}, "", str(problem))
                    continue
                path = "/".join((*entry.path.split("/")[1:-1], entry.recorder_id, entry.id))
                entries[path] = entry
                return Parcel(group=self._store.group(entry.path), files=files, path=path)
            return None

        def done(parcel: Parcel, reason: str) -> None:
            entry = entries.pop(parcel.path)
            self._note(route, entry, dict(parcel.files), parcel.path, reason)
            if reason:
                told.failed += 1
                self._log.warning(Ev.DELIVERY_FAILED, subject=entry.id, route=route.name, reason=reason)
            else:
                told.delivered += 1
                self._audit.note(who, "recording_delivered", entry.id, detail=f"{route.name}: {parcel.path}")

        if self.behind(route):
            deliver(route.server, parcels, done=done, advance=advance)
        return told

    def behind(self, route: Route) -> int:
        """Count what is not delivered yet."""
        query = select(func.count()).select_from(_open(route, above=0).subquery())
        with self._database.read() as connection:
            return int(connection.execute(query).scalar() or 0)

    def log_of(self, route: Route, *, limit: int, failed_only: bool = False) -> list[Delivery]:
        """Give the newest rows of the log."""
        query = select(DELIVERED).where(_D.place == route.name).order_by(_D.row_id.desc()).limit(limit)
        if failed_only:
            query = query.where(_D.delivered_utc_s == 0)
        with self._database.read() as connection:
            return [_delivery(row) for row in connection.execute(query)]

    def _waiting(self, route: Route) -> Iterator[Entry]:
        """Give what is to be delivered, the oldest first; each once in a round."""
        last = 0
        while True:
            with self._database.read() as connection:
                query = _open(route, above=last).limit(_AT_ONCE)
                entries = [Entry(**row) for row in connection.execute(query).mappings()]
            for entry in entries:
                last = entry.row_id
                yield entry
            if not entries:
                return

    def _note(self, route: Route, entry: Entry, files: dict[str, str], path: str, reason: str) -> None:
        of_row = (_D.place == route.name, _D.row_id == entry.row_id)
        with self._database.write() as connection:
            tries = connection.execute(select(_D.tries).where(*of_row)).scalar() or 0
            connection.execute(delete(DELIVERED).where(*of_row))
            row: dict[str, Any] = {
                "place": route.name,
                "row_id": entry.row_id,
                "recording_id": entry.id,
                "delivered_utc_s": 0 if reason else self._clock.utc_ns() // NS_PER_S,
                "files": json.dumps(files, sort_keys=True).encode(),
                "path": path,
                "tries": int(tries) + 1,
                "reason": storable(reason),
            }
            connection.execute(insert(DELIVERED), row)


def _open(route: Route, *, above: int) -> Select[Any]:
    """Ask for recordings that are there and not delivered, in the order in which they came."""
    delivered = select(_D.row_id).where(_D.place == route.name, _D.delivered_utc_s > 0)
    query = ROWS.where(
        _R.row_id > above,
        _R.row_id.not_in(delivered),
        _R.row_id.not_in(select(TOMBSTONES.c.row_id)),
        _R.receipt != b"",
    )
    if route.recorders:
        query = query.where(_R.recorder_id.in_(route.recorders))
    if route.classes:
        terms = RECORDING_TERMS.c
        query = query.where(
            _R.row_id.in_(select(terms.row_id).where(terms.retention_class.in_(route.classes)))
        )
    return query.order_by(_R.row_id)


def _delivery(row: Any) -> Delivery:
    return Delivery(
        recording_id=row.recording_id,
        delivered_utc_s=int(row.delivered_utc_s),
        path=row.path,
        files=json.loads(bytes(row.files)),
        tries=int(row.tries),
        reason=row.reason,
    )
