"""What the archive knows of retention: its signed terms, and what each recording is kept by.

Contract: terms count only when the newest hold by a certificate of ours and each names the one before; else
nothing is decided by them (EvidenceError). What a recording is kept by is read once from its manifest, or
where that is encrypted from its index, in the order of the rows; one of which neither can be read is of no
class, and so never due.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, func, insert, select, update

from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.database import Database
from recorderd.archive.retention_tables import RECORDING_TERMS, RETENTION_TERMS
from recorderd.archive.rows import row_of
from recorderd.archive.store import Store
from recorderd.archive.structure import LAST_YEAR
from recorderd.archive.tables import RECORDINGS
from recorderd.core.clock import NS_PER_S, utc_text
from recorderd.core.errors import EvidenceError, FormatError, SignerUnknown
from recorderd.core.ids import is_safe_id
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.keys import Signer
from recorderd.evidence.verify import TrustStore, verify_detached
from recorderd.policy.retention import KeptRecording, Ruling, Terms
from recorderd.policy.selection import RecordingFacts, Selection, begin_of, end_of, party_end, party_key
from recorderd.wire.manifest import GENESIS_SHA256, Manifest, manifest_name, parse_manifest
from recorderd.wire.names import index_name
from recorderd.wire.recording_index import RecordingIndex, parse_index
from recorderd.wire.retention_terms import SignedTerms, TermsBody, encode_body, encode_terms, parse_terms

ERASED: Final = "erased"  # states of a row
ANONYMISED: Final = "anonymised"
_SIGNED: Final = ("recorder_id", "extension", "queue", "trunk", "direction", "started_at")
UNKNOWN_CLASS: Final = "-"  # of a recorder that names none that could be one
_GROUP: Final = 500  # rows that are noted in one go
_R: Final = RECORDINGS.c
_T: Final = RECORDING_TERMS.c
KEPT: Final = select(
    *(_R.row_id, _R.id, _R.recorder_id, _R.extension, _R.queue, _R.trunk, _R.direction, _R.started_at),
    *(_R.size_bytes, _T.retention_class, _T.ended_utc_s, _T.has_audio, _T.parties),
).where(_R.row_id == _T.row_id, _R.state != ERASED)


_EXACT: Final = {
    "recording_id": _R.id,
    "recorder_id": _R.recorder_id,
    "queue": _R.queue,
    "trunk": _R.trunk,
    "direction": _R.direction,
    "retention_class": _T.retention_class,
}


class RetentionBook:
    """The terms and the recordings' classes of one archive.

    Thread: any.
    Errors: CatalogueFailed.
    """

    def __init__(self, database: Database, *, trust: TrustStore) -> None:
        self._database = database
        self._trust = trust

    def ruling(self, connection: Connection, *, foreseen: Terms | None = None) -> Ruling:
        """Give the terms that hold; with ``foreseen`` as if those were stated now.

        Errors: EvidenceError when they were not signed by us, or one is missing.
        """
        signed = checked_terms(documents_of_terms(connection), self._trust)
        steps = [entry.body.terms for entry in signed]
        if foreseen is not None and _differs(steps, foreseen):
            steps.append(Terms(classes=foreseen.classes, worm=foreseen.worm, from_row=_next_row(connection)))
        return Ruling(steps)

    def signed(self, connection: Connection) -> list[TermsBody]:
        """Give all terms that were ever signed, the oldest first.

        Errors: EvidenceError, as ``ruling``.
        """
        return [entry.body for entry in checked_terms(documents_of_terms(connection), self._trust)]

    def differs(self, connection: Connection, terms: Terms) -> bool:
        """Tell whether these terms are others than those in force.

        Errors: EvidenceError, as ``ruling``.
        """
        return _differs([body.terms for body in self.signed(connection)], terms)

    def state(
        self,
        terms: Terms,
        *,
        who: Actor,
        audit: AuditLog,
        archive_id: str,
        signer: Signer,
        now_utc_ns: int,
    ) -> TermsBody | None:
        """Sign the terms of the configuration if they are not those in force; give what was signed.

        Terms of a former key of ours are stated anew: from then on the new key answers for them.

        Durable: after return they survive.
        Errors: EvidenceError when those in force are not as they were signed; KeyUnusable.
        """
        with self._database.write() as connection:
            known = documents_of_terms(connection)
            try:
                signed = checked_terms(known, self._trust)
                if not _differs([entry.body.terms for entry in signed], terms):
                    return None
            except SignerUnknown:
                signed = [parse_terms(document) for document in known]
            body = TermsBody(
                number=len(signed) + 1,
                previous_terms_sha256=signed[-1].body.sha256 if signed else GENESIS_SHA256,
                archive_id=archive_id,
                stated_at=utc_text(now_utc_ns),
                by=who.name,
                from_row=_next_row(connection),
                worm=terms.worm,
                classes=terms.classes,
            )
            signature = signer.sign_bytes(encode_body(body), signing_time_utc_s=now_utc_ns // NS_PER_S)
            connection.execute(
                insert(RETENTION_TERMS), {"number": body.number, "document": encode_terms(body, signature)}
            )
            detail = ", ".join(
                f"{row.name} {row.minimum_days}-{row.maximum_days} days" for row in terms.classes
            )
            detail = f"{detail or 'default 180 days'}{', WORM' if terms.worm else ''}"
            audit.note(who, "retention_stated", f"terms {body.number}", detail=detail, connection=connection)
            return body

    def enrol(self, store: Store) -> Iterator[int]:
        """Note what new recordings are kept by, a group at a time; give how many were in each.

        Durable: what was given survives.
        """
        last = 0
        while True:
            with self._database.read() as connection:
                rows = connection.execute(_not_enrolled(connection, above=last)).all()
            if not rows:
                break
            last = rows[-1].row_id
            self._note(store, rows)
            yield len(rows)
        with self._database.read() as connection:  # what could not be read may be readable now
            query = select(_R.row_id, _R.id, _R.path).where(_R.row_id == _T.row_id, _T.retention_class == "")
            unread = connection.execute(query.order_by(_R.row_id).limit(_GROUP)).all()
        if unread:
            self._note(store, unread)

    def kept(
        self,
        connection: Connection,
        row_ids: Iterable[int] | None = None,
        *,
        selection: Selection | None = None,
    ) -> Iterator[KeptRecording]:
        """Give what decides over recordings that are not erased: over those rows, or over all.

        With a ``selection`` those that it may cover, and few others: the database leaves most of them out.
        """
        query = KEPT.order_by(_R.row_id)
        if row_ids is not None:
            query = query.where(_R.row_id.in_(list(row_ids)))
        if selection is not None:
            query = query.where(*_conditions(selection))
        with connection.execute(query, execution_options={"yield_per": 2000}) as rows:
            for row in rows:
                yield _kept(row)

    def _note(self, store: Store, rows: Sequence[Any]) -> None:
        values = [_terms_row(store, row) for row in rows]
        with self._database.write() as connection:
            there = select(_T.row_id).where(_T.row_id.in_([row["row_id"] for row in values]))
            known = set(connection.execute(there).scalars())  # by another process, or unreadable until now
            fresh = [row for row in values if row["row_id"] not in known]
            if fresh:
                connection.execute(insert(RECORDING_TERMS), fresh)
            for row in values:
                if row["row_id"] in known and row["retention_class"]:
                    of_row = (_T.row_id == row["row_id"], _T.retention_class == "")
                    connection.execute(update(RECORDING_TERMS).where(*of_row).values(**row))


def _conditions(selection: Selection) -> Iterator[ColumnElement[bool]]:
    """Give what holds of every recording that a selection covers."""
    for name, column in _EXACT.items():
        if value := getattr(selection, name):
            yield column == value
    if selection.number:
        yield _T.parties.contains(party_end(party_key(selection.number)), autoescape=True)
    if selection.extension:
        yield _T.parties.contains(party_key(selection.extension), autoescape=True)
    if selection.from_time:
        yield _R.started_at >= begin_of(selection.from_time)
    if selection.to_time:
        yield _R.started_at < end_of(selection.to_time)


def documents_of_terms(connection: Connection) -> list[bytes]:
    """Give the terms as they stand, the oldest first."""
    query = select(RETENTION_TERMS.c.document).order_by(RETENTION_TERMS.c.number)
    return [bytes(document) for document in connection.execute(query).scalars()]


def checked_terms(documents: Sequence[bytes], trust: TrustStore) -> list[SignedTerms]:
    """Read terms that hold: the newest by its signature, the others because each is named by the next.

    Errors: EvidenceError; SignerUnknown when only the trust is missing.
    """
    signed = []
    previous = GENESIS_SHA256
    for number, document in enumerate(documents, start=1):
        subject = f"retention terms {number}"
        try:
            entry = parse_terms(document)
        except FormatError as problem:
            raise EvidenceError(subject=subject, reason=problem) from None
        if entry.body.number != number or entry.body.previous_terms_sha256 != previous:
            raise EvidenceError(subject=subject, reason="they do not follow the ones before")
        previous = entry.body.sha256
        signed.append(entry)
    if signed:
        newest = signed[-1].signed
        subject = f"retention terms {len(signed)}"
        verify_detached(newest.signature, sha256_hex=sha256_bytes(newest.body), trust=trust, subject=subject)
    return signed


def terms_of_stated(stated: Manifest | RecordingIndex) -> tuple[str, int]:
    """Give what a recording is kept by: its class, and the second in which it ended.

    An index does not tell when it ended, so the end of the next day counts.
    Errors: ValueError when its end is no time, or so far that no calendar may tell what follows.
    """
    if isinstance(stated, RecordingIndex):
        name, day = stated.retention_class, f"{stated.started_on}T00:00:00+00:00"
        ended, later = datetime.fromisoformat(day), timedelta(days=2)
    else:
        name = stated.rule.retention_class
        ended, later = datetime.fromisoformat(stated.ended_at), timedelta()
    if ended.year > LAST_YEAR:
        raise ValueError(f"it ends in {ended.year}")
    ended_utc_s = int((ended + later).timestamp())
    return name if is_safe_id(name) else UNKNOWN_CLASS, ended_utc_s


def parties_of(manifest: Manifest) -> tuple[str, ...]:
    """Name everybody whom a manifest names as having been on the call."""
    call = manifest.call
    named = [call.caller, call.callee, call.extension]
    named += [text for row in manifest.participants for text in (row.number, row.aor, row.name)]
    return tuple(dict.fromkeys(key for key in map(party_key, named) if key))


def parties_text(stated: Manifest | RecordingIndex) -> str:
    """Name everybody as the database keeps them, one per line; an index names nobody."""
    parties = parties_of(stated) if isinstance(stated, Manifest) else ()
    return "\n".join(" ".join(party.replace("\0", " ").split("\n")) for party in parties)


def has_same_parties(kept: Iterable[str], stated: Manifest | RecordingIndex) -> bool:
    """Tell whether the database names those whom the signed document names, however they are written."""
    told = parties_text(stated).split("\n")
    return {party_key(party) for party in kept if party} == {party_key(party) for party in told if party}


def is_as_signed(kept: KeptRecording, stated: Manifest | RecordingIndex) -> bool:
    """Tell whether what decides over a recording in the database is what its recorder signed.

    Errors: ValueError when its end is no time.
    """
    facts, row = kept.facts, row_of(stated, manifest_sha256="", size_bytes=0, path="", archived_at="")
    return (
        (facts.retention_class, kept.ended_utc_s) == terms_of_stated(stated)
        and has_same_parties(facts.parties, stated)
        and all(getattr(facts, name) == getattr(row, name) for name in _SIGNED)
    )


def _terms_row(store: Store, row: Any) -> dict[str, Any]:
    values = {
        "row_id": row.row_id,
        "retention_class": "",
        "ended_utc_s": 0,
        "has_audio": False,
        "parties": "",
    }
    group, index = store.group(row.path), index_name(row.id)
    stated: Manifest | RecordingIndex
    try:
        if group.has(index):
            stated = parse_index(group.read(index))
        else:
            stated = parse_manifest(group.read(manifest_name(row.id)))
        retention_class, ended_utc_s = terms_of_stated(stated)
    except (OSError, FormatError, ValueError):
        return values
    return values | {
        "retention_class": retention_class,
        "ended_utc_s": ended_utc_s,
        "has_audio": stated.audio is not None,
        "parties": parties_text(stated),
    }


def _kept(row: Any) -> KeptRecording:
    """Read a row of ``KEPT``, by its places: a plan reads millions."""
    row_id, name, recorder_id, extension, queue, trunk, direction, started_at, *rest = row
    size_bytes, retention_class, ended_utc_s, has_audio, parties = rest
    facts = RecordingFacts(
        recording_id=name,
        recorder_id=recorder_id,
        parties=tuple(parties.split("\n")) if parties else (),
        extension=extension,
        queue=queue,
        trunk=trunk,
        direction=direction,
        started_at=started_at,
        retention_class=retention_class,
    )
    return KeptRecording(
        row_id=row_id, ended_utc_s=ended_utc_s, size_bytes=size_bytes, has_audio=has_audio, facts=facts
    )


def _not_enrolled(connection: Connection, *, above: int) -> Select[Any]:
    newest = connection.execute(select(func.max(_T.row_id))).scalar() or 0
    query = select(_R.row_id, _R.id, _R.path).where(_R.row_id > max(newest, above), _R.state != ERASED)
    return query.order_by(_R.row_id).limit(_GROUP)


def _next_row(connection: Connection) -> int:
    return int(connection.execute(select(func.max(_R.row_id))).scalar() or 0) + 1


def _differs(steps: Sequence[Terms], terms: Terms) -> bool:
    newest = steps[-1] if steps else Terms(classes=())
    return (newest.classes, newest.worm) != (terms.classes, terms.worm) or not steps
