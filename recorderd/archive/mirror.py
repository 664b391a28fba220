"""The off-site copy: every published recording once more at another place; what is erased goes there too.

Rule: what is copied is what the archive signed for, compared before it goes; nothing there is overwritten,
and it shrinks by tombstones alone, in their order. The queue is the catalogue itself: rows and tombstones
above the marks are to be done. A mark is moved after the work, so that a cut lets some of it be done again.
What cannot be copied, or be erased there, is noted, told and tried again; it holds up nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from recorderd.archive.catalogue import ROWS, Entry
from recorderd.archive.database import Database, storable
from recorderd.archive.groups import sha256_of
from recorderd.archive.mirror_tables import MIRROR_LEFT, MIRRORS
from recorderd.archive.published import Published
from recorderd.archive.retention_tables import TOMBSTONES
from recorderd.archive.tables import RECORDINGS
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import FormatError
from recorderd.core.events import Ev, EventLog
from recorderd.wire.receipt import parse_receipt
from recorderd.wire.tombstone import Tombstone, parse_tombstone, tombstone_name

_STEP_ROWS: Final = 32
_UNDONE: Final = "is not erased in the store itself yet"
_R: Final = RECORDINGS.c
_S: Final = TOMBSTONES.c
_M: Final = MIRRORS.c
_L: Final = MIRROR_LEFT.c
_STONES: Final = select(_S.number, _S.row_id, _S.path, _S.document, _S.done_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A recording that could not be copied, or not be erased there."""

    row_id: int
    recording_id: str
    since_utc_s: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the copy is."""

    last_row: int
    last_tombstone: int
    rows_behind: int
    tombstones_behind: int
    left: int

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing is left to do."""
        return not (self.rows_behind or self.tombstones_behind or self.left)


class Mirror:
    """The copy of one archive's recordings.

    Thread: ``copy`` any; the rest one at a time.
    Errors: CatalogueFailed; OSError when the place of the copy as a whole cannot be reached.
    """

    def __init__(
        self,
        source: Published,
        place: Published,
        database: Database,
        *,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._source = source
        self.place = place
        self.name = place.shown("").rstrip("/")
        self._database = database
        self._clock = clock
        self._log = log
        self._fresh: set[str] = set()  # were copied before their rows stood, by ``copy``

    def begin(self) -> None:
        """See that the place of the copy is there; one that was begun before must be the same.

        Errors: FileNotFoundError when it is not: a file system that is not mounted must not be taken for it.
        """
        with self._database.read() as connection:
            is_new = connection.execute(select(_M.place).where(_M.place == self.name)).scalar() is None
        self.place.prepare(is_new=is_new)
        if is_new:
            with self._database.write() as connection:
                if connection.execute(select(_M.place).where(_M.place == self.name)).scalar() is None:
                    row: dict[str, Any] = {"place": self.name, "last_row": 0, "last_tombstone": 0}
                    connection.execute(insert(MIRRORS), row)

    def take(self, path: str, sha256s: Mapping[str, str]) -> None:
        """Copy a recording whose row does not stand yet.

        Durable: after return the copy survives.
        Errors: OSError.
        """
        self.copy(path, sha256s)
        self._fresh.add(path)

    def copy(self, path: str, sha256s: Mapping[str, str]) -> None:
        """Copy one recording that is to consist of these files.

        Durable: after return the copy survives.
        Errors: OSError, also when the recording is not what it is to be.
        """
        self.place.prepare(is_new=False)
        group = self._source.group(path)
        for name, digest in sha256s.items():
            if sha256_of(group, name)[0] != digest:
                raise OSError(f"{path}/{name} is not what was signed for: it is not copied")
        self.place.copy(path, group, sorted(sha256s))

    def run(
        self,
        *,
        advance: Callable[[int], None] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
        again: bool = False,
    ) -> Progress:
        """Copy and remove until nothing is left, or until it is stopped; ``again`` with what was left before.

        ``advance`` hears of the octets of each recording.
        """
        self.begin()
        for row in self.left():
            if stopped():
                break
            if again or row.reason == _UNDONE:
                self._try_again(row, advance)
        while not stopped() and self._rows(advance, stopped):
            pass
        while not stopped() and self._tombstones(stopped):
            pass
        return self.progress()

    def progress(self) -> Progress:
        """Tell how far it is."""
        with self._database.read() as connection:
            last_row, last_tombstone = self._marks(connection)
            behind = select(func.count()).select_from(RECORDINGS).where(_R.row_id > last_row)
            stones = select(func.count()).select_from(TOMBSTONES).where(_S.number > last_tombstone)
            left = select(func.count()).select_from(MIRROR_LEFT).where(_L.place == self.name)
            return Progress(
                last_row=last_row,
                last_tombstone=last_tombstone,
                rows_behind=int(connection.execute(behind).scalar() or 0),
                tombstones_behind=int(connection.execute(stones).scalar() or 0),
                left=int(connection.execute(left).scalar() or 0),
            )

    def left(self) -> list[Left]:
        """List what could not be copied, or not be erased there."""
        columns = _L.row_id, _L.recording_id, _L.since_utc_s, _L.reason
        with self._database.read() as connection:
            query = select(*columns).where(_L.place == self.name).order_by(_L.row_id)
            return [Left(**row) for row in connection.execute(query).mappings()]

    # --- recordings ----------------------------------------------------------------------------------

    def _rows(self, advance: Callable[[int], None], stopped: Callable[[], bool]) -> bool:
        """Copy some more recordings; tell whether there were any."""
        with self._database.read() as connection:
            last_row, _ = self._marks(connection)
            query = ROWS.where(_R.row_id > last_row).order_by(_R.row_id).limit(_STEP_ROWS)
            entries = [Entry(**row) for row in connection.execute(query).mappings()]
        for entry in entries:
            if stopped():
                break
            self._copy_row(entry, advance)
            last_row = entry.row_id
        self._mark(last_row=last_row)
        return bool(entries)

    def _copy_row(self, entry: Entry | None, advance: Callable[[int], None]) -> None:
        if entry is None:
            return
        reason = ""
        if entry.receipt and not self._is_gone(entry.row_id):
            try:
                files = {row.name: row.sha256 for row in parse_receipt(entry.receipt).body.files}
                if entry.path not in self._fresh:
                    self.copy(entry.path, files)
            except (FormatError, OSError) as problem:
                self.place.prepare(is_new=False)  # raises when nothing can be done there at all
                reason = "" if self._is_gone(entry.row_id) else _why(problem)  # erased meanwhile
        self._note(entry.row_id, entry.id, reason)
        self._fresh.discard(entry.path)
        advance(entry.size_bytes)

    def _is_gone(self, row_id: int) -> bool:
        with self._database.read() as connection:
            query = select(_S.number).where(_S.row_id == row_id).limit(1)
            return connection.execute(query).scalar() is not None

    def _entry(self, row_id: int) -> Entry | None:
        with self._database.read() as connection:
            row = connection.execute(ROWS.where(_R.row_id == row_id)).mappings().first()
        return Entry(**row) if row is not None else None

    # --- tombstones ----------------------------------------------------------------------------------

    def _tombstones(self, stopped: Callable[[], bool]) -> bool:
        """Let some more tombstones take effect there; tell whether there were any that could."""
        with self._database.read() as connection:
            _, last = self._marks(connection)
            query = _STONES.where(_S.number > last).order_by(_S.number).limit(_STEP_ROWS)
            rows = connection.execute(query).all()
        begun = last
        for row in rows:
            if stopped() or not (row.done_at or self._is_passed(row.number)):  # the store itself comes first
                break
            self._note(row.row_id, row.path.rpartition("/")[2], self._try(row))
            last = row.number
        self._mark(last_tombstone=last)
        return last > begun

    def _is_passed(self, number: int) -> bool:
        """Tell whether a later tombstone has taken effect in the store, so that this one was left behind."""
        with self._database.read() as connection:
            query = select(_S.number).where(_S.number > number, _S.done_at != "").limit(1)
            return connection.execute(query).scalar() is not None

    def _try(self, row: Row[*tuple[Any, ...]]) -> str:
        """Let one tombstone take effect there; say why it does not, or nothing."""
        if not row.done_at:
            return _UNDONE
        try:
            self._settle(row.path, parse_tombstone(bytes(row.document)).body, bytes(row.document))
        except (FormatError, OSError) as problem:
            self.place.prepare(is_new=False)  # raises when nothing can be done there at all
            return _why(problem)
        return ""

    def _try_again(self, left: Left, advance: Callable[[int], None]) -> None:
        """Copy, or erase there, what could not be before."""
        with self._database.read() as connection:
            _, last = self._marks(connection)
            query = _STONES.where(_S.row_id == left.row_id, _S.number <= last).order_by(_S.number)
            rows = connection.execute(query).all()
        if not rows:
            self._copy_row(self._entry(left.row_id), advance)
            return
        reasons = (self._try(row) for row in rows)
        self._note(left.row_id, left.recording_id, next((reason for reason in reasons if reason), ""))

    def _settle(self, path: str, body: Tombstone, document: bytes) -> None:
        """Bring one recording there to what its tombstone says, or to what a later one says."""
        there, source = self.place.group(path), self._source.group(path)
        names = set(there.names())
        for row in body.kept:
            if row.name in names and sha256_of(there, row.name)[0] == row.sha256:
                continue
            if not source.has(row.name) or sha256_of(source, row.name)[0] != row.sha256:
                continue  # a later tombstone has taken it
            if row.name in names:
                self.place.remove(path, [row.name])
            self.place.copy(path, source, [row.name])
        stone = tombstone_name(body.recording_id)
        self.place.put(path, stone, document)
        stay = {stone, *(row.name for row in body.kept)}
        self.place.remove(path, sorted(name for name in names if name not in stay))

    # --- what is written down ------------------------------------------------------------------------

    def _marks(self, connection: Connection) -> tuple[int, int]:
        query = select(_M.last_row, _M.last_tombstone).where(_M.place == self.name)
        row = connection.execute(query).first()
        return (int(row[0]), int(row[1])) if row is not None else (0, 0)

    def _mark(self, **values: int) -> None:
        with self._database.write() as connection:
            connection.execute(update(MIRRORS).where(_M.place == self.name).values(**values))

    def _note(self, row_id: int, recording_id: str, reason: str) -> None:
        of_row = (_L.place == self.name, _L.row_id == row_id)
        with self._database.read() as connection:
            known = connection.execute(select(_L.since_utc_s, _L.reason).where(*of_row)).first()
        if reason and reason != _UNDONE:
            self._log.error(Ev.MIRROR_LEFT, subject=recording_id, place=self.name, reason=reason)
        if (known.reason if known is not None else "") == reason:
            return
        since_utc_s = known.since_utc_s if known is not None else self._clock.utc_ns() // NS_PER_S
        with self._database.write() as connection:
            connection.execute(delete(MIRROR_LEFT).where(*of_row))
            if reason:
                row = {"place": self.name, "row_id": row_id, "recording_id": recording_id}
                row |= {"since_utc_s": since_utc_s, "reason": reason}
                connection.execute(insert(MIRROR_LEFT), row)


def _why(problem: Exception) -> str:
    return storable(str(problem)) or type(problem).__name__
