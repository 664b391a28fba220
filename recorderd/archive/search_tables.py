"""Tables that only serve to find recordings, and what people add to them: tags and notes.

Rule: numbers, parts, facets and search rows are made from the recordings alone, and may be made again at any
time. A search row is narrow, so that millions of them are looked through in a moment; each of its indexes
holds all of it, so that the rows themselves are not asked. Tags and notes are people's; nothing else tells
them.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Index, PrimaryKeyConstraint, Table, UniqueConstraint

from recorderd.archive.tables import METADATA, NUMBER, WORD

NUMBERS: Final = Table(  # every number and name that took part, once
    "numbers",
    METADATA,
    Column("number_id", NUMBER, primary_key=True, autoincrement=False),
    Column("key", WORD, nullable=False),  # see `numbers.canonical`
    UniqueConstraint("key"),
)

NUMBER_PARTS: Final = Table(  # every ending of them: a part of a number is the beginning of one
    "number_parts",
    METADATA,
    Column("part", WORD, nullable=False),
    Column("number_id", NUMBER, nullable=False),
    PrimaryKeyConstraint("part", "number_id"),
    sqlite_with_rowid=False,
)

FACETS: Final = Table(  # every combination of values that occurs, once
    "facets",
    METADATA,
    Column("facet_id", NUMBER, primary_key=True, autoincrement=False),
    Column("recorder", WORD, nullable=False),
    Column("extension", WORD, nullable=False),
    Column("queue", WORD, nullable=False),
    Column("trunk", WORD, nullable=False),
    Column("direction", WORD, nullable=False),
    Column("state", WORD, nullable=False),
    UniqueConstraint("recorder", "extension", "queue", "trunk", "direction", "state"),
)

SEARCH_ROWS: Final = Table(
    "search_rows",
    METADATA,
    Column("row_id", NUMBER, primary_key=True, autoincrement=False),  # of the recording
    Column("started_ms", NUMBER, nullable=False),
    Column("duration_ms", NUMBER, nullable=False),
    Column("caller_id", NUMBER, nullable=False),  # 0 = there is none
    Column("callee_id", NUMBER, nullable=False),
    Column("facet_id", NUMBER, nullable=False),
    Index("search_by_start", *("started_ms", "row_id", "duration_ms", "facet_id", "caller_id", "callee_id")),
    Index(
        "search_by_duration", *("duration_ms", "row_id", "started_ms", "facet_id", "caller_id", "callee_id")
    ),
    Index("search_by_facet", *("facet_id", "started_ms", "row_id", "duration_ms", "caller_id", "callee_id")),
    Index("search_by_caller", *("caller_id", "started_ms", "row_id", "duration_ms", "facet_id", "callee_id")),
    Index("search_by_callee", *("callee_id", "started_ms", "row_id", "duration_ms", "facet_id", "caller_id")),
)

SEARCH_STATE: Final = Table(  # one row: up to where search rows were made, and for which region
    "search_state",
    METADATA,
    Column("one", NUMBER, primary_key=True, autoincrement=False),
    Column("region", WORD, nullable=False),
    Column("done_row_id", NUMBER, nullable=False),
    Column("until_row_id", NUMBER, nullable=False),  # beyond it they are made with the recording
)

TAGS: Final = Table(
    "tags",
    METADATA,
    Column("tag", WORD, nullable=False),
    Column("row_id", NUMBER, nullable=False),
    Column("who", WORD, nullable=False),
    Column("at", WORD, nullable=False),
    PrimaryKeyConstraint("tag", "row_id"),
    Index("tags_by_row", "row_id"),
)

NOTES: Final = Table(  # added, never changed
    "notes",
    METADATA,
    Column("note_id", NUMBER, primary_key=True, autoincrement=False),
    Column("row_id", NUMBER, nullable=False),
    Column("who", WORD, nullable=False),
    Column("at", WORD, nullable=False),
    Column("text", WORD, nullable=False),
    Index("notes_by_row", "row_id"),
)

NOTE_WORDS: Final = Table(
    "note_words",
    METADATA,
    Column("word", WORD, nullable=False),
    Column("row_id", NUMBER, nullable=False),
    PrimaryKeyConstraint("word", "row_id"),
    Index("note_words_by_row", "row_id", "word"),
    sqlite_with_rowid=False,
)
