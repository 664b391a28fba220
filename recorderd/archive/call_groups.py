"""Recordings of one call by the recorders of a pair: kept as one, with both proofs.

Contract: nothing of either is changed; that they belong together stands beside them. New recordings are
looked at in the order of their numbers, soon after they came; how far that went stands in the database, and a
cut or a second one at it does no harm. The better one, of which more was heard, goes first. Searches show
it alone with the others named; what is held or erased by its id is all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from recorderd.archive.audit_tables import AUDIT_EXPORTS
from recorderd.archive.call_group_tables import CALL_GROUPS
from recorderd.archive.catalogue import ROWS, Entry
from recorderd.archive.database import Database
from recorderd.archive.store import Store
from recorderd.archive.tables import RECORDINGS
from recorderd.core.errors import FormatError
from recorderd.policy.pairing import STARTS_APART_MS, Side, is_same_call
from recorderd.wire.manifest import manifest_name, parse_manifest

STEP_ROWS: Final = 200
_ASKED_AT_ONCE: Final = 500
_WITH_AUDIO: Final = "archived"
_R: Final = RECORDINGS.c
_G: Final = CALL_GROUPS.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One recording of a call that has several."""

    recording_id: str
    recorder_id: str
    heard_ms: int
    is_best: bool


class Grouper:
    """Puts recordings of one call together.

    Thread: one.
    Errors: CatalogueFailed.
    """

    def __init__(self, store: Store, database: Database, pairs: Iterable[Sequence[str]]) -> None:
        self._store = store
        self._database = database
        self._partners: dict[str, set[str]] = {}
        told = sorted(sorted(set(pair)) for pair in pairs)
        for pair in told:
            for name in pair:
                self._partners.setdefault(name, set()).update(other for other in pair if other != name)
        digest = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
        self._target = f"pairs:{digest}"  # other pairs begin anew

    def step(self) -> int:
        """Look at the next recordings; say at how many, 0 when there are no more."""
        with self._database.read() as connection:
            reached = connection.execute(_reached(self._target)).scalar()
            rows = _entries(
                connection, ROWS.where(_R.row_id > (reached or 0)).order_by(_R.row_id).limit(STEP_ROWS)
            )
            groups = [found for row in rows if (found := self._same_call(connection, row))]
        if not rows:
            return 0
        heard_ms = {row.row_id: self._heard_ms(row) for group in groups for row in group}
        with self._database.write() as connection:
            for group in groups:
                _join(connection, {row.row_id for row in group}, heard_ms)
            values = {"target": self._target, "number": rows[-1].row_id}
            if reached is None:
                connection.execute(delete(AUDIT_EXPORTS).where(AUDIT_EXPORTS.c.target == self._target))
                connection.execute(insert(AUDIT_EXPORTS), values)
            else:
                moved = update(AUDIT_EXPORTS).where(AUDIT_EXPORTS.c.target == self._target)
                connection.execute(moved.values(number=values["number"]))
        return len(rows)

    def _same_call(self, connection: Connection, row: Entry) -> list[Entry]:
        """Find recordings of the same call, with this one; none when it is the only one."""
        partners = self._partners.get(row.recorder_id)
        if not partners or row.state != _WITH_AUDIO or not row.duration_s:
            return []
        begun = datetime.fromisoformat(row.started_at)
        apart = timedelta(milliseconds=STARTS_APART_MS)
        near = and_(_R.started_at >= _text(begun - apart), _R.started_at <= _text(begun + apart))
        named = [_R.call_id == row.call_id] if row.call_id else []
        found: dict[int, Entry] = {}
        for condition in (near, *named):
            here = ROWS.where(_R.recorder_id.in_(partners), _R.state == _WITH_AUDIO, condition)
            found |= {other.row_id: other for other in _entries(connection, here)}
        mine = _side(row)
        same = [other for other in found.values() if is_same_call(mine, _side(other))]
        return [row, *same] if same else []

    def _heard_ms(self, row: Entry) -> int:
        """Tell how much of a call a recording has: its length, less its gaps (the mean of its streams)."""
        try:
            raw = self._store.group(row.path).read(manifest_name(row.id))
            manifest = parse_manifest(raw)
        except (OSError, FormatError):
            return round(row.duration_s * 1000)
        lost = sum(gap.length_samples for stream in manifest.streams for gap in stream.gaps)
        heard = manifest.duration_samples - lost / max(1, len(manifest.streams))
        return max(0, round(1000 * heard / manifest.sample_rate_hz))


def copies_of(connection: Connection, row_ids: Sequence[int]) -> dict[int, tuple[Copy, ...]]:
    """Give all recordings of the same call, by row, the best first; none for a row that is alone."""
    members = _members(connection, row_ids)
    wanted = sorted({row for rows in members.values() for row in rows})
    known: dict[int, Copy] = {}
    for at in range(0, len(wanted), _ASKED_AT_ONCE):
        here = _R.row_id.in_(wanted[at : at + _ASKED_AT_ONCE])
        columns = (_R.row_id, _R.id, _R.recorder_id, _G.heard_ms, _G.is_best)
        for row in connection.execute(select(*columns).join(CALL_GROUPS, _G.row_id == _R.row_id).where(here)):
            known[int(row[0])] = Copy(
                recording_id=row[1], recorder_id=row[2], heard_ms=row[3], is_best=row[4]
            )

    def rank(row: int) -> tuple[bool, int, int]:
        return not known[row].is_best, -known[row].heard_ms, row

    return {
        row: tuple(known[one] for one in sorted((one for one in rows if one in known), key=rank))
        for row, rows in members.items()
    }


def with_copies(connection: Connection, row_ids: Sequence[int]) -> list[int]:
    """Add to rows the others of their calls."""
    others = [row for members in _members(connection, row_ids).values() for row in members]
    return list(dict.fromkeys([*row_ids, *others]))


def ids_of_copies(connection: Connection, recording_ids: Sequence[str]) -> dict[str, list[str]]:
    """Name, by recording, the others of its call; none for one that is alone."""
    if not recording_ids or connection.execute(select(_G.row_id).limit(1)).first() is None:
        return {}
    rows: dict[int, str] = {}
    for at in range(0, len(recording_ids), _ASKED_AT_ONCE):
        query = select(_R.row_id, _R.id).where(_R.id.in_(recording_ids[at : at + _ASKED_AT_ONCE]))
        rows |= {int(row[0]): str(row[1]) for row in connection.execute(query)}
    copies = copies_of(connection, list(rows))
    return {
        rows[row_id]: [copy.recording_id for copy in members if copy.recording_id != rows[row_id]]
        for row_id, members in copies.items()
    }


def leave(connection: Connection, row_id: int) -> None:
    """Take an erased recording out of its call, within the caller's transaction; the rest is found again."""
    rest = [row for row in _members(connection, [row_id]).get(row_id, []) if row != row_id]
    if not rest:
        return
    query = select(_G.row_id, _G.heard_ms).where(_G.row_id.in_(rest))
    heard = {int(row[0]): int(row[1]) for row in connection.execute(query)}
    connection.execute(delete(CALL_GROUPS).where(_G.row_id.in_([row_id, *rest])))
    if len(heard) > 1:
        _join(connection, set(heard), heard)


def _members(connection: Connection, row_ids: Sequence[int]) -> dict[int, list[int]]:
    """Give the rows of each row's call; calls with one recording are left out."""
    groups: dict[int, int] = {}
    for at in range(0, len(row_ids), _ASKED_AT_ONCE):
        query = select(_G.row_id, _G.group_id).where(_G.row_id.in_(row_ids[at : at + _ASKED_AT_ONCE]))
        groups |= {int(row[0]): int(row[1]) for row in connection.execute(query)}
    members: dict[int, list[int]] = {}
    if groups:
        query = select(_G.group_id, _G.row_id).where(_G.group_id.in_(set(groups.values())))
        for group, row in connection.execute(query.order_by(_G.row_id)):
            members.setdefault(int(group), []).append(int(row))
    return {row: members[group] for row, group in groups.items()}


def _join(connection: Connection, row_ids: set[int], heard_ms: dict[int, int]) -> None:
    """Make one group of rows and of the groups that they were in."""
    known = select(_G.group_id).where(_G.row_id.in_(row_ids))
    groups = list(connection.execute(known).scalars())
    together = or_(_G.group_id.in_(groups), _G.row_id.in_(row_ids))
    before = connection.execute(select(CALL_GROUPS).where(together))
    heard = {int(row.row_id): int(row.heard_ms) for row in before} | {row: heard_ms[row] for row in row_ids}
    best = max(heard, key=lambda row: (heard[row], -row))
    connection.execute(delete(CALL_GROUPS).where(_G.row_id.in_(heard)))
    connection.execute(
        insert(CALL_GROUPS),
        [
            {"row_id": row, "group_id": min(heard), "heard_ms": heard[row], "is_best": row == best}
            for row in sorted(heard)
        ],
    )


def _reached(target: str) -> Any:
    return select(AUDIT_EXPORTS.c.number).where(AUDIT_EXPORTS.c.target == target)


def _entries(connection: Connection, query: Any) -> list[Entry]:
    return [Entry(**row) for row in connection.execute(query).mappings()]


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _side(row: Entry) -> Side:
    return Side(
        recorder_id=row.recorder_id,
        call_id=row.call_id,
        caller=row.caller,
        callee=row.callee,
        started_utc_ms=round(datetime.fromisoformat(row.started_at).timestamp() * 1000),
        duration_ms=round(row.duration_s * 1000),
    )
