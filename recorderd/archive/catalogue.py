"""The catalogue: one row per archived recording, written after its files and before its receipt.

Rule: a row is added once and never changed, but for `chain`, which a neighbour's arrival may settle. Beside
them stand the recorders' signed heads, each document once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, func, insert, literal, select, text, tuple_, update

from recorderd.archive.chain_links import ChainState, Links, few
from recorderd.archive.database import Database
from recorderd.archive.migrations import migrate
from recorderd.archive.search_index import index_rows
from recorderd.archive.tables import HEADS, ISSUED, NUMBER_MAX, RECORDINGS
from recorderd.wire.chain_head import HeadBody
from recorderd.wire.manifest import Manifest

CATALOGUE_NAME: Final = "catalogue.sqlite3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the catalogue."""

    id: str
    recorder_id: str
    sequence: int
    previous_manifest_sha256: str
    manifest_sha256: str
    call_id: str
    caller: str
    callee: str
    direction: str
    extension: str
    trunk: str
    queue: str
    started_at: str
    duration_s: float
    channels: int
    sample_rate_hz: int
    size_bytes: int  # of all files
    state: str  # archived, or the outcome of an entry without audio
    chain: str
    path: str  # relative to the data folder
    archived_at: str
    receipt: bytes
    row_id: int = 0

    def plain(self) -> dict[str, Any]:
        """Return the row without the receipt, for people and JSON."""
        return {name: value for name, value in asdict(self).items() if name != "receipt"}


_WORD_MAX_BYTES: Final = (
    512  # four are one key with recorder and state: PostgreSQL's have at most 2704 octets
)
_CALL_ID_MAX_BYTES: Final = 2048
_AT_ONCE: Final = 500  # rows that are read together
_R: Final = RECORDINGS.c
_NAMES: Final = tuple(entry.name for entry in fields(Entry))
ROWS: Final = select(*(_R[name] for name in _NAMES))  # what an Entry holds
_ONE: Final = ROWS.where(_R.recorder_id == bindparam("recorder_id"), _R.id == bindparam("id"))
_SOME: Final = ROWS.where(
    _R.recorder_id == bindparam("recorder_id"), _R.id.in_(bindparam("ids", expanding=True))
)
_STATED: Final = select(HEADS.c.sequence, HEADS.c.manifest_sha256).where(
    HEADS.c.recorder_id == bindparam("recorder_id"),
    HEADS.c.sequence.in_(bindparam("sequences", expanding=True)),
)


def _storable(text: str) -> str:
    """Give what both databases can hold: PostgreSQL's text has no U+0000."""
    return text.replace("\0", "\ufffd")


def _key(text: str, *, limit_bytes: int = _WORD_MAX_BYTES) -> str:
    """Give what both databases can hold in an index; the manifest keeps the rest of what is longer."""
    octets = _storable(text).encode()
    return octets[:limit_bytes].decode(errors="ignore")


def entry_of(
    manifest: Manifest, *, manifest_sha256: str, size_bytes: int, path: str, archived_at: str
) -> Entry:
    """Make the row of a verified recording; chain and receipt are filled in by ``Catalogue.add``."""
    call = manifest.call
    return Entry(
        id=manifest.recording_id,
        recorder_id=manifest.recorder_id,
        sequence=manifest.sequence,
        previous_manifest_sha256=manifest.previous_manifest_sha256,
        manifest_sha256=manifest_sha256,
        call_id=_key(call.call_id, limit_bytes=_CALL_ID_MAX_BYTES),
        caller=_storable(call.caller),
        callee=_storable(call.callee),
        direction=_key(call.direction),
        extension=_key(call.extension),
        trunk=_key(call.trunk),
        queue=_key(call.queue),
        started_at=manifest.started_at,
        duration_s=round(manifest.duration_samples / manifest.sample_rate_hz, 6),
        channels=manifest.channels,
        sample_rate_hz=manifest.sample_rate_hz,
        size_bytes=size_bytes,
        state="archived" if manifest.audio is not None else manifest.outcome,
        chain=ChainState.PENDING,
        path=path,
        archived_at=archived_at,
        receipt=b"",
    )


class Catalogue:
    """The rows of one database.

    Thread: any.
    Errors: CatalogueFailed when the database refuses.
    """

    def __init__(self, place: Path | Database, *, read_only: bool = False, region: str = "") -> None:
        self._region = region
        owned = isinstance(place, Path)
        self.database = Database.of_file(place, read_only=read_only) if isinstance(place, Path) else place
        self._owned = owned
        if not read_only:
            migrate(self.database)

    def close(self) -> None:
        """Let go of the database, if it was opened here."""
        if self._owned:
            self.database.close()

    def add_all(
        self, rows: Sequence[tuple[Entry, Callable[[int], bytes]]], *, once: bool = False
    ) -> list[tuple[Entry, list[Entry]]]:
        """Add rows, all or none, and settle the chain around each; give each and the rows found broken by it.

        What stands beside a row makes its receipt from the row's number; it is committed with the row. With
        ``once`` the row of the same recording, which another front end has added, is given as it stands.
        Durable: after return the rows survive.
        """
        with self.database.write() as connection:
            known = _same(connection, [entry for entry, _ in rows]) if once else {}
            fresh = {number: row for number, row in enumerate(rows) if number not in known}
            links = Links(connection, [entry for entry, _ in fresh.values()])
            issued, new = _issued(connection), dict[int, Entry]()
            broken: dict[int, list[int]] = {}
            for row_id, (number, (entry, make_receipt)) in enumerate(fresh.items(), issued + 1):
                chain, receipt = links.state_of(entry), make_receipt(row_id)
                new[number] = replace(entry, row_id=row_id, chain=chain.value, receipt=receipt)
                broken[number] = [row_id] if chain is ChainState.BROKEN else []
                broken[number] += links.add(new[number])
            if new:
                connection.execute(insert(RECORDINGS), [_values(entry) for entry in new.values()])
                _count_up(connection, issued + len(new))
                links.settle()
                index_rows(connection, list(new.values()), region=self._region)
            told = _by_number(connection, [row_id for row_ids in broken.values() for row_id in row_ids])
            added = known | new
            return [
                (added[number], [told[row_id] for row_id in broken.get(number, ())])
                for number in range(len(rows))
            ]

    def find(self, recorder_id: str, recording_id: str) -> Entry | None:
        """Return the row of one recorder's recording."""
        with self.database.read() as connection:
            found = connection.execute(_ONE, {"recorder_id": recorder_id, "id": recording_id}).mappings()
            return next((Entry(**row) for row in found), None)

    def by_id(self, recording_id: str) -> list[Entry]:
        """Return the rows of a recording id; more than one only if two recorders chose the same."""
        return self._rows(ROWS.where(_R.id == recording_id).order_by(_R.row_id))

    def by_path(self, path: str) -> Entry | None:
        """Return the row whose files stand at ``path``."""
        recording_id = path.rpartition("/")[2]
        return next((entry for entry in self.by_id(recording_id) if entry.path == path), None)

    def all(self) -> list[Entry]:
        """Return every row, oldest recording first."""
        return self._rows(ROWS.order_by(_R.started_at, _R.row_id))

    def by_start(self, *, after: Entry | None = None) -> Iterator[Entry]:
        """Give every row, oldest recording first, from behind one of them on; few are in memory at a time."""
        last = after
        while True:
            some = ROWS.order_by(_R.started_at, _R.row_id).limit(_AT_ONCE)
            if last is not None:
                beyond = tuple_(_R.started_at, _R.row_id) > tuple_(
                    literal(last.started_at), literal(last.row_id)
                )
                some = some.where(beyond)
            rows = self._rows(some)
            yield from rows
            if len(rows) < _AT_ONCE:
                return
            last = rows[-1]

    def up_to(self, row_id: int) -> Iterator[Entry]:
        """Give every row up to a number in the order of their numbers; few are in memory at a time."""
        last = 0
        while True:
            some = ROWS.where(_R.row_id > last, _R.row_id <= row_id).order_by(_R.row_id).limit(_AT_ONCE)
            rows = self._rows(some)
            yield from rows
            if len(rows) < _AT_ONCE:
                return
            last = rows[-1].row_id

    def paths_of(self, recording_ids: Sequence[str]) -> set[str]:
        """Return where the files of some recordings stand; at most a few hundred are asked for."""
        with self.database.read() as connection:
            return set(connection.execute(select(_R.path).where(_R.id.in_(recording_ids))).scalars())

    def size_bytes(self) -> int:
        """Add up the sizes of all recordings."""
        with self.database.read() as connection:
            return int(connection.execute(select(func.sum(_R.size_bytes))).scalar() or 0)

    def count(self) -> int:
        """Count the rows."""
        with self.database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(RECORDINGS)).scalar_one())

    def keep_head(self, body: HeadBody, document: bytes, *, kept_at: str) -> bool:
        """Keep a verified head; False when this very document is here already.

        Durable: after return it survives.
        """
        row = {
            "recorder_id": body.recorder_id,
            "number": body.number,
            "sequence": body.sequence,
            "manifest_sha256": body.manifest_sha256,
            "document_sha256": hashlib.sha256(document).hexdigest(),
            "kept_at": kept_at,
            "document": document,
        }
        same = select(HEADS.c.number).where(
            HEADS.c.recorder_id == body.recorder_id, HEADS.c.document_sha256 == row["document_sha256"]
        )
        with self.database.write() as connection:
            if connection.execute(same).first() is not None:
                return False
            connection.execute(insert(HEADS), row)
            return True

    def heads(self) -> list[tuple[str, bytes]]:
        """Return recorder and document of every head, oldest first."""
        if not self.database.has_table(HEADS.name):
            return []  # of a release before there were any, opened to be read only
        order = (HEADS.c.recorder_id, HEADS.c.number, HEADS.c.kept_at, HEADS.c.document_sha256)
        query = select(HEADS.c.recorder_id, HEADS.c.document).order_by(*order)
        with self.database.read() as connection:
            return [(str(row[0]), bytes(row[1])) for row in connection.execute(query)]

    def heads_beside(self, recorder_id: str, number: int) -> list[bytes]:
        """Return the documents of a recorder's heads with this number, the one before and the one after."""
        near = HEADS.c.number.between(number - 1, min(number + 1, NUMBER_MAX))
        query = select(HEADS.c.document).where(HEADS.c.recorder_id == recorder_id, near)
        with self.database.read() as connection:
            return [bytes(row[0]) for row in connection.execute(query.order_by(HEADS.c.number))]

    def stated_at(self, recorder_id: str, sequences: Sequence[int]) -> dict[int, set[str]]:
        """Return the manifest digests that heads state for places in the chain, where any does."""
        stated: dict[int, set[str]] = {}
        with self.database.read() as connection:
            for some in few(sequences):
                values = {"recorder_id": recorder_id, "sequences": some}
                for row in connection.execute(_STATED, values):
                    stated.setdefault(row.sequence, set()).add(row.manifest_sha256)
        return stated

    def manifests_at(self, recorder_id: str, sequence: int) -> set[str]:
        """Return the manifest digests of what is archived for a place in the chain."""
        with self.database.read() as connection:
            return _manifests_at(connection, recorder_id, sequence)

    def issued(self) -> int:
        """Return how many rows were ever added: the number of the newest receipt."""
        with self.database.read() as connection:
            return _issued(connection)

    def _rows(self, query: Select[Any]) -> list[Entry]:
        with self.database.read() as connection:
            return _entries(connection, query)


def _values(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _NAMES}


def _by_number(connection: Connection, row_ids: Sequence[int]) -> dict[int, Entry]:
    return {
        entry.row_id: entry
        for some in few(row_ids)
        for entry in _entries(connection, ROWS.where(_R.row_id.in_(some)))
    }


def _entries(connection: Connection, query: Select[Any]) -> list[Entry]:
    return [Entry(**row) for row in connection.execute(query).mappings()]


def _same(connection: Connection, entries: Sequence[Entry]) -> dict[int, Entry]:
    """Find the rows of these very recordings, by their places among the entries."""
    known: dict[tuple[str, str], Entry] = {}
    for recorder_id in {entry.recorder_id for entry in entries}:
        ids = [entry.id for entry in entries if entry.recorder_id == recorder_id]
        for some in few(ids):
            found = connection.execute(_SOME, {"recorder_id": recorder_id, "ids": some}).mappings()
            known |= {(row["recorder_id"], row["id"]): Entry(**row) for row in found}
    same: dict[int, Entry] = {}
    for number, entry in enumerate(entries):
        there = known.get((entry.recorder_id, entry.id))
        if there is not None and (there.path, there.manifest_sha256) == (entry.path, entry.manifest_sha256):
            same[number] = there
    return same


def _issued(connection: Connection) -> int:
    if connection.dialect.name == "sqlite":
        query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        return int(connection.execute(query, {"name": RECORDINGS.name}).scalar() or 0)
    number = select(ISSUED.c.number).where(ISSUED.c.table_name == RECORDINGS.name)
    return int(connection.execute(number).scalar() or 0)


def _count_up(connection: Connection, row_id: int) -> None:
    """Note that a number was given; SQLite does it by itself, and as little without the row."""
    if connection.dialect.name == "sqlite":
        return
    done = connection.execute(
        update(ISSUED).where(ISSUED.c.table_name == RECORDINGS.name).values(number=row_id)
    )
    if not done.rowcount:
        connection.execute(insert(ISSUED), {"table_name": RECORDINGS.name, "number": row_id})


def _manifests_at(connection: Connection, recorder_id: str, sequence: int) -> set[str]:
    where = (_R.recorder_id == recorder_id, _R.sequence == sequence)
    return set(connection.execute(select(_R.manifest_sha256).where(*where)).scalars())
