"""Who serves a catalogue: one program alone, or several front ends by name, of which one leads.

Contract: locks of a database session decide, nothing that is written: who ends, however it ends, gives them
up. Where a session breaks, the server gives them up too: `keep` says so, and takes them again. Two that took
each other for dead for a moment do harm to nothing: what they do is safe beside each other, only done twice.
An SQLite file has one program, which its folder's lock sees to; that one leads always.
"""

from __future__ import annotations

import time
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from recorderd import durable
from recorderd.archive.database import Database
from recorderd.archive.front_end_tables import FRONT_ENDS, STORES
from recorderd.archive.store import Store
from recorderd.core.errors import ArchiveServed, CatalogueFailed, StoreForeign

MARK_NAME: Final = "store-mark"
ENTER_S: Final = 5.0  # so long the server may take to notice that our former process is gone
_LOOK_S: Final = 0.2
_SERVED: Final = 0x7265_636F_7264_7376  # shared by front ends, held alone by a program without a name
_LEADS: Final = 0x7265_636F_7264_6C65
_NAMES: Final = 0x7265_636F  # first half of the lock of a name


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEndSeen:
    """One front end as it has told of itself."""

    name: str
    endpoint: str
    version: str
    started_at: str
    seen_at: str
    leads: bool


class Presence:
    """This program's place among those that serve one catalogue.

    Thread: one at a time.
    """

    def __init__(self, database: Database, *, name: str = "", wait_s: float = ENTER_S) -> None:
        self._database = database
        self._name = name
        self._wait_s = wait_s
        self._session: Connection | None = None
        self.leads = database.is_sqlite

    def enter(self) -> None:
        """Take the place.

        Errors: ArchiveServed when another one has it; CatalogueFailed.
        """
        if self._database.is_sqlite:
            return
        self._session = self._database.session()
        try:
            end_s = time.monotonic() + self._wait_s
            while not self._take_place(self._session):
                if time.monotonic() > end_s:
                    raise ArchiveServed(path=self._database.name, name=self._name or "who has no name")
                time.sleep(_LOOK_S)
        except SQLAlchemyError as problem:
            self.leave()
            raise CatalogueFailed(path=self._database.name, reason=type(problem).__name__) from None
        except ArchiveServed:
            self.leave()
            raise

    def keep(self) -> bool:
        """See that the place is still ours, and lead if nobody else does; say whether we lead.

        Errors: ArchiveServed, CatalogueFailed: we have no place now, and lead no more.
        """
        if self._database.is_sqlite:
            return True
        if self._session is None:
            self.enter()
        try:
            wanted = "1" if self.leads else f"pg_try_advisory_lock({_LEADS})"
            held = self._asks(f"SELECT {wanted}")
        except SQLAlchemyError as problem:
            self.leave()
            raise CatalogueFailed(path=self._database.name, reason=type(problem).__name__) from None
        self.leads = held
        return held

    def leave(self) -> None:
        """Give the place up."""
        session, self._session, self.leads = self._session, None, self._database.is_sqlite
        if session is not None:
            session.invalidate()  # closed, not given back to the pool: its locks go with it
            session.close()

    def _take_place(self, session: Connection) -> bool:
        if not self._name:
            return self._asks(f"SELECT pg_try_advisory_lock({_SERVED})")
        half = zlib.crc32(self._name.encode()) - (1 << 31)
        if not self._asks(f"SELECT pg_try_advisory_lock({_NAMES}, {half})"):
            return False
        if self._asks(f"SELECT pg_try_advisory_lock_shared({_SERVED})"):
            return True
        session.execute(text(f"SELECT pg_advisory_unlock({_NAMES}, {half})"))
        return False

    def _asks(self, query: str) -> bool:
        return self._session is not None and bool(self._session.execute(text(query)).scalar())


def tell(database: Database, seen: FrontEndSeen) -> None:
    """Write down that a front end is there.

    Errors: CatalogueFailed.
    """
    row: dict[str, Any] = {name: getattr(seen, name) for name in FrontEndSeen.__slots__}
    with database.write() as connection:
        known = update(FRONT_ENDS).where(FRONT_ENDS.c.name == seen.name)
        if not connection.execute(known.values(row)).rowcount:
            connection.execute(insert(FRONT_ENDS), row)


def seen_front_ends(database: Database) -> list[FrontEndSeen]:
    """List front ends as they have told of themselves, also those that are gone.

    Errors: CatalogueFailed.
    """
    with database.read() as connection:
        rows = connection.execute(select(FRONT_ENDS).order_by(FRONT_ENDS.c.name)).mappings()
        return [FrontEndSeen(**row) for row in rows]


def check_store(store: Store, database: Database, count: Callable[[], int]) -> None:
    """See that a folder is the store that a server's catalogue belongs to: a mount may be missing.

    The first front end marks both.
    Durable: after return the mark survives in both.
    Errors: StoreForeign, CatalogueFailed, OSError.
    """
    if database.is_sqlite:
        return  # it lies in the folder itself
    path = store.root / MARK_NAME
    with database.write() as connection:  # of two that begin at once, one marks
        known = connection.execute(select(STORES.c.mark)).scalar()
        found = path.read_text().strip() if path.exists() else ""
        if not found and (known is not None or (count() and not store.published.days())):
            raise StoreForeign(path=store.root, found="no mark", wanted=known or "recordings")
        if not found:
            found = uuid.uuid4().hex
            durable.replace(path, f"{found}\n".encode())
        if known is None:
            connection.execute(insert(STORES), {"mark": found})
        elif found != known:
            raise StoreForeign(path=store.root, found=found, wanted=known)
