"""The off-site copy: how far it is, and what could not be copied."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision: str | None = "0031"
branch_labels = None
depends_on = None

WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "mirrors",
        sa.Column("place", WORD, primary_key=True),
        sa.Column("last_row", NUMBER, nullable=False),
        sa.Column("last_tombstone", NUMBER, nullable=False),
    )
    op.create_table(
        "mirror_left",
        sa.Column("place", WORD, primary_key=True),
        sa.Column("row_id", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("recording_id", WORD, nullable=False),
        sa.Column("since_utc_s", NUMBER, nullable=False),
        sa.Column("reason", WORD, nullable=False),
    )
