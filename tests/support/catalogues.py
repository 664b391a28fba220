"""Rows for catalogues, and a file as release 0.1 left it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from recorderd.archive.catalogue import Catalogue, Entry
from recorderd.wire.manifest import GENESIS_SHA256

SCHEMA_0_1 = """
CREATE TABLE recordings (
    row_id INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, recorder_id TEXT NOT NULL,
    sequence INTEGER NOT NULL, previous_manifest_sha256 TEXT NOT NULL, manifest_sha256 TEXT NOT NULL,
    call_id TEXT NOT NULL, caller TEXT NOT NULL, callee TEXT NOT NULL, direction TEXT NOT NULL,
    extension TEXT NOT NULL, trunk TEXT NOT NULL, queue TEXT NOT NULL, started_at TEXT NOT NULL,
    duration_s REAL NOT NULL, channels INTEGER NOT NULL, sample_rate_hz INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL, state TEXT NOT NULL, chain TEXT NOT NULL, path TEXT NOT NULL,
    archived_at TEXT NOT NULL, receipt BLOB NOT NULL, UNIQUE (recorder_id, id)
);
CREATE INDEX by_sequence ON recordings (recorder_id, sequence);
CREATE INDEX by_id ON recordings (id);
CREATE INDEX by_start ON recordings (started_at);
"""
HEADS_0_1 = """
CREATE TABLE heads (
    recorder_id TEXT NOT NULL, number INTEGER NOT NULL, sequence INTEGER NOT NULL,
    manifest_sha256 TEXT NOT NULL, document_sha256 TEXT NOT NULL, kept_at TEXT NOT NULL,
    document BLOB NOT NULL, UNIQUE (recorder_id, document_sha256)
);
CREATE INDEX heads_by_sequence ON heads (recorder_id, sequence);
CREATE INDEX heads_by_number ON heads (recorder_id, number);
"""


def entry(sequence: int, *, previous: str = "", name: str = "", **values: object) -> Entry:
    """Make a row whose manifest hash tells its number."""
    before = f"{sequence - 1:064d}" if sequence > 1 else GENESIS_SHA256
    told: dict[str, object] = {
        "id": name or f"id-{sequence}",
        "recorder_id": "rec-1",
        "sequence": sequence,
        "previous_manifest_sha256": previous or before,
        "manifest_sha256": f"{sequence:064d}",
        **dict.fromkeys(("call_id", "caller", "callee", "direction", "extension", "trunk", "queue"), ""),
        "started_at": "2026-11-23T06:22:36.125Z",
        "duration_s": 1.0,
        "channels": 2,
        "sample_rate_hz": 8000,
        "size_bytes": 1,
        "state": "archived",
        "chain": "pending",
        "path": f"store/{name or f'id-{sequence}'}",
        "archived_at": "",
        "receipt": b"",
        **values,
    }
    return Entry(**told)  # type: ignore[arg-type]


def receipt(number: int) -> bytes:
    """Stand for a receipt: what matters here is that it tells its number."""
    return b"%d" % number


def add(
    catalogue: Catalogue, row: Entry, make_receipt: Callable[[int], bytes] = receipt
) -> tuple[Entry, list[Entry]]:
    """Add a single row."""
    (added,) = catalogue.add_all([(row, make_receipt)])
    return added


def write_0_1(path: Path, rows: int, *, heads: bool) -> None:
    """Write a catalogue as release 0.1 did; its newest row was removed, and its number is not free again."""
    with sqlite3.connect(path) as database:
        database.executescript(SCHEMA_0_1 + (HEADS_0_1 if heads else ""))
        names = [name for name in Entry.__slots__ if name != "row_id"]
        marks = ", ".join(f":{name}" for name in names)
        for number in range(1, rows + 2):
            row = entry(number, chain="linked", receipt=receipt(number))
            values = {name: getattr(row, name) for name in names}
            database.execute(f"INSERT INTO recordings ({', '.join(names)}) VALUES ({marks})", values)
        database.execute("DELETE FROM recordings WHERE row_id = ?", (rows + 1,))
        if heads:
            head = ("rec-1", 1, 1, "a" * 64, "b" * 64, "2026-11-23T06:22:36.125Z", b"{}")
            database.execute("INSERT INTO heads VALUES (?, ?, ?, ?, ?, ?, ?)", head)
    database.close()
