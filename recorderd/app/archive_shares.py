"""recorder-archive share: one recording to somebody without an account, by a link and a passphrase.

Rule: the passphrase comes from a prompt or a file; the link is printed this once.
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

from recorderd.app.archive_accounts import ask_password, read_password
from recorderd.app.archive_actor import command_line_actor
from recorderd.app.archive_catalogue import open_to_write
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.output import Output
from recorderd.archive.audit_log import AuditLog
from recorderd.archive.catalogue import Catalogue
from recorderd.archive.shares import Shares
from recorderd.core.clock import NS_PER_S, SystemClock, utc_text
from recorderd.core.errors import RecordingUnknown

_PLAIN_WIDTH: Final = 200  # for pipes and files: an id that is cut off helps nobody


def add_share(commands: Any) -> None:
    """Declare the command with its parts."""
    parts = commands.add_parser("share", help="let somebody without an account hear one recording")
    works = parts.add_subparsers(required=True, metavar="PART")
    add = works.add_parser(
        "add", help="make a link; it is printed this once, the passphrase goes another way"
    )
    add.add_argument("recording_id", metavar="ID", help="which recording")
    add.add_argument("--reason", required=True, metavar="TEXT", help="for whom, and why")
    add.add_argument("--hours", type=int, default=72, metavar="N", help="good for so long (72)")
    add.add_argument("--uses", type=int, default=3, metavar="N", help="good so often (3)")
    add.add_argument("--file", type=Path, metavar="F", help="read the passphrase's line here, mode 600")
    add.add_argument("--json", action="store_true", help="for programs")
    listed = works.add_parser("list", help="list links")
    listed.add_argument("--json", action="store_true", help="for programs")
    revoke = works.add_parser("revoke", help="make a link worthless")
    revoke.add_argument("id", metavar="LINK", help="as `list` shows it")
    for part, work in ((add, _add), (listed, _list), (revoke, _revoke)):
        part.add_argument("--config", type=Path, required=True, metavar="F", help="archive.toml")
        part.set_defaults(run=work)


def _shares(configuration: ArchiveConfiguration) -> tuple[Shares, Catalogue]:
    database, clock = open_to_write(configuration), SystemClock()
    return Shares(database, AuditLog(database, clock=clock), clock=clock), Catalogue(database)


def _add(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    shares, catalogue = _shares(configuration)
    entries = catalogue.by_id(arguments.recording_id)
    if not entries:
        raise RecordingUnknown(recording_id=arguments.recording_id)
    passphrase = read_password(arguments.file) if arguments.file else ask_password("Passphrase")
    share, secret = shares.add(
        command_line_actor(),
        entries[0],
        passphrase=passphrase,
        hours=arguments.hours,
        uses=arguments.uses,
        reason=arguments.reason,
    )
    path = f"/api/v1/shared/{share.id}/audio"
    if arguments.json:
        print(json.dumps(asdict(share) | {"path": path, "secret": secret}, indent=2))
        return 0
    print(path)
    print(f"secret {secret}")
    return 0


def _list(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    rows = _shares(configuration)[0].all()
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    table = Table(Column("link", no_wrap=True), "recording", "by", "good until", "uses left", "state")
    for row in rows:
        ends = utc_text(row.expires_utc_s * NS_PER_S)
        state = "dead: wrong passphrases" if row.failures_left <= 0 else ""
        cells = (row.id, row.recording_id, row.created_by, ends, str(row.uses_left), state)
        table.add_row(*(escape(cell) for cell in cells))
    Output(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)
    return 0


def _revoke(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    _shares(configuration)[0].revoke(command_line_actor(), arguments.id, reason="")
    return 0
