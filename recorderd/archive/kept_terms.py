"""Retention terms once more, as files: so that what was signed outlives the catalogue.

Contract: a note (``published``) for each document, beside the receipts. The catalogue's row comes first and
the file after it; one that a cut has taken is written when terms are looked at next: soon after the start,
and by each command that erases. They are taken back where the catalogue has none, and only if they hold
together.

    receipts/retention-terms/<number>.json    as it was signed
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, insert

from recorderd.archive.database import Database
from recorderd.archive.kept_receipts import FOLDER_NAME
from recorderd.archive.published import Published
from recorderd.archive.retention_book import checked_terms, documents_of_terms
from recorderd.archive.retention_tables import RETENTION_TERMS
from recorderd.evidence.verify import TrustStore
from recorderd.wire.retention_terms import TERMS_LIMIT_BYTES

TERMS_FOLDER: Final = f"{FOLDER_NAME}/retention-terms"

_AHEAD: Final = 10  # so many that are missing in a row are the end, not a gap


def terms_path(number: int) -> str:
    """Say where the document with this number lies."""
    return f"{TERMS_FOLDER}/{number}.json"


def keep_terms(published: Published, database: Database) -> int:
    """Write what is missing; returns how many were.

    Durable: after return every document of before survives.
    Errors: CatalogueFailed; OSError.
    """
    with database.read() as connection:
        documents = documents_of_terms(connection)
    written = 0
    for number, document in enumerate(documents, start=1):
        if _read(published, number) != document:
            published.put_note(terms_path(number), document)
            written += 1
    if written:
        published.sync_notes()
    return written


def restore_terms(published: Published, connection: Connection, trust: TrustStore) -> int:
    """Take the documents back into a catalogue that has none; returns how many there were.

    Errors: EvidenceError when they do not hold: none is taken; OSError.
    """
    if documents_of_terms(connection):
        return 0
    documents = list[bytes]()
    while any(more := [_read(published, len(documents) + at) for at in range(1, _AHEAD + 1)]):
        documents += more
    while documents and not documents[-1]:
        documents.pop()
    checked_terms(documents, trust)
    rows = [{"number": number, "document": document} for number, document in enumerate(documents, start=1)]
    if rows:
        connection.execute(insert(RETENTION_TERMS), rows)
    return len(rows)


def _read(published: Published, number: int) -> bytes:
    return published.read_note(terms_path(number), limit_bytes=TERMS_LIMIT_BYTES + 1)
