"""Tables of the audit log. Rule: rows are only added; the database refuses everything else.

The triggers stop mistakes and honest programs. Against somebody who drops them stand the hashes and the
signed heads.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import DDL, BigInteger, Column, Integer, LargeBinary, MetaData, String, Table, event
from sqlalchemy.sql.ddl import ExecutableDDLElement

METADATA: Final = MetaData()
_NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts by itself only in INTEGER

AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("at", String, nullable=False),
    Column("who", String, nullable=False),
    Column("address", String, nullable=False),
    Column("what", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("detail", String, nullable=False),
    Column("previous_sha256", String, nullable=False),
    Column("sha256", String, nullable=False),
)
AUDIT_HEADS: Final = Table(
    "audit_heads",
    METADATA,
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("document", LargeBinary, nullable=False),
)
AUDIT_EXPORTS: Final = Table(  # how far each reader of the log has come; not evidence
    "audit_exports",
    METADATA,
    Column("target", String, primary_key=True),
    Column("number", _NUMBER, nullable=False),
)


def append_only(table: str) -> dict[str, list[str]]:
    """Give the statements, by dialect, that let a table refuse every change but added rows."""
    refusal = f"{table} is append-only"
    sqlite = [
        f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
        for verb in ("update", "delete")
    ]
    function = (
        f"CREATE OR REPLACE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{refusal}'; END $$"
    )
    postgresql = [
        function,
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse()",
        f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM PUBLIC",
    ]
    return {"sqlite": sqlite, "postgresql": postgresql}


def _guard(table: Table) -> None:
    for dialect, statements in append_only(table.name).items():
        for statement in statements:
            element: ExecutableDDLElement = DDL(statement).execute_if(dialect=dialect)  # type: ignore[no-untyped-call]
            event.listen(table, "after_create", element)


_guard(AUDIT)
_guard(AUDIT_HEADS)
