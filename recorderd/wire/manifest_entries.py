"""The manifest's rows about the call, its people and files, the recorder's clock and the running proof."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from recorderd.wire.canonical import JsonReader

CLOCK_UNKNOWN: Final = "none"
CLOCK_SOURCES: Final = ("chrony", "timesyncd", "adjtimex", CLOCK_UNKNOWN)
DRAFT: Final = "draft"  # a container that a crash left: what it holds only the key tells
RECIPIENT_KINDS: Final = ("cms", "pgp")
ENCRYPTIONS: Final = (*RECIPIENT_KINDS, DRAFT)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of the recording besides the manifest and the signatures."""

    name: str
    role: str  # audio | offer | key | checkpoint | checkpoint_signature | checkpoint_leaves
    size_bytes: int
    sha256: str
    encryption: str = ""  # one of ENCRYPTIONS; empty = plain
    # Of the plain text, which the signature is over, the same for all parts; empty = plain, or unknown
    content_sha256: str = ""
    content_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientEntry:
    """Somebody to whom the recording is encrypted, and whether the key had ended when it was recorded."""

    kind: str  # cms | pgp
    name: str  # of the certificate; an OpenPGP key has none here
    fingerprint: str  # of the certificate, SHA-256, or of the OpenPGP key
    expires_at: str  # RFC 3339, UTC; empty = never
    expired: bool


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
class ClockStatement:
    """What the recorder's own clock was worth when the recording was sealed; the defaults claim nothing."""

    source: str = CLOCK_UNKNOWN  # one of CLOCK_SOURCES
    synchronised: bool = False
    offset_ns: int = 0  # of true time against ours, as the source has it; positive = ours is behind
    stratum: int = 0  # 0 = unknown
    max_error_ns: int = 0  # 0 = unknown
    checked_at: str = ""  # RFC 3339, UTC; empty = never
    stepped_ns: int = 0  # by which our clock was set while the recording ran; positive = forward


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofEntry:
    """The Merkle tree over the audio, one leaf per ``leaf_samples``; the defaults say that there is none."""

    leaf_samples: int = 0
    leaves: int = 0
    root_sha256: str = ""
    checked_samples: int = 0  # of a recovered recording: the beginning that a checkpoint of the call proves


def read_call(reader: JsonReader) -> CallEntry:
    """Read what the exchange said of the call."""
    fields: dict[str, Any] = {
        key: reader.text(key)
        for key in (
            *("call_id", "origin", "caller", "callee", "direction"),
            *("extension", "trunk", "queue", "conference"),
        )
    }
    reader.done()
    return CallEntry(**fields)


def read_recipient(reader: JsonReader) -> RecipientEntry:
    """Read one recipient."""
    entry = RecipientEntry(
        kind=reader.text("kind"),
        name=reader.text("name"),
        fingerprint=reader.text("fingerprint"),
        expires_at=reader.text("expires_at"),
        expired=reader.boolean("expired"),
    )
    if entry.kind not in RECIPIENT_KINDS:
        raise reader.bad("kind", f"{entry.kind!r} is unknown")
    reader.done()
    return entry


def read_participant(reader: JsonReader) -> ParticipantEntry:
    """Read one participant."""
    fields = {key: reader.text(key) for key in ("participant_id", "aor", "name", "number")}
    reader.done()
    return ParticipantEntry(**fields)


def read_file(reader: JsonReader, version: int) -> FileEntry:
    """Read one file's row; whether its name may stand there is for the whole manifest to say."""
    entry = FileEntry(
        name=reader.text("name"),
        role=reader.text("role"),
        size_bytes=reader.integer("size_bytes"),
        sha256=reader.sha256("sha256"),
        **(_encryption(reader) if version > 3 else {}),
    )
    reader.done()
    return entry


def _encryption(reader: JsonReader) -> dict[str, Any]:
    how, content_bytes = reader.text("encryption"), reader.integer("content_bytes")
    if how in ("", DRAFT):
        if reader.text("content_sha256") or content_bytes:
            raise reader.bad("content_sha256", "tells of a plain text, although nobody can know one")
        return {"encryption": how}
    if how not in ENCRYPTIONS:
        raise reader.bad("encryption", f"{how!r} is unknown")
    return {
        "encryption": how,
        "content_sha256": reader.sha256("content_sha256"),
        "content_bytes": content_bytes,
    }


def read_host_clock(reader: JsonReader) -> ClockStatement:
    """Read the statement about the recorder's clock."""
    statement = ClockStatement(
        source=reader.text("source"),
        synchronised=reader.boolean("synchronised"),
        offset_ns=reader.integer("offset_ns", minimum=-(2**62), maximum=2**62),
        stratum=reader.integer("stratum", maximum=15),
        max_error_ns=reader.integer("max_error_ns"),
        checked_at=reader.text("checked_at"),
        stepped_ns=reader.integer("stepped_ns", minimum=-(2**62), maximum=2**62),
    )
    if statement.source not in CLOCK_SOURCES:
        raise reader.bad("source", f"{statement.source!r} is unknown")
    if statement.synchronised and not statement.checked_at:
        raise reader.bad("synchronised", "claimed, although nothing was checked")
    reader.done()
    return statement


def read_proof(reader: JsonReader) -> ProofEntry:
    """Read the Merkle tree's row."""
    leaves, leaf_samples = reader.integer("leaves"), reader.integer("leaf_samples")
    checked_samples = reader.integer("checked_samples")
    if bool(leaves) != bool(leaf_samples):
        raise reader.bad("leaf_samples", f"{leaf_samples} of {leaves} leaves")
    if not leaves and reader.text("root_sha256"):
        raise reader.bad("root_sha256", "of a tree without leaves")
    if checked_samples and not leaves:
        raise reader.bad("checked_samples", "of a tree without leaves")
    root_sha256 = reader.sha256("root_sha256") if leaves else ""
    reader.done()
    return ProofEntry(
        leaf_samples=leaf_samples, leaves=leaves, root_sha256=root_sha256, checked_samples=checked_samples
    )
