"""What a manifest says of a call, of the rule that decided, and of the offers in a draft's folder."""

from __future__ import annotations

import os
from pathlib import Path

from recorderd.core.messages import CallDescription
from recorderd.core.terms import RecordingTerms
from recorderd.evidence.digest import sha256_file
from recorderd.record.notes import Notes
from recorderd.wire.manifest import CallEntry, FileEntry
from recorderd.wire.manifest_rows import RuleEntry


def call_entry(description: CallDescription) -> CallEntry:
    """Tell what the exchange said of a call."""
    return CallEntry(
        call_id=description.call_id,
        origin=description.origin.value,
        caller=description.caller,
        callee=description.callee,
        direction=description.direction,
        extension=description.extension,
        trunk=description.trunk,
        queue=description.queue,
        conference=description.conference,
    )


def rule_entry(terms: RecordingTerms) -> RuleEntry:
    """Tell which rule decided, and on what terms."""
    return RuleEntry(
        name=terms.rule,
        mode=terms.mode.value,
        retention_class=terms.retention_class,
        layout=terms.layout.value,
        priority=terms.priority,
        mandatory=terms.mandatory,
    )


def call_ids(description: CallDescription, notes: Notes) -> tuple[str, ...]:
    """List the ids of all calls that became this conversation, its own first."""
    known = (description.call_id, *description.also_call_ids, *notes.call_ids_beside(description.call_id))
    return tuple(dict.fromkeys(known))


def offers(folder: Path) -> list[FileEntry]:
    """List the offers that lie in a folder in clear. Errors: OSError."""
    with os.scandir(folder) as found:
        names = [entry.name for entry in found if entry.name.endswith(".sip") and ".offer-" in entry.name]
    entries = []
    for name in sorted(names, key=lambda name: int(name.removesuffix(".sip").rpartition("-")[2])):
        digest, size_bytes = sha256_file(folder / name)
        entries.append(FileEntry(name=name, role="offer", size_bytes=size_bytes, sha256=digest))
    return entries
