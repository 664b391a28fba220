"""Who spoke with whom, where that is encrypted as well: in a draft's journal, in envelopes, in what is told.

Contract: of a recording whose terms say so no number, no name and no call id is ever on disk in clear: the
journal's texts are hidden under the draft's key, an offer stands in an envelope from the beginning, and the
manifest exists in memory and in its envelope. After a crash the recorder cannot read the journal's texts: the
manifest then tells them as they stand, and the holder of a recipient's key shows them (`recorderctl open`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from recorderd.core.clock import NS_PER_S, utc_text
from recorderd.core.errors import EncryptionFailed
from recorderd.core.messages import CallDescription, SessionStarted
from recorderd.core.terms import RecordingTerms
from recorderd.evidence.digest import sha256_bytes, sha256_file
from recorderd.evidence.name_veil import NameVeil
from recorderd.record.encrypting import Recipients
from recorderd.record.notes import Notes
from recorderd.wire.canonical import canonical_json
from recorderd.wire.manifest import FileEntry, RecipientEntry, StreamEntry
from recorderd.wire.names import ENVELOPE_SUFFIXES, sealed_name

# Fields of a journal's lines that tell who spoke with whom, or what they pressed.
_TELLING: Final = frozenset(
    {
        *("call_id", "also_call_ids", "caller", "callee", "extension", "trunk", "queue", "conference"),
        *("participant_id", "participant_ids", "aor", "name", "number", "label", "party", "sources"),
        *("by", "key", "reason"),
    }
)
_KEPT_WHOLE: Final = ("terms", "ended_without", "enclosed", "recipients", "checkpoint")


def hidden(row: Mapping[str, Any], veil: NameVeil) -> dict[str, Any]:
    """Hide what a journal's line tells of people."""
    return dict(_hidden(json.loads(canonical_json(row)), veil))


def _hidden(value: Any, veil: NameVeil, *, telling: bool = False) -> Any:
    if isinstance(value, dict):
        return {
            name: inner if name in _KEPT_WHOLE else _hidden(inner, veil, telling=name in _TELLING)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_hidden(inner, veil, telling=telling) for inner in value]
    return veil.hide(value) if telling and isinstance(value, str) else value


def shown(value: Any, veil: NameVeil) -> Any:
    """Show what a journal's line hides.

    Errors: EnvelopeUnopened when it was hidden with another key.
    """
    if isinstance(value, dict):
        return {name: shown(inner, veil) for name, inner in value.items()}
    if isinstance(value, list):
        return [shown(inner, veil) for inner in value]
    return veil.show(value) if isinstance(value, str) else value


def nameless(started: SessionStarted) -> SessionStarted:
    """Leave out what a hidden journal cannot tell any more: its key is gone with its draft."""
    if not started.terms.encrypt_metadata:
        return started
    known = started.description
    bare = CallDescription(call_id="", origin=known.origin, direction=known.direction)
    return replace(started, description=bare)


def nameless_notes(terms: RecordingTerms, notes: Notes) -> Notes:
    """Leave out of the notes of an entry what nobody can show any more."""
    if not terms.encrypt_metadata:
        return notes
    return replace(
        notes,
        controls=[replace(row, by="", reason="") for row in notes.controls],
        joins=[replace(row, call_id="") for row in notes.joins],
        other_call_ids=[],
    )


def nameless_streams(terms: RecordingTerms, entries: Sequence[StreamEntry]) -> list[StreamEntry]:
    """Leave out of the streams of an entry what nobody can show any more."""
    if not terms.encrypt_metadata:
        return list(entries)
    return [replace(row, label="", party="", participant_ids=(), sources=()) for row in entries]


def recipients_for(terms: RecordingTerms, encryption: Mapping[str, Recipients]) -> Recipients | None:
    """Give those to whom a recording's metadata is encrypted; None when it is not.

    Errors: EncryptionFailed when the configuration does not name them any more: never in clear.
    """
    if not terms.encrypt_metadata:
        return None
    if terms.encrypt not in encryption:
        raise EncryptionFailed(subject="manifest", reason=f"there is no [encryption.{terms.encrypt}]")
    return encryption[terms.encrypt]


def recipient_entries(recipients: Recipients, *, at_utc_ns: int) -> tuple[RecipientEntry, ...]:
    """Tell of recipients as they stood when a recording was made."""
    moment = datetime.fromtimestamp(at_utc_ns / NS_PER_S, tz=UTC)
    return tuple(
        RecipientEntry(
            kind=row.kind,
            name=row.name,
            fingerprint=row.fingerprint,
            expires_at=utc_text(int(row.expires_at.timestamp()) * NS_PER_S) if row.expires_at else "",
            expired=row.expires_at is not None and row.expires_at < moment,
        )
        for row in recipients.facts()
    )


def enclosed(content: bytes, *, name: str, role: str, recipients: Recipients) -> tuple[FileEntry, bytes]:
    """Put a small file into an envelope; what is to be told of it, and its octets.

    Errors: EncryptionFailed.
    """
    octets = b"".join(recipients.encrypt([content], content_bytes=len(content)))
    entry = FileEntry(
        name=sealed_name(name, encryption=recipients.kind),
        role=role,
        size_bytes=len(octets),
        sha256=sha256_bytes(octets),
        encryption=recipients.kind,
        content_sha256=sha256_bytes(content),
        content_bytes=len(content),
    )
    return entry, octets


def enclosed_offers(folder: Path, known: Mapping[str, FileEntry]) -> list[FileEntry]:
    """List the offers' envelopes; of one whose line a power cut took, what it holds nobody here can tell."""
    found = [path for suffix in ENVELOPE_SUFFIXES.values() for path in folder.glob(f"*.offer-*.sip{suffix}")]
    entries = []
    for path in sorted(found, key=lambda path: int(path.name.partition(".sip")[0].rpartition("-")[2])):
        digest, size_bytes = sha256_file(path)
        entry = known.get(path.name)
        if entry is None or (entry.sha256, entry.size_bytes) != (digest, size_bytes):
            entry = FileEntry(name=path.name, role="offer", size_bytes=size_bytes, sha256=digest)
        entries.append(entry)
    return entries
