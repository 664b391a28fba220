"""Attempts to come in by an OpenID provider."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision: str | None = "0010"
branch_labels = None
depends_on = None

WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "oidc_attempts",
        sa.Column("state_sha256", WORD, primary_key=True),
        sa.Column("nonce", WORD, nullable=False),
        sa.Column("verifier", WORD, nullable=False),
        sa.Column("expires_utc_s", NUMBER, nullable=False),
    )
