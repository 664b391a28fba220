"""recorder-archive export: copies a recording with all that proves it; of a pair's call both recordings.

Rule: that somebody was given a recording stands in the audit log before its first octet is written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from recorderd.app.archive_actor import command_line_actor
from recorderd.app.archive_catalogue import open_catalogue, open_database
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.archive_store import open_store
from recorderd.archive.audit_log import AuditLog
from recorderd.archive.call_groups import copies_of
from recorderd.archive.catalogue import Entry
from recorderd.archive.inclusion import export_inclusion
from recorderd.archive.listening import export_listening_copy
from recorderd.archive.renewals import export_renewals, stamps_of_group
from recorderd.archive.store import Store
from recorderd.core.clock import SystemClock

_LISTEN_HELP: Final = (
    "also write DIR/listen/NAME.listen.wav, lost packets concealed: for the ear, no evidence"
)


def add_export(command: argparse.ArgumentParser) -> None:
    """Add the options of `export`."""
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to")
    command.add_argument("--listen", action="store_true", help=_LISTEN_HELP)
    command.add_argument("--alone", action="store_true", help="without what other recorders have of the call")


def export_call(entry: Entry, arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> None:
    """Export a recording, and unless it is to be alone those of the same call; the best first."""
    store, written = open_store(configuration), []
    entries = [entry] if arguments.alone else _all_of_call(entry, configuration)
    _note(entries, configuration, arguments.out)
    for one in entries:
        written += _export(one, store, arguments.out, listen=arguments.listen)
    if arguments.json:
        print(json.dumps([str(path) for path in written], indent=2))
    else:
        print(*written, sep="\n")


def _all_of_call(entry: Entry, configuration: ArchiveConfiguration) -> list[Entry]:
    catalogue = open_catalogue(configuration, read_only=True)
    if not catalogue.database.has_table("call_groups"):
        return [entry]  # of an earlier release, not yet taken over
    with catalogue.database.read() as connection:
        copies = copies_of(connection, [entry.row_id]).get(entry.row_id, ())
    found = [catalogue.find(copy.recorder_id, copy.recording_id) for copy in copies]
    return [one for one in found if one is not None and one.state == entry.state] or [entry]


def _note(entries: Sequence[Entry], configuration: ArchiveConfiguration, out: Path) -> None:
    database = open_database(configuration)
    try:
        if not database.has_table("audit"):
            return  # of an earlier release: there is no log yet
        audit, detail = AuditLog(database, clock=SystemClock()), f"to {out.absolute()}"
        with database.write() as connection:
            for entry in entries:
                audit.note(
                    command_line_actor(),
                    "recording_exported",
                    entry.id,
                    detail=detail,
                    connection=connection,
                )
    finally:
        database.close()


def _export(entry: Entry, store: Store, out: Path, *, listen: bool) -> list[Path]:
    written = list(store.export(entry.path, out))
    proof = export_inclusion(
        store.root, entry.recorder_id, recording_id=entry.id, manifest_sha256=entry.manifest_sha256, out=out
    )
    stamps = [(path, out / Path(path).name) for path in stamps_of_group(store, entry.path)]
    written += [*proof.copies, *export_renewals(store.root, [*stamps, *proof.stamps])]
    if listen:
        written.append(export_listening_copy(store.group(entry.path), out))
    return written
