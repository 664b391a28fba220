"""recorder-archive enroll and recorder: who may deliver, by one-time codes; revocation, quotas."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.markup import escape
from rich.table import Column, Table

from recorderd.app.archive_actor import command_line_actor
from recorderd.app.archive_catalogue import open_to_write
from recorderd.app.archive_configuration import CONTROL_NAME, ArchiveConfiguration
from recorderd.app.control import ask
from recorderd.app.enrolment_configuration import address_of
from recorderd.app.output import Output
from recorderd.app.retention_parts import quiet_log
from recorderd.app.roster_duty import make_roster
from recorderd.archive.audit_log import AuditLog
from recorderd.archive.enrolment import Enrolment
from recorderd.core.clock import NS_PER_S, SystemClock, utc_text
from recorderd.core.errors import ConfigurationError, ControlUnavailable
from recorderd.core.ids import is_safe_id

_PLAIN_WIDTH: Final = 200  # for pipes and files
_MINUTES_MAX: Final = 7 * 24 * 60
Work = Callable[[argparse.Namespace, ArchiveConfiguration], int]


def add_recorders(commands: Any) -> None:
    """Declare the commands."""
    enroll = _command(commands, "enroll", _enroll, "print a one-time code with which a recorder joins")
    enroll.add_argument("name", type=_name, metavar="NAME", help="the recorder's id")
    enroll.add_argument("--minutes", type=_minutes, default=60, metavar="N", help="good for so long (60)")
    enroll.add_argument("--json", action="store_true", help="for programs")
    group = commands.add_parser("recorder", help="who may deliver")
    parts = group.add_subparsers(required=True, metavar="PART")
    rows = _command(parts, "list", _list, "list recorders, with what is held of each")
    rows.add_argument("--json", action="store_true", help="for programs")
    revoke = _command(parts, "revoke", _revoke, "let a recorder in no more; what it delivered stays")
    revoke.add_argument("name", metavar="NAME", help="the recorder's id")
    revoke.add_argument("--reason", required=True, metavar="TEXT", help="told in the audit log")
    quota = _command(parts, "quota", _quota, "say how much a recorder may have here before somebody is told")
    quota.add_argument("name", metavar="NAME", help="the recorder's id")
    quota.add_argument("bytes", type=_bytes, metavar="BYTES", help="0 = no quota")


def _command(parts: Any, name: str, work: Work, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = parts.add_parser(name, help=text)
    command.add_argument("--config", type=Path, required=True, metavar="F", help="archive.toml")
    command.set_defaults(run=work)
    return command


def _name(text: str) -> str:
    if not is_safe_id(text):
        raise argparse.ArgumentTypeError("give 1 to 64 letters, digits, _ or -")
    return text


def _minutes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MINUTES_MAX:
        raise argparse.ArgumentTypeError(f"give 1 to {_MINUTES_MAX}")
    return int(text)


def _bytes(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= 1 << 62:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes")
    return int(text)


def _enroll(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    section, clock = configuration.enrolment, SystemClock()
    if section is None:
        reason = "  enrolment: missing: nobody could join; add [enrolment] with bind"
        raise ConfigurationError(path=arguments.config, count=1, problems=reason)
    database = open_to_write(configuration)
    roster = make_roster(configuration, database)
    audit = AuditLog(database, clock=clock)
    enrolment = Enrolment(
        database, owner_of=roster.recorders.get, audit=audit, clock=clock, log=quiet_log(clock)
    )
    valid_s = arguments.minutes * 60
    code = enrolment.begin(arguments.name, who=command_line_actor(), valid_s=valid_s).text()
    until = utc_text(clock.utc_ns() + valid_s * NS_PER_S)
    if arguments.json:
        print(json.dumps({"recorder": arguments.name, "code": code, "until": until}))
        return 0
    host = address_of(section.endpoints[0])[0] if section.endpoints else "THIS-HOST"
    print(f"{arguments.name} may join once, until {until}. On the recorder, where F is its recorderd.toml:")
    print(f"  recorderctl join {host}:{address_of(section.bind)[1]} --config F")
    print(f"It asks for the code:  {code}")
    return 0


def _list(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    here = _connected(configuration)
    rows = make_roster(configuration, open_to_write(configuration)).standings()
    if arguments.json:
        print(json.dumps([{**asdict(row), "connected": row.recorder_id in here} for row in rows], indent=2))
        return 0
    names = ("state", "from", "connected", "recordings", "bytes", "quota", "latest", "revoked")
    table = Table(Column("recorder", no_wrap=True), *names)
    for row in rows:
        quota = f"{100 * row.used_bytes // row.quota_bytes} % of {row.quota_bytes}" if row.quota_bytes else ""
        revoked = escape(f"{row.revoked_at} {row.reason}") if row.revoked_at else ""
        table.add_row(
            *(row.recorder_id, row.state, row.source, "yes" if row.recorder_id in here else "no"),
            *(str(row.recordings), str(row.used_bytes), quota, row.latest_at, revoked),
        )
    Output(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)
    return 0


def _connected(configuration: ArchiveConfiguration) -> set[str]:
    """Name the recorders that this host's daemon speaks with; nobody when it does not run."""
    try:
        status = ask(configuration.archive.run_dir / CONTROL_NAME, {"command": "status"})
    except ControlUnavailable:
        return set()
    return {name for name, row in status.get("recorders", {}).items() if not row["farewell"]}


def _revoke(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    database, clock = open_to_write(configuration), SystemClock()
    make_roster(configuration, database).revoke(
        arguments.name,
        who=command_line_actor(),
        reason=arguments.reason,
        at=utc_text(clock.utc_ns()),
        audit=AuditLog(database, clock=clock),
    )
    print(f"{arguments.name} is let in no more; what it has delivered stays")
    return 0


def _quota(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    database = open_to_write(configuration)
    audit = AuditLog(database, clock=SystemClock())
    make_roster(configuration, database).set_quota(
        arguments.name, arguments.bytes, who=command_line_actor(), audit=audit
    )
    print(f"{arguments.name}: {f'{arguments.bytes} bytes' if arguments.bytes else 'no quota'}")
    return 0
