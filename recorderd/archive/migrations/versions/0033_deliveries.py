"""What was delivered to a customer's own server."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision: str | None = "0032"
branch_labels = None
depends_on = None

WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "delivered",
        sa.Column("place", WORD, primary_key=True),
        sa.Column("row_id", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("recording_id", WORD, nullable=False),
        sa.Column("delivered_utc_s", NUMBER, nullable=False),
        sa.Column("files", sa.LargeBinary(), nullable=False),
        sa.Column("path", WORD, nullable=False),
        sa.Column("tries", NUMBER, nullable=False),
        sa.Column("reason", WORD, nullable=False),
    )
