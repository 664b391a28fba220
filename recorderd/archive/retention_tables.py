"""Tables of retention, holds and tombstones.

Rule: terms and tombstones are only added, and hold their signed documents; a hold changes once, when it is
released. What a recording is kept by is copied from its manifest, which nobody asks once its row is here.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, Column, Index, LargeBinary, Table, UniqueConstraint

from recorderd.archive.tables import METADATA, NUMBER, WORD

RETENTION_TERMS: Final = Table(
    "retention_terms",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("document", LargeBinary, nullable=False),
)

RECORDING_TERMS: Final = Table(
    "recording_terms",
    METADATA,
    Column("row_id", NUMBER, primary_key=True, autoincrement=False),
    Column("retention_class", WORD, nullable=False),  # empty = its manifest could not be read
    Column("ended_utc_s", NUMBER, nullable=False),
    Column("has_audio", Boolean, nullable=False),
    Column("parties", WORD, nullable=False),  # as `policy.selection.party_key` writes them, one per line
    Index("recording_terms_by_class", "retention_class"),
)

HOLDS: Final = Table(
    "holds",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("selection", WORD, nullable=False),  # JSON
    Column("reason", WORD, nullable=False),
    Column("by", WORD, nullable=False),
    Column("added_at", WORD, nullable=False),
    Column("until", WORD, nullable=False),
    Column("released_at", WORD, nullable=False),
    Column("released_by", WORD, nullable=False),
    Column("release_reason", WORD, nullable=False),
)

TOMBSTONES: Final = Table(
    "tombstones",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("row_id", NUMBER, nullable=False),
    Column("kind", WORD, nullable=False),
    Column("path", WORD, nullable=False),
    Column("at", WORD, nullable=False),
    Column("done_at", WORD, nullable=False),  # empty = the files are still to be removed
    Column("document", LargeBinary, nullable=False),
    UniqueConstraint("row_id", "kind"),
    Index("tombstones_by_done", "done_at"),
)
