"""Erasing recordings, and making them anonymous, in steps that may be cut anywhere.

Rule: nothing is erased that is on hold, before its class's minimum, or under WORM before its time: looked at
again in the very transaction that decides, whoever asks. The steps:
  1. decided: tombstone signed, row changed, audit row written, in one transaction; holds take their turn,
  2. settled: the tombstone stands in the store, the files are gone (``removal``),
  3. done: marked in the database.
Cut between them, ``finish`` goes on at the next start: a decided tombstone is never taken back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from recorderd.archive.anonymising import NewAudio
from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.call_groups import leave
from recorderd.archive.catalogue import ROWS, Entry
from recorderd.archive.database import Database
from recorderd.archive.forgetting import forget_people, index_anew
from recorderd.archive.hold_book import HoldBook
from recorderd.archive.locks import ObjectLocks
from recorderd.archive.remains import shed_note_of, small_names, stated_of
from recorderd.archive.removal import drop_staged, settle
from recorderd.archive.retention_book import ANONYMISED, ERASED, RetentionBook, is_as_signed, terms_of_stated
from recorderd.archive.retention_tables import TOMBSTONES
from recorderd.archive.store import Store
from recorderd.archive.tables import RECORDINGS
from recorderd.archive.tombstone_rows import files_sha256, newest_tombstone, told_by_tombstone
from recorderd.core.clock import NS_PER_S, Clock, utc_text
from recorderd.core.errors import FormatError
from recorderd.core.events import Ev, EventLog
from recorderd.core.outcomes import RECORDED, SHED
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.keys import Signer
from recorderd.policy.holds import HoldIndex
from recorderd.policy.retention import Erase, KeptRecording, Ruling, Verdict, decide, refusal
from recorderd.wire.manifest import Manifest
from recorderd.wire.recording_index import RecordingIndex
from recorderd.wire.tombstone import (
    Cause,
    KeptFile,
    Kind,
    Tombstone,
    encode_body,
    encode_tombstone,
    parse_tombstone,
)

AT_ONCE: Final = 20  # decided on in one transaction: so long others wait, each takes a signature
_STAGED_S: Final = 86_400  # audio waits so long for its tombstone, which is decided on at once
_R: Final = RECORDINGS.c
_S: Final = TOMBSTONES.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants done, and why."""

    kind: Kind
    cause: Cause
    who: Actor
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a wish for one recording; without ``refusal`` it was done."""

    row_id: int
    recording_id: str
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """What was read of a recording before the decision."""

    manifest: Manifest | RecordingIndex | None
    small: tuple[KeptFile, ...]  # manifest, signature, certificate, stamp
    told: tuple[str, int] | None = None  # class and end, as an earlier tombstone signed them
    problem: str = ""


class Eraser:
    """Erases in one archive.

    Thread: any; also beside others, in other processes.
    """

    def __init__(
        self,
        *,
        store: Store,
        database: Database,
        book: RetentionBook,
        holds: HoldBook,
        audit: AuditLog,
        signer: Signer,
        archive_id: str,
        clock: Clock,
        log: EventLog,
        locks: ObjectLocks | None = None,
    ) -> None:
        self._store = store
        self._locks = locks
        self._database = database
        self._book = book
        self._holds = holds
        self._audit = audit
        self._signer = signer
        self._archive_id = archive_id
        self._clock = clock
        self._log = log

    def dispose(
        self, row_ids: Sequence[int], wish: Wish, *, audio: Mapping[int, NewAudio] | None = None
    ) -> list[Outcome]:
        """Do what is wished with recordings, or say of each why not; for anonymising their new audio waits.

        Durable: what was done is done for good.
        Errors: CatalogueFailed, EvidenceError, KeyUnusable: nothing was decided; OSError: what was decided is
        gone on with by ``finish``.
        """
        outcomes: list[Outcome] = []
        for at in range(0, len(row_ids), AT_ONCE):
            outcomes += self._dispose_group(row_ids[at : at + AT_ONCE], wish, audio or {})
        return outcomes

    def refusals(self, recordings: Sequence[KeptRecording], wish: Wish) -> dict[int, str]:
        """Foresee, by row, why a wish would be refused; empty texts for what would be done. Changes nothing.

        Errors: CatalogueFailed, EvidenceError.
        """
        now_utc_ns = self._clock.utc_ns()
        with self._database.read() as connection:
            ruling = self._book.ruling(connection)
            holds = self._holds.index(connection, now_utc=utc_text(now_utc_ns))
        claims_right, now_utc_s = wish.cause is Cause.RIGHT, now_utc_ns // NS_PER_S
        locked = self._locks.locked([row.row_id for row in recordings]) if self._locks is not None else {}
        return {
            row.row_id: refusal(row, ruling, holds, now_utc_s=now_utc_s, claims_right=claims_right)
            or locked.get(row.row_id, "")
            for row in recordings
        }

    def finish(self) -> int:
        """Go on with what was decided and not done; say how many there were.

        Errors: CatalogueFailed, OSError.
        """
        done = self._settle(None)
        drop_staged(self._store.root, older_than_utc_s=self._clock.utc_ns() / NS_PER_S - _STAGED_S)
        return done

    # --- the steps -----------------------------------------------------------------------------------------

    def _dispose_group(
        self, row_ids: Sequence[int], wish: Wish, audio: Mapping[int, NewAudio]
    ) -> list[Outcome]:
        with self._database.read() as connection:
            entries = _entries(connection, row_ids)
        if self._locks is not None:  # a hold that was just released may still be on the objects
            self._locks.match(row_ids)
        ready = {entry.row_id: self._read(entry) for entry in entries}
        outcomes, decided = [], []
        with self._database.write() as connection:
            ruling = self._book.ruling(connection)
            now_utc_ns = self._clock.utc_ns()
            holds = self._holds.index(connection, now_utc=utc_text(now_utc_ns))
            kept = {row.row_id: row for row in self._book.kept(connection, row_ids)}
            for entry in _entries(connection, row_ids):
                if entry.state == ERASED and wish.cause is Cause.DUE:
                    continue  # another's sweep was here before
                why = _why_not(
                    entry,
                    kept.get(entry.row_id),
                    ready[entry.row_id],
                    wish,
                    ruling=ruling,
                    holds=holds,
                    has_new_audio=entry.row_id in audio,
                    now_utc_s=now_utc_ns // NS_PER_S,
                )
                if not why:
                    body = self._tombstone(
                        connection,
                        entry,
                        ready[entry.row_id],
                        wish,
                        kept=kept[entry.row_id],
                        ruling=ruling,
                        audio=audio.get(entry.row_id),
                        at_utc_ns=now_utc_ns,
                    )
                    try:
                        self._decide(connection, entry, body, now_utc_ns)
                        decided.append(entry.path)
                    except FormatError as problem:  # what we could not read again is not signed
                        why = f"cannot be told of in a tombstone: {problem}"
                outcomes.append(Outcome(row_id=entry.row_id, recording_id=entry.id, refusal=why))
                detail = why or f"tombstone {body.number}"
                self._note(wish, entry, connection, outcome="refused" if why else "done", detail=detail)
        for row in outcomes:
            if row.refusal:
                self._log.warning(Ev.ERASURE_REFUSED, subject=row.recording_id, reason=row.refusal)
        self._settle(decided)
        return outcomes

    def _tombstone(
        self,
        connection: Connection,
        entry: Entry,
        ready: _Ready,
        wish: Wish,
        *,
        kept: KeptRecording,
        ruling: Ruling,
        audio: NewAudio | None,
        at_utc_ns: int,
    ) -> Tombstone:
        number, previous = newest_tombstone(connection)
        stay: tuple[KeptFile, ...] = ()
        if wish.kind is Kind.ANONYMISED and audio is not None:
            stay = (audio.file,)
        elif _erase_of(ruling, kept) is Erase.AUDIO and entry.state != ANONYMISED:
            stay = ready.small
        return Tombstone(
            number=number + 1,
            previous_tombstone_sha256=previous,
            archive_id=self._archive_id,
            row=entry.row_id,
            recording_id=entry.id,
            recorder_id=entry.recorder_id,
            sequence=entry.sequence,
            previous_manifest_sha256=entry.previous_manifest_sha256,
            manifest_sha256=entry.manifest_sha256,
            files_sha256=files_sha256(connection, entry),
            outcome=RECORDED if entry.state in ("archived", ANONYMISED) else entry.state,
            stands_for=shed_note_of(ready.manifest) if entry.state == SHED else "",
            started_at=entry.started_at,
            ended_utc_s=kept.ended_utc_s,
            duration_us=round(entry.duration_s * 1_000_000),
            sample_rate_hz=entry.sample_rate_hz,
            channels=entry.channels,
            archived_at=entry.archived_at,
            retention_class=kept.facts.retention_class,
            terms=ruling.number,
            kind=wish.kind,
            cause=wish.cause,
            by=wish.who.name,
            reason=wish.reason,
            at=utc_text(at_utc_ns),
            kept=stay,
            audio=audio.audio if audio is not None and wish.kind is Kind.ANONYMISED else None,
        )

    def _decide(self, connection: Connection, entry: Entry, body: Tombstone, at_utc_ns: int) -> None:
        """Sign a tombstone and let rows say what it says, within the caller's transaction."""
        signature = self._signer.sign_bytes(encode_body(body), signing_time_utc_s=at_utc_ns // NS_PER_S)
        document = encode_tombstone(body, signature)
        parse_tombstone(document)
        row = {
            "number": body.number,
            "row_id": entry.row_id,
            "kind": body.kind.value,
            "path": entry.path,
            "at": body.at,
            "done_at": "",
            "document": document,
        }
        connection.execute(insert(TOMBSTONES), row)
        values: dict[str, Any] = {
            "state": ANONYMISED if body.kind is Kind.ANONYMISED else ERASED,
            "size_bytes": sum(file.size_bytes for file in body.kept),
        }
        connection.execute(update(RECORDINGS).where(_R.row_id == entry.row_id).values(**values))
        if body.kind is Kind.ANONYMISED or not body.kept:  # names of files tell numbers, too
            forget_people(connection, entry.row_id)
        if body.kind is Kind.ERASED:
            leave(connection, entry.row_id)
        index_anew(connection, entry.row_id)

    def _settle(self, paths: Sequence[str] | None) -> int:
        """Do what was decided over these places, or all, and not done; by one process at a time.

        In the order of the tombstones, whoever decided: a later one is not taken back by an earlier one.
        """
        if paths is not None and not paths:
            return 0
        with self._database.store_turn():
            pending = self._pending(paths)
            for _, path, document in pending:
                body = parse_tombstone(document).body
                settle(self._store, path, body, document)
                event = Ev.ARCHIVED_ANONYMISED if body.kind is Kind.ANONYMISED else Ev.ARCHIVED_ERASED
                self._log.info(
                    event, subject=body.recording_id, cause=body.cause.value, tombstone=body.number
                )
            if pending:
                at, numbers = utc_text(self._clock.utc_ns()), [row[0] for row in pending]
                with self._database.write() as connection:
                    connection.execute(update(TOMBSTONES).where(_S.number.in_(numbers)).values(done_at=at))
            return len(pending)

    def _pending(self, paths: Sequence[str] | None) -> list[tuple[int, str, bytes]]:
        query = select(_S.number, _S.path, _S.document).where(_S.done_at == "").order_by(_S.number)
        if paths is not None:
            query = query.where(_S.path.in_(paths))
        with self._database.read() as connection:
            return [(int(row[0]), str(row[1]), bytes(row[2])) for row in connection.execute(query)]

    def _read(self, entry: Entry) -> _Ready:
        """Read what stays of a recording whose audio goes, and what its entry may stand for."""
        group = self._store.group(entry.path)
        if entry.state in (ERASED, ANONYMISED):
            return _Ready(manifest=None, small=(), told=told_by_tombstone(self._database, entry))
        try:
            names = small_names(group, entry.id)
            contents = {name: group.read(name) for name in names if group.has(name)}
            manifest = stated_of(contents, entry)
            if manifest is None:
                return _Ready(manifest=None, small=(), problem="has another manifest than was archived")
            if why := self._store.published.why_kept(entry.path):
                return _Ready(manifest=None, small=(), problem=why)
            terms_of_stated(manifest)  # that its end is a time
        except (OSError, FormatError, ValueError) as problem:
            return _Ready(manifest=None, small=(), problem=f"cannot be read: {problem}")
        small = tuple(
            KeptFile(name=name, size_bytes=len(content), sha256=sha256_bytes(content))
            for name, content in sorted(contents.items())
        )
        return _Ready(manifest=manifest, small=small)

    def _note(self, wish: Wish, entry: Entry, connection: Connection, *, outcome: str, detail: str) -> None:
        what = "recording_anonymised" if wish.kind is Kind.ANONYMISED else "recording_erased"
        self._audit.note(
            wish.who,
            what,
            entry.id,
            reason=wish.reason,
            outcome=outcome,
            detail=f"{wish.cause.value}: {detail}",
            connection=connection,
        )


def _why_not(
    entry: Entry,
    kept: KeptRecording | None,
    ready: _Ready,
    wish: Wish,
    *,
    ruling: Ruling,
    holds: HoldIndex,
    has_new_audio: bool,
    now_utc_s: int,
) -> str:
    """Say why a wish is refused; empty when it is not."""
    if entry.state == ERASED:
        return "is erased already"
    if entry.state == ANONYMISED and wish.kind is Kind.ANONYMISED:
        return "is anonymous already"
    if kept is None or not kept.facts.retention_class:
        return "is of no class: its manifest could not be read yet"
    if ready.problem:
        return ready.problem
    if not _is_kept_as_signed(kept, ready):
        return "is kept in the database by other terms than were signed; look at `recorder-archive fsck`"
    if wish.cause is Cause.DUE:
        decision = decide(kept, ruling, holds, now_utc_s=now_utc_s)
        return "" if decision.verdict is Verdict.DUE else f"is not due: {decision.verdict.value}"
    claims_right = wish.cause is Cause.RIGHT
    why = refusal(kept, ruling, holds, now_utc_s=now_utc_s, claims_right=claims_right)
    if not why and wish.kind is Kind.ANONYMISED and not has_new_audio:
        return "has no audio that could be kept"
    return why


def _is_kept_as_signed(kept: KeptRecording, ready: _Ready) -> bool:
    if ready.manifest is not None:
        return is_as_signed(kept, ready.manifest)
    return ready.told in (None, (kept.facts.retention_class, kept.ended_utc_s))


def _erase_of(ruling: Ruling, kept: KeptRecording) -> Erase:
    found = ruling.newest.of(kept.facts.retention_class)
    return found.erase if found is not None else Erase.ALL


def _entries(connection: Connection, row_ids: Sequence[int]) -> list[Entry]:
    query = ROWS.where(_R.row_id.in_(list(row_ids))).order_by(_R.row_id)
    return [Entry(**row) for row in connection.execute(query).mappings()]
