"""The tables of deliveries to a customer's own server: what was delivered, and what could not be."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Connection, LargeBinary, Table, update

from recorderd.archive.tables import METADATA, NUMBER, WORD

DELIVERED: Final = Table(
    "delivered",
    METADATA,
    Column("place", WORD, primary_key=True),
    Column("row_id", NUMBER, primary_key=True, autoincrement=False),
    Column("recording_id", WORD, nullable=False),
    Column("delivered_utc_s", NUMBER, nullable=False),  # 0 = not yet
    Column("files", LargeBinary, nullable=False),  # JSON: name -> sha256, as they were read back there
    Column("path", WORD, nullable=False),  # there
    Column("tries", NUMBER, nullable=False),
    Column("reason", WORD, nullable=False),  # why it is not delivered yet; empty = it is
)


def forget_delivery(connection: Connection, row_id: int) -> None:
    """Let the log keep that and when a recording was delivered, and not what its files were called."""
    connection.execute(update(DELIVERED).where(DELIVERED.c.row_id == row_id).values(files=b"{}"))
