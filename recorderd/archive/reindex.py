"""Makes the catalogue's recordings anew from the store: manifests, receipts, tombstones and terms from there.

Contract: one transaction, so that a cut at any instant leaves the catalogue as it was. Every row gets the
number that its receipt or tombstone states, so no number is given twice. Whose receipt is gone (an earlier
release kept none as a file) keeps the one of its old row, if that still tells of this very recording; else it
is verified like an upload and gets a new receipt with the next number, and is named. A number that is left
over stays missing, which fsck tells. Retention terms come back where there are none (``kept_terms``). What
the store does not know is left as it stands: heads, tags, notes, accounts, holds, the audit log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, Select, delete, func, insert, select, text, update

from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.chain_links import ChainState
from recorderd.archive.database import Database
from recorderd.archive.folder_rows import FolderReader, FoundRow, Unfit
from recorderd.archive.kept_receipts import keep_receipts
from recorderd.archive.kept_terms import TERMS_FOLDER, restore_terms
from recorderd.archive.receipts import make_receipt
from recorderd.archive.retention_tables import TOMBSTONES
from recorderd.archive.search_index import index_rows
from recorderd.archive.search_tables import SEARCH_ROWS
from recorderd.archive.store import Store
from recorderd.archive.tables import ISSUED, RECORDINGS
from recorderd.core.clock import Clock, utc_text
from recorderd.core.errors import EvidenceError
from recorderd.evidence.keys import Signer
from recorderd.evidence.verify import TrustStore
from recorderd.wire.manifest import GENESIS_SHA256
from recorderd.wire.tombstone import parse_tombstone

STEP_ROWS: Final = 1000
_SEQUENCE: Final = "SELECT seq FROM sqlite_sequence WHERE name = :name"
_R: Final = RECORDINGS.c


@dataclass(slots=True, kw_only=True)
class Rebuilt:
    """What came of it."""

    rows: int = 0
    tombstones: int = 0
    terms: int = 0  # documents that came back
    reissued: list[str] = field(default_factory=list)  # recordings with a new receipt
    left_out: list[tuple[str, str]] = field(default_factory=list)  # path, and why it has no row


class Reindexer:
    """Makes one catalogue anew; nothing else may write meanwhile.

    Thread: one.
    """

    def __init__(
        self,
        *,
        store: Store,
        database: Database,
        trusts: Mapping[str, TrustStore],
        receipts: TrustStore,
        signer: Signer,
        archive_id: str,
        region: str,
        clock: Clock,
    ) -> None:
        self._store = store
        self._database = database
        self._reader = FolderReader(store, trusts=trusts, receipts=receipts, now=utc_text(clock.utc_ns()))
        self._receipts = receipts
        self._signer = signer
        self._archive_id = archive_id
        self._region = region
        self._clock = clock

    def run(self, who: Actor, *, advance: Callable[[int], None] | None = None) -> Rebuilt:
        """Make all rows anew; ``advance`` hears of the folders that were read.

        Durable: after return the new rows survive; before it, the old ones.
        Errors: CatalogueFailed, KeyUnusable, OSError: nothing was changed.
        """
        told = Rebuilt()
        with self._database.read() as before, self._database.write(idle_limit_s=0) as connection:
            issued = _newest(before)
            connection.execute(delete(SEARCH_ROWS))
            connection.execute(delete(RECORDINGS))
            wanting, step, numbers = [], [], set()
            for found in self._rows(before, told, advance):
                number = found.entry.row_id
                if not number:
                    wanting.append(found)
                elif number in numbers:
                    told.left_out.append((found.entry.path, f"another recording has number {number}"))
                else:
                    numbers.add(number)
                    step.append(found)
                if len(step) >= STEP_ROWS:
                    self._insert(connection, step, told)
                    step = []
            issued = max({issued, *numbers})
            fresh = [self._receipted(row, issued + at) for at, row in enumerate(wanting, start=1)]
            told.reissued += [row.entry.id for row in fresh]
            self._insert(connection, step + fresh, told)
            _set_issued(connection, issued + len(fresh))
            _settle_chains(connection)
            self._restore_terms(connection, told)
            detail = f"{told.rows} rows, {len(fresh)} new receipts, {len(told.left_out)} folders left out"
            audit = AuditLog(self._database, clock=self._clock)
            audit.note(who, "reindexed", self._archive_id, detail=detail, connection=connection)
        keep_receipts(self._store.published, [row.entry for row in fresh])
        return told

    def _restore_terms(self, connection: Connection, told: Rebuilt) -> None:
        try:
            told.terms = restore_terms(self._store.published, connection, self._receipts)
        except EvidenceError as problem:  # nothing is decided by what does not hold
            told.left_out.append((TERMS_FOLDER, str(problem)))

    def count(self) -> int:
        """Count the folders that are to be read."""
        return sum(1 for _ in self._paths())

    def _paths(self) -> Iterator[str]:
        for day in self._store.published.days():
            yield from self._store.published.groups_of(day)

    def _rows(
        self, before: Connection, told: Rebuilt, advance: Callable[[int], None] | None
    ) -> Iterator[FoundRow]:
        for path in self._paths():
            if advance is not None:
                advance(1)
            try:
                yield self._reader.read(before, path)
            except Unfit as why:
                told.left_out.append((path, str(why)))

    def _receipted(self, row: FoundRow, number: int) -> FoundRow:
        """Give a row its number, and a receipt that says so."""
        entry, utc_ns = row.entry, self._clock.utc_ns()
        receipt = make_receipt(
            recording_id=entry.id,
            recorder_id=entry.recorder_id,
            manifest_sha256=entry.manifest_sha256,
            sha256s=row.sha256s or {},
            archive_id=self._archive_id,
            sequence=number,
            archived_utc_ns=utc_ns,
            signer=self._signer,
        )
        entry = replace(entry, row_id=number, receipt=receipt, archived_at=utc_text(utc_ns))
        return replace(row, entry=entry)

    def _insert(self, connection: Connection, rows: Sequence[FoundRow], told: Rebuilt) -> None:
        if not rows:
            return
        connection.execute(insert(RECORDINGS), [asdict(row.entry) for row in rows])
        index_rows(connection, [row.entry for row in rows], region=self._region)
        for row in rows:
            if row.stone:
                _set_stone(connection, row)
                told.tombstones += 1
        told.rows += len(rows)


def _newest(connection: Connection) -> int:
    """Give the greatest number that was ever given, as far as the old catalogue knows."""
    numbers: list[Select[Any]] = [select(func.max(_R.row_id))]
    numbers.append(select(ISSUED.c.number).where(ISSUED.c.table_name == RECORDINGS.name))
    known = [connection.execute(query).scalar() for query in numbers]
    if connection.dialect.name == "sqlite":
        known.append(connection.execute(text(_SEQUENCE), {"name": RECORDINGS.name}).scalar())
    return max(int(number or 0) for number in known)


def _set_issued(connection: Connection, number: int) -> None:
    if connection.dialect.name == "sqlite":
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": RECORDINGS.name})
        row = {"name": RECORDINGS.name, "number": number}
        connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :number)"), row)
    else:
        connection.execute(delete(ISSUED).where(ISSUED.c.table_name == RECORDINGS.name))
        connection.execute(insert(ISSUED), {"table_name": RECORDINGS.name, "number": number})


def _set_stone(connection: Connection, row: FoundRow) -> None:
    """Put a tombstone's row back, if it is not there: the catalogue was lost as a whole."""
    body = parse_tombstone(row.stone).body
    known = select(TOMBSTONES.c.number).where(TOMBSTONES.c.number == body.number)
    if connection.execute(known).first() is None:
        values = {
            "number": body.number,
            "row_id": body.row,
            "kind": body.kind.value,
            "path": row.entry.path,
            "at": body.at,
            "done_at": "",  # the files are looked at once more
            "document": row.stone,
        }
        connection.execute(insert(TOMBSTONES), values)


def _settle_chains(connection: Connection) -> None:
    """Say of each row whether it follows its recorder's previous one, as on its arrival."""
    columns = (_R.row_id, _R.recorder_id, _R.sequence, _R.previous_manifest_sha256, _R.manifest_sha256)
    query = select(*columns).order_by(_R.recorder_id, _R.sequence, _R.row_id)
    states: dict[ChainState, list[int]] = {state: [] for state in ChainState}
    with connection.execute(query, execution_options={"yield_per": STEP_ROWS}) as result:
        before: tuple[str, int, set[str]] = ("", 0, set())
        for (recorder_id, sequence), group in groupby(result, key=lambda row: (row[1], row[2])):
            rows = list(group)
            follows = before[2] if before[:2] == (recorder_id, sequence - 1) else set()
            for at, row in enumerate(rows):
                states[_chain(row.sequence, row.previous_manifest_sha256, follows, first=not at)].append(
                    row.row_id
                )
            before = (recorder_id, sequence, {row.manifest_sha256 for row in rows})
    for state, row_ids in states.items():
        for at in range(0, len(row_ids), STEP_ROWS):
            here = row_ids[at : at + STEP_ROWS]
            connection.execute(update(RECORDINGS).where(_R.row_id.in_(here)).values(chain=state.value))


def _chain(sequence: int, previous_sha256: str, follows: set[str], *, first: bool) -> ChainState:
    if not first:
        return ChainState.BROKEN  # two manifests with one number
    if sequence == 1:
        return ChainState.LINKED if previous_sha256 == GENESIS_SHA256 else ChainState.BROKEN
    if not follows:
        return ChainState.PENDING
    return ChainState.LINKED if previous_sha256 in follows else ChainState.BROKEN
