"""The tables of release 0.1: recordings and heads. What is there already is taken over as it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None

WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make what is missing."""
    known = set(sa.inspect(op.get_bind()).get_table_names())
    if "recordings" not in known:
        _recordings()
    if "heads" not in known:
        _heads()
    op.create_table(
        "issued",
        sa.Column("table_name", WORD, primary_key=True),
        sa.Column("number", NUMBER, nullable=False),
    )


def _recordings() -> None:
    words = ("previous_manifest_sha256", "manifest_sha256", "call_id", "caller", "callee", "direction")
    op.create_table(
        "recordings",
        sa.Column("row_id", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("id", WORD, nullable=False),
        sa.Column("recorder_id", WORD, nullable=False),
        sa.Column("sequence", NUMBER, nullable=False),
        *(sa.Column(name, WORD, nullable=False) for name in words),
        *(sa.Column(name, WORD, nullable=False) for name in ("extension", "trunk", "queue", "started_at")),
        sa.Column("duration_s", sa.Double, nullable=False),
        sa.Column("channels", sa.Integer, nullable=False),
        sa.Column("sample_rate_hz", sa.Integer, nullable=False),
        sa.Column("size_bytes", NUMBER, nullable=False),
        *(sa.Column(name, WORD, nullable=False) for name in ("state", "chain", "path", "archived_at")),
        sa.Column("receipt", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("recorder_id", "id"),
        sqlite_autoincrement=True,
    )
    op.create_index("by_sequence", "recordings", ["recorder_id", "sequence"])
    op.create_index("by_id", "recordings", ["id"])
    op.create_index("by_start", "recordings", ["started_at"])


def _heads() -> None:
    op.create_table(
        "heads",
        sa.Column("recorder_id", WORD, nullable=False),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("sequence", NUMBER, nullable=False),
        sa.Column("manifest_sha256", WORD, nullable=False),
        sa.Column("document_sha256", WORD, nullable=False),
        sa.Column("kept_at", WORD, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("recorder_id", "document_sha256"),
    )
    op.create_index("heads_by_sequence", "heads", ["recorder_id", "sequence"])
    op.create_index("heads_by_number", "heads", ["recorder_id", "number"])
