"""Recordings of one call by several recorders."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision: str | None = "0042"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table, and an index by what two recorders call the same."""
    op.create_table(
        "call_groups",
        sa.Column("row_id", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("group_id", NUMBER, nullable=False),
        sa.Column("heard_ms", NUMBER, nullable=False),
        sa.Column("is_best", sa.Boolean(), nullable=False),
    )
    op.create_index("call_groups_by_group", "call_groups", ["group_id"])
    op.create_index("by_call", "recordings", ["recorder_id", "call_id"])
