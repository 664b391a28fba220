"""Call detail records of the exchange."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision: str | None = "0022"
branch_labels = None
depends_on = None

WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table."""
    words = ("caller", "callee", "extension", "trunk", "queue", "direction")
    op.create_table(
        "call_records",
        sa.Column("record_id", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("sha256", WORD, nullable=False, unique=True),
        sa.Column("call_ids", sa.Text(), nullable=False),
        *(sa.Column(name, WORD, nullable=False) for name in words),
        *(sa.Column(name, NUMBER, nullable=False) for name in ("started_ms", "answered_ms", "ended_ms")),
        sa.Column("is_answered", sa.Boolean(), nullable=False),
        sa.Column("source", WORD, nullable=False),
        sa.Column("imported_at", WORD, nullable=False),
    )
    op.create_index("call_records_by_start", "call_records", ["started_ms"])
