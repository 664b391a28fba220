"""The table of recordings that are of one call. Rule: made from the recordings alone; may be made again."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, Column, Index, Table

from recorderd.archive.tables import METADATA, NUMBER

CALL_GROUPS: Final = Table(
    "call_groups",
    METADATA,
    Column("row_id", NUMBER, primary_key=True, autoincrement=False),
    Column("group_id", NUMBER, nullable=False),  # the first of the rows
    Column("heard_ms", NUMBER, nullable=False),  # what is there of the call: its length without its gaps
    Column("is_best", Boolean, nullable=False),
    Index("call_groups_by_group", "group_id"),
)
