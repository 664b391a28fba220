"""What a search should find, found the slow way: every row looked at, without a database."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime

from recorderd.archive.catalogue import Entry
from recorderd.archive.criteria import Criteria, Facets, Sort, words_of
from recorderd.archive.numbers import canonical, plain
from tests.support.catalogues import entry

REGION = "GB"
START_UTC_S = int(datetime(2026, 11, 23, 6, tzinfo=UTC).timestamp())
CALLERS = ("+442079460000", "020 7946 0001", "00442079460002", "2001", "2002", "Alice", "", "+33123456789")
TAGS = ("complaint", "fraud", "training")
TEXTS = ("Invoice 4711 was paid", "asks for the invoice", "Übergabe an die Zentrale", "nothing")


@dataclass
class Kept:
    """A recording with what people added to it."""

    row: Entry
    tags: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def make_rows(count: int, *, seed: int) -> list[Kept]:
    """Make recordings of which many share values."""
    chance = random.Random(seed)
    kept = []
    for number in range(1, count + 1):
        at_s = START_UTC_S + chance.randrange(86_400 * 20)
        row = entry(
            number,
            recorder_id=f"rec-{chance.randrange(2)}",
            caller=chance.choice(CALLERS),
            callee=chance.choice(CALLERS),
            direction=chance.choice(["inbound", "outbound"]),
            extension=chance.choice(["2001", "2002", "2003"]),
            queue=chance.choice(["", "sales", "support"]),
            trunk=chance.choice(["a", "b"]),
            started_at=datetime.fromtimestamp(at_s, tz=UTC).isoformat().replace("+00:00", ".125Z"),
            duration_s=chance.choice([0.5, 10.0, 61.25, 3600.0]),
        )
        kept.append(
            Kept(
                row=row,
                tags={tag for tag in TAGS if chance.random() < 0.2},
                notes=[text for text in TEXTS if chance.random() < 0.1],
            )
        )
    return kept


def key_of(row: Entry, sort: Sort) -> int:
    """Give what a row is sorted by."""
    if sort is Sort.STARTED:
        return round(datetime.fromisoformat(row.started_at).timestamp() * 1000)
    return round(row.duration_s * 1000) if sort is Sort.DURATION else row.row_id


def _fits_facets(row: Entry, facets: Facets) -> bool:
    names = {"recorder": "recorder_id"}
    return all(
        not getattr(facets, one.name)
        or getattr(row, names.get(one.name, one.name)) in getattr(facets, one.name)
        for one in fields(facets)
    )


def fits(kept: Kept, criteria: Criteria) -> bool:
    """Tell whether a recording is meant."""
    row = kept.row
    parties = {canonical(row.caller, REGION), canonical(row.callee, REGION)} - {""}
    started_ms, duration_ms = key_of(row, Sort.STARTED), round(row.duration_s * 1000)
    words = {word for text in kept.notes for word in words_of(text)}
    return (
        (not criteria.number or canonical(criteria.number, REGION) in parties)
        and (not criteria.part or any(plain(criteria.part) in party for party in parties))
        and _fits_facets(row, criteria.facets)
        and (not criteria.within or any(_fits_facets(row, facets) for facets in criteria.within))
        and (criteria.since_ms is None or started_ms >= criteria.since_ms)
        and (criteria.until_ms is None or started_ms < criteria.until_ms)
        and (criteria.min_duration_ms is None or duration_ms >= criteria.min_duration_ms)
        and (criteria.max_duration_ms is None or duration_ms <= criteria.max_duration_ms)
        and set(criteria.tags) <= kept.tags
        and all(any(word.startswith(begin) for word in words) for begin in criteria.words)
    )


def expected(kept: list[Kept], criteria: Criteria) -> list[int]:
    """Give the rows that a search should find, in its order."""
    rows = [one.row for one in kept if fits(one, criteria)]
    rows.sort(key=lambda row: (key_of(row, criteria.sort), row.row_id), reverse=criteria.descending)
    return [row.row_id for row in rows]
