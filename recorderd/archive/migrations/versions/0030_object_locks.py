"""What is locked in the object store."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision: str | None = "0023"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "object_locks",
        sa.Column("row_id", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("until_utc_s", NUMBER, nullable=False),
        sa.Column("is_held", sa.Boolean(), nullable=False),
    )
