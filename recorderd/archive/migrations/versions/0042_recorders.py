"""Recorders that were enrolled or revoked, and codes that wait for one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision: str | None = "0041"
branch_labels = None
depends_on = None

WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "recorders",
        sa.Column("recorder_id", WORD, primary_key=True),
        *(sa.Column(name, WORD, nullable=False) for name in ("curve_public_key", "certificates_pem")),
        *(sa.Column(name, WORD, nullable=False) for name in ("enrolled_at", "revoked_at", "reason")),
        sa.Column("quota_bytes", NUMBER, nullable=False),
    )
    op.create_table(
        "enrolments",
        sa.Column("code_id", WORD, primary_key=True),
        sa.Column("recorder_id", WORD, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("expires_utc_s", NUMBER, nullable=False),
        sa.Column("failures", NUMBER, nullable=False),
        *(sa.Column(name, WORD, nullable=False) for name in ("made_by", "used_at", "request_sha256")),
    )
