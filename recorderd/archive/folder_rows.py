"""What one folder of the store says of itself: the row that the catalogue should have for it.

Contract: reads, changes nothing. Who vouches is, in this order: the archive's own tombstone, its receipt kept
as a file, the receipt of the old row; else the recording itself, which is then verified as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from recorderd.archive.catalogue import Entry, entry_of
from recorderd.archive.chain_links import ChainState
from recorderd.archive.groups import Group
from recorderd.archive.kept_receipts import read_receipt
from recorderd.archive.retention_book import ANONYMISED, ERASED
from recorderd.archive.store import Store
from recorderd.archive.tables import RECORDINGS
from recorderd.archive.verdicts import ODD
from recorderd.archive.verification import verify_bundle
from recorderd.core.errors import FormatError, RecorderError
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.verify import TrustStore, verify_detached
from recorderd.wire.manifest import MANIFEST_LIMIT_BYTES, Manifest, manifest_name, parse_manifest
from recorderd.wire.receipt import ReceiptBody, parse_receipt
from recorderd.wire.tombstone import TOMBSTONE_LIMIT_BYTES, Kind, parse_tombstone, tombstone_name

_R = RECORDINGS.c


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRow:
    """One folder's row; with number 0 it wants a receipt, over these digests."""

    entry: Entry
    stone: bytes = b""
    sha256s: Mapping[str, str] | None = None


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
            stone = _octets(group, tombstone_name(group.name), TOMBSTONE_LIMIT_BYTES)
            return self._of_stone(path, stone) if stone else self._of_manifest(before, group, path)
        except (FormatError, RecorderError) as problem:
            raise Unfit(str(problem)) from problem

    def _of_manifest(self, before: Connection, group: Group, path: str) -> FoundRow:
        raw = _octets(group, manifest_name(group.name), MANIFEST_LIMIT_BYTES)
        if not raw:
            raise Unfit("no manifest in it")
        manifest, sha256 = parse_manifest(raw), sha256_bytes(raw)
        if manifest.recording_id != group.name or self._store.target(manifest) != path:
            raise Unfit("belongs elsewhere by its manifest")
        size_bytes = sum(row.size_bytes for row in group.rows())
        for receipt in (read_receipt(self._store.published, path), _old_receipt(before, manifest)):
            body = self._vouched(receipt)
            if body is not None and (body.recorder_id, body.recording_id, body.manifest_sha256) == (
                *(manifest.recorder_id, manifest.recording_id),
                sha256,
            ):
                entry = entry_of(
                    manifest,
                    manifest_sha256=sha256,
                    size_bytes=size_bytes,
                    path=path,
                    archived_at=body.archived_at,
                )
                return FoundRow(entry=replace(entry, row_id=body.sequence, receipt=receipt))
        return self._verified(group, path, manifest)

    def _verified(self, group: Group, path: str, manifest: Manifest) -> FoundRow:
        """Verify a recording for which nobody vouches any more; its receipt is still to be made."""
        trust = self._trusts.get(manifest.recorder_id)
        if trust is None:
            raise Unfit(f"no receipt, and recorder {manifest.recorder_id} is not configured")
        verdict = verify_bundle(group, trust)
        reasons = [finding.reason for finding in verdict.findings if finding.code not in ODD]
        if reasons:
            raise Unfit(f"no receipt, and it does not hold: {'; '.join(reasons)}")
        entry = entry_of(
            manifest,
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
        group = self._store.group(path)
        manifest_octets = _octets(group, manifest_name(group.name), MANIFEST_LIMIT_BYTES)
        state = ANONYMISED if body.kind is Kind.ANONYMISED else ERASED
        kept_bytes = sum(file.size_bytes for file in body.kept)
        if manifest_octets and sha256_bytes(manifest_octets) == body.manifest_sha256:
            entry = entry_of(
                parse_manifest(manifest_octets),
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


def _old_receipt(before: Connection, manifest: Manifest) -> bytes:
    where = (_R.recorder_id == manifest.recorder_id, _R.id == manifest.recording_id)
    return bytes(before.execute(select(_R.receipt).where(*where)).scalar() or b"")


def _octets(group: Group, name: str, limit_bytes: int) -> bytes:
    try:
        return group.read(name, limit_bytes=limit_bytes + 1)
    except FileNotFoundError:
        return b""
