"""The recordings that a selection covers, for whoever acts on them: command line and HTTP."""

from __future__ import annotations

from recorderd.archive.call_groups import with_copies
from recorderd.archive.database import Database
from recorderd.archive.retention_book import RetentionBook
from recorderd.archive.sweeping import Sweeper
from recorderd.policy.retention import KeptRecording
from recorderd.policy.selection import Selection, covers


def covered_by(
    selection: Selection, *, database: Database, book: RetentionBook, sweeper: Sweeper
) -> list[KeptRecording]:
    """Find the recordings that are meant, with those of the same calls, and not erased; the oldest first.

    Who names a recorder means its recordings alone.
    Errors: CatalogueFailed.
    """
    sweeper.enrol()
    with database.read() as connection:
        kept = book.kept(connection, selection=selection)
        found = [row for row in kept if covers(selection, row.facts)]
        if not selection.recorder_id:
            row_ids = [row.row_id for row in found]
            others = set(with_copies(connection, row_ids)) - set(row_ids)
            found += book.kept(connection, others)
    return sorted(found, key=lambda row: row.facts.started_at)
