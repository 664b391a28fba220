"""The tombstone: the archive's signed word for what it has erased or made anonymous; canonical JSON.

    <id>.tombstone.json    {"body": {...}, "signature": "<base64>"}, see ``signed_document``

Contract: it holds what the recorder's chain needs (place, both digests) and what the archive answers for
(which files there were, which are left, why, who, when, under which class), and nobody's number. Tombstones
form a chain of their own, so that none can be left out unseen. That of an anonymised recording states the
audio that is left: its digest, the digest of what the recorder had signed, and the Merkle root over its
samples, which stood in the signed manifest and is the same in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final, TypeVar

from recorderd.core.errors import TombstoneFormatError
from recorderd.core.ids import is_safe_id
from recorderd.core.outcomes import RECORDED, WITHOUT_AUDIO
from recorderd.wire.canonical import JsonReader, canonical_json
from recorderd.wire.names import is_own_name
from recorderd.wire.signed_document import SignedOctets, encode_signed, read_signed

TOMBSTONE_VERSION: Final = 1
TOMBSTONE_ENDING: Final = ".tombstone.json"
TOMBSTONE_LIMIT_BYTES: Final = 4 << 20
REASON_LIMIT: Final = 500
FILES_LIMIT: Final = 10_000
W = TypeVar("W", bound=StrEnum)


class Kind(StrEnum):
    """What was done."""

    ERASED = "erased"
    ANONYMISED = "anonymised"


class Cause(StrEnum):
    """On whose wish."""

    DUE = "due"  # the class's time was over
    REQUEST = "request"  # somebody of the house
    RIGHT = "right"  # a person's right to erasure (GDPR, article 17) or to object


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A file that stays beside the tombstone."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAudio:
    """The audio of an anonymised recording: other words in its header, the same samples."""

    name: str
    former_sha256: str  # of the file that the recorder signed
    leaf_samples: int
    leaves: int
    root_sha256: str  # over the samples, one leaf per second; as in the signed manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """What the archive signs."""

    number: int  # of this tombstone, from 1
    previous_tombstone_sha256: str  # of the body before this one; zeros before the first
    archive_id: str
    row: int  # number of the recording in the catalogue, and of its receipt
    recording_id: str
    recorder_id: str
    sequence: int
    previous_manifest_sha256: str
    manifest_sha256: str
    files_sha256: str  # ``digest_of_files`` of what was archived
    outcome: str
    stands_for: str  # of an entry that tells of another recording: what it says of its place
    started_at: str
    ended_utc_s: int  # from here on it was kept
    duration_us: int
    sample_rate_hz: int
    channels: int
    archived_at: str
    retention_class: str
    terms: int  # number of the retention terms by which it was decided; 0 = none were ever stated
    kind: Kind
    cause: Cause
    by: str
    reason: str
    at: str  # RFC 3339, UTC
    kept: tuple[KeptFile, ...] = ()
    audio: KeptAudio | None = None
    tombstone_version: int = TOMBSTONE_VERSION

    @property
    def sha256(self) -> str:
        """The digest that the next tombstone names."""
        return sha256(encode_body(self)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTombstone:
    """A tombstone with its signature, not yet verified."""

    body: Tombstone
    signed: SignedOctets = field(repr=False)


def tombstone_name(recording_id: str) -> str:
    """Name the file of a recording's tombstone."""
    return f"{recording_id}{TOMBSTONE_ENDING}"


def digest_of_files(sha256s: Mapping[str, str]) -> str:
    """Give one digest for names and digests of files: whoever has the files can make it, nobody goes back."""
    return sha256(canonical_json([[name, digest] for name, digest in sorted(sha256s.items())])).hexdigest()


def encode_body(body: Tombstone) -> bytes:
    """Write the part that is signed."""
    return canonical_json(body)


def encode_tombstone(body: Tombstone, signature: bytes) -> bytes:
    """Write a tombstone and its signature as one document."""
    return encode_signed(encode_body(body), signature)


def parse_tombstone(raw: bytes) -> SignedTombstone:
    """Read a tombstone; the signature is not verified here.

    Errors: TombstoneFormatError, also when the octets are not in canonical form.
    """
    reader, signed = read_signed(raw, error=TombstoneFormatError, limit_bytes=TOMBSTONE_LIMIT_BYTES)
    version = reader.integer("tombstone_version")
    if version != TOMBSTONE_VERSION:
        raise reader.bad("tombstone_version", f"{version} is not {TOMBSTONE_VERSION}")
    body = Tombstone(
        number=reader.integer("number", minimum=1),
        previous_tombstone_sha256=reader.sha256("previous_tombstone_sha256"),
        archive_id=_safe_id(reader, "archive_id"),
        row=reader.integer("row", minimum=1),
        recording_id=_safe_id(reader, "recording_id"),
        recorder_id=_safe_id(reader, "recorder_id"),
        sequence=reader.integer("sequence", minimum=1),
        previous_manifest_sha256=reader.sha256("previous_manifest_sha256"),
        manifest_sha256=reader.sha256("manifest_sha256"),
        files_sha256=reader.sha256("files_sha256"),
        outcome=_outcome(reader),
        stands_for=reader.text("stands_for"),
        started_at=_time(reader, "started_at"),
        ended_utc_s=reader.integer("ended_utc_s"),
        duration_us=reader.integer("duration_us"),
        sample_rate_hz=reader.integer("sample_rate_hz", maximum=1_000_000),
        channels=reader.integer("channels", maximum=64),
        archived_at=_time(reader, "archived_at"),
        retention_class=_safe_id(reader, "retention_class"),
        terms=reader.integer("terms"),
        kind=_word(reader, "kind", Kind),
        cause=_word(reader, "cause", Cause),
        by=reader.text("by", limit=REASON_LIMIT),
        reason=reader.text("reason", limit=REASON_LIMIT),
        at=_time(reader, "at"),
        kept=tuple(_kept(row) for row in reader.children("kept", limit=FILES_LIMIT)),
        audio=_audio(reader),
    )
    reader.done()
    _check(reader, body)
    return SignedTombstone(body=body, signed=signed)


def _check(reader: JsonReader, body: Tombstone) -> None:
    names = [row.name for row in body.kept]
    if len(set(names)) != len(names) or not all(is_own_name(name, body.recording_id) for name in names):
        raise reader.bad("kept", "a name stands twice, or is of another recording")
    if (body.kind is Kind.ANONYMISED) != (body.audio is not None):
        raise reader.bad("audio", "stands in the tombstone of an anonymised recording, and in no other")
    if body.audio is not None and names != [body.audio.name]:
        raise reader.bad("kept", "is not the audio alone")


def _kept(reader: JsonReader) -> KeptFile:
    row = KeptFile(
        name=reader.text("name", limit=128),
        size_bytes=reader.integer("size_bytes"),
        sha256=reader.sha256("sha256"),
    )
    reader.done()
    return row


def _audio(body: JsonReader) -> KeptAudio | None:
    if not body.has("audio"):
        body.nothing("audio")
        return None
    reader = body.child("audio")
    audio = KeptAudio(
        name=reader.text("name", limit=128),
        former_sha256=reader.sha256("former_sha256"),
        leaf_samples=reader.integer("leaf_samples", minimum=1),
        leaves=reader.integer("leaves"),
        root_sha256=reader.sha256("root_sha256"),
    )
    reader.done()
    return audio


def _outcome(reader: JsonReader) -> str:
    value = reader.text("outcome")
    if value != RECORDED and value not in WITHOUT_AUDIO:
        raise reader.bad("outcome", f"{value!r} is unknown")
    return value


def _word(reader: JsonReader, key: str, words: type[W]) -> W:
    value = reader.text(key)
    for word in words:
        if word.value == value:
            return word
    raise reader.bad(key, f"{value!r} is unknown")


def _safe_id(reader: JsonReader, key: str) -> str:
    value = reader.text(key)
    if not is_safe_id(value):
        raise reader.bad(key, "not an id")
    return value


def _time(reader: JsonReader, key: str) -> str:
    value = reader.text(key, limit=40)
    try:
        if datetime.fromisoformat(value).tzinfo is None:
            raise ValueError("no zone")
    except ValueError:
        raise reader.bad(key, "no RFC 3339 time") from None
    return value
