"""The manifest: what a recording says of itself, signed; canonical JSON on disk.

It lists the recording's other files; `wire.names` says how they are called. A tombstone, which stands for
what was not kept, lists none.
Version 1 had no outcome, rule, controls, spans and joins; version 2 no clocks, quality and keys, and knew
fewer causes of gaps; version 3 said nothing of the recorder's own clock, of senders' reports, of a proof
and of encryption, and its audio was always `<id>.wav`; version 4 named no recipients, and what was not known
of a sender's clock was zero. All are still read, and written back as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from recorderd.core import outcomes
from recorderd.core.errors import ManifestFormatError
from recorderd.core.ids import is_safe_id
from recorderd.wire.canonical import JsonReader, canonical_json
from recorderd.wire.manifest_entries import (
    DRAFT,
    CallEntry,
    ClockStatement,
    FileEntry,
    ParticipantEntry,
    ProofEntry,
    RecipientEntry,
    read_call,
    read_file,
    read_host_clock,
    read_participant,
    read_proof,
    read_recipient,
)
from recorderd.wire.manifest_rows import (
    ControlEntry,
    JoinEntry,
    RuleEntry,
    SilentSpan,
    read_control,
    read_join,
    read_rule,
    read_span,
)
from recorderd.wire.manifest_streams import Gap, StreamEntry, read_stream
from recorderd.wire.names import (
    audio_name,
    index_names,
    is_audio_name,
    is_own_name,
    manifest_name,
    offer_name,
    required_names,
    signature_name,
    signed_name,
    signer_name,
)

__all__ = [
    "GENESIS_SHA256",
    "MANIFEST_LIMIT_BYTES",
    "MANIFEST_VERSION",
    "OUTCOME_RECORDED",
    "TOMBSTONES",
    "CallEntry",
    "ClockStatement",
    "FileEntry",
    "Gap",
    "Manifest",
    "ParticipantEntry",
    "ProofEntry",
    "RecipientEntry",
    "StreamEntry",
    "audio_name",
    "encode_manifest",
    "manifest_name",
    "offer_name",
    "parse_manifest",
    "signature_name",
    "signer_name",
]

MANIFEST_VERSION: Final = 5
OUTCOME_RECORDED: Final = outcomes.RECORDED
TOMBSTONES: Final = outcomes.WITHOUT_AUDIO
MANIFEST_LIMIT_BYTES: Final = 64 * 1024 * 1024  # a ten-hour call with a gap every 100 ms stays below
GENESIS_SHA256: Final = "0" * 64  # the previous hash of a recorder's first manifest
_SINCE_2: Final = ("outcome", "rule", "controls", "spans", "call_ids", "joins", "joined_into")
_STREAM_SINCE_2: Final = ("party", "moved_from", "doubled")
_SINCE_3: Final = ("audio_format", "talk_over_ms")
_STREAM_SINCE_3: Final = ("sources", "clock", "quality", "keys")
_SINCE_4: Final = ("clock", "proof")
_STREAM_CLOCK_SINCE_4: Final = ("reports", "reported_skew_ppb", "wall_offset_us")
_FILE_SINCE_4: Final = ("encryption", "content_sha256", "content_bytes")
_SINCE_5: Final = ("recipients", "metadata_encrypted", "blinding")
_STREAM_CLOCK_SINCE_5: Final = ("known",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The whole manifest."""

    recording_id: str
    recorder_id: str
    software: str
    sequence: int
    previous_manifest_sha256: str
    call: CallEntry
    participants: tuple[ParticipantEntry, ...]
    started_at: str
    ended_at: str
    duration_samples: int
    sample_rate_hz: int
    channels: int
    end_cause: str
    recovered: bool
    streams: tuple[StreamEntry, ...]
    files: tuple[FileEntry, ...]
    outcome: str = OUTCOME_RECORDED  # or one of TOMBSTONES
    rule: RuleEntry = field(default_factory=RuleEntry)
    controls: tuple[ControlEntry, ...] = ()
    spans: tuple[SilentSpan, ...] = ()
    call_ids: tuple[str, ...] = ()  # of all calls that became this conversation, its own first
    joins: tuple[JoinEntry, ...] = ()
    joined_into: str = ""  # the session in which this conversation went on
    audio_format: str = "pcm16"  # | native: the wire's own G.711 octets
    talk_over_ms: int = 0  # how long more than one channel spoke
    clock: ClockStatement = field(default_factory=ClockStatement)  # the recorder's own
    proof: ProofEntry = field(default_factory=ProofEntry)
    recipients: tuple[RecipientEntry, ...] = ()  # to whom it is encrypted; none = it is in clear
    metadata_encrypted: bool = False  # also this manifest, with the offers
    blinding: str = ""  # random, so that the digest of an encrypted manifest confirms no guess
    manifest_version: int = MANIFEST_VERSION

    @property
    def audio(self) -> FileEntry | None:
        """The WAV's entry; None in a tombstone."""
        return next((entry for entry in self.files if entry.role == "audio"), None)


def encode_manifest(manifest: Manifest) -> bytes:
    """Write a manifest as canonical JSON, in the shape of its version."""
    if manifest.manifest_version == MANIFEST_VERSION:
        return canonical_json(manifest)
    return canonical_json(manifest_table(manifest))


def manifest_table(manifest: Manifest) -> dict[str, Any]:
    """Give a manifest as plain tables and lists, in the shape of its version."""
    table = asdict(manifest)
    version = manifest.manifest_version
    clocks = [row["clock"] for row in table["streams"]]
    for since, names, rows, row_names in (
        (5, _SINCE_5, clocks, _STREAM_CLOCK_SINCE_5),
        (4, (), clocks, _STREAM_CLOCK_SINCE_4),
        (2, _SINCE_2, table["streams"], _STREAM_SINCE_2),
        (3, _SINCE_3, table["streams"], _STREAM_SINCE_3),
        (4, _SINCE_4, table["files"], _FILE_SINCE_4),
    ):
        if version < since:
            for key in names:
                del table[key]
            for row in rows:
                for key in row_names:
                    del row[key]
    return table


def parse_manifest(raw: bytes) -> Manifest:
    """Read a manifest; every field must be there, of its type, and nothing else.

    Errors: ManifestFormatError, also when the bytes are not in canonical form or arithmetic is off.
    """
    reader = JsonReader.parse(raw, error=ManifestFormatError, limit_bytes=MANIFEST_LIMIT_BYTES)
    version = reader.integer("manifest_version")
    if not 1 <= version <= MANIFEST_VERSION:
        raise reader.bad("manifest_version", f"{version} is not from 1 to {MANIFEST_VERSION}")
    manifest = Manifest(
        recording_id=_safe_id(reader, "recording_id"),
        recorder_id=_safe_id(reader, "recorder_id"),
        software=reader.text("software"),
        sequence=reader.integer("sequence", minimum=1),
        previous_manifest_sha256=reader.sha256("previous_manifest_sha256"),
        call=read_call(reader.child("call")),
        participants=tuple(read_participant(row) for row in reader.children("participants", limit=1000)),
        started_at=reader.text("started_at"),
        ended_at=reader.text("ended_at"),
        duration_samples=reader.integer("duration_samples"),
        sample_rate_hz=reader.integer("sample_rate_hz", minimum=1, maximum=1_000_000),
        channels=reader.integer("channels", maximum=64),
        end_cause=reader.text("end_cause"),
        recovered=reader.boolean("recovered"),
        streams=tuple(read_stream(row, version) for row in reader.children("streams", limit=1000)),
        files=tuple(read_file(row, version) for row in reader.children("files", limit=10_000)),
        manifest_version=version,
        **(_since_2(reader) if version > 1 else {}),
        **(_since_3(reader) if version > 2 else {}),
        **(_since_4(reader) if version > 3 else {}),
        **(_since_5(reader) if version > 4 else {}),
    )
    reader.done()
    _check_whole(reader, manifest)
    _check_silence(reader, manifest)
    if encode_manifest(manifest) != raw:
        raise reader.bad("document", "not in canonical form")
    return manifest


def _check_whole(reader: JsonReader, manifest: Manifest) -> None:
    if manifest.outcome in TOMBSTONES:
        _check_tombstone(reader, manifest)
    elif not is_one_audio([entry for entry in manifest.files if entry.role == "audio"]):
        raise reader.bad("files", "not exactly one file of role audio, nor all its encrypted parts in order")
    elif manifest.channels < 1:
        raise reader.bad("channels", "not an integer from 1 to 64")
    if manifest.metadata_encrypted and not manifest.recipients:
        raise reader.bad("recipients", "none, although the manifest is encrypted")
    names = [entry.name for entry in manifest.files]
    if len(set(names)) != len(names):
        raise reader.bad("files", "a name stands twice")
    for entry in manifest.files:
        if not _may_stand(entry, manifest):
            raise reader.bad("files", f"{entry.name!r} is no name of a file of this recording")
    for stream in manifest.streams:
        if stream.channel >= max(manifest.channels, 1):
            raise reader.bad("streams", f"channel {stream.channel} of {manifest.channels}")
        end_samples = 0
        for gap in stream.gaps:
            if gap.start_samples < end_samples:
                raise reader.bad("streams", "gaps overlap or are out of order")
            end_samples = gap.start_samples + gap.length_samples
        if end_samples > manifest.duration_samples:
            raise reader.bad("streams", "a gap reaches beyond the end")


def is_one_audio(entries: Sequence[FileEntry]) -> bool:
    """Tell whether the audio is one file, or encrypted in parts that belong together."""
    if len(entries) < 2:
        return len(entries) == 1
    first = entries[0]
    suffix = first.name.rpartition(".")[2]
    names = [f"{signed_name(first.name)}.{number:03d}.{suffix}" for number in range(1, len(entries) + 1)]
    contents = {(entry.encryption, entry.content_sha256, entry.content_bytes) for entry in entries}
    return [entry.name for entry in entries] == names and len(contents) == 1 and bool(first.content_sha256)


def _may_stand(entry: FileEntry, manifest: Manifest) -> bool:
    recording_id = manifest.recording_id
    if manifest.metadata_encrypted and not entry.name.startswith(f"{recording_id}."):
        return False  # a longer name could tell who spoke
    if entry.role == "audio":
        older = manifest.manifest_version < 4
        return entry.name == audio_name(recording_id) if older else is_audio_name(entry.name, recording_id)
    audio = manifest.audio.name if manifest.audio is not None else ""
    if entry.role == "key":  # with which a draft is opened
        draft = manifest.audio is not None and manifest.audio.encryption == DRAFT
        return draft and is_audio_name(entry.name, recording_id)
    beside = {*required_names(recording_id, audio=audio), *index_names(recording_id)}  # they come later
    return (
        entry.name.startswith(f"{recording_id}.")
        and entry.name not in beside
        and is_own_name(entry.name, recording_id)
    )


def _check_tombstone(reader: JsonReader, manifest: Manifest) -> None:
    """A tombstone tells of what was not kept, and keeps nothing of it."""
    if manifest.files:
        raise reader.bad("files", f"some, although nothing was kept: {manifest.outcome}")
    if manifest.duration_samples or manifest.channels or manifest.spans:
        raise reader.bad("duration_samples", f"audio, although nothing was kept: {manifest.outcome}")


def _check_silence(reader: JsonReader, manifest: Manifest) -> None:
    """Every silent span is in order, within the recording, and a gap of every stream."""
    end_samples = 0
    for span in manifest.spans:
        if span.start_samples < end_samples:
            raise reader.bad("spans", "overlap or are out of order")
        end_samples = span.start_samples + span.length_samples
    if end_samples > manifest.duration_samples:
        raise reader.bad("spans", "one reaches beyond the end")
    for stream in manifest.streams:
        gaps = {(gap.start_samples, gap.length_samples, gap.cause) for gap in stream.gaps}
        for span in manifest.spans:
            if (span.start_samples, span.length_samples, span.cause) not in gaps:
                raise reader.bad("spans", f"stream {stream.stream} is not silent in one")
    positions = [entry.sample for entry in manifest.controls] + [row.at_samples for row in manifest.joins]
    if any(position > manifest.duration_samples for position in positions):
        raise reader.bad("controls", "one lies beyond the end")
    if manifest.proof.checked_samples > manifest.duration_samples:
        raise reader.bad("proof", "checked beyond the end")


def _since_2(reader: JsonReader) -> dict[str, Any]:
    """Read the fields that version 1 did not have."""
    outcome = reader.text("outcome")
    if outcome != OUTCOME_RECORDED and outcome not in TOMBSTONES:
        raise reader.bad("outcome", f"{outcome!r} is unknown")
    joined_into = reader.text("joined_into")
    if joined_into and not is_safe_id(joined_into):
        raise reader.bad("joined_into", "not an id")
    return {
        "outcome": outcome,
        "rule": read_rule(reader.child("rule")),
        "controls": tuple(read_control(row) for row in reader.children("controls")),
        "spans": tuple(read_span(row) for row in reader.children("spans")),
        "call_ids": reader.texts("call_ids", limit=1000),
        "joins": tuple(read_join(row) for row in reader.children("joins", limit=1000)),
        "joined_into": joined_into,
    }


def _since_3(reader: JsonReader) -> dict[str, Any]:
    """Read the fields that version 2 did not have."""
    return {
        "audio_format": reader.text("audio_format"),
        "talk_over_ms": reader.integer("talk_over_ms"),
    }


def _since_4(reader: JsonReader) -> dict[str, Any]:
    """Read the fields that version 3 did not have."""
    return {"clock": read_host_clock(reader.child("clock")), "proof": read_proof(reader.child("proof"))}


def _since_5(reader: JsonReader) -> dict[str, Any]:
    """Read the fields that version 4 did not have."""
    return {
        "recipients": tuple(read_recipient(row) for row in reader.children("recipients", limit=1000)),
        "metadata_encrypted": reader.boolean("metadata_encrypted"),
        "blinding": reader.text("blinding"),
    }


def _safe_id(reader: JsonReader, key: str) -> str:
    value = reader.text(key)
    if not is_safe_id(value):
        raise reader.bad(key, "not an id")
    return value
