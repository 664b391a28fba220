"""The tables of the scrub: how far it is, and what it has found."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Table

from recorderd.archive.tables import METADATA, NUMBER, WORD

SCRUB_ROUNDS: Final = Table(
    "scrub_rounds",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("begun_utc_s", NUMBER, nullable=False),
    Column("ended_utc_s", NUMBER, nullable=False),  # 0 = under way
    Column("last_row", NUMBER, nullable=False),  # was read last
    Column("recordings", NUMBER, nullable=False),
    Column("read_bytes", NUMBER, nullable=False),
    Column("differences", NUMBER, nullable=False),
)

SCRUB_DIFFERENCES: Final = Table(
    "scrub_differences",
    METADATA,
    Column("row_id", NUMBER, primary_key=True, autoincrement=False),
    Column("recording_id", WORD, nullable=False),
    Column("found_utc_s", NUMBER, nullable=False),  # first
    Column("reason", WORD, nullable=False),
)
