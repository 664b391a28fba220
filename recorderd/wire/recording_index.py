"""The index: what a recording with an encrypted manifest says of itself in clear, signed; canonical JSON.

Contract: it holds what a machine needs that keeps the recording and cannot read it: whose it is, its place in
the chain, which files there are, how long it is to be kept. No number, no name and no call id is in it. Read
beside the opened manifest it must be exactly what ``index_of`` makes of that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

from recorderd.core import outcomes
from recorderd.core.errors import IndexFormatError
from recorderd.core.ids import is_safe_id
from recorderd.wire.canonical import JsonReader, canonical_json
from recorderd.wire.manifest import MANIFEST_VERSION, Manifest, is_one_audio
from recorderd.wire.manifest_entries import (
    RECIPIENT_KINDS,
    FileEntry,
    RecipientEntry,
    read_file,
    read_recipient,
)
from recorderd.wire.names import (
    index_name,
    is_audio_name,
    is_own_name,
    manifest_name,
    opened_name,
    required_names,
    sealed_name,
    signature_name,
    signer_name,
)
from recorderd.wire.shed_note import parse_shed_note

INDEX_VERSION: Final = 1
INDEX_LIMIT_BYTES: Final = 8 * 1024 * 1024  # ten thousand files take less
MANIFEST_ROLE: Final = "manifest"
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingIndex:
    """The whole index."""

    recording_id: str
    recorder_id: str
    sequence: int
    previous_manifest_sha256: str
    manifest_sha256: str  # of the manifest in clear
    outcome: str  # recorded, or why there is no audio
    shed: str  # of an entry that stands for a recording which was deleted unsent: which; else empty
    started_on: str  # date, UTC
    retention_class: str
    priority: int
    mandatory: bool
    recipients: tuple[RecipientEntry, ...]
    files: tuple[FileEntry, ...]  # the manifest's envelope, then what the manifest lists
    index_version: int = INDEX_VERSION

    @property
    def audio(self) -> FileEntry | None:
        """The audio's entry; None where there is none."""
        return next((entry for entry in self.files if entry.role == "audio"), None)

    @property
    def manifest(self) -> FileEntry:
        """The manifest's envelope."""
        return self.files[0]

    @property
    def started_at(self) -> str:
        """When it began, as far as an index tells."""
        return self.started_on

    def required_names(self) -> tuple[str, ...]:
        """Name the files without which nothing can be verified, its own included."""
        own, audio = index_name(self.recording_id), self.audio.name if self.audio is not None else ""
        beside = [
            name
            for name in required_names(self.recording_id, audio=audio)
            if name not in (manifest_name(self.recording_id), audio)
        ]
        return (own, signature_name(own), *beside, *(entry.name for entry in self.files))


def index_of(manifest: Manifest, envelope: FileEntry) -> RecordingIndex:
    """Say of a manifest, which stands in an envelope, what may be said in clear."""
    return RecordingIndex(
        recording_id=manifest.recording_id,
        recorder_id=manifest.recorder_id,
        sequence=manifest.sequence,
        previous_manifest_sha256=manifest.previous_manifest_sha256,
        manifest_sha256=envelope.content_sha256,
        outcome=manifest.outcome,
        shed=manifest.end_cause if manifest.outcome == outcomes.SHED else "",
        started_on=manifest.started_at[:10],
        retention_class=manifest.rule.retention_class,
        priority=manifest.rule.priority,
        mandatory=manifest.rule.mandatory,
        recipients=manifest.recipients,
        files=(envelope, *manifest.files),
    )


def opened_files(stated: Manifest | RecordingIndex) -> dict[str, str]:
    """Say what envelopes hold that somebody may have opened beside them: name and digest."""
    return {
        opened_name(entry.name): entry.content_sha256
        for entry in stated.files
        if entry.content_sha256 and entry.role != MANIFEST_ROLE
    }


def encode_index(index: RecordingIndex) -> bytes:
    """Write an index as canonical JSON."""
    return canonical_json(index)


def parse_index(raw: bytes) -> RecordingIndex:
    """Read an index; every field must be there, of its type, and nothing else.

    Errors: IndexFormatError, also when the bytes are not in canonical form.
    """
    reader = JsonReader.parse(raw, error=IndexFormatError, limit_bytes=INDEX_LIMIT_BYTES)
    version = reader.integer("index_version")
    if version != INDEX_VERSION:
        raise reader.bad("index_version", f"{version} is not {INDEX_VERSION}")
    index = RecordingIndex(
        recording_id=_safe_id(reader, "recording_id"),
        recorder_id=_safe_id(reader, "recorder_id"),
        sequence=reader.integer("sequence", minimum=1),
        previous_manifest_sha256=reader.sha256("previous_manifest_sha256"),
        manifest_sha256=reader.sha256("manifest_sha256"),
        outcome=reader.text("outcome"),
        shed=reader.text("shed"),
        started_on=reader.text("started_on"),
        retention_class=reader.text("retention_class"),
        priority=reader.integer("priority", minimum=-(2**62)),
        mandatory=reader.boolean("mandatory"),
        recipients=tuple(read_recipient(row) for row in reader.children("recipients", limit=1000)),
        files=tuple(read_file(row, MANIFEST_VERSION) for row in reader.children("files", limit=10_000)),
    )
    reader.done()
    _check(reader, index)
    if encode_index(index) != raw:
        raise reader.bad("document", "not in canonical form")
    return index


def _check(reader: JsonReader, index: RecordingIndex) -> None:
    """Check how the fields go together."""
    try:
        known = _DATE.fullmatch(index.started_on) is not None and bool(date.fromisoformat(index.started_on))
    except ValueError:
        known = False
    if not known:
        raise reader.bad("started_on", "no date")
    if index.outcome != outcomes.RECORDED and index.outcome not in outcomes.WITHOUT_AUDIO:
        raise reader.bad("outcome", f"{index.outcome!r} is unknown")
    if index.shed and (index.outcome != outcomes.SHED or parse_shed_note(index.shed) is None):
        raise reader.bad("shed", "names no recording that was deleted")
    if not index.recipients:
        raise reader.bad("recipients", "none")
    _check_files(reader, index)


def _check_files(reader: JsonReader, index: RecordingIndex) -> None:
    recording_id = index.recording_id
    names = [entry.name for entry in index.files]
    if len(set(names)) != len(names):
        raise reader.bad("files", "a name stands twice")
    manifests = [entry for entry in index.files if entry.role == MANIFEST_ROLE]
    whole = (
        len(manifests) == 1
        and index.files[0] is manifests[0]
        and manifests[0].encryption in RECIPIENT_KINDS
        and manifests[0].content_sha256 == index.manifest_sha256
        and names[0] == sealed_name(manifest_name(recording_id), encryption=manifests[0].encryption)
    )
    if not whole:
        raise reader.bad("files", "the first is not the manifest's envelope")
    audio = [entry for entry in index.files if entry.role == "audio"]
    if (index.outcome == outcomes.RECORDED) != bool(audio) or (audio and not is_one_audio(audio)):
        raise reader.bad("files", "not exactly one file of role audio, nor all its encrypted parts in order")
    taken = {index_name(recording_id), manifest_name(recording_id), signer_name(recording_id)}
    for entry in index.files:
        own = entry.name.startswith(f"{recording_id}.") and is_own_name(entry.name, recording_id)
        if not own or entry.name in taken or entry.name.endswith(signature_name("")):
            raise reader.bad("files", f"{entry.name!r} is no name of a file of this recording")
        if entry.role == "audio" and not (entry.encryption and is_audio_name(entry.name, recording_id)):
            raise reader.bad("files", f"{entry.name!r} is no encrypted audio of this recording")


def _safe_id(reader: JsonReader, key: str) -> str:
    value = reader.text(key)
    if not is_safe_id(value):
        raise reader.bad(key, "not an id")
    return value
