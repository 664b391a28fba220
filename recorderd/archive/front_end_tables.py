"""Tables of the front ends that serve one catalogue. What stands in them is told to people; locks decide."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, Column, Table

from recorderd.archive.tables import METADATA, WORD

FRONT_ENDS: Final = Table(
    "front_ends",
    METADATA,
    Column("name", WORD, primary_key=True),
    Column("endpoint", WORD, nullable=False),
    Column("version", WORD, nullable=False),
    Column("started_at", WORD, nullable=False),
    Column("seen_at", WORD, nullable=False),
    Column("leads", Boolean, nullable=False),
)
STORES: Final = Table("stores", METADATA, Column("mark", WORD, primary_key=True))
