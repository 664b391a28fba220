"""Places of a whole archive on the disk instead of in memory, given in order: a million take 20 MB, not 600.

Contract: what was put is given as it was, in the orders that ``lineage`` asks for. It lies in a temporary
database that nobody else can open and that is gone with the process, however that ends.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Final, Self

from recorderd.archive.lineage import Place, shed_before
from recorderd.core.errors import CatalogueFailed
from recorderd.wire.shed_note import ShedNote

_CACHE_KIB: Final = 16_384
_AT_ONCE: Final = 1000  # rows
_SETTINGS: Final = (
    "journal_mode = OFF",
    "synchronous = OFF",
    f"cache_size = -{_CACHE_KIB}",
    "temp_store = FILE",
)
_COLUMNS: Final = (
    "recorder_id, recording_id, sequence, previous_manifest_sha256, manifest_sha256, signed_utc_s"
)
_TABLE: Final = f"CREATE TABLE places (number INTEGER PRIMARY KEY, {_COLUMNS})"
_INDEXES: Final = (
    "CREATE INDEX IF NOT EXISTS by_sequence ON places (recorder_id, sequence)",
    "CREATE INDEX IF NOT EXISTS by_recording ON places (recorder_id, recording_id, sequence)",
)
_PUT: Final = "INSERT INTO places VALUES (NULL, ?, ?, ?, ?, ?, ?)"
_BY_SEQUENCE: Final = f"SELECT {_COLUMNS} FROM places WHERE recorder_id = ? ORDER BY sequence, number"
_OF_SEVERAL: Final = """SELECT recording_id FROM places WHERE recorder_id = ? GROUP BY recording_id
                        HAVING MIN(sequence) < MAX(sequence) ORDER BY recording_id"""
_SEQUENCES: Final = """SELECT DISTINCT sequence FROM places WHERE recorder_id = ? AND recording_id = ?
                       ORDER BY sequence"""


class PlaceShelf:
    """Places, put one by one, then given in order; what entries say of shed recordings stays in memory.

    Thread: one.
    Errors: CatalogueFailed when there is no room for it where temporary files go.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect(
            "", isolation_level=None
        )  # a file of its own, unlinked from the start
        self._waiting: list[Place] = []
        self._notes: dict[str, list[ShedNote]] = defaultdict(list)
        for setting in _SETTINGS:
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute(_TABLE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._database.close()

    def put(self, place: Place) -> None:
        """Put one more."""
        if (note := shed_before(place)) is not None:
            self._notes[place.recorder_id].append(note)
        self._waiting.append(place)
        if len(self._waiting) == _AT_ONCE:
            self._write()

    def recorders(self) -> Iterable[str]:
        """Name the recorders of which there are places."""
        self._write()
        for index in _INDEXES:
            self._ask(index)
        return [str(row[0]) for row in self._ask("SELECT DISTINCT recorder_id FROM places")]

    def by_sequence(self, recorder_id: str) -> Iterator[Place]:
        """Give a recorder's places by their sequence; those of one sequence as they came."""
        for recorder, recording, sequence, previous, sha256, signed in self._ask(_BY_SEQUENCE, recorder_id):
            yield Place(
                recorder_id=recorder,
                recording_id=recording,
                sequence=sequence,
                previous_manifest_sha256=previous,
                manifest_sha256=sha256,
                signed_utc_s=signed,
            )

    def of_several_sequences(self, recorder_id: str) -> Iterator[tuple[str, list[int]]]:
        """Give recordings, by id, that claim more than one sequence, with these."""
        for (recording_id,) in self._ask(_OF_SEVERAL, recorder_id):
            yield recording_id, [row[0] for row in self._ask(_SEQUENCES, recorder_id, recording_id)]

    def shed_notes(self, recorder_id: str) -> Iterable[ShedNote]:
        """Give what a recorder's entries say of recordings before them that were deleted unsent."""
        return self._notes.get(recorder_id, ())

    def _write(self) -> None:
        rows = [
            (
                *(row.recorder_id, row.recording_id, row.sequence),
                *(row.previous_manifest_sha256, row.manifest_sha256, row.signed_utc_s),
            )
            for row in self._waiting
        ]
        self._waiting.clear()
        self._ask("BEGIN")
        try:
            self._database.executemany(_PUT, rows)
        except sqlite3.Error as problem:
            raise _failed(problem) from None
        self._ask("COMMIT")

    def _ask(self, statement: str, *values: str) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, values)
        except sqlite3.Error as problem:
            raise _failed(problem) from None


def _failed(problem: sqlite3.Error) -> CatalogueFailed:
    return CatalogueFailed(path="a temporary file", reason=problem)
