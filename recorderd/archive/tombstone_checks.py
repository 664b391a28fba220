"""Do tombstones and retention terms hold, and does the archive stand as they say?

Contract: what stands in the store and in the database is compared with the signed documents; each thing that
does not hold is a flaw with its verdict. Nothing is raised but CatalogueFailed and OSError.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from recorderd.archive.anonymising import samples_root
from recorderd.archive.audit_tables import AUDIT
from recorderd.archive.catalogue import ROWS, Entry
from recorderd.archive.database import Database
from recorderd.archive.groups import FolderGroup, Group, sha256_of
from recorderd.archive.lineage import Place
from recorderd.archive.retention_book import has_same_parties, terms_of_stated
from recorderd.archive.retention_tables import HOLDS, RECORDING_TERMS, RETENTION_TERMS, TOMBSTONES
from recorderd.archive.store import Store
from recorderd.archive.tables import RECORDINGS
from recorderd.archive.verdicts import Verdict
from recorderd.core.errors import EvidenceError, FormatError, RecorderError, SignerUnknown
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.verify import TrustStore, verify_detached
from recorderd.policy.retention import Ruling
from recorderd.wire.manifest import GENESIS_SHA256, Manifest, manifest_name
from recorderd.wire.names import index_name, signature_name
from recorderd.wire.receipt import parse_receipt
from recorderd.wire.recording_index import RecordingIndex, parse_index
from recorderd.wire.retention_terms import TermsBody, parse_terms
from recorderd.wire.shed_note import parse_shed_note
from recorderd.wire.signed_document import SignedOctets
from recorderd.wire.tombstone import (
    TOMBSTONE_LIMIT_BYTES,
    Cause,
    Kind,
    Tombstone,
    digest_of_files,
    parse_tombstone,
    tombstone_name,
)

GONE: Final = frozenset({"erased", "anonymised"})  # states of rows that a tombstone stands for
_AT_ONCE: Final = 500  # rows that are asked for together
_BEFORE_ALL: Final = -(2**62)  # also numbers that nobody gave are looked at
_NUMBERS: Final = ("caller", "callee", "extension", "call_id", "trunk", "queue")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One thing that does not hold."""

    subject: str
    code: str  # tombstone | terms | hold
    reason: str
    verdict: Verdict = Verdict.BAD


class Tombstones:
    """All tombstones and terms of one archive.

    Thread: one; also beside a running archive.
    """

    def __init__(self, store: Store, database: Database, receipts: TrustStore) -> None:
        self._store = store
        self._database = database
        self._receipts = receipts
        self._has_tables: bool | None = None  # of a release before there were any, opened to be read only

    def flaws(self) -> list[Flaw]:
        """Tell what does not hold of tombstones and terms by themselves, and against the rows."""
        if not self._is_ready():
            return []
        with self._database.read() as connection:
            found, terms = self._terms(connection)
            return found + self._stones(connection, terms) + _hold_flaws(connection)

    def terms_problems(self, entry: Entry, stated: Manifest | RecordingIndex) -> Iterator[str]:
        """Compare what a recording is kept by with its signed manifest, or index."""
        if not self._is_ready():
            return
        terms = RECORDING_TERMS.c
        with self._database.read() as connection:
            query = select(terms.retention_class, terms.ended_utc_s, terms.parties)
            row = connection.execute(query.where(terms.row_id == entry.row_id)).first()
        try:
            told = terms_of_stated(stated)
        except ValueError:
            return  # which is a finding of its own
        if row is None or not row[0]:
            return  # it is not erased before it was read
        if (row[0], row[1]) != told:
            yield f"it is kept as {row[0]} from {row[1]} on, by the manifest as {told[0]} from {told[1]} on"
        if not has_same_parties(row[2].split("\n"), stated):
            yield "holds and wishes by a number look at others than the manifest names"

    def judge(self, entry: Entry, trust: TrustStore) -> tuple[Place | None, list[Flaw]]:
        """Judge one recording that is no more, or anonymous: its place in the chain, and what is wrong."""
        with self._database.read() as connection:
            rows = connection.execute(ROWS.where(RECORDINGS.c.row_id == entry.row_id)).mappings()
            entry = next((Entry(**row) for row in rows), entry)  # as it is beside its tombstone
            query = select(TOMBSTONES).where(TOMBSTONES.c.row_id == entry.row_id)
            row = connection.execute(query.order_by(TOMBSTONES.c.number.desc())).first()
        if row is None:
            reason = f"its row says {entry.state}, and there is no tombstone"
            return None, [Flaw(subject=entry.id, code="tombstone", reason=reason)]
        try:
            body = parse_tombstone(bytes(row.document)).body
        except FormatError:  # which ``flaws`` has said
            return None, []
        reasons = [*_row_problems(entry, body), *_receipt_problems(entry, body)]
        if row.done_at:
            reasons += group_problems(self._store.group(entry.path), body, bytes(row.document), trust)
        flaws = [Flaw(subject=entry.id, code="tombstone", reason=reason) for reason in reasons]
        return place_of(body), flaws

    def _is_ready(self) -> bool:
        if self._has_tables is None:
            self._has_tables = self._database.has_table(TOMBSTONES.name)
        return self._has_tables

    # --- what stands by itself -----------------------------------------------------------------------------

    def _stones(self, connection: Connection, terms: Sequence[TermsBody]) -> list[Flaw]:
        found: list[Flaw] = []
        # What a recording's newest tombstone says decides; of those that hold nothing is kept in memory.
        previous, differing = GENESIS_SHA256, dict[str, str]()
        for number, row in enumerate(_tombstone_rows(connection), start=1):
            subject = f"tombstone {row.number}"
            try:
                stone = parse_tombstone(bytes(row.document))
            except FormatError as problem:
                found.append(Flaw(subject=subject, code="tombstone", reason=str(problem)))
                continue
            body = stone.body
            found += _signature_flaws(subject, "tombstone", stone.signed, self._receipts)
            if (row.number, body.number, body.previous_tombstone_sha256) != (number, number, previous):
                reason = f"does not follow tombstone {number - 1}: one is missing or was altered"
                found.append(Flaw(subject=subject, code="tombstone", reason=reason))
            if (row.row_id, row.kind, row.at) != (body.row, body.kind.value, body.at):
                reason = "its row in the database is not what was signed"
                found.append(Flaw(subject=subject, code="tombstone", reason=reason))
            previous = body.sha256
            differing.pop(body.recording_id, None)
            if row.state != body.kind.value:
                reason = f"tombstone {body.number} says {body.kind.value}, its row {row.state or 'missing'}"
                differing[body.recording_id] = reason
            reasons = _too_soon(body, terms)
            found += [Flaw(subject=body.recording_id, code="terms", reason=reason) for reason in reasons]
        found += [
            Flaw(subject=subject, code="tombstone", reason=reason) for subject, reason in differing.items()
        ]
        return found

    def _terms(self, connection: Connection) -> tuple[list[Flaw], list[TermsBody]]:
        found: list[Flaw] = []
        bodies: list[TermsBody] = []
        previous = GENESIS_SHA256
        query = select(RETENTION_TERMS).order_by(RETENTION_TERMS.c.number)
        for number, row in enumerate(connection.execute(query), start=1):
            subject = f"retention terms {row.number}"
            try:
                signed = parse_terms(bytes(row.document))
            except FormatError as problem:
                found.append(Flaw(subject=subject, code="terms", reason=str(problem)))
                continue
            body = signed.body
            found += _signature_flaws(subject, "terms", signed.signed, self._receipts)
            if (row.number, body.number, body.previous_terms_sha256) != (number, number, previous):
                reason = f"do not follow terms {number - 1}: some are missing or were altered"
                found.append(Flaw(subject=subject, code="terms", reason=reason))
            previous = body.sha256
            bodies.append(body)
        return found, bodies


def _tombstone_rows(connection: Connection) -> Iterator[Row[Any]]:
    """Give every tombstone with the state of its row, some at a time."""
    same, last = RECORDINGS.c.row_id == TOMBSTONES.c.row_id, _BEFORE_ALL
    joined = TOMBSTONES.join(RECORDINGS, same, isouter=True)
    query = select(TOMBSTONES, RECORDINGS.c.state).select_from(joined).order_by(TOMBSTONES.c.number)
    while rows := connection.execute(query.where(TOMBSTONES.c.number > last).limit(_AT_ONCE)).all():
        yield from rows
        last = rows[-1].number


def _hold_flaws(connection: Connection) -> list[Flaw]:
    """Find holds that are gone, or were ended, without a row of the audit log that says so."""
    noted: dict[str, set[str]] = {"hold_added": set(), "hold_released": set()}
    query = select(AUDIT.c.what, AUDIT.c.subject).where(AUDIT.c.what.in_(noted), AUDIT.c.outcome == "done")
    for row in connection.execute(query):
        noted[row.what].add(row.subject)
    holds = {f"hold {row.number}": row for row in connection.execute(select(HOLDS))}
    reasons = [(name, "was added and is not there") for name in noted["hold_added"] - set(holds)]
    for name, row in holds.items():
        if name not in noted["hold_added"]:
            reasons.append((name, "is there, and nobody added it"))
        if bool(row.released_at) != (name in noted["hold_released"]):
            reasons.append((name, "is released in one of table and audit log, in the other not"))
    return [Flaw(subject=name, code="hold", reason=reason) for name, reason in sorted(reasons)]


def group_problems(
    group: Group, body: Tombstone, document: bytes, trust: TrustStore, *, exported: bool = False
) -> Iterator[str]:
    """Compare a recording's files with its tombstone; beside an ``exported`` one there may be more."""
    name = tombstone_name(body.recording_id)
    if not group.has(name):
        yield f"{name} is missing in the store"
    elif group.read(name) != document:
        yield f"{name} is not the one that was signed"
    there = {row.name for row in group.rows()} - {name} if group.is_there() else set()
    for extra in sorted(there - {row.name for row in body.kept}) if not exported else ():
        yield f"{extra} is there, and was to be erased"
    for row in body.kept:
        if row.name not in there:
            yield f"{row.name} is missing, and was to stay"
        elif sha256_of(group, row.name) != (row.sha256, row.size_bytes):
            yield f"{row.name} is not what the tombstone names"
        else:
            yield from _content_problems(group, row.name, body, trust)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedStone:
    """An exported tombstone and what came of it."""

    path: Path
    recording_id: str
    place: Place | None
    flaws: tuple[Flaw, ...]


def judge_exported(path: Path, trust: TrustStore) -> JudgedStone:
    """Judge a tombstone with what lies beside it; its place counts when it is signed by whom one trusts.

    Errors: OSError.
    """
    recording_id = path.name.removesuffix(tombstone_name(""))
    with path.open("rb") as stream:
        document = stream.read(TOMBSTONE_LIMIT_BYTES + 1)
    try:
        stone = parse_tombstone(document)
    except FormatError as problem:
        flaw = Flaw(subject=recording_id, code="tombstone", reason=str(problem))
        return JudgedStone(path=path, recording_id=recording_id, place=None, flaws=(flaw,))
    flaws = _signature_flaws(recording_id, "tombstone", stone.signed, trust)
    place = None if flaws else place_of(stone.body)
    flaws += [
        Flaw(subject=recording_id, code="tombstone", reason=reason)
        for reason in group_problems(FolderGroup(path.parent), stone.body, document, trust, exported=True)
    ]
    return JudgedStone(path=path, recording_id=recording_id, place=place, flaws=tuple(flaws))


def _signature_flaws(subject: str, code: str, signed: SignedOctets, trust: TrustStore) -> list[Flaw]:
    try:
        verify_detached(signed.signature, sha256_hex=sha256_bytes(signed.body), trust=trust, subject=subject)
    except SignerUnknown as problem:  # the key was renewed, and its former certificate not kept
        return [Flaw(subject=subject, code=code, reason=str(problem), verdict=Verdict.UNKNOWN)]
    except RecorderError as problem:
        return [Flaw(subject=subject, code=code, reason=str(problem))]
    return []


def files_that_were_erased(database: Database, entry: Entry) -> str:
    """Give the digest of the files that a recording had; empty when it has no tombstone."""
    query = select(TOMBSTONES.c.document).where(TOMBSTONES.c.row_id == entry.row_id)
    with database.read() as connection:
        document = connection.execute(query.order_by(TOMBSTONES.c.number)).scalars().first()
    return parse_tombstone(bytes(document)).body.files_sha256 if document is not None else ""


def _receipt_problems(entry: Entry, body: Tombstone) -> Iterator[str]:
    if body.kind is Kind.ANONYMISED or not body.kept:
        if entry.receipt:
            yield "its row still holds the receipt, which names its files"
        return
    try:
        receipt = parse_receipt(entry.receipt)
    except FormatError as problem:
        yield str(problem)
        return
    if digest_of_files({row.name: row.sha256 for row in receipt.body.files}) != body.files_sha256:
        yield "the receipt is of other files than the tombstone"


def place_of(body: Tombstone) -> Place:
    """Tell the place in the recorder's chain that a tombstone holds."""
    return Place(
        recorder_id=body.recorder_id,
        recording_id=body.recording_id,
        sequence=body.sequence,
        previous_manifest_sha256=body.previous_manifest_sha256,
        manifest_sha256=body.manifest_sha256,
        shed=parse_shed_note(body.stands_for),
    )


def _row_problems(entry: Entry, body: Tombstone) -> Iterator[str]:
    told: dict[str, Any] = {
        "id": body.recording_id,
        "recorder_id": body.recorder_id,
        "sequence": body.sequence,
        "previous_manifest_sha256": body.previous_manifest_sha256,
        "manifest_sha256": body.manifest_sha256,
        "started_at": body.started_at,
        "duration_s": body.duration_us / 1_000_000,
        "channels": body.channels,
        "sample_rate_hz": body.sample_rate_hz,
        "archived_at": body.archived_at,
        "size_bytes": sum(row.size_bytes for row in body.kept),
        "state": body.kind.value,
    }
    if body.kind is Kind.ANONYMISED or not body.kept:
        told |= dict.fromkeys(_NUMBERS, "")
    for name, value in told.items():
        if getattr(entry, name) != value:
            yield f"{name} is {getattr(entry, name)!r} in the catalogue, {value!r} by the tombstone"


def _content_problems(group: Group, name: str, body: Tombstone, trust: TrustStore) -> Iterator[str]:
    """Check what is left: the manifest with its recorder's signature, or the audio's samples."""
    if body.audio is not None and name == body.audio.name:
        try:
            with group.open(name) as file:
                root = samples_root(file, body.audio.leaf_samples)
        except (FormatError, OSError) as problem:
            yield f"{name}: {problem}"
            return
        if root != (body.audio.root_sha256, body.audio.leaves):
            yield f"{name} has other samples than were signed"
    if name == index_name(body.recording_id):
        yield from _index_problems(group, name, body, trust)
    if name == manifest_name(body.recording_id):
        digest = sha256_of(group, name)[0]
        if digest != body.manifest_sha256:
            yield f"{name} is not the manifest of the chain"
        try:
            verify_detached(group.read(signature_name(name)), sha256_hex=digest, trust=trust, subject=name)
        except (SignerUnknown, FileNotFoundError):
            return  # the former cannot be told, the latter has been said
        except EvidenceError as problem:
            yield str(problem)


def _index_problems(group: Group, name: str, body: Tombstone, trust: TrustStore) -> Iterator[str]:
    try:
        raw = group.read(name)
        if parse_index(raw).manifest_sha256 != body.manifest_sha256:
            yield f"{name} is not of the manifest of the chain"
        signature = group.read(signature_name(name))
        verify_detached(signature, sha256_hex=sha256_bytes(raw), trust=trust, subject=name)
    except (SignerUnknown, FileNotFoundError):
        return  # the former cannot be told, the latter has been said
    except (EvidenceError, FormatError) as problem:
        yield str(problem)


def _too_soon(body: Tombstone, terms: Sequence[TermsBody]) -> Iterator[str]:
    """Say that a recording went before its time, by the terms that were ever signed."""
    at_utc_s = _utc_s(body.at)
    if body.terms > len(terms):
        yield f"terms {body.terms}, by which tombstone {body.number} was decided, are missing"
    ruling = Ruling([step.terms for step in terms[: body.terms]])
    due = ruling.due(row_id=body.row, ended_utc_s=body.ended_utc_s, name=body.retention_class)
    if due.floor_utc_s is not None and at_utc_s < due.floor_utc_s:
        yield f"tombstone {body.number} is earlier than WORM permits"
    wanted = due.due_utc_s if body.cause is Cause.DUE else due.earliest_utc_s
    if body.cause is not Cause.RIGHT and (wanted is None or at_utc_s < wanted):
        yield f"tombstone {body.number} is earlier than class {body.retention_class} permits"


def _utc_s(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
