"""Which recordings somebody means who names conditions, and of those which they reach.

Rule: a selection over HTTP covers what its sender may do that with, recording by recording; the rest is as if
it did not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Final

from pydantic import Field

from recorderd.archive.catalogue import ROWS, Entry
from recorderd.archive.selecting import covered_by
from recorderd.archive.sign_in import Identity
from recorderd.archive.tables import RECORDINGS
from recorderd.archive.web.desk import Desk
from recorderd.archive.web.labels import facts_of
from recorderd.core.errors import SelectionEmpty
from recorderd.policy.access import Action, Facts, Ruling, Viewer, rule_on_recording
from recorderd.policy.retention import KeptRecording
from recorderd.policy.selection import Selection

_WORD: Final = r"^[^\x00-\x1f\x7f]*$"
_GROUP: Final = 500  # rows asked for at once
_HOLDING: Final = (Action.HOLD, Action.RELEASE)
Word = Annotated[str, Field(max_length=200, pattern=_WORD)]
Moment = Annotated[
    str,
    Field(
        pattern=r"^(\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d{1,6})?Z)?)?$", description="A day or time, UTC."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Which recordings are meant: all that are given must hold, at least one."""

    recording_id: Word = ""
    number: Word = ""
    extension: Word = ""
    queue: Word = ""
    trunk: Word = ""
    direction: Word = ""
    recorder_id: Word = ""
    retention_class: Word = ""
    from_time: Moment = ""
    to_time: Moment = ""

    def selection(self) -> Selection:
        """Give them to whoever acts.

        Errors: SelectionEmpty when none is given.
        """
        found = Selection(**{row.name: getattr(self, row.name).strip() for row in fields(self)})
        if found.is_empty:
            raise SelectionEmpty(reason="name at least one condition")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One recording that was meant and is reached."""

    kept: KeptRecording
    entry: Entry


def chosen(desk: Desk, identity: Identity, selection: Selection, action: Action) -> list[Chosen]:
    """Find the recordings that are covered and with which somebody may do this, the oldest first."""
    keeping = desk.keeping
    rows = covered_by(
        selection,
        database=desk.database,
        book=keeping.book,
        sweeper=keeping.sweeper,
        perhaps=action in _HOLDING,
    )
    found: list[Chosen] = []
    for at in range(0, len(rows), _GROUP):
        found += _reached(desk, identity.viewer, rows[at : at + _GROUP], action)
    return found


def is_within_reach(viewer: Viewer, selection: Selection) -> bool:
    """Tell whether all that a selection covers, now and later, is of recorders that somebody reaches."""
    return viewer.all_recorders or selection.recorder_id in viewer.recorders


def reaches_all(desk: Desk, viewer: Viewer, row_ids: Sequence[int], action: Action) -> bool:
    """Tell whether somebody may do this with every one of these recordings."""
    _, facts = _facts(desk, row_ids)
    return all(rule_on_recording(viewer, action, seen) is not Ruling.REFUSED for seen in facts.values())


def _facts(desk: Desk, row_ids: Sequence[int]) -> tuple[dict[int, Entry], dict[int, Facts]]:
    with desk.database.read() as connection:
        query = ROWS.where(RECORDINGS.c.row_id.in_(row_ids))
        entries = {row["row_id"]: Entry(**row) for row in connection.execute(query).mappings()}
    return entries, facts_of(desk, list(entries.values()), desk.annotations.tags_of(row_ids))


def _reached(desk: Desk, viewer: Viewer, rows: Sequence[KeptRecording], action: Action) -> list[Chosen]:
    entries, facts = _facts(desk, [row.row_id for row in rows])
    return [
        Chosen(kept=row, entry=entries[row.row_id])
        for row in rows
        if row.row_id in entries
        and rule_on_recording(viewer, action, facts[row.row_id]) is not Ruling.REFUSED
    ]
