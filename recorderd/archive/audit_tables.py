"""Tables of the audit log. Rule: rows are only added; the database refuses everything else.

The triggers that the migration makes stop mistakes and honest programs. Against somebody who drops them stand
the hashes and the signed heads.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, LargeBinary, Table

from recorderd.archive.tables import METADATA, NUMBER, WORD

AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("at", WORD, nullable=False),
    Column("who", WORD, nullable=False),
    Column("address", WORD, nullable=False),
    Column("what", WORD, nullable=False),
    Column("subject", WORD, nullable=False),
    Column("reason", WORD, nullable=False),
    Column("outcome", WORD, nullable=False),
    Column("detail", WORD, nullable=False),
    Column("previous_sha256", WORD, nullable=False),
    Column("sha256", WORD, nullable=False),
)
AUDIT_HEADS: Final = Table(
    "audit_heads",
    METADATA,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("document", LargeBinary, nullable=False),
)
AUDIT_EXPORTS: Final = Table(  # how far each reader of the log has come; not evidence
    "audit_exports",
    METADATA,
    Column("target", WORD, primary_key=True),
    Column("number", NUMBER, nullable=False),
)
