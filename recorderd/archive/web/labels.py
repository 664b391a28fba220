"""What sets recordings apart: their tags, and the retention class that their manifest names.

Contract: where classes matter, a recording whose class is not known counts as restricted: it fails closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select

from recorderd.archive.catalogue import Entry
from recorderd.archive.retention_tables import RECORDING_TERMS
from recorderd.archive.web.desk import Desk
from recorderd.policy.access import Facts


def facts_of(desk: Desk, entries: Sequence[Entry], tags: Mapping[int, tuple[str, ...]]) -> dict[int, Facts]:
    """Say, by row, what each recording's nearness depends on."""
    terms = desk.terms
    classes = _classes(desk, entries) if terms.restricted_classes or terms.reason_classes else {}
    found = {}
    for entry in entries:
        name, words = classes.get(entry.row_id, ""), tags.get(entry.row_id, ())
        is_apart = not terms.restricted_tags.isdisjoint(words) or name in terms.restricted_classes
        is_unknown = bool(terms.restricted_classes) and not name
        found[entry.row_id] = Facts(
            recorder_id=entry.recorder_id,
            extension=entry.extension,
            queue=entry.queue,
            restricted=is_apart or is_unknown,
            wants_reason=not terms.reason_tags.isdisjoint(words) or name in terms.reason_classes,
        )
    return found


def _classes(desk: Desk, entries: Sequence[Entry]) -> dict[int, str]:
    row_ids = [entry.row_id for entry in entries]
    known = _enrolled(desk, row_ids)
    if len(known) < len(row_ids):
        desk.keeping.sweeper.enrol()  # what came since the last time is read now
        known = _enrolled(desk, row_ids)
    return known


def _enrolled(desk: Desk, row_ids: Sequence[int]) -> dict[int, str]:
    query = select(RECORDING_TERMS.c.row_id, RECORDING_TERMS.c.retention_class)
    with desk.database.read() as connection:
        rows = connection.execute(query.where(RECORDING_TERMS.c.row_id.in_(row_ids)))
        return {int(row[0]): str(row[1]) for row in rows}
