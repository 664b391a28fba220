"""Jobs that somebody began over HTTP."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0044"
down_revision: str | None = "0043"
branch_labels = None
depends_on = None

WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table."""
    words = "work", "who", "front_end", "begun_at", "ended_at", "state", "step", "counts"
    op.create_table(
        "jobs",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=False),
        *(sa.Column(name, WORD, nullable=False) for name in words),
        sa.Column("done", NUMBER, nullable=False),
        sa.Column("total", NUMBER, nullable=False),
        *(sa.Column(name, WORD, nullable=False) for name in ("stop_by", "result", "problem")),
    )
