"""Calls that should have been recorded and were not, each noted once: what webhooks are told of.

Contract: a row is added when a report finds its call missing for the first time, in the report's own
transaction; none is changed or removed. Numbers have no gap. A recording that comes later takes nothing back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, func, insert, select

from recorderd.archive.call_tables import MISSING_CALLS
from recorderd.policy.reconciliation import CallRecord

_GROUP: Final = 500  # rows asked for at once


def note_missing(connection: Connection, records: Sequence[CallRecord], *, found_at: str) -> int:
    """Note calls that were found missing; say how many of them are new."""
    table, known = MISSING_CALLS, set[int]()
    ids = [record.record_id for record in records]
    for at in range(0, len(ids), _GROUP):
        query = select(table.c.record_id).where(table.c.record_id.in_(ids[at : at + _GROUP]))
        known.update(connection.execute(query).scalars())
    newest = int(connection.execute(select(func.max(table.c.number))).scalar() or 0)
    fresh = [record for record in records if record.record_id not in known]
    rows = [
        {
            "number": number,
            "record_id": record.record_id,
            "call_id": record.call_ids[0] if record.call_ids else "",
            "started_ms": record.started_ms,
            "found_at": found_at,
        }
        for number, record in enumerate(fresh, start=newest + 1)
    ]
    if rows:
        connection.execute(insert(table), rows)
    return len(rows)
