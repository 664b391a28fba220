"""recorder-archive export: copies a recording with all that proves it; of a pair's call both recordings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from recorderd.app.archive_catalogue import open_catalogue
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.archive.call_groups import copies_of
from recorderd.archive.catalogue import Entry
from recorderd.archive.inclusion import export_inclusion
from recorderd.archive.listening import export_listening_copy
from recorderd.archive.renewals import export_renewals
from recorderd.archive.store import Store

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
    entries = [entry] if arguments.alone else _all_of_call(entry, configuration)
    for one in entries:
        if len(entries) > 1:
            print(f"{one.id} of {one.recorder_id}:")
        _export(one, configuration.archive.data_dir, arguments.out, listen=arguments.listen)


def _all_of_call(entry: Entry, configuration: ArchiveConfiguration) -> list[Entry]:
    catalogue = open_catalogue(configuration, read_only=True)
    if not catalogue.database.has_table("call_groups"):
        return [entry]  # of an earlier release, not yet taken over
    with catalogue.database.read() as connection:
        copies = copies_of(connection, [entry.row_id]).get(entry.row_id, ())
    found = [catalogue.find(copy.recorder_id, copy.recording_id) for copy in copies]
    return [one for one in found if one is not None and one.state == entry.state] or [entry]


def _export(entry: Entry, root: Path, out: Path, *, listen: bool) -> None:
    for copy in Store(root).export(entry.path, out):
        print(copy)
    proof = export_inclusion(
        root, entry.recorder_id, recording_id=entry.id, manifest_sha256=entry.manifest_sha256, out=out
    )
    stamps = [(path, out / path.name) for path in sorted((root / entry.path).glob("*.tsr"))]
    for path in (*proof.copies, *export_renewals(root, [*stamps, *proof.stamps])):
        print(path)
    if listen:
        print(export_listening_copy(root / entry.path, out))
