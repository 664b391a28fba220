"""The table of what the archive has locked in its object store."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, Column, Table

from recorderd.archive.tables import METADATA, NUMBER

OBJECT_LOCKS: Final = Table(
    "object_locks",
    METADATA,
    Column("row_id", NUMBER, primary_key=True, autoincrement=False),
    Column("until_utc_s", NUMBER, nullable=False),  # 0 = not by us
    Column("is_held", Boolean, nullable=False),  # by us: a hold that another has set is not ours to take off
)
