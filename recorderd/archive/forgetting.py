"""Takes out of the catalogue what names people of a recording: columns, search rows, notes, tags, receipt.

Contract: within the caller's transaction; what is left of a row is what its tombstone tells anyway. A number
that no other recording has goes as well. What the audit log says of the past is not touched.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, delete, or_, select, update

from recorderd.archive.delivery_tables import forget_delivery
from recorderd.archive.retention_tables import RECORDING_TERMS
from recorderd.archive.search_index import NOBODY, index_rows
from recorderd.archive.search_tables import (
    NOTE_WORDS,
    NOTES,
    NUMBER_PARTS,
    NUMBERS,
    SEARCH_ROWS,
    SEARCH_STATE,
    TAGS,
)
from recorderd.archive.tables import RECORDINGS

_NAMING: Final = ("caller", "callee", "extension", "call_id", "trunk", "queue")


def forget_people(connection: Connection, row_id: int) -> None:
    """Forget who was on a call."""
    same = RECORDINGS.c.row_id == row_id
    blank = dict.fromkeys(_NAMING, "")
    connection.execute(update(RECORDINGS).where(same).values(receipt=b"", **blank))
    terms = update(RECORDING_TERMS).where(RECORDING_TERMS.c.row_id == row_id)
    connection.execute(terms.values(parties=""))
    forget_delivery(connection, row_id)
    for table in (TAGS, NOTES, NOTE_WORDS):
        connection.execute(delete(table).where(table.c.row_id == row_id))


def index_anew(connection: Connection, row_id: int) -> None:
    """Let a changed row be found by what it says now, and forget numbers that nobody has any more."""
    ids = SEARCH_ROWS.c.caller_id, SEARCH_ROWS.c.callee_id
    before = connection.execute(select(*ids).where(SEARCH_ROWS.c.row_id == row_id)).first()
    region = connection.execute(select(SEARCH_STATE.c.region)).scalar() or ""
    row = connection.execute(select(RECORDINGS).where(RECORDINGS.c.row_id == row_id)).first()
    if row is not None and before is not None:  # else it is still to be made
        index_rows(connection, [row], region=region)
    for number_id in set(before or ()) - {NOBODY}:
        has_it = or_(ids[0] == number_id, ids[1] == number_id)
        if connection.execute(select(SEARCH_ROWS.c.row_id).where(has_it).limit(1)).first() is None:
            for table in (NUMBER_PARTS, NUMBERS):
                connection.execute(delete(table).where(table.c.number_id == number_id))
