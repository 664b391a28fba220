"""What stays of a recording where only its audio goes: what it says of itself, signed.

Contract: small files only; of a recording whose manifest is encrypted its index, and the manifest's envelope.
"""

from __future__ import annotations

from collections.abc import Mapping

from recorderd.archive.catalogue import Entry
from recorderd.archive.groups import Group
from recorderd.evidence.digest import sha256_bytes
from recorderd.wire.manifest import Manifest, manifest_name, parse_manifest
from recorderd.wire.names import index_name, index_names, signature_name, signer_name
from recorderd.wire.receipt import parse_receipt
from recorderd.wire.recording_index import RecordingIndex, parse_index
from recorderd.wire.stamp_batch import stamp_name, stamps_of


def small_names(group: Group, recording_id: str) -> tuple[str, ...]:
    """Name what stays; not all of it need be there."""
    manifest = manifest_name(recording_id)
    signature = signature_name(manifest)
    if not group.has(index_name(recording_id)):
        return manifest, signature, signer_name(recording_id), stamp_name(signature)
    own = (*index_names(recording_id), signature, signer_name(recording_id))
    return (*own, *stamps_of(own))


def stated_of(contents: Mapping[str, bytes], entry: Entry) -> Manifest | RecordingIndex | None:
    """Read what a recording says of itself, if it is what was archived.

    Errors: FormatError.
    """
    index = contents.get(index_name(entry.id))
    if index is not None:
        receipted = {row.name: row.sha256 for row in parse_receipt(entry.receipt).body.files}
        same = receipted.get(index_name(entry.id)) == sha256_bytes(index)
        return parse_index(index) if same else None
    raw = contents.get(manifest_name(entry.id), b"")
    return parse_manifest(raw) if sha256_bytes(raw) == entry.manifest_sha256 else None


def shed_note_of(stated: Manifest | RecordingIndex | None) -> str:
    """Give what an entry says of a recording that was deleted unsent."""
    if stated is None:
        return ""
    return stated.shed if isinstance(stated, RecordingIndex) else stated.end_cause
