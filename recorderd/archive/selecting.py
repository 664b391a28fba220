"""The recordings that a selection covers, for whoever acts on them: command line and HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from recorderd.archive.call_groups import with_copies
from recorderd.archive.database import Database
from recorderd.archive.retention_book import RetentionBook
from recorderd.archive.sweeping import Sweeper
from recorderd.policy.retention import KeptRecording
from recorderd.policy.selection import Selection, covers, may_cover, since_its_day

_TOLD_TOGETHER: Final = 1000  # to tell costs more than to look at one


def covered_by(
    selection: Selection,
    *,
    database: Database,
    book: RetentionBook,
    sweeper: Sweeper,
    perhaps: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> list[KeptRecording]:
    """Find the recordings that are meant, with those of the same calls, and not erased; the oldest first.

    Who names a recorder means its recordings alone. ``perhaps`` counts those in, as holds do, of which nobody
    can tell whether they began before the time from which on is meant. ``advance`` hears of the recordings
    that were looked at.
    Errors: CatalogueFailed.
    """
    sweeper.enrol()
    is_meant = may_cover if perhaps else covers
    with database.read() as connection:
        found, count = [], 0
        looked_at = since_its_day(selection) if perhaps else selection
        for count, row in enumerate(book.kept(connection, selection=looked_at), start=1):
            if is_meant(selection, row.facts):
                found.append(row)
            if count % _TOLD_TOGETHER == 0:
                advance(_TOLD_TOGETHER)
        advance(count % _TOLD_TOGETHER)
        if not selection.recorder_id:
            row_ids = [row.row_id for row in found]
            others = set(with_copies(connection, row_ids)) - set(row_ids)
            found += book.kept(connection, others)
    return sorted(found, key=lambda row: row.facts.started_at)
