"""Receipts once more, as files: so that the store alone tells which number was given to which recording.

Contract: a file for each receipt, by the path of its recording but outside its folder, which never changes.
The catalogue's row comes first and the file after it, not waited for; whatever a cut has taken is written
again at the next start (``catch_up``). What is erased from the row is erased here (``drop``).

    receipts/YYYY/MM/DD/<id>.json    the receipt, as it was sent
    receipts/kept                    up to this number they are on disk for good
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import select

from recorderd import durable
from recorderd.archive.catalogue import Entry
from recorderd.archive.database import Database
from recorderd.archive.store import READ_ONLY_MODE
from recorderd.archive.tables import RECORDINGS
from recorderd.wire.flush_messages import RECEIPT_LIMIT_BYTES

FOLDER_NAME: Final = "receipts"
_MARK: Final = "kept"
_STEP_ROWS: Final = 500
_R: Final = RECORDINGS.c


def receipt_path(root: Path, path: str) -> Path:
    """Say where the receipt of the recording at ``path`` lies."""
    return root / FOLDER_NAME / f"{path.partition('/')[2]}.json"


def keep_receipts(root: Path, entries: Sequence[Entry]) -> None:
    """Write receipts whose rows stand; not waited for.

    Errors: OSError; those that are missing are written at the next start.
    """
    for entry in entries:
        _write(root, entry.path, entry.receipt)


def read_receipt(root: Path, path: str) -> bytes:
    """Read the receipt of the recording at ``path``; empty when there is none.

    Errors: OSError.
    """
    try:
        with receipt_path(root, path).open("rb") as stream:
            return stream.read(RECEIPT_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return b""


def drop(root: Path, path: str) -> None:
    """Remove the receipt of what was erased.

    Errors: OSError.
    """
    target = receipt_path(root, path)
    if target.exists():
        durable.discard(target)


def catch_up(root: Path, database: Database, *, stopped: Callable[[], bool]) -> int:
    """Write what is missing, and have all of it on disk; returns how many were missing.

    Durable: after return every receipt of before survives.
    Errors: CatalogueFailed; OSError.
    """
    folder = root / FOLDER_NAME
    durable.make_dir(folder)
    number, written = _kept(folder), 0
    begun = number
    while not stopped():
        query = select(_R.row_id, _R.path, _R.receipt).where(_R.row_id > number)
        with database.read() as connection:
            rows = connection.execute(query.order_by(_R.row_id).limit(_STEP_ROWS)).all()
        for row in rows:
            if row.receipt and read_receipt(root, row.path) != row.receipt:
                _write(root, row.path, row.receipt)
                written += 1
                _look_again(root, database, row.row_id, row.path)
            number = row.row_id
        if len(rows) < _STEP_ROWS:
            break
    if number > begun:
        file_system = durable.FileSystem(folder)
        file_system.sync()
        durable.replace(folder / _MARK, b"%d\n" % number)
    return written


def _look_again(root: Path, database: Database, row_id: int, path: str) -> None:
    """Remove what was erased while it was written."""
    with database.read() as connection:
        if not connection.execute(select(_R.receipt).where(_R.row_id == row_id)).scalar():
            drop(root, path)


def _kept(folder: Path) -> int:
    try:
        return int((folder / _MARK).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def _write(root: Path, path: str, receipt: bytes) -> None:
    target = receipt_path(root, path)
    if not target.parent.exists():
        durable.make_dir(target.parent)
    durable.replace(target, receipt, mode=READ_ONLY_MODE, synced=False)
