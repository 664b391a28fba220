"""recorder-archive reconcile: holds the exchange's call records against what the archive has.

Rule: it says what is missing and what is too much, and changes neither. Without call records of the span it
says so, instead of finding nothing wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.markup import escape
from rich.table import Column, Table

from recorderd.app.archive_actor import command_line_actor
from recorderd.app.archive_catalogue import open_to_write
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.call_records_configuration import columns_of
from recorderd.app.output import Output
from recorderd.app.progress import SlowWork, counted
from recorderd.app.reconciler import reconciler_of
from recorderd.archive.audit_log import AuditLog
from recorderd.archive.call_records import CallRecords, Imported, read_records
from recorderd.archive.reconciling import Report
from recorderd.core.clock import SystemClock, utc_text
from recorderd.policy.reconciliation import Standing

EXIT_MISSING: Final = 65
EXIT_NO_RECORDS: Final = 69
_PLAIN_WIDTH: Final = 200  # for pipes and files: an id that is cut off helps nobody


def add_reconcile(commands: Any) -> None:
    """Declare the commands."""
    group = commands.add_parser("reconcile", help="call records of the exchange against recordings")
    deeds = group.add_subparsers(required=True, metavar="DEED")
    take = _command(deeds, "import", _import, "take call detail records from CSV files")
    take.add_argument("files", metavar="FILE", nargs="+", type=Path, help="as `[call_records]` says")
    report = _command(deeds, "report", _report, "say which calls were not recorded, and the reverse")
    report.add_argument("--since", required=True, metavar="T", help="a day (2026-11-23) or a time, UTC")
    report.add_argument("--until", required=True, metavar="T", help="the same; a day to its end")
    report.add_argument("--all", action="store_true", help="the calls with which nothing is wrong too")


def _command(deeds: Any, name: str, work: Any, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = deeds.add_parser(name, help=text)
    command.add_argument("--config", type=Path, required=True, metavar="F", help="archive.toml")
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(run=work)
    return command


# --- import -----------------------------------------------------------------------------------------


def _import(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    database, clock, actor = open_to_write(configuration), SystemClock(), command_line_actor()
    records = CallRecords(database, region=configuration.catalogue.region)
    audit, told = AuditLog(database, clock=clock), {}
    for path in arguments.files:
        rows = read_records(path, columns_of(configuration.call_records))
        with SlowWork(f"read {path.name}", counts="lines") as work:
            done = records.take(counted(rows, work), source=path.name, at=utc_text(clock.utc_ns()))
        detail = f"{done.added} added, {done.known} known, {done.refused} refused"
        audit.note(actor, "call_records_imported", path.name, detail=detail)
        told[str(path)] = done
        if not arguments.json:
            _say(path, done)
    if arguments.json:
        print(json.dumps({path: asdict(done) for path, done in told.items()}, indent=2))
    return 65 if any(done.refused for done in told.values()) else 0


def _say(path: Path, done: Imported) -> None:
    print(f"{path}: {done.added} added, {done.known} known already, {done.refused} refused")
    for row in done.refusals:
        print(f"{path}:{row.line}: {row.reason}", file=sys.stderr)
    if done.refused > len(done.refusals):
        print(f"{path}: {done.refused - len(done.refusals)} more", file=sys.stderr)


# --- report -----------------------------------------------------------------------------------------


def _report(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    database, clock = open_to_write(configuration), SystemClock()
    reconciler = reconciler_of(configuration, database, AuditLog(database, clock=clock), clock=clock)
    report = reconciler.report(arguments.since, arguments.until, who=command_line_actor())
    if arguments.json:
        print(json.dumps(report.plain(everything=arguments.all), indent=2))
    else:
        _print(report, everything=arguments.all)
    if not report.found.calls:
        print("there are no call records of this span: nothing can be told", file=sys.stderr)
        return EXIT_NO_RECORDS
    return 0 if report.is_clean else EXIT_MISSING


def _print(report: Report, *, everything: bool) -> None:
    rows = report.rows(everything=everything)
    console = Output(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    call = Column("call", no_wrap=True)
    table = Table("stands", "began", "talk", "caller", "callee", call, "rule", "recordings")
    for row in rows:
        record = row.record
        stands = row.standing.value
        if row.standing is Standing.SHORT:
            stands += f" by {row.uncovered_ms / 1000:.0f} s"
        kept = ", ".join(
            one.recording_id if one.state == "archived" else f"{one.recording_id} ({one.state})"
            for one in row.kept
        )
        talk = f"{record.talk_ms / 1000:.0f} s"
        cells = (stands, _time(record.started_ms), talk, record.caller, record.callee)
        ids = record.call_ids[0] if record.call_ids else ""
        table.add_row(*(escape(cell) for cell in (*cells, ids, row.rule, kept)))
    if rows:
        console.print(table)
    table = Table("no call record", "began", "length", "parties", "call", "recorder")
    for one in report.nobodys:
        length = f"{(one.ended_ms - one.started_ms) / 1000:.0f} s"
        place = (one.recording_id, _time(one.started_ms), length, ", ".join(sorted(one.parties)))
        table.add_row(*(escape(cell) for cell in (*place, one.call_id, one.recorder_id)))
    if report.nobodys:
        console.print(table)
    for name, count in report.counts().items():
        console.print(f"{name.replace('_', ' ')}: {count}", highlight=False)


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%SZ")
