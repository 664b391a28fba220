"""Millions of recordings in a catalogue, as ten years of an office of 2,000 extensions would leave them.

Written past the archive, in columns: only so it takes minutes. What they are found by is checked against what
the archive itself would have made of some of them (``test_search``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import psycopg

from recorderd.archive.catalogue import Catalogue
from recorderd.archive.database import Database
from recorderd.archive.numbers import parts_of
from recorderd.archive.search_tables import (
    FACETS,
    NOTE_WORDS,
    NOTES,
    NUMBER_PARTS,
    NUMBERS,
    SEARCH_ROWS,
    TAGS,
)
from recorderd.archive.tables import RECORDINGS

BLOCK: Final = 100_000
SITES, EXTENSIONS, QUEUES, TRUNKS = 4, 2_000, 12, 8
MAIN_NUMBERS: Final = 20
START_UTC_MS: Final = int(datetime(2019, 11, 28, tzinfo=UTC).timestamp() * 1000)
SPAN_MS: Final = 7 * 365 * 86_400_000
WORDS: Final = 5_000
TAG_NAMES: Final = tuple(f"tag-{number}" for number in range(20))
_SYLLABLES: Final = (
    *("ba", "ce", "di", "fo", "gu", "la", "me", "ni", "po"),
    *("ru", "sa", "te", "vi", "wo", "zu", "ka", "el", "ur"),
)
_INDEXED: Final = (RECORDINGS, SEARCH_ROWS, TAGS, NOTES, NOTE_WORDS)
_DIRECTIONS: Final = ("inbound", "outbound", "internal")


def word_of(number: int) -> str:
    """Give a word of the language of the notes."""
    parts = []
    for _ in range(3):
        number, rest = divmod(number, len(_SYLLABLES))
        parts.append(_SYLLABLES[rest])
    return "".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """One combination of values."""

    recorder: str
    extension: str
    queue: str
    trunk: str
    direction: str


class Office:
    """Who calls whom: numbers, and the combinations of values that occur."""

    def __init__(self, rows: int) -> None:
        self.chance = np.random.default_rng(7)
        self.outside = max(rows // 10, 100)
        self.keys = [f"+4420{70_000_000 + number:08d}" for number in range(MAIN_NUMBERS)]
        self.keys += [str(2000 + number) for number in range(EXTENSIONS)]
        self.keys += self._outside()
        self.facets: list[Facet] = []
        self._by_direction: list[list[list[int]]] = [[], [], []]
        for extension in range(EXTENSIONS):
            self._add_extension(extension)

    def _outside(self) -> list[str]:
        digits = self.chance.choice(900_000_000, size=self.outside, replace=False) + 100_000_000
        countries = self.chance.choice(["+4478", "+4420", "+331", "+4930", "+1212"], size=self.outside)
        return [f"{one}{two:09d}" for one, two in zip(countries.tolist(), digits.tolist(), strict=True)]

    def _add_extension(self, extension: int) -> None:
        site = extension % SITES
        trunks = (f"trunk-{site * 2}", f"trunk-{site * 2 + 1}")
        queues = ("", f"queue-{extension % QUEUES}", f"queue-{extension // 7 % QUEUES}")
        wanted = (
            [(queue, trunk) for queue in dict.fromkeys(queues) for trunk in trunks],
            [("", trunk) for trunk in trunks],
            [("", "")],
        )
        for direction, pairs in enumerate(wanted):
            here = []
            for queue, trunk in pairs:
                here.append(len(self.facets) + 1)
                self.facets.append(
                    Facet(
                        recorder=f"rec-{site}",
                        extension=str(2000 + extension),
                        queue=queue,
                        trunk=trunk,
                        direction=_DIRECTIONS[direction],
                    )
                )
            self._by_direction[direction].append(here)

    def block(self, first: int, rows: int, total: int) -> dict[str, Any]:
        """Make the columns of some rows; ``first`` is the row id of the first."""
        chance = self.chance
        extension = (EXTENSIONS * chance.random(rows) ** 1.5).astype(int)
        direction = chance.choice(3, size=rows, p=[0.55, 0.35, 0.10])
        outside = MAIN_NUMBERS + EXTENSIONS + (self.outside * chance.random(rows) ** 3).astype(int) + 1
        own, other = MAIN_NUMBERS + extension + 1, MAIN_NUMBERS + chance.integers(0, EXTENSIONS, rows) + 1
        main = extension % MAIN_NUMBERS + 1
        at = np.arange(first, first + rows) / total
        pick = chance.random(rows)
        facet = [
            (options := self._by_direction[way][number])[int(share * len(options))]
            for way, number, share in zip(direction.tolist(), extension.tolist(), pick.tolist(), strict=True)
        ]
        return {
            "row_id": np.arange(first, first + rows).tolist(),
            "started_ms": (START_UTC_MS + at * SPAN_MS + chance.integers(0, 3_600_000, rows))
            .astype(int)
            .tolist(),
            "duration_ms": (chance.lognormal(4.5, 1.2, rows) * 1000).astype(int).tolist(),
            "caller_id": np.choose(direction, [outside, own, own]).tolist(),
            "callee_id": np.choose(direction, [main, outside, other]).tolist(),
            "facet_id": facet,
        }

    def recordings(self, block: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        """Make the catalogue's rows of a block, in the order of the table's columns."""
        columns = [block[column.name] for column in SEARCH_ROWS.c]
        for row_id, started_ms, duration_ms, caller, callee, facet_id in zip(*columns, strict=True):
            facet = self.facets[facet_id - 1]
            started = datetime.fromtimestamp(started_ms / 1000, tz=UTC)
            name = f"{started:%Y%m%dT%H%M%S}-{row_id:012d}"
            digest = f"{row_id:064x}"
            yield (
                *(row_id, name, facet.recorder, row_id, f"{row_id - 1:064x}", digest, f"call-{row_id}"),
                *(self.keys[caller - 1], self.keys[callee - 1]),
                *(facet.direction, facet.extension, facet.trunk, facet.queue),
                f"{started:%Y-%m-%dT%H:%M:%S}.{started_ms % 1000:03d}Z",
                *(duration_ms / 1000, 2, 8000, duration_ms * 32, "archived", "linked"),
                *(f"store/{started:%Y/%m/%d}/{name}", f"{started:%Y-%m-%dT%H:%M:%S}.000Z", b"{}"),
            )


def fill(url: str, rows: int) -> None:
    """Fill an empty catalogue."""
    database = Database(url)
    Catalogue(database).close()
    database.close()
    office = Office(rows)
    writer: _Sqlite | _Postgres = _Sqlite(url) if url.startswith("sqlite") else _Postgres(url)
    writer.begin()
    writer.write(NUMBERS.name, list(enumerate(office.keys, start=1)))
    for at in range(0, len(office.keys), BLOCK):
        keys = enumerate(office.keys[at : at + BLOCK], start=at + 1)
        parts = {(part, number) for number, key in keys for part in parts_of(key)}
        writer.write(NUMBER_PARTS.name, sorted(parts))
    facets = [
        (number, one.recorder, one.extension, one.queue, one.trunk, one.direction, "archived")
        for number, one in enumerate(office.facets, start=1)
    ]
    writer.write(FACETS.name, facets)
    for first in range(1, rows + 1, BLOCK):
        block = office.block(first, min(BLOCK, rows + 1 - first), rows)
        narrow = list(zip(*(block[column.name] for column in SEARCH_ROWS.c), strict=True))
        writer.write(SEARCH_ROWS.name, narrow)
        writer.write(RECORDINGS.name, list(office.recordings(block)))
        _write_words(writer, office.chance, block["row_id"])
    writer.end()


def _write_words(writer: _Sqlite | _Postgres, chance: np.random.Generator, row_ids: Sequence[int]) -> None:
    at, who = "2026-11-28T00:00:00.000Z", "cli:test"
    tagged = chance.choice(row_ids, size=len(row_ids) // 100, replace=False).tolist()
    kinds = (len(TAG_NAMES) * chance.random(len(tagged)) ** 2).astype(int).tolist()
    tags = [(TAG_NAMES[kind], row_id, who, at) for kind, row_id in zip(kinds, tagged, strict=True)]
    writer.write(TAGS.name, tags)
    noted = sorted(chance.choice(row_ids, size=len(row_ids) // 200, replace=False).tolist())
    texts = [
        [word_of(number) for number in (WORDS * chance.random(8) ** 2).astype(int).tolist()] for _ in noted
    ]
    notes = [(row_id, row_id, who, at, " ".join(text)) for row_id, text in zip(noted, texts, strict=True)]
    writer.write(NOTES.name, notes)
    words = sorted({(word, row_id) for row_id, text in zip(noted, texts, strict=True) for word in text})
    writer.write(NOTE_WORDS.name, words)


class _Sqlite:
    def __init__(self, url: str) -> None:
        self._database = sqlite3.connect(url.removeprefix("sqlite:///"))
        self._indexes: list[str] = []

    def begin(self) -> None:
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("PRAGMA cache_size = -1000000")
        names = ", ".join(f"'{table.name}'" for table in _INDEXED)
        known = (
            f"SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql > '' AND tbl_name IN ({names})"
        )
        for name, statement in self._database.execute(known).fetchall():
            self._indexes.append(statement)
            self._database.execute(f"DROP INDEX {name}")

    def write(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            marks = ", ".join("?" for _ in rows[0])
            self._database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
            self._database.commit()

    def end(self) -> None:
        for statement in self._indexes:
            self._database.execute(statement)
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._database.close()


class _Postgres:
    def __init__(self, url: str) -> None:
        self._database = psycopg.connect(url, autocommit=True)
        self._indexes: list[str] = []

    def begin(self) -> None:
        self._database.execute("SET maintenance_work_mem = '1GB'")
        known = """SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY(%s) AND indexdef NOT LIKE
                   'CREATE UNIQUE%%'"""
        for name, statement in self._database.execute(known, [[one.name for one in _INDEXED]]).fetchall():
            self._indexes.append(statement)
            self._database.execute(f"DROP INDEX {name}")

    def write(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            cursor = self._database.cursor()
            with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)

    def end(self) -> None:
        for statement in self._indexes:
            self._database.execute(statement)
        self._database.execute("VACUUM ANALYZE")
        self._database.close()
