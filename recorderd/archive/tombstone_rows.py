"""Tombstones as the database holds them: the newest, and what an earlier one says of a recording."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, func, select

from recorderd.archive.catalogue import Entry
from recorderd.archive.database import Database
from recorderd.archive.retention_tables import TOMBSTONES
from recorderd.wire.manifest import GENESIS_SHA256
from recorderd.wire.receipt import parse_receipt
from recorderd.wire.tombstone import digest_of_files, parse_tombstone

_S: Final = TOMBSTONES.c


def newest_tombstone(connection: Connection) -> tuple[int, str]:
    """Give number and digest of the newest tombstone."""
    newest = select(func.max(_S.number)).scalar_subquery()
    row = connection.execute(select(_S.number, _S.document).where(_S.number == newest)).first()
    return (int(row[0]), parse_tombstone(bytes(row[1])).body.sha256) if row else (0, GENESIS_SHA256)


def files_sha256(connection: Connection, entry: Entry) -> str:
    """Give the digest of the files that were archived, by the receipt or by an earlier tombstone."""
    if entry.receipt:
        body = parse_receipt(entry.receipt).body
        return digest_of_files({row.name: row.sha256 for row in body.files})
    query = select(_S.document).where(_S.row_id == entry.row_id).order_by(_S.number)
    document = connection.execute(query).scalars().first()
    return parse_tombstone(bytes(document)).body.files_sha256 if document is not None else GENESIS_SHA256


def told_by_tombstone(database: Database, entry: Entry) -> tuple[str, int] | None:
    """Give class and end of a recording, as an earlier tombstone signed them."""
    query = select(_S.document).where(_S.row_id == entry.row_id).order_by(_S.number)
    with database.read() as connection:
        document = connection.execute(query).scalars().first()
    if document is None:
        return None
    body = parse_tombstone(bytes(document)).body
    return body.retention_class, body.ended_utc_s
