"""How far the scrub is, and what it has found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision: str | None = "0030"
branch_labels = None
depends_on = None

WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    words = ("begun_utc_s", "ended_utc_s", "last_row", "recordings", "read_bytes", "differences")
    op.create_table(
        "scrub_rounds",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=False),
        *(sa.Column(name, NUMBER, nullable=False) for name in words),
    )
    op.create_table(
        "scrub_differences",
        sa.Column("row_id", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("recording_id", WORD, nullable=False),
        sa.Column("found_utc_s", NUMBER, nullable=False),
        sa.Column("reason", WORD, nullable=False),
    )
