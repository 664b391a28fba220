"""Table of jobs. Rule: a row tells of work; nothing is decided by it."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Table

from recorderd.archive.tables import METADATA, NUMBER, WORD

JOBS: Final = Table(
    "jobs",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("work", WORD, nullable=False),
    Column("who", WORD, nullable=False),
    Column("front_end", WORD, nullable=False),
    Column("begun_at", WORD, nullable=False),
    Column("ended_at", WORD, nullable=False),  # empty: under way
    Column("state", WORD, nullable=False),
    Column("step", WORD, nullable=False),
    Column("counts", WORD, nullable=False),
    Column("done", NUMBER, nullable=False),
    Column("total", NUMBER, nullable=False),  # 0: not known
    Column("stop_by", WORD, nullable=False),  # who wants it stopped
    Column("result", WORD, nullable=False),  # JSON; empty: none
    Column("problem", WORD, nullable=False),
)
