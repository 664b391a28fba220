"""The audit log, its signed heads, and how far who follows it has come; the first two only grow."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision: str | None = "0002"
branch_labels = None
depends_on = None

WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_WORDS = ("at", "who", "address", "what", "subject", "reason", "outcome", "detail")


def upgrade() -> None:
    """Make the tables, and have the database refuse every change to them but added rows."""
    op.create_table(
        "audit",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=False),
        *(sa.Column(name, WORD, nullable=False) for name in (*_WORDS, "previous_sha256", "sha256")),
    )
    op.create_table(
        "audit_heads",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "audit_exports",
        sa.Column("target", WORD, primary_key=True),
        sa.Column("number", NUMBER, nullable=False),
    )
    for table in ("audit", "audit_heads"):
        for statement in _append_only(table, op.get_bind().dialect.name):
            op.execute(statement)


def _append_only(table: str, dialect: str) -> list[str]:
    refusal = f"{table} is append-only"
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
            for verb in ("update", "delete")
        ]
    return [
        f"CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{refusal}'; END $$",
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse()",
        # Of whoever owns the table too: rights can be given back, but not by a mistake.
        f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM PUBLIC, CURRENT_USER",
    ]
