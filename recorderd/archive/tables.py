"""The catalogue's tables: one MetaData, to which each room of the archive adds those of its own.

Rule: a migration makes what stands here (``migrations/versions``), and a test compares the two. Times are
RFC 3339 in UTC as text, so that they sort as they are; text is compared by its octets in both databases.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

METADATA: Final = MetaData()
WORD: Final = Text(collation="C").with_variant(Text(), "sqlite")  # sorted by octets, whatever the locale
NUMBER_MAX: Final = 2**63 - 1  # of a column; what a stranger states may be as much, and none more
NUMBER: Final = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts rows up in INTEGER only

RECORDINGS: Final = Table(
    "recordings",
    METADATA,
    Column("row_id", NUMBER, primary_key=True, autoincrement=False),
    Column("id", WORD, nullable=False),
    Column("recorder_id", WORD, nullable=False),
    Column("sequence", NUMBER, nullable=False),
    Column("previous_manifest_sha256", WORD, nullable=False),
    Column("manifest_sha256", WORD, nullable=False),
    Column("call_id", WORD, nullable=False),
    Column("caller", WORD, nullable=False),
    Column("callee", WORD, nullable=False),
    Column("direction", WORD, nullable=False),
    Column("extension", WORD, nullable=False),
    Column("trunk", WORD, nullable=False),
    Column("queue", WORD, nullable=False),
    Column("started_at", WORD, nullable=False),
    Column("duration_s", Double, nullable=False),
    Column("channels", Integer, nullable=False),
    Column("sample_rate_hz", Integer, nullable=False),
    Column("size_bytes", NUMBER, nullable=False),
    Column("state", WORD, nullable=False),
    Column("chain", WORD, nullable=False),
    Column("path", WORD, nullable=False),
    Column("archived_at", WORD, nullable=False),
    Column("receipt", LargeBinary, nullable=False),
    UniqueConstraint("recorder_id", "id"),
    Index("by_sequence", "recorder_id", "sequence"),
    Index("by_id", "id"),
    Index("by_start", "started_at"),
    Index("by_call", "recorder_id", "call_id"),
    sqlite_autoincrement=True,  # a number that was given is never given again
)

HEADS: Final = Table(
    "heads",
    METADATA,
    Column("recorder_id", WORD, nullable=False),
    Column("number", NUMBER, nullable=False),
    Column("sequence", NUMBER, nullable=False),
    Column("manifest_sha256", WORD, nullable=False),
    Column("document_sha256", WORD, nullable=False),
    Column("kept_at", WORD, nullable=False),
    Column("document", LargeBinary, nullable=False),
    UniqueConstraint("recorder_id", "document_sha256"),
    Index("heads_by_sequence", "recorder_id", "sequence"),
    Index("heads_by_number", "recorder_id", "number"),
)

# How many rows of a table were ever added: for PostgreSQL, whose sequences leave gaps. SQLite counts itself.
ISSUED: Final = Table(
    "issued",
    METADATA,
    Column("table_name", WORD, primary_key=True),
    Column("number", NUMBER, nullable=False),
)
