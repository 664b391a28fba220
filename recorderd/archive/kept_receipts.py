"""Receipts once more, as files: so that the store alone tells which number was given to which recording.

Contract: a note (``published``) for each receipt, by the path of its recording but outside its folder, which
never changes. The catalogue's row comes first and the file after it, not waited for; whatever a cut has taken
is written again at the next start (``catch_up``). What is erased from the row is erased here (``drop``).

    receipts/YYYY/MM/DD/<id>.json    the receipt, as it was sent
    receipts/kept                    up to this number they are on disk for good
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import select

from recorderd.archive.catalogue import Entry
from recorderd.archive.database import Database
from recorderd.archive.published import Published
from recorderd.archive.tables import RECORDINGS
from recorderd.wire.flush_messages import RECEIPT_LIMIT_BYTES

FOLDER_NAME: Final = "receipts"
_MARK: Final = f"{FOLDER_NAME}/kept"
_MARK_LIMIT_BYTES: Final = 32
_STEP_ROWS: Final = 500
_R: Final = RECORDINGS.c


def receipt_path(path: str) -> str:
    """Say where the receipt of the recording at ``path`` lies."""
    return f"{FOLDER_NAME}/{path.partition('/')[2]}.json"


def keep_receipts(published: Published, entries: Sequence[Entry]) -> None:
    """Write receipts whose rows stand; not waited for.

    Errors: OSError; those that are missing are written at the next start.
    """
    for entry in entries:
        published.put_note(receipt_path(entry.path), entry.receipt)


def read_receipt(published: Published, path: str) -> bytes:
    """Read the receipt of the recording at ``path``; empty when there is none.

    Errors: OSError.
    """
    return published.read_note(receipt_path(path), limit_bytes=RECEIPT_LIMIT_BYTES + 1)


def drop(published: Published, path: str) -> None:
    """Remove the receipt of what was erased.

    Errors: OSError.
    """
    published.drop_note(receipt_path(path))


def catch_up(published: Published, database: Database, *, stopped: Callable[[], bool]) -> int:
    """Write what is missing, and have all of it on disk; returns how many were missing.

    Durable: after return every receipt of before survives.
    Errors: CatalogueFailed; OSError.
    """
    number, written = _kept(published), 0
    begun = number
    while not stopped():
        query = select(_R.row_id, _R.path, _R.receipt).where(_R.row_id > number)
        with database.read() as connection:
            rows = connection.execute(query.order_by(_R.row_id).limit(_STEP_ROWS)).all()
        for row in rows:
            if row.receipt and read_receipt(published, row.path) != row.receipt:
                published.put_note(receipt_path(row.path), row.receipt)
                written += 1
                _look_again(published, database, row.row_id, row.path)
            number = row.row_id
        if len(rows) < _STEP_ROWS:
            break
    if number > begun:
        published.sync_notes()
        published.put_note(_MARK, b"%d\n" % number)
        published.sync_notes()
    return written


def _look_again(published: Published, database: Database, row_id: int, path: str) -> None:
    """Remove what was erased while it was written."""
    with database.read() as connection:
        if not connection.execute(select(_R.receipt).where(_R.row_id == row_id)).scalar():
            drop(published, path)


def _kept(published: Published) -> int:
    try:
        return int(published.read_note(_MARK, limit_bytes=_MARK_LIMIT_BYTES))
    except ValueError:
        return 0
