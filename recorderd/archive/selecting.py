"""The recordings that a selection covers, for whoever acts on them: command line and HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from recorderd.archive.call_groups import with_copies
from recorderd.archive.database import Database
from recorderd.archive.retention_book import RetentionBook
from recorderd.archive.sweeping import Sweeper
from recorderd.policy.retention import KeptRecording
from recorderd.policy.selection import Selection, covers

_TOLD_TOGETHER: Final = 1000  # to tell costs more than to look at one


def covered_by(
    selection: Selection,
    *,
    database: Database,
    book: RetentionBook,
    sweeper: Sweeper,
    advance: Callable[[int], None] = lambda _: None,
) -> list[KeptRecording]:
    """Find the recordings that are meant, with those of the same calls, and not erased; the oldest first.

    Who names a recorder means its recordings alone. ``advance`` hears of the recordings that were looked at.
    Errors: CatalogueFailed.
    """
    sweeper.enrol()
    with database.read() as connection:
        found, count = [], 0
        for count, row in enumerate(book.kept(connection, selection=selection), start=1):
            if covers(selection, row.facts):
                found.append(row)
            if count % _TOLD_TOGETHER == 0:
                advance(_TOLD_TOGETHER)
        advance(count % _TOLD_TOGETHER)
        if not selection.recorder_id:
            row_ids = [row.row_id for row in found]
            others = set(with_copies(connection, row_ids)) - set(row_ids)
            found += book.kept(connection, others)
    return sorted(found, key=lambda row: row.facts.started_at)
