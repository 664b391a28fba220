"""Reads every published file again, round after round, and compares it with what the archive signed for.

Rule: changes nothing in the store. What a recording must consist of is in its receipt, and of one that was
erased or made anonymous in its tombstone. How far a round is survives a stop or a cut; some recordings may be
read twice then, none is left out. A difference stays noted until its recording is found to be as it should.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from recorderd.archive.catalogue import ROWS, Entry
from recorderd.archive.database import Database, storable
from recorderd.archive.groups import Group
from recorderd.archive.retention_tables import TOMBSTONES
from recorderd.archive.scrub_tables import SCRUB_DIFFERENCES, SCRUB_ROUNDS
from recorderd.archive.store import Store
from recorderd.archive.tables import RECORDINGS
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import FormatError
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.digest import sha256_bytes
from recorderd.wire.receipt import parse_receipt
from recorderd.wire.tombstone import parse_tombstone, tombstone_name

_STEP_ROWS: Final = 64
_R: Final = RECORDINGS.c
_N: Final = SCRUB_ROUNDS.c
_D: Final = SCRUB_DIFFERENCES.c
_S: Final = TOMBSTONES.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One reading of everything."""

    number: int
    begun_utc_s: int
    ended_utc_s: int = 0  # 0 = under way
    last_row: int = 0
    recordings: int = 0
    read_bytes: int = 0
    differences: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One recording that is not what was signed for."""

    row_id: int
    recording_id: str
    found_utc_s: int
    reason: str


class Scrubber:
    """The scrub of one archive.

    Thread: one at a time.
    Errors: CatalogueFailed; OSError when the store as a whole cannot be read.
    """

    def __init__(self, store: Store, database: Database, *, clock: Clock, log: EventLog) -> None:
        self._store = store
        self._database = database
        self._clock = clock
        self._log = log

    def newest(self) -> Round | None:
        """Tell of the round that is under way, or of the last one."""
        query = select(SCRUB_ROUNDS).order_by(_N.number.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        return Round(**row) if row is not None else None

    def differences(self) -> list[Difference]:
        """List what is not as it should be, by the last reading of each."""
        with self._database.read() as connection:
            query = select(SCRUB_DIFFERENCES).order_by(_D.row_id)
            return [Difference(**row) for row in connection.execute(query).mappings()]

    def run(self, *, advance: Callable[[int], None], stopped: Callable[[], bool] = lambda: False) -> Round:
        """Begin a round, or go on with the one that is under way, to its end or until it is stopped.

        ``advance`` hears of the octets that were read, and may take its time.
        """
        state = self.newest()
        if state is None or state.ended_utc_s:
            state = self._begin(state)
        while not stopped():
            with self._database.read() as connection:
                query = ROWS.where(_R.row_id > state.last_row).order_by(_R.row_id).limit(_STEP_ROWS)
                entries = [Entry(**row) for row in connection.execute(query).mappings()]
            if not entries:
                return self._end(state)
            for entry in entries:
                if stopped():
                    break
                reason, read_bytes = self._look_at(entry, advance)
                state = replace(
                    state,
                    last_row=entry.row_id,
                    recordings=state.recordings + 1,
                    read_bytes=state.read_bytes + read_bytes,
                    differences=state.differences + bool(reason),
                )
                self._note(entry, reason)
            self._write_down(state)
        return state

    # --- one recording -------------------------------------------------------------------------------

    def _look_at(self, entry: Entry, advance: Callable[[int], None]) -> tuple[str, int]:
        """Say how a recording differs, empty when it does not; one that changed meanwhile is read again."""
        while True:
            reason, read_bytes = self._compare(entry, advance)
            if not reason:
                return "", read_bytes
            with self._database.read() as connection:
                row = connection.execute(ROWS.where(_R.row_id == entry.row_id)).mappings().first()
            if row is None:  # made anew by a reindex
                return "", read_bytes
            now = Entry(**row)
            if (now.state, now.receipt) == (entry.state, entry.receipt):
                return reason, read_bytes
            entry = now

    def _compare(self, entry: Entry, advance: Callable[[int], None]) -> tuple[str, int]:
        try:
            wanted = self._wanted(entry)
        except FormatError as problem:
            return str(problem), 0
        if wanted is None:  # its files are just going
            return "", 0
        group = self._store.group(entry.path)
        if not group.is_there():
            self._store.published.prepare()  # raises where nothing can be read at all
            return f"{entry.path} is missing", 0
        names = {row.name for row in group.rows()}
        reasons = [f"{name} is missing" for name in sorted(wanted.keys() - names)]
        reasons += [f"{name} is there, and was not signed for" for name in sorted(names - wanted.keys())]
        read_bytes = 0
        for name in sorted(wanted.keys() & names):
            digest, size_bytes, trouble = _read(group, name, advance)
            read_bytes += size_bytes
            if trouble:
                group.rows()  # raises where nothing can be read at all
                reasons.append(f"{name} cannot be read: {trouble}")
            elif digest != wanted[name]:
                reasons.append(f"{name} is not what was signed for")
        return storable("; ".join(reasons)), read_bytes

    def _wanted(self, entry: Entry) -> Mapping[str, str] | None:
        """Say which files a recording must consist of, by the digest of each; None while they are going."""
        query = select(_S.document, _S.done_at).where(_S.row_id == entry.row_id).order_by(_S.number.desc())
        with self._database.read() as connection:
            stone = connection.execute(query.limit(1)).first()
        if stone is None:
            return {row.name: row.sha256 for row in parse_receipt(entry.receipt).body.files}
        if not stone.done_at:
            return None
        document = bytes(stone.document)
        body = parse_tombstone(document).body
        kept = {row.name: row.sha256 for row in body.kept}
        return kept | {tombstone_name(body.recording_id): sha256_bytes(document)}

    # --- what is written down ------------------------------------------------------------------------

    def _begin(self, former: Round | None) -> Round:
        number = former.number + 1 if former is not None else 1
        state = Round(number=number, begun_utc_s=self._now_utc_s())
        with self._database.write() as connection:
            connection.execute(insert(SCRUB_ROUNDS), _row(state))
        return state

    def _end(self, state: Round) -> Round:
        state = replace(state, ended_utc_s=self._now_utc_s())
        self._write_down(state)
        self._log.info(
            Ev.SCRUB_FINISHED,
            subject=f"round {state.number}",
            recordings=state.recordings,
            read_bytes=state.read_bytes,
            differences=state.differences,
        )
        return state

    def _write_down(self, state: Round) -> None:
        with self._database.write() as connection:
            connection.execute(update(SCRUB_ROUNDS).where(_N.number == state.number).values(**_row(state)))

    def _note(self, entry: Entry, reason: str) -> None:
        if reason:
            self._log.error(Ev.SCRUB_DIFFERS, subject=entry.id, path=entry.path, reason=reason)
        with self._database.read() as connection:
            known = _known(connection, entry.row_id)
        if reason == (known.reason if known is not None else ""):
            return
        found_utc_s = known.found_utc_s if known is not None else self._now_utc_s()
        with self._database.write() as connection:
            connection.execute(delete(SCRUB_DIFFERENCES).where(_D.row_id == entry.row_id))
            if reason:
                row = {"row_id": entry.row_id, "recording_id": entry.id}
                row |= {"found_utc_s": found_utc_s, "reason": reason}
                connection.execute(insert(SCRUB_DIFFERENCES), row)

    def _now_utc_s(self) -> int:
        return self._clock.utc_ns() // NS_PER_S


def _known(connection: Connection, row_id: int) -> Difference | None:
    row = connection.execute(select(SCRUB_DIFFERENCES).where(_D.row_id == row_id)).mappings().first()
    return Difference(**row) if row is not None else None


def _row(state: Round) -> dict[str, int]:
    return {name: getattr(state, name) for name in Round.__slots__}


def _read(group: Group, name: str, advance: Callable[[int], None]) -> tuple[str, int, str]:
    """Read a file; give its digest, how much was read, and what went wrong."""
    digest, size_bytes = sha256(), 0
    try:
        with group.open(name) as file:
            for block in _told(file.blocks(), advance):
                digest.update(block)
                size_bytes += len(block)
    except OSError as problem:
        return "", size_bytes, problem.strerror or str(problem)
    return digest.hexdigest(), size_bytes, ""


def _told(blocks: Iterator[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    for block in blocks:
        yield block
        advance(len(block))
