"""recorder-archive audit: lists the audit log, verifies it, writes it out."""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.markup import escape
from rich.table import Column, Table

from recorderd.app.archive_actor import command_line_actor
from recorderd.app.archive_catalogue import open_to_write
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.counts import count_of
from recorderd.app.output import Output
from recorderd.app.progress import SlowWork, counted
from recorderd.app.verify import EXIT_OF, WORD_OF
from recorderd.archive.audit_check import LogFinding, judge_audit_log
from recorderd.archive.audit_heads import kept_heads
from recorderd.archive.audit_log import AuditFilter, AuditLog, AuditRow
from recorderd.archive.database import Database
from recorderd.archive.jobs import Step
from recorderd.archive.verdicts import Verdict
from recorderd.core.clock import SystemClock
from recorderd.evidence.verify import TrustStore

_PLAIN_WIDTH: Final = 200  # for pipes and files: an id that is cut off helps nobody
_FILTERS: Final = {
    **dict.fromkeys(("who", "what", "subject", "outcome"), "only these"),
    "since": "a day (2026-11-23) or a time (2026-11-23T06:22Z); without a zone UTC",
    "until": "the same; a day to its end",
}


def add_audit(commands: Any) -> None:
    """Declare the command with its parts."""
    parts = commands.add_parser("audit", help="the log of who did what").add_subparsers(
        required=True, metavar="PART"
    )
    works = {
        "list": (_list, "list rows, the newest first"),
        "verify": (_verify, "check hashes and signed heads: was a row changed, removed, cut off?"),
        "export": (_export, "write rows and heads as JSON lines"),
    }
    for name, (work, text) in works.items():
        part = parts.add_parser(name, help=text)
        part.add_argument("--config", type=Path, required=True, metavar="F", help="archive.toml")
        part.set_defaults(run=work)
        if name != "export":
            part.add_argument("--json", action="store_true", help="for programs")
        if name == "list":
            part.add_argument("--last", type=count_of, default=50, metavar="N", help="so many rows (50)")
            for word, told in _FILTERS.items():
                part.add_argument(f"--{word}", default="", help=told)


def audit_findings(database: Database, trust: TrustStore, work: Step | None = None) -> Iterator[LogFinding]:
    """Judge a database's audit log; one of a release before there was any has none."""
    if not database.has_table("audit"):
        return
    rows: Iterable[AuditRow] = AuditLog(database, clock=SystemClock()).all()
    if work is not None:
        rows = counted(rows, work)
    heads = kept_heads(database)  # before the rows: one more head would be of rows that we did not see
    yield from judge_audit_log((asdict(row) for row in rows), heads, trust)


def _list(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    log = AuditLog(open_to_write(configuration), clock=SystemClock())
    wanted = {word: getattr(arguments, word) for word in _FILTERS}
    told = " ".join(f"{word}={value}" for word, value in wanted.items() if value)
    log.note(command_line_actor(), "audit_listed", "audit", detail=told)
    rows = log.rows(AuditFilter(**wanted), limit=arguments.last)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    table = Table(Column("row", justify="right"), "at", "who", "from", "what", "subject", "outcome", "reason")
    for row in rows:
        cells = (row.at, row.who, row.address, row.what, row.subject, row.outcome, row.reason)
        table.add_row(str(row.number), *(escape(cell) for cell in cells))
    Output(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)
    return 0


def _verify(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    """Check the log; 0 good, 65 something is bad, 69 something cannot be told."""
    database = open_to_write(configuration)
    trust = TrustStore.from_files([configuration.receipt.certificate_file])
    rows, _ = AuditLog(database, clock=SystemClock()).last()
    heads = len(kept_heads(database))
    with SlowWork("checking the log", total_bytes=rows, counts="rows") as work:
        findings = list(audit_findings(database, trust, work))
    verdicts = {finding.verdict for finding in findings}
    verdict = next((one for one in (Verdict.BAD, Verdict.UNKNOWN) if one in verdicts), Verdict.GOOD)
    if arguments.json:
        table = {
            "verdict": verdict.value,
            "rows": rows,
            "heads": heads,
            "findings": [
                {"subject": one.subject, "reason": one.reason, "verdict": one.verdict.value}
                for one in findings
            ],
        }
        print(json.dumps(table, indent=2))
        return EXIT_OF[verdict]
    for finding in findings:
        print(f"{WORD_OF[finding.verdict]:<11} {finding.subject}: {finding.reason}")
    print(f"{WORD_OF[verdict]:<11} {rows} rows and {heads} heads were looked at, {len(findings)} findings")
    return EXIT_OF[verdict]


def _export(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    del arguments
    database = open_to_write(configuration)
    log = AuditLog(database, clock=SystemClock())
    log.note(command_line_actor(), "audit_exported", "audit")
    heads = kept_heads(database)  # before the rows: one more head would be of rows that are not written
    for row in log.all():
        print(json.dumps(asdict(row), ensure_ascii=False, sort_keys=True))
    for number, document in heads:
        print(json.dumps({"head": number, "document": base64.b64encode(document).decode("ascii")}))
    return 0
