"""The tables of the off-site copy: how far it is, and what could not be copied."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Table

from recorderd.archive.tables import METADATA, NUMBER, WORD

MIRRORS: Final = Table(
    "mirrors",
    METADATA,
    Column("place", WORD, primary_key=True),  # where the copy lies; another place begins at nothing
    Column("last_row", NUMBER, nullable=False),  # up to this one everything was tried
    Column("last_tombstone", NUMBER, nullable=False),  # up to this one everything was tried
)

MIRROR_LEFT: Final = Table(
    "mirror_left",
    METADATA,
    Column("place", WORD, primary_key=True),
    Column("row_id", NUMBER, primary_key=True, autoincrement=False),
    Column("recording_id", WORD, nullable=False),
    Column("since_utc_s", NUMBER, nullable=False),
    Column("reason", WORD, nullable=False),
)
