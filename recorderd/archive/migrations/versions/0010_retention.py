"""Retention, holds, tombstones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision: str | None = "0021"
branch_labels = None
depends_on = None

WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _number() -> sa.Column[int]:
    return sa.Column("number", NUMBER, primary_key=True, autoincrement=False)


def upgrade() -> None:
    """Make the tables."""
    op.create_table("retention_terms", _number(), sa.Column("document", sa.LargeBinary, nullable=False))
    op.create_table(
        "recording_terms",
        sa.Column("row_id", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("retention_class", WORD, nullable=False),
        sa.Column("ended_utc_s", NUMBER, nullable=False),
        sa.Column("has_audio", sa.Boolean, nullable=False),
        sa.Column("parties", WORD, nullable=False),
    )
    op.create_index("recording_terms_by_class", "recording_terms", ["retention_class"])
    words = ("selection", "reason", "by", "added_at", "until", "released_at", "released_by", "release_reason")
    op.create_table("holds", _number(), *(sa.Column(name, WORD, nullable=False) for name in words))
    op.create_table(
        "tombstones",
        _number(),
        sa.Column("row_id", NUMBER, nullable=False),
        *(sa.Column(name, WORD, nullable=False) for name in ("kind", "path", "at", "done_at")),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("row_id", "kind"),
    )
    op.create_index("tombstones_by_done", "tombstones", ["done_at"])
