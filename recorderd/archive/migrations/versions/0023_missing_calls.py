"""Calls that were not recorded, for webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision: str | None = "0040"
branch_labels = None
depends_on = None

WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "missing_calls",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("record_id", NUMBER, nullable=False, unique=True),
        sa.Column("call_id", WORD, nullable=False),
        sa.Column("started_ms", NUMBER, nullable=False),
        sa.Column("found_at", WORD, nullable=False),
    )
