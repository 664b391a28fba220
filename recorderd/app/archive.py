"""recorder-archive: receives recordings, keeps them, and tells what it holds."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from rich.markup import escape
from rich.table import Column, Table

from recorderd import __version__
from recorderd.app import fsck
from recorderd.app.archive_accounts import add_account
from recorderd.app.archive_audit import add_audit
from recorderd.app.archive_catalogue import is_empty, open_catalogue
from recorderd.app.archive_checks import check_archive
from recorderd.app.archive_configuration import (
    CONTROL_NAME,
    ArchiveConfiguration,
    load_archive_configuration,
)
from recorderd.app.archive_daemon import ArchiveDaemon
from recorderd.app.archive_deliver import add_deliver
from recorderd.app.archive_export import add_export, export_call
from recorderd.app.archive_intake import add_drain, drain, intake_lines
from recorderd.app.archive_mirror import add_mirror
from recorderd.app.archive_reconcile import add_reconcile
from recorderd.app.archive_recorders import add_recorders
from recorderd.app.archive_reindex import add_reindex
from recorderd.app.archive_retention import add_retention, retention_lines
from recorderd.app.archive_rights import add_rights
from recorderd.app.archive_scrub import add_scrub
from recorderd.app.archive_search import add_search
from recorderd.app.archive_shares import add_share
from recorderd.app.archive_stamps import add_days, list_stamps, renew_stamps
from recorderd.app.archive_store import open_store
from recorderd.app.archive_web import add_web
from recorderd.app.control import ask
from recorderd.app.counts import count_of
from recorderd.app.front_end import front_end_lines
from recorderd.app.handing_over import working_for_its_owner
from recorderd.app.memory import keep_freed_memory
from recorderd.app.output import Output
from recorderd.app.power_words import power_line
from recorderd.app.service import Service, run_reporting
from recorderd.app.store_duties import store_lines
from recorderd.archive.catalogue import Entry
from recorderd.core.errors import RecordingUnknown

_LIST_COLUMNS: Final = ("caller", "callee", "duration", "channels", "rate", "chain", "state")
_PLAIN_WIDTH: Final = 200  # for pipes and files: an id that is cut off helps nobody


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run_reporting(_run, argv)


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    configuration = load_archive_configuration(arguments.config)
    with working_for_its_owner(configuration.archive.data_dir):
        code: int = arguments.run(arguments, configuration)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="recorder-archive", description=__doc__)
    parser.add_argument("--version", action="version", version=f"recorder-archive {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    programs = {
        "serve": (_serve, "receive recordings"),
        "list": (_list, "list what the archive holds"),
        "show": (_show, "show one recording"),
        "export": (_export, "copy one recording with its signatures"),
        "fsck": (fsck.fsck, "check files, catalogue, receipts and chains against each other"),
        "heads": (fsck.heads, "list the signed heads of the recorders' chains, or write them out"),
        "stamps": (list_stamps, "list time stamps that are to be renewed"),
        "renew": (renew_stamps, "renew them"),
        "status": (_status, "ask the running daemon"),
        "drain": (drain, "take no new recordings, or take them again"),
        "check-config": (_check_config, "check the configuration and its keys"),
    }
    for name, (work, text) in programs.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--config", type=Path, required=True, metavar="F", help="archive.toml")
        command.set_defaults(run=work)
        if name == "list":
            command.add_argument("--limit", type=count_of, metavar="N", help="so many at most")
            command.add_argument("--after", metavar="ID", help="those after this one")
        if name in ("show", "export"):
            command.add_argument("recording_id", metavar="ID", help="which recording")
        if name in ("stamps", "renew"):
            add_days(command)
        if name == "stamps":
            command.add_argument("--all", action="store_true", help="those that are good for longer too")
        if name in ("list", "show", "export", "heads", "stamps", "status", "fsck"):
            command.add_argument("--json", action="store_true", help="for programs")
        if name == "fsck":
            command.add_argument(
                "--tsa", type=Path, metavar="F", help="roots of time-stamp authorities, PEM: who stamped?"
            )
            fsck.add_mirror_option(command)
        if name == "export":
            add_export(command)
        if name == "drain":
            add_drain(command)
        if name == "heads":
            command.add_argument("--out", type=Path, metavar="DIR", help="where to write their documents")
    add_audit(commands)
    add_retention(commands)
    add_rights(commands)
    add_account(commands)
    add_share(commands)
    add_search(commands)
    add_reconcile(commands)
    add_reindex(commands)
    add_deliver(commands)
    add_mirror(commands)
    add_scrub(commands)
    add_web(commands)
    add_recorders(commands)
    return parser


# --- the daemon -------------------------------------------------------------------------------------


def _serve(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    keep_freed_memory()
    service = Service(program="recorder-archive", level=configuration.log.level.value)
    ArchiveDaemon(configuration, service).run(arguments.config)
    return 0


def _check_config(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    check_archive(arguments.config, configuration)
    print(f"{arguments.config}: right for recorder-archive")
    return 0


# --- for people -------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    entries = islice(_entries(arguments, configuration), arguments.limit)
    if arguments.json:
        print("[")
        for number, entry in enumerate(entries):
            print("," * bool(number) + json.dumps(entry.plain(), indent=2))
        print("]")
        return 0
    table = Table("started", Column("id", no_wrap=True), *_LIST_COLUMNS)
    for entry in entries:
        cells = (entry.started_at, entry.id, entry.caller, entry.callee, f"{entry.duration_s:.1f} s")
        sound = (str(entry.channels), f"{entry.sample_rate_hz} Hz", entry.chain, entry.state)
        table.add_row(*(escape(cell) for cell in (*cells, *sound)))
    Output(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)
    return 0


def _show(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    entry = _entry(arguments, configuration)
    row = entry.plain()
    store = open_store(configuration)
    row["files"] = store.group(entry.path).names()
    row["receipt"] = json.loads(entry.receipt) if entry.receipt else None
    if arguments.json:
        print(json.dumps(row, indent=2))
        return 0
    table = Table.grid(padding=(0, 2))
    for name, value in row.items():
        if name != "receipt":
            table.add_row(name, escape("\n".join(value) if isinstance(value, list) else str(value)))
    table.add_row("folder", escape(store.published.shown(entry.path)))
    Output(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)
    return 0


def _export(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    export_call(_entry(arguments, configuration), arguments, configuration)
    return 0


def _status(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    status = ask(configuration.archive.run_dir / CONTROL_NAME, {"command": "status"})
    if arguments.json:
        print(json.dumps(status, indent=2, sort_keys=True))
        return 0
    table = Table.grid(padding=(0, 2))
    table.add_row("uploads", str(len(status.get("uploads", []))))
    table.add_row("power", power_line(status["power"]))
    lines = (intake_lines, retention_lines, store_lines, front_end_lines)
    for name, text in (row for tell in lines for row in tell(status)):
        table.add_row(name, text)
    for name, count in sorted(status.get("events", {}).items()):
        table.add_row(name, str(count))
    Output().print(table)
    return 0


def _entry(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> Entry:
    found: list[Entry] = []
    if not is_empty(configuration):
        found = open_catalogue(configuration, read_only=True).by_id(arguments.recording_id)
    if not found:
        raise RecordingUnknown(recording_id=arguments.recording_id)
    return found[0]


def _entries(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> Iterator[Entry]:
    if is_empty(configuration):
        return iter(())
    catalogue = open_catalogue(configuration, read_only=True)
    if arguments.after is None:
        return catalogue.by_start()
    found = catalogue.by_id(arguments.after)
    if not found:
        raise RecordingUnknown(recording_id=arguments.after)
    return catalogue.by_start(after=found[-1])
