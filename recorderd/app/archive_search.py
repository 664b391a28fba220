"""recorder-archive search, tag and note: finds recordings, and adds to them what people know.

Rule: each of them stands in the audit log, a refused one too; what is added stands there or is not added.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.markup import escape
from rich.table import Column, Table

from recorderd.app.archive_actor import command_line_actor
from recorderd.app.archive_catalogue import open_to_write
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.output import Output
from recorderd.archive.annotations import Annotations
from recorderd.archive.audit_log import AuditLog
from recorderd.archive.catalogue import Catalogue, Entry
from recorderd.archive.criteria import parse_criteria
from recorderd.archive.database import Database
from recorderd.archive.search import Page, Search
from recorderd.archive.search_index import SearchIndex
from recorderd.core.clock import SystemClock, utc_text
from recorderd.core.errors import RecorderError, RecordingUnknown

_PLAIN_WIDTH: Final = 200  # for pipes and files: an id that is cut off helps nobody
_OPTIONS: Final = {
    "number": ("N", "caller or callee, in any notation: +44 20..., 0044..., 020..., or an extension"),
    "part": ("DIGITS", "part of caller's or callee's number or name"),
    "since": ("T", "a day (2026-11-23) or a time (2026-11-23T06:22Z); without a zone UTC"),
    "until": ("T", "the same; a day to its end"),
    "extension": ("N", "recorded for this extension"),
    "queue": ("NAME", "came by this queue"),
    "trunk": ("NAME", "went over this trunk"),
    "direction": ("D", "inbound, outbound or internal"),
    "recorder": ("ID", "recorded by this recorder"),
    "state": ("S", "archived, or the outcome of an entry without audio"),
    "min_duration": ("S", "so many seconds or more"),
    "max_duration": ("S", "so many seconds or fewer"),
    "tag": ("TAG", "has this tag; several: all of them"),
    "note": ("WORDS", "a note of it has these words, or words that begin so"),
    "sort": ("KEY", "started, duration or archived; with a - before it the greatest first (--sort=-started)"),
    "limit": ("N", "so many at a time (50)"),
    "after": ("KEY", "go on after this page, as the last one said"),
}


def add_search(commands: Any) -> None:
    """Declare the commands."""
    search = _command(commands, "search", _search, "find recordings; all that is given must hold")
    for name, (metavar, text) in _OPTIONS.items():
        option = f"--{name.replace('_', '-')}"
        search.add_argument(option, dest=name, action="append", default=[], metavar=metavar, help=text)
    search.add_argument("--json", action="store_true", help="for programs")
    tag = _command(commands, "tag", _tag, "add tags to a recording, or remove them")
    note = _command(commands, "note", _note, "add a note, a correction for example; it is never changed")
    for command in (tag, note):
        command.add_argument("recording_id", metavar="ID", help="which recording")
    tag.add_argument("tags", metavar="TAG", nargs="+", help="one or several")
    tag.add_argument("--remove", action="store_true", help="remove them")
    note.add_argument("text", metavar="TEXT", help="added, never changed")


def _command(commands: Any, name: str, work: Any, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text)
    command.add_argument("--config", type=Path, required=True, metavar="F", help="archive.toml")
    command.set_defaults(run=work)
    return command


def _search(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    words = {name: getattr(arguments, name) for name in _OPTIONS}
    told = " ".join(f"{name}={'|'.join(given)}" for name, given in words.items() if given)
    database, region = open_to_write(configuration), configuration.catalogue.region
    audit, actor = AuditLog(database, clock=SystemClock()), command_line_actor()
    try:
        page = Search(database, region=region).page(parse_criteria(words))
    except RecorderError as problem:
        audit.note(actor, "searched", "catalogue", detail=told, outcome="refused", reason=str(problem))
        raise
    audit.note(actor, "searched", "catalogue", detail=told)
    behind = SearchIndex(database, region=region).behind()
    if arguments.json:
        rows = [
            {
                **entry.plain(),
                "tags": list(page.tags.get(entry.row_id, ())),
                "copies": [asdict(copy) for copy in page.copies.get(entry.row_id, ())],
            }
            for entry in page.entries
        ]
        print(json.dumps({"recordings": rows, "next_after": page.next_after, "behind": behind}, indent=2))
        return 0
    _show(page, arguments)
    if behind:
        print(f"{behind} older recordings cannot be found yet: the running archive is making up for them")
    return 0


def _show(page: Page, arguments: argparse.Namespace) -> None:
    columns = ("caller", "callee", "duration", "extension", "queue", "trunk", "direction", "state", "tags")
    table = Table("started", Column("id", no_wrap=True), *columns)
    for entry in page.entries:
        cells = (entry.started_at, entry.id, entry.caller, entry.callee, f"{entry.duration_s:.1f} s")
        facets = (entry.extension, entry.queue, entry.trunk, entry.direction, entry.state)
        tags = ", ".join(page.tags.get(entry.row_id, ()))
        others = [copy for copy in page.copies.get(entry.row_id, ()) if copy.recording_id != entry.id]
        tags += "".join(f" (also {copy.recording_id} of {copy.recorder_id})" for copy in others)
        table.add_row(*(escape(cell) for cell in (*cells, *facets, tags)))
    Output(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)
    if page.next_after:
        print(f"there are more: the same with --after {page.next_after}")


def _tag(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    database = open_to_write(configuration)
    entry = _entry(database, arguments.recording_id)
    annotations, clock = Annotations(database), SystemClock()
    audit, actor = AuditLog(database, clock=clock), command_line_actor()
    with database.write() as connection:
        for tag in arguments.tags:
            if arguments.remove:
                done = annotations.remove_tag(entry.row_id, tag, connection=connection)
            else:
                at = utc_text(clock.utc_ns())
                done = annotations.add_tag(entry.row_id, tag, who=actor.name, at=at, connection=connection)
            if done:
                what = "untagged" if arguments.remove else "tagged"
                audit.note(actor, what, entry.id, detail=tag, connection=connection)
    print(", ".join(annotations.tags(entry.row_id)) or "no tags")
    return 0


def _note(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    database = open_to_write(configuration)
    entry = _entry(database, arguments.recording_id)
    clock, actor = SystemClock(), command_line_actor()
    with database.write() as connection:
        at = utc_text(clock.utc_ns())
        note_id = Annotations(database).add_note(
            entry.row_id, arguments.text, who=actor.name, at=at, connection=connection
        )
        AuditLog(database, clock=clock).note(
            actor, "note_added", entry.id, detail=f"note {note_id}", connection=connection
        )
    for note in Annotations(database).notes(entry.row_id):
        print(f"{note.at}  {note.who}  {note.text}")
    return 0


def _entry(database: Database, recording_id: str) -> Entry:
    found = Catalogue(database, read_only=True).by_id(recording_id)
    if not found:
        raise RecordingUnknown(recording_id=recording_id)
    return found[0]
