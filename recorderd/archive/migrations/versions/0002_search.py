"""Search rows, numbers, facets, tags and notes. The rows are made afterwards, beside the running archive."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FACETS = ("recorder", "extension", "queue", "trunk", "direction", "state")
ROW = ("started_ms", "duration_ms", "caller_id", "callee_id", "facet_id")
INDEXES = {
    "search_by_start": ("started_ms", "row_id", "duration_ms", "facet_id", "caller_id", "callee_id"),
    "search_by_duration": ("duration_ms", "row_id", "started_ms", "facet_id", "caller_id", "callee_id"),
    "search_by_facet": ("facet_id", "started_ms", "row_id", "duration_ms", "caller_id", "callee_id"),
    "search_by_caller": ("caller_id", "started_ms", "row_id", "duration_ms", "facet_id", "callee_id"),
    "search_by_callee": ("callee_id", "started_ms", "row_id", "duration_ms", "facet_id", "caller_id"),
}


def upgrade() -> None:
    """Make the tables."""
    op.create_table("numbers", _id("number_id"), _word("key"), sa.UniqueConstraint("key"))
    op.create_table(
        "number_parts",
        *(_word("part"), _number("number_id"), sa.PrimaryKeyConstraint("part", "number_id")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "facets", _id("facet_id"), *(_word(name) for name in FACETS), sa.UniqueConstraint(*FACETS)
    )
    op.create_table("search_rows", _id("row_id"), *(_number(name) for name in ROW))
    for name, columns in INDEXES.items():
        op.create_index(name, "search_rows", list(columns))
    op.create_table(
        "search_state", _id("one"), _word("region"), _number("done_row_id"), _number("until_row_id")
    )
    _of_people()


def _of_people() -> None:
    op.create_table(
        "tags",
        *(_word("tag"), _number("row_id"), _word("who"), _word("at")),
        sa.PrimaryKeyConstraint("tag", "row_id"),
    )
    op.create_index("tags_by_row", "tags", ["row_id"])
    op.create_table("notes", _id("note_id"), _number("row_id"), _word("who"), _word("at"), _word("text"))
    op.create_index("notes_by_row", "notes", ["row_id"])
    op.create_table(
        "note_words",
        *(_word("word"), _number("row_id"), sa.PrimaryKeyConstraint("word", "row_id")),
        sqlite_with_rowid=False,
    )
    op.create_index("note_words_by_row", "note_words", ["row_id", "word"])


def _id(name: str) -> sa.Column[int]:
    return sa.Column(name, NUMBER, primary_key=True, autoincrement=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, NUMBER, nullable=False)


def _word(name: str) -> sa.Column[str]:
    return sa.Column(name, WORD, nullable=False)
