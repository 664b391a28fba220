"""The tables of the exchange's call records, and of the calls that nobody recorded."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, Column, Index, Table, Text

from recorderd.archive.tables import METADATA, NUMBER, WORD

CALL_RECORDS: Final = Table(
    "call_records",
    METADATA,
    Column("record_id", NUMBER, primary_key=True, autoincrement=False),
    Column("sha256", WORD, nullable=False, unique=True),  # of the fields: the same line comes once
    Column("call_ids", Text, nullable=False),  # JSON
    Column("caller", WORD, nullable=False),  # as the exchange writes them
    Column("callee", WORD, nullable=False),
    Column("extension", WORD, nullable=False),
    Column("trunk", WORD, nullable=False),
    Column("queue", WORD, nullable=False),
    Column("direction", WORD, nullable=False),
    Column("started_ms", NUMBER, nullable=False),
    Column("answered_ms", NUMBER, nullable=False),
    Column("ended_ms", NUMBER, nullable=False),
    Column("is_answered", Boolean, nullable=False),
    Column("source", WORD, nullable=False),
    Column("imported_at", WORD, nullable=False),
    Index("call_records_by_start", "started_ms"),
)
MISSING_CALLS: Final = Table(
    "missing_calls",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("record_id", NUMBER, nullable=False, unique=True),  # of the call record
    Column("call_id", WORD, nullable=False),
    Column("started_ms", NUMBER, nullable=False),  # since 1970, UTC
    Column("found_at", WORD, nullable=False),  # RFC 3339, UTC
)
