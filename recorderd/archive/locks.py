"""Object Lock as the archive's own terms and holds are: objects are locked for as long, held while we hold.

Rule: a date is only ever put off, and only a legal hold that we have set is taken off: where another's stands
on any object of a recording, ours is set with it and stays with it. What is to be set is written down before
it is set, and what is taken off after it was taken off: cut or refused between, it is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from recorderd.archive.database import Database
from recorderd.archive.hold_book import HoldBook
from recorderd.archive.locks_tables import OBJECT_LOCKS
from recorderd.archive.objects import Objects, why_locked
from recorderd.archive.retention_book import RetentionBook, terms_of_stated
from recorderd.archive.tables import RECORDINGS
from recorderd.core.clock import NS_PER_S, Clock, utc_text
from recorderd.policy.retention import Ruling
from recorderd.wire.manifest import Manifest
from recorderd.wire.recording_index import RecordingIndex

_STEP_ROWS: Final = 200
_BEGUN: Final = 0  # in place of a date: what is written down is not set yet, or not on every object
_NEW_ROW: Final = 1 << 62  # under the newest terms, whatever its number will be
_R: Final = RECORDINGS.c
_L: Final = OBJECT_LOCKS.c


# The terms' number, and the number of each hold with the recording it names: a call's others join it later.
LockState = tuple[int, tuple[tuple[int, str], ...]]


class LockUntil(StrEnum):
    """Until when objects are locked."""

    MINIMUM = "minimum"  # before which nobody may erase by hand
    DUE = "due"  # until the sweep erases


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What is to be set of one recording."""

    row_id: int
    path: str
    until_utc_s: int
    is_held: bool
    was_held: bool  # by us, or it was begun
    is_begun: bool = False  # a hold was written down, and not all of it set

    @property
    def hold(self) -> bool | None:
        """Whether a legal hold is to be set or taken off; None = neither."""
        return self.is_held if self.is_begun or self.is_held != self.was_held else None


class ObjectLocks:
    """The locks of one archive's objects.

    Thread: any.
    Errors: CatalogueFailed; EvidenceError when the terms are not as they were signed; OSError.
    """

    def __init__(
        self,
        objects: Objects,
        database: Database,
        *,
        book: RetentionBook,
        holds: HoldBook,
        until: LockUntil,
        clock: Clock,
    ) -> None:
        self._objects = objects
        self._database = database
        self._book = book
        self._holds = holds
        self._until = until
        self._clock = clock

    def until_of(self, stated: Sequence[Manifest | RecordingIndex]) -> list[int]:
        """Say until when new recordings are to be locked; 0 = not at all, for nobody knows their class."""
        with self._database.read() as connection:
            ruling = self._book.ruling(connection)
        found = []
        for one in stated:
            try:
                name, ended_utc_s = terms_of_stated(one)
            except ValueError:
                found.append(0)
            else:
                found.append(self._until_utc_s(ruling, _NEW_ROW, ended_utc_s, name))
        return found

    def locked(self, row_ids: Sequence[int]) -> dict[int, str]:
        """Foresee, by row, why the object store will not let recordings go, by what was set there."""
        if not self._objects.is_final:
            return {}
        now_utc_s = self._clock.utc_ns() // NS_PER_S
        found: dict[int, str] = {}
        with self._database.read() as connection:
            for at in range(0, len(row_ids), _STEP_ROWS):
                query = select(_L.row_id, _L.until_utc_s).where(
                    _L.row_id.in_(list(row_ids[at : at + _STEP_ROWS])), _L.until_utc_s > now_utc_s
                )
                found |= {row_id: why_locked(until) for row_id, until in connection.execute(query)}
        return found

    def state(self) -> LockState:
        """Tell what locks depend on: when it is another, ``match`` has something to do."""
        with self._database.read() as connection:
            holds = self._holds.in_force(connection, now_utc=utc_text(self._clock.utc_ns()))
            held = tuple(sorted((hold.number, hold.selection.recording_id) for hold in holds))
            return self._book.ruling(connection).number, held

    def match(
        self,
        row_ids: Sequence[int] | None = None,
        *,
        above: int = 0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> int:
        """Bring the locks of these recordings, or of all above a row, to what they are to be.

        Returns the last row that was looked at.
        Durable: what was set survives.
        """
        last = above
        while not stopped():
            with self._database.read() as connection:
                query = select(_R.row_id).where(_R.row_id > last).order_by(_R.row_id).limit(_STEP_ROWS)
                if row_ids is not None:
                    query = query.where(_R.row_id.in_(list(row_ids)))
                rows = list(connection.execute(query).scalars())
                wishes = self._wishes(connection, rows)
            for wish in wishes:
                self._fulfil(wish)
            if rows:
                last = rows[-1]
            if len(rows) < _STEP_ROWS:
                break
        return last

    def _wishes(self, connection: Connection, row_ids: Sequence[int]) -> list[_Wish]:
        """Find what is not as it is to be."""
        ruling = self._book.ruling(connection)
        holds = self._holds.index(connection, now_utc=utc_text(self._clock.utc_ns()))
        query = select(_R.row_id, _R.path, _L.until_utc_s, _L.is_held)
        joined = RECORDINGS.join(OBJECT_LOCKS, _L.row_id == _R.row_id, isouter=True)
        known = {
            row.row_id: row
            for row in connection.execute(query.select_from(joined).where(_R.row_id.in_(list(row_ids))))
        }
        wishes = []
        for kept in self._book.kept(connection, row_ids):
            row, name = known[kept.row_id], kept.facts.retention_class
            until_utc_s = self._until_utc_s(ruling, kept.row_id, kept.ended_utc_s, name)
            wish = _Wish(
                row_id=kept.row_id,
                path=row.path,
                until_utc_s=max(until_utc_s, row.until_utc_s or 0),
                is_held=bool(holds.of(kept.facts)),
                was_held=bool(row.is_held),
                is_begun=bool(row.is_held) and row.until_utc_s == _BEGUN,
            )
            if row.until_utc_s is None or until_utc_s > row.until_utc_s or wish.hold is not None:
                wishes.append(wish)
        return wishes

    def _fulfil(self, wish: _Wish) -> None:
        is_ours = wish.is_held
        if wish.hold and not wish.was_held:
            is_ours = not self._objects.is_held(wish.path)
            if is_ours:
                self._write_down(wish, until_utc_s=_BEGUN, is_held=True)
        self._objects.lock(wish.path, until_utc_s=wish.until_utc_s, is_held=wish.hold)
        self._write_down(wish, until_utc_s=wish.until_utc_s, is_held=is_ours)

    def _write_down(self, wish: _Wish, *, until_utc_s: int, is_held: bool) -> None:
        with self._database.write() as connection:
            connection.execute(delete(OBJECT_LOCKS).where(_L.row_id == wish.row_id))
            row = {"row_id": wish.row_id, "until_utc_s": until_utc_s, "is_held": is_held}
            connection.execute(insert(OBJECT_LOCKS), row)

    def _until_utc_s(self, ruling: Ruling, row_id: int, ended_utc_s: int, name: str) -> int:
        due = ruling.due(row_id=row_id, ended_utc_s=ended_utc_s, name=name)
        wanted = due.due_utc_s if self._until is LockUntil.DUE else due.earliest_utc_s
        return max(wanted or 0, due.floor_utc_s or 0) if name else 0
