"""Front ends that serve one catalogue, and the store that it belongs to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision: str | None = "0033"
branch_labels = None
depends_on = None

WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    words = ("endpoint", "version", "started_at", "seen_at")
    op.create_table(
        "front_ends",
        sa.Column("name", WORD, primary_key=True),
        *(sa.Column(name, WORD, nullable=False) for name in words),
        sa.Column("leads", sa.Boolean(), nullable=False),
    )
    op.create_table("stores", sa.Column("mark", WORD, primary_key=True))
