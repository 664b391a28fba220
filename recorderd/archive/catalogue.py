"""The catalogue: one SQLite row per archived recording, written after its files and before its receipt.

Rule: a row is added once and never changed, but for `chain`, which a neighbour's arrival may settle. Beside
them stand the recorders' signed heads, each document once.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from recorderd.core.errors import CatalogueFailed
from recorderd.wire.chain_head import HeadBody
from recorderd.wire.manifest import GENESIS_SHA256, Manifest

CATALOGUE_NAME: Final = "catalogue.sqlite3"
_BUSY_S: Final = 10  # `list` may read while a row is written
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS recordings (
    row_id INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    recorder_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    previous_manifest_sha256 TEXT NOT NULL,
    manifest_sha256 TEXT NOT NULL,
    call_id TEXT NOT NULL,
    caller TEXT NOT NULL,
    callee TEXT NOT NULL,
    direction TEXT NOT NULL,
    extension TEXT NOT NULL,
    trunk TEXT NOT NULL,
    queue TEXT NOT NULL,
    started_at TEXT NOT NULL,
    duration_s REAL NOT NULL,
    channels INTEGER NOT NULL,
    sample_rate_hz INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    state TEXT NOT NULL,
    chain TEXT NOT NULL,
    path TEXT NOT NULL,
    archived_at TEXT NOT NULL,
    receipt BLOB NOT NULL,
    UNIQUE (recorder_id, id)
);
CREATE TABLE IF NOT EXISTS heads (
    recorder_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    manifest_sha256 TEXT NOT NULL,
    document_sha256 TEXT NOT NULL,
    kept_at TEXT NOT NULL,
    document BLOB NOT NULL,
    UNIQUE (recorder_id, document_sha256)
);
CREATE INDEX IF NOT EXISTS heads_by_sequence ON heads (recorder_id, sequence);
CREATE INDEX IF NOT EXISTS heads_by_number ON heads (recorder_id, number);
CREATE INDEX IF NOT EXISTS by_sequence ON recordings (recorder_id, sequence);
CREATE INDEX IF NOT EXISTS by_id ON recordings (id);
CREATE INDEX IF NOT EXISTS by_start ON recordings (started_at);
"""


class ChainState(StrEnum):
    """Whether a recording follows its recorder's previous one."""

    LINKED = "linked"
    PENDING = "pending"  # the previous one has not come yet
    BROKEN = "broken"


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


_COLUMNS: Final = tuple(entry.name for entry in fields(Entry))


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
        call_id=call.call_id,
        caller=call.caller,
        callee=call.callee,
        direction=call.direction,
        extension=call.extension,
        trunk=call.trunk,
        queue=call.queue,
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
    """One SQLite file.

    Thread: any, one at a time.
    Errors: CatalogueFailed when SQLite refuses.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._lock = threading.RLock()
        with self._failures():
            if read_only:
                address = f"{path.resolve().as_uri()}?mode=ro"
                self._database = sqlite3.connect(address, uri=True, timeout=_BUSY_S)
                return
            self._database = sqlite3.connect(
                path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def add_all(
        self, rows: Sequence[tuple[Entry, Callable[[int], bytes]]]
    ) -> list[tuple[Entry, list[Entry]]]:
        """Add rows, all or none, and settle the chain around each; give each and the rows found broken by it.

        What stands beside a row makes its receipt from the row's number; it is committed with the row.
        Durable: after return the rows survive.
        """
        with self._failures(), self._transaction():
            return [self._add(entry, make_receipt) for entry, make_receipt in rows]

    def find(self, recorder_id: str, recording_id: str) -> Entry | None:
        """Return the row of one recorder's recording."""
        rows = self._select("WHERE recorder_id = ? AND id = ?", (recorder_id, recording_id))
        return rows[0] if rows else None

    def by_id(self, recording_id: str) -> list[Entry]:
        """Return the rows of a recording id; more than one only if two recorders chose the same."""
        return self._select("WHERE id = ? ORDER BY row_id", (recording_id,))

    def by_path(self, path: str) -> Entry | None:
        """Return the row whose files stand at ``path``."""
        recording_id = path.rpartition("/")[2]
        return next((entry for entry in self.by_id(recording_id) if entry.path == path), None)

    def all(self) -> list[Entry]:
        """Return every row, oldest recording first."""
        return self._select("ORDER BY started_at, row_id", ())

    def count(self) -> int:
        """Count the rows."""
        with self._failures():
            return int(self._database.execute("SELECT count(*) FROM recordings").fetchone()[0])

    def keep_head(self, body: HeadBody, document: bytes, *, kept_at: str) -> bool:
        """Keep a verified head; False when this very document is here already.

        Durable: after return it survives.
        """
        sha256 = hashlib.sha256(document).hexdigest()
        row = (
            *(body.recorder_id, body.number, body.sequence, body.manifest_sha256),
            *(sha256, kept_at, document),
        )
        with self._failures(), self._transaction():
            done = self._database.execute("INSERT OR IGNORE INTO heads VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            return done.rowcount > 0

    def heads(self) -> list[tuple[str, bytes]]:
        """Return recorder and document of every head, oldest first."""
        with self._failures():
            known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'heads'"
            if self._database.execute(known).fetchone() is None:
                return []  # of a release before there were any, opened to be read only
            query = "SELECT recorder_id, document FROM heads ORDER BY recorder_id, number, rowid"
            return [(str(row[0]), bytes(row[1])) for row in self._database.execute(query)]

    def heads_beside(self, recorder_id: str, number: int) -> list[bytes]:
        """Return the documents of a recorder's heads with this number, the one before and the one after."""
        with self._failures():
            rows = self._database.execute(
                "SELECT document FROM heads WHERE recorder_id = ? AND number BETWEEN ? AND ? ORDER BY number",
                (recorder_id, number - 1, number + 1),
            )
            return [bytes(row[0]) for row in rows]

    def stated_at(self, recorder_id: str, sequence: int) -> set[str]:
        """Return the manifest digests that heads state for a place in the chain."""
        with self._failures():
            rows = self._database.execute(
                "SELECT manifest_sha256 FROM heads WHERE recorder_id = ? AND sequence = ?",
                (recorder_id, sequence),
            )
            return {str(row[0]) for row in rows}

    def manifests_at(self, recorder_id: str, sequence: int) -> set[str]:
        """Return the manifest digests of what is archived for a place in the chain."""
        with self._failures():
            return self._manifests_at(recorder_id, sequence)

    def issued(self) -> int:
        """Return how many rows were ever added: the number of the newest receipt."""
        with self._failures():
            return self._next_row_id() - 1

    def _add(self, entry: Entry, make_receipt: Callable[[int], bytes]) -> tuple[Entry, list[Entry]]:
        row_id = self._next_row_id()
        chain = self._chain_of(entry)
        values = {**asdict(entry), "row_id": row_id, "chain": chain, "receipt": make_receipt(row_id)}
        added = Entry(**values)
        names = ", ".join(_COLUMNS)
        places = ", ".join(f":{name}" for name in _COLUMNS)
        self._database.execute(f"INSERT INTO recordings ({names}) VALUES ({places})", values)
        broken = [added] if chain is ChainState.BROKEN else []
        return added, [*broken, *self._settle_next(entry)]

    def _select(self, tail: str, values: tuple[object, ...]) -> list[Entry]:
        with self._failures(), closing(self._database.cursor()) as cursor:
            cursor.execute(f"SELECT {', '.join(_COLUMNS)} FROM recordings {tail}", values)
            return [Entry(**dict(zip(_COLUMNS, row, strict=True))) for row in cursor.fetchall()]

    def _next_row_id(self) -> int:
        row = self._database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'recordings'").fetchone()
        return int(row[0]) + 1 if row else 1

    def _chain_of(self, entry: Entry) -> ChainState:
        at_sequence = self._manifests_at(entry.recorder_id, entry.sequence)
        if at_sequence:
            return ChainState.BROKEN  # two manifests with one number
        if entry.sequence == 1:
            genesis = entry.previous_manifest_sha256 == GENESIS_SHA256
            return ChainState.LINKED if genesis else ChainState.BROKEN
        before = self._manifests_at(entry.recorder_id, entry.sequence - 1)
        if not before:
            return ChainState.PENDING
        return ChainState.LINKED if entry.previous_manifest_sha256 in before else ChainState.BROKEN

    def _settle_next(self, entry: Entry) -> list[Entry]:
        """Settle what waited for this manifest; return the rows that do not follow it."""
        where = (entry.recorder_id, entry.sequence + 1, ChainState.PENDING)
        broken = []
        for row in self._select("WHERE recorder_id = ? AND sequence = ? AND chain = ?", where):
            follows = row.previous_manifest_sha256 == entry.manifest_sha256
            chain = ChainState.LINKED if follows else ChainState.BROKEN
            self._database.execute("UPDATE recordings SET chain = ? WHERE row_id = ?", (chain, row.row_id))
            if not follows:
                broken.append(row)
        return broken

    def _manifests_at(self, recorder_id: str, sequence: int) -> set[str]:
        rows = self._database.execute(
            "SELECT manifest_sha256 FROM recordings WHERE recorder_id = ? AND sequence = ?",
            (recorder_id, sequence),
        )
        return {str(row[0]) for row in rows}

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.Error as problem:
            raise CatalogueFailed(path=self._path, reason=problem) from problem
