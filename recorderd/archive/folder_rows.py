"""What one folder of the store says of itself: the row that the catalogue should have for it.

Contract: reads, changes nothing. Who vouches is, in this order: the archive's own tombstone, its receipt kept
as a file, the receipt of the old row; else the recording itself, which is then verified as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from recorderd.archive.catalogue import Entry
from recorderd.archive.chain_links import ChainState
from recorderd.archive.groups import Group
from recorderd.archive.kept_receipts import read_receipt
from recorderd.archive.retention_book import ANONYMISED, ERASED
from recorderd.archive.retention_tables import TOMBSTONES
from recorderd.archive.rows import row_of
from recorderd.archive.store import Store
from recorderd.archive.tables import RECORDINGS
from recorderd.archive.verdicts import ODD
from recorderd.archive.verification import verify_bundle
from recorderd.core.errors import FormatError, RecorderError
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.verify import TrustStore, verify_detached
from recorderd.wire.manifest import MANIFEST_LIMIT_BYTES, Manifest, manifest_name, parse_manifest
from recorderd.wire.names import index_name
from recorderd.wire.receipt import ReceiptBody, parse_receipt
from recorderd.wire.recording_index import INDEX_LIMIT_BYTES, RecordingIndex, parse_index
from recorderd.wire.tombstone import TOMBSTONE_LIMIT_BYTES, Kind, parse_tombstone, tombstone_name

_R = RECORDINGS.c
_S = TOMBSTONES.c


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRow:
    """One folder's row; with number 0 it wants a receipt, over these digests."""

    entry: Entry
    stone: bytes = b""
    sha256s: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Statement:
    """What a folder says of itself: its manifest, or where that is encrypted, its index."""

    stated: Manifest | RecordingIndex
    manifest_sha256: str
    name: str  # of its file
    sha256: str


class Unfit(Exception):
    """A folder that is no recording which could be archived, and why."""


class FolderReader:
    """Reads the folders of one store.

    Thread: one.
    """

    def __init__(
        self, store: Store, *, trusts: Mapping[str, TrustStore], receipts: TrustStore, now: str
    ) -> None:
        self._store = store
        self._trusts = trusts
        self._receipts = receipts
        self._now = now

    def read(self, before: Connection, path: str) -> FoundRow:
        """Make the row of what is at ``path``; ``before`` is the catalogue as it was.

        Errors: Unfit; OSError when it cannot be read.
        """
        group = self._store.group(path)
        try:
            stone = _decided(before, path) or _octets(
                group, tombstone_name(group.name), TOMBSTONE_LIMIT_BYTES
            )
            return self._of_stone(path, stone) if stone else self._of_statement(before, group, path)
        except (FormatError, RecorderError) as problem:
            raise Unfit(str(problem)) from problem

    def _of_statement(self, before: Connection, group: Group, path: str) -> FoundRow:
        found = _statement(group)
        if found is None:
            raise Unfit("no manifest in it")
        stated = found.stated
        if stated.recording_id != group.name or self._store.target(stated) != path:
            raise Unfit("belongs elsewhere by its manifest")
        size_bytes = sum(row.size_bytes for row in group.rows())
        for receipt in (read_receipt(self._store.published, path), _old_receipt(before, stated)):
            body = self._vouched(receipt)
            if body is not None and _is_of(body, found):
                entry = row_of(
                    stated,
                    manifest_sha256=found.manifest_sha256,
                    size_bytes=size_bytes,
                    path=path,
                    archived_at=body.archived_at,
                )
                return FoundRow(entry=replace(entry, row_id=body.sequence, receipt=receipt))
        return self._verified(group, path, stated)

    def _verified(self, group: Group, path: str, stated: Manifest | RecordingIndex) -> FoundRow:
        """Verify a recording for which nobody vouches any more; its receipt is still to be made."""
        trust = self._trusts.get(stated.recorder_id)
        if trust is None:
            raise Unfit(f"no receipt, and recorder {stated.recorder_id} is not configured")
        verdict = verify_bundle(group, trust)
        reasons = [finding.reason for finding in verdict.troubles if finding.code not in ODD]
        if reasons:
            raise Unfit(f"no receipt, and it does not hold: {'; '.join(reasons)}")
        entry = row_of(
            stated,
            manifest_sha256=verdict.manifest_sha256,
            size_bytes=verdict.size_bytes,
            path=path,
            archived_at=self._now,
        )
        return FoundRow(entry=entry, sha256s=verdict.sha256s)

    def _of_stone(self, path: str, raw: bytes) -> FoundRow:
        stone = parse_tombstone(raw)
        body = stone.body
        self._check(stone.signed.body, stone.signed.signature, f"tombstone of {body.recording_id}")
        state = ANONYMISED if body.kind is Kind.ANONYMISED else ERASED
        kept_bytes = sum(file.size_bytes for file in body.kept)
        found = _statement(self._store.group(path), among={file.name for file in body.kept})
        if found is not None and found.manifest_sha256 == body.manifest_sha256:
            entry = row_of(
                found.stated,
                manifest_sha256=body.manifest_sha256,
                size_bytes=kept_bytes,
                path=path,
                archived_at=body.archived_at,
            )
            receipt = read_receipt(self._store.published, path)
            return FoundRow(entry=replace(entry, row_id=body.row, state=state, receipt=receipt), stone=raw)
        blank = dict.fromkeys(("call_id", "caller", "callee", "direction", "extension", "trunk", "queue"), "")
        entry = Entry(
            id=body.recording_id,
            recorder_id=body.recorder_id,
            sequence=body.sequence,
            previous_manifest_sha256=body.previous_manifest_sha256,
            manifest_sha256=body.manifest_sha256,
            started_at=body.started_at,
            duration_s=body.duration_us / 1_000_000,
            channels=body.channels,
            sample_rate_hz=body.sample_rate_hz,
            size_bytes=kept_bytes,
            state=state,
            chain=ChainState.PENDING.value,
            path=path,
            archived_at=body.archived_at,
            receipt=b"",
            row_id=body.row,
            **blank,
        )
        return FoundRow(entry=entry, stone=raw)

    def _vouched(self, raw: bytes) -> ReceiptBody | None:
        """Read a receipt of ours; None when it is none, or not signed by us."""
        try:
            receipt = parse_receipt(raw)
            self._check(receipt.signed_bytes, receipt.signature, "receipt")
        except RecorderError:
            return None
        return receipt.body

    def _check(self, octets: bytes, signature: bytes, subject: str) -> None:
        sha256 = sha256_bytes(octets)
        verify_detached(signature, sha256_hex=sha256, trust=self._receipts, subject=subject)


def _decided(before: Connection, path: str) -> bytes:
    """Give the newest tombstone that was decided on and of which not all is done: its row says so already."""
    query = select(_S.document).where(_S.path == path, _S.done_at == "").order_by(_S.number.desc())
    return bytes(before.execute(query.limit(1)).scalar() or b"")


def _statement(group: Group, *, among: Set[str] | None = None) -> _Statement | None:
    """Read what a folder says of itself, if that is ``among`` what stays: its index, or else its manifest.

    Errors: FormatError; OSError.
    """
    index, manifest = index_name(group.name), manifest_name(group.name)
    for name, limit_bytes in ((index, INDEX_LIMIT_BYTES), (manifest, MANIFEST_LIMIT_BYTES)):
        raw = _octets(group, name, limit_bytes) if among is None or name in among else b""
        if raw and name == index:
            told = parse_index(raw)
            return _Statement(told, told.manifest_sha256, name, sha256_bytes(raw))
        if raw:
            return _Statement(parse_manifest(raw), sha256_bytes(raw), name, sha256_bytes(raw))
    return None


def _is_of(body: ReceiptBody, found: _Statement) -> bool:
    """Tell whether a receipt is of the recording that says so of itself."""
    stated, digests = found.stated, {row.name: row.sha256 for row in body.files}
    return (
        (body.recorder_id, body.recording_id) == (stated.recorder_id, stated.recording_id)
        and body.manifest_sha256 == found.manifest_sha256
        and digests.get(found.name) == found.sha256
    )


def _old_receipt(before: Connection, stated: Manifest | RecordingIndex) -> bytes:
    where = (_R.recorder_id == stated.recorder_id, _R.id == stated.recording_id)
    return bytes(before.execute(select(_R.receipt).where(*where)).scalar() or b"")


def _octets(group: Group, name: str, limit_bytes: int) -> bytes:
    try:
        return group.read(name, limit_bytes=limit_bytes + 1)
    except FileNotFoundError:
        return b""
