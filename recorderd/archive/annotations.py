"""Tags and notes that people add to recordings; a note is never changed, what was recorded neither.

Rule: whoever adds is named. The caller's transaction may be passed on, so that what is written of it
elsewhere (the audit log) stands or falls with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from recorderd.archive.criteria import WORD_LIMIT, tag_of, words_of
from recorderd.archive.database import Database
from recorderd.archive.search_tables import NOTE_WORDS, NOTES, TAGS
from recorderd.core.errors import AnnotationRefused

NOTE_LIMIT: Final = 10_000  # characters
TAGS_LIMIT: Final = 50  # of one recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One note of a recording."""

    note_id: int
    row_id: int
    who: str
    at: str
    text: str


class Annotations:
    """Tags and notes of one catalogue; recordings are named by their row.

    Thread: any.
    Errors: CatalogueFailed; AnnotationRefused.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_tag(
        self, row_id: int, tag: str, *, who: str, at: str, connection: Connection | None = None
    ) -> bool:
        """Add a tag; False when the recording has it.

        Durable: after return it survives, if the transaction is not the caller's.
        """
        word = tag_of(_checked("tag", tag, limit=WORD_LIMIT))
        if not word:
            raise AnnotationRefused(what="tag", reason="there is nothing in it")
        with self._writing(connection) as here:
            known = set(here.execute(select(TAGS.c.tag).where(TAGS.c.row_id == row_id)).scalars())
            if word in known:
                return False
            if len(known) >= TAGS_LIMIT:
                raise AnnotationRefused(what="tag", reason=f"the recording has {TAGS_LIMIT} of them")
            here.execute(insert(TAGS), {"tag": word, "row_id": row_id, "who": who, "at": at})
            return True

    def remove_tag(self, row_id: int, tag: str, *, connection: Connection | None = None) -> bool:
        """Remove a tag; False when the recording does not have it.

        Durable: after return it is gone for good, if the transaction is not the caller's.
        """
        with self._writing(connection) as here:
            gone = here.execute(delete(TAGS).where(TAGS.c.row_id == row_id, TAGS.c.tag == tag_of(tag)))
            return bool(gone.rowcount)

    def add_note(
        self, row_id: int, text: str, *, who: str, at: str, connection: Connection | None = None
    ) -> int:
        """Add a note; returns its number.

        Durable: after return it survives, if the transaction is not the caller's.
        """
        content = _checked("note", text, limit=NOTE_LIMIT).strip()
        if not content:
            raise AnnotationRefused(what="note", reason="there is nothing in it")
        with self._writing(connection) as here:
            note_id = int(here.execute(select(func.max(NOTES.c.note_id))).scalar() or 0) + 1
            row = {"note_id": note_id, "row_id": row_id, "who": who, "at": at, "text": content}
            here.execute(insert(NOTES), row)
            known = set(
                here.execute(select(NOTE_WORDS.c.word).where(NOTE_WORDS.c.row_id == row_id)).scalars()
            )
            fresh = [{"word": word, "row_id": row_id} for word in words_of(content) if word not in known]
            if fresh:
                here.execute(insert(NOTE_WORDS), fresh)
            return note_id

    def tags(self, row_id: int) -> tuple[str, ...]:
        """Return the tags of a recording."""
        query = select(TAGS.c.tag).where(TAGS.c.row_id == row_id).order_by(TAGS.c.tag)
        with self._database.read() as connection:
            return tuple(connection.execute(query).scalars())

    def tags_of(self, row_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """Return the tags of several recordings, by row; those that have none are left out."""
        query = select(TAGS.c.row_id, TAGS.c.tag).where(TAGS.c.row_id.in_(row_ids)).order_by(TAGS.c.tag)
        found: dict[int, tuple[str, ...]] = {}
        with self._database.read() as connection:
            for row_id, tag in connection.execute(query):
                found[row_id] = (*found.get(row_id, ()), tag)
        return found

    def notes(self, row_id: int) -> tuple[Note, ...]:
        """Return the notes of a recording, the oldest first."""
        query = select(NOTES).where(NOTES.c.row_id == row_id).order_by(NOTES.c.note_id)
        with self._database.read() as connection:
            return tuple(Note(**row) for row in connection.execute(query).mappings())

    @contextmanager
    def _writing(self, connection: Connection | None) -> Iterator[Connection]:
        if connection is not None:
            yield connection
        else:
            with self._database.write() as own:
                yield own


def _checked(what: str, text: str, *, limit: int) -> str:
    if len(text) > limit:
        raise AnnotationRefused(what=what, reason=f"longer than {limit} characters")
    if not all(letter.isprintable() or letter in "\n\t" for letter in text):
        raise AnnotationRefused(what=what, reason="a character in it cannot be printed")
    return text
