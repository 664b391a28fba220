"""The manifest: what a recording says of itself, signed; canonical JSON on disk.

File names in a recording's folder derive from its id: `<id>.wav`, `<id>.wav.p7s`, `<id>.manifest.json`,
`<id>.manifest.json.p7s`, `<id>.offer-<n>.sip`, `<id>.signer.pem`. A tombstone, which stands for what was not
kept, has neither WAV nor offers.
Version 1 had no outcome, rule, controls, spans and joins; version 2 no clocks, quality and keys, and knew
fewer causes of gaps. Both are still read, and written back as they were.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from recorderd.core import gap_causes
from recorderd.core.errors import ManifestFormatError
from recorderd.core.ids import is_safe_id
from recorderd.wire.canonical import JsonReader, canonical_json
from recorderd.wire.manifest_rows import (
    ClockEntry,
    ControlEntry,
    JoinEntry,
    KeyEntry,
    QualityEntry,
    RuleEntry,
    SilentSpan,
    read_clock,
    read_control,
    read_join,
    read_key,
    read_quality,
    read_rule,
    read_span,
)

MANIFEST_VERSION: Final = 3
OUTCOME_RECORDED: Final = "recorded"
TOMBSTONES: Final = ("objected", "consent_missing")  # outcomes without audio
MANIFEST_LIMIT_BYTES: Final = 64 * 1024 * 1024  # a ten-hour call with a gap every 100 ms stays below
GENESIS_SHA256: Final = "0" * 64  # the previous hash of a recorder's first manifest
_SINCE_2: Final = ("outcome", "rule", "controls", "spans", "call_ids", "joins", "joined_into")
_STREAM_SINCE_2: Final = ("party", "moved_from", "doubled")
_SINCE_3: Final = ("audio_format", "talk_over_ms")
_STREAM_SINCE_3: Final = ("sources", "clock", "quality", "keys")
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A run of samples that hold nothing of the stream."""

    start_samples: int
    length_samples: int
    cause: str  # one of core.gap_causes.ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """One RTP stream, its place in the audio, and what the network did to it."""

    stream: str
    label: str
    channel: int  # 0 = first channel of the WAV
    participant_ids: tuple[str, ...]
    encoding: str
    clock_rate_hz: int
    ssrcs: tuple[int, ...]
    first_sample: int  # where its first packet lies, 0 also when it came before; -1 when nothing came
    packets_received: int
    packets_lost: int
    packets_duplicate: int
    packets_late: int
    packets_foreign: int
    packets_malformed: int
    packets_kernel_dropped: int
    peak_dbfs: int  # rounded to a whole dB; -96 for digital silence
    rms_dbfs: int
    end_cause: str
    gaps: tuple[Gap, ...]
    party: str = ""  # whose voice, as the recorder told parties apart
    moved_from: str = ""  # the session it came from when two calls became one
    doubled: bool = False  # the party's other leg brought the same audio for a while; kept once
    sources: tuple[str, ...] = ()  # address and port that its packets came from
    clock: ClockEntry = field(default_factory=ClockEntry)
    quality: QualityEntry = field(default_factory=QualityEntry)
    keys: tuple[KeyEntry, ...] = ()  # that were pressed (DTMF); none where they are masked


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of the recording besides the manifest and the signatures."""

    name: str
    role: str  # audio | offer
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticipantEntry:
    """Somebody on the call."""

    participant_id: str
    aor: str
    name: str
    number: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEntry:
    """The call as the exchange described it; unknown facts are empty."""

    call_id: str
    origin: str
    caller: str
    callee: str
    direction: str
    extension: str
    trunk: str
    queue: str
    conference: str


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
    manifest_version: int = MANIFEST_VERSION

    @property
    def audio(self) -> FileEntry | None:
        """The WAV's entry; None in a tombstone."""
        return next((entry for entry in self.files if entry.role == "audio"), None)


def manifest_name(recording_id: str) -> str:
    """Name a recording's manifest file."""
    return f"{recording_id}.manifest.json"


def audio_name(recording_id: str) -> str:
    """Name a recording's WAV file."""
    return f"{recording_id}.wav"


def offer_name(recording_id: str, number: int) -> str:
    """Name the attachment that keeps the ``number``-th offer, counted from 1."""
    return f"{recording_id}.offer-{number}.sip"


def signer_name(recording_id: str) -> str:
    """Name the file that carries the signer's certificate."""
    return f"{recording_id}.signer.pem"


def signature_name(name: str) -> str:
    """Name the detached signature of a file."""
    return f"{name}.p7s"


def encode_manifest(manifest: Manifest) -> bytes:
    """Write a manifest as canonical JSON, in the shape of its version."""
    version = manifest.manifest_version
    if version == MANIFEST_VERSION:
        return canonical_json(manifest)
    table = asdict(manifest)
    for since, names, stream_names in ((2, _SINCE_2, _STREAM_SINCE_2), (3, _SINCE_3, _STREAM_SINCE_3)):
        if version < since:
            for key in names:
                del table[key]
            for stream in table["streams"]:
                for key in stream_names:
                    del stream[key]
    return canonical_json(table)


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
        call=_call(reader.child("call")),
        participants=tuple(_participant(row) for row in reader.children("participants", limit=1000)),
        started_at=reader.text("started_at"),
        ended_at=reader.text("ended_at"),
        duration_samples=reader.integer("duration_samples"),
        sample_rate_hz=reader.integer("sample_rate_hz", minimum=1, maximum=1_000_000),
        channels=reader.integer("channels", maximum=64),
        end_cause=reader.text("end_cause"),
        recovered=reader.boolean("recovered"),
        streams=tuple(_stream(row, version) for row in reader.children("streams", limit=1000)),
        files=tuple(_file(row) for row in reader.children("files", limit=10_000)),
        manifest_version=version,
        **(_since_2(reader) if version > 1 else {}),
        **(_since_3(reader) if version > 2 else {}),
    )
    reader.done()
    _check_whole(reader, manifest)
    _check_silence(reader, manifest)
    if encode_manifest(manifest) != raw:
        raise reader.bad("document", "not in canonical form")
    return manifest


def _check_whole(reader: JsonReader, manifest: Manifest) -> None:
    roles = [entry.role for entry in manifest.files]
    if manifest.outcome in TOMBSTONES:
        _check_tombstone(reader, manifest)
    elif roles.count("audio") != 1:
        raise reader.bad("files", "not exactly one file of role audio")
    elif manifest.channels < 1:
        raise reader.bad("channels", "not an integer from 1 to 64")
    names = [entry.name for entry in manifest.files]
    if len(set(names)) != len(names):
        raise reader.bad("files", "a name stands twice")
    if any(not name.startswith(f"{manifest.recording_id}.") for name in names):
        raise reader.bad("files", "a name does not begin with the recording's id")
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


def _safe_id(reader: JsonReader, key: str) -> str:
    value = reader.text(key)
    if not is_safe_id(value):
        raise reader.bad(key, "not an id")
    return value


def _call(reader: JsonReader) -> CallEntry:
    fields: dict[str, Any] = {
        key: reader.text(key)
        for key in (
            *("call_id", "origin", "caller", "callee", "direction"),
            *("extension", "trunk", "queue", "conference"),
        )
    }
    reader.done()
    return CallEntry(**fields)


def _participant(reader: JsonReader) -> ParticipantEntry:
    fields = {key: reader.text(key) for key in ("participant_id", "aor", "name", "number")}
    reader.done()
    return ParticipantEntry(**fields)


def _file(reader: JsonReader) -> FileEntry:
    name = reader.text("name")
    if _FILE_NAME.fullmatch(name) is None:
        raise reader.bad("name", "not a plain file name")
    entry = FileEntry(
        name=name,
        role=reader.text("role"),
        size_bytes=reader.integer("size_bytes"),
        sha256=reader.sha256("sha256"),
    )
    reader.done()
    return entry


def _stream(reader: JsonReader, version: int) -> StreamEntry:
    later: dict[str, Any] = {}
    if version > 1:
        later = {
            "party": reader.text("party"),
            "moved_from": reader.text("moved_from"),
            "doubled": reader.boolean("doubled"),
        }
    if version > 2:
        later["sources"] = reader.texts("sources", limit=1000)
        later["clock"] = read_clock(reader.child("clock"))
        later["quality"] = read_quality(reader.child("quality"))
        later["keys"] = tuple(read_key(row) for row in reader.children("keys", limit=1_000_000))
    counters: dict[str, Any] = {
        key: reader.integer(key)
        for key in (
            *("packets_received", "packets_lost", "packets_duplicate", "packets_late"),
            *("packets_foreign", "packets_malformed", "packets_kernel_dropped"),
        )
    }
    ssrcs = reader.items("ssrcs", limit=10_000)
    if not all(isinstance(ssrc, int) and 0 <= ssrc < 2**32 for ssrc in ssrcs):
        raise reader.bad("ssrcs", "not a list of 32-bit numbers")
    entry = StreamEntry(
        stream=reader.text("stream"),
        label=reader.text("label"),
        channel=reader.integer("channel"),
        participant_ids=reader.texts("participant_ids"),
        encoding=reader.text("encoding"),
        clock_rate_hz=reader.integer("clock_rate_hz", minimum=1),
        ssrcs=tuple(ssrcs),
        first_sample=reader.integer("first_sample", minimum=-1),
        peak_dbfs=reader.integer("peak_dbfs", minimum=-96, maximum=0),
        rms_dbfs=reader.integer("rms_dbfs", minimum=-96, maximum=0),
        end_cause=reader.text("end_cause"),
        gaps=tuple(_gap(row) for row in reader.children("gaps", limit=10_000_000)),
        **counters,
        **later,
    )
    reader.done()
    return entry


def _gap(reader: JsonReader) -> Gap:
    gap = Gap(
        start_samples=reader.integer("start_samples"),
        length_samples=reader.integer("length_samples", minimum=1),
        cause=reader.text("cause"),
    )
    if gap.cause not in gap_causes.ALL:
        raise reader.bad("cause", f"{gap.cause!r} is unknown")
    reader.done()
    return gap
