"""recorder-archive account: accounts, groups and API tokens on the command line.

Rule: a password comes from a prompt or a file, never from the command line; what is told once (a token, a
TOTP seed) goes to stdout and nowhere else.
"""

from __future__ import annotations

import argparse
import getpass
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
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.output import Output
from recorderd.archive.accounts import Accounts, Reaching
from recorderd.archive.audit_log import AuditLog
from recorderd.archive.secrets_of_people import check_password_fit, totp_uri
from recorderd.core.clock import NS_PER_S, SystemClock, utc_text
from recorderd.core.errors import PasswordUnfit
from recorderd.evidence.keys import read_secret_text
from recorderd.policy.access import Action, Role

_JSON: Final = "for programs"
_PLAIN_WIDTH: Final = 200  # for pipes and files: a name that is cut off helps nobody
Work = Callable[[argparse.Namespace, ArchiveConfiguration], int]


def add_account(commands: Any) -> None:
    """Declare the command with its parts."""
    parts = commands.add_parser("account", help="who may search, hear and erase").add_subparsers(
        required=True, metavar="PART"
    )
    add = _part(parts, "add", _add, "make an account; it comes in when it has a password")
    change = _part(parts, "role", _change, "give an account another role and reach; its sessions end")
    for part in (add, change):
        part.add_argument("name", metavar="NAME", help="the account")
        part.add_argument(
            "--role", required=True, choices=[role.value for role in Role], help="what the account is for"
        )
        part.add_argument("--extension", action="append", default=[], metavar="[RECORDER:]N", help="its own")
        part.add_argument("--group", action="append", default=[], metavar="G", help="of a supervisor")
        part.add_argument(
            "--recorder", action="append", default=[], metavar="R", help="of an administrator; * = every one"
        )
        part.add_argument("--restricted", action="store_true", help="may reach restricted recordings too")
    add.add_argument("--password-file", type=Path, metavar="F", help="its first line, mode 600")
    _part(parts, "list", _list, "list accounts").add_argument("--json", action="store_true", help=_JSON)
    for name, work, text in (
        ("disable", _disable, "shut an account; its sessions end, its tokens do not count"),
        ("enable", _enable, "open it again"),
    ):
        _part(parts, name, work, text).add_argument("name", metavar="NAME", help="the account")
    password = _part(parts, "password", _password, "give an account a password, asked for twice")
    password.add_argument("name", metavar="NAME", help="the account")
    password.add_argument("--file", type=Path, metavar="F", help="read its first line instead, mode 600")
    totp = _part(parts, "totp", _totp, "print a new seed for a telephone's app")
    totp.add_argument("name", metavar="NAME", help="the account")
    totp.add_argument("--off", action="store_true", help="want no code any more")
    oidc = _part(parts, "oidc", _oidc, "say whom an account is at the OpenID provider")
    oidc.add_argument("name", metavar="NAME", help="the account")
    oidc.add_argument("subject", metavar="SUBJECT", help="the provider's sub; empty = nobody")
    group = _part(parts, "group", _group, "say who belongs to a group; nobody = it is gone")
    group.add_argument("name", metavar="GROUP", help="the group")
    group.add_argument("--extension", action="append", default=[], metavar="[RECORDER:]N", help="a member")
    group.add_argument("--queue", action="append", default=[], metavar="[RECORDER:]Q", help="a member")
    _add_tokens(parts)


def _add_tokens(parts: Any) -> None:
    token = _part(parts, "token", _token, "make an API token; it is printed this once")
    token.add_argument("name", metavar="NAME", help="the account")
    token.add_argument("--label", required=True, metavar="WORD", help="what it is for, in the audit log")
    token.add_argument("--scopes", required=True, metavar="A,B", help=", ".join(Action))
    token.add_argument("--days", type=int, default=90, metavar="N", help="good for so long (90)")
    token.add_argument("--json", action="store_true", help=_JSON)
    tokens = _part(parts, "tokens", _tokens, "list API tokens")
    tokens.add_argument("name", metavar="NAME", nargs="?", default="", help="of this account only")
    tokens.add_argument("--json", action="store_true", help=_JSON)
    _part(parts, "revoke", _revoke, "make a token worthless").add_argument(
        "id", metavar="ID", help="as `tokens` shows it"
    )


def _part(parts: Any, name: str, work: Work, text: str) -> argparse.ArgumentParser:
    part: argparse.ArgumentParser = parts.add_parser(name, help=text)
    part.add_argument("--config", type=Path, required=True, metavar="F", help="archive.toml")
    part.set_defaults(run=work)
    return part


def _accounts(configuration: ArchiveConfiguration) -> Accounts:
    database, clock = open_to_write(configuration), SystemClock()
    return Accounts(database, AuditLog(database, clock=clock), clock=clock)


def _reaching(arguments: argparse.Namespace) -> Reaching:
    return Reaching(
        extensions=tuple(arguments.extension),
        groups=tuple(arguments.group),
        recorders=tuple(arguments.recorder),
    )


def _add(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    accounts, who = _accounts(configuration), command_line_actor()
    password = read_password(arguments.password_file) if arguments.password_file else ""
    if password:
        check_password_fit(password, account=arguments.name)  # before there is an account without one
    account = accounts.add(
        who,
        arguments.name,
        Role(arguments.role),
        _reaching(arguments),
        second_right=arguments.restricted,
    )
    if password:
        accounts.set_password(who, account.name, password)
    print(f"{account.name}: {account.role}{'' if password else ', no password yet'}")
    return 0


def _change(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    account = _accounts(configuration).change(
        command_line_actor(),
        arguments.name,
        Role(arguments.role),
        _reaching(arguments),
        second_right=arguments.restricted,
    )
    print(f"{account.name}: {account.role}")
    return 0


def _list(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    accounts = _accounts(configuration)
    rows, groups = accounts.all(), accounts.groups()
    if arguments.json:
        members = {
            group: [{"kind": kind, "name": name} for kind, name in found] for group, found in groups.items()
        }
        print(json.dumps({"accounts": [asdict(row) for row in rows], "groups": members}, indent=2))
        return 0
    table = Table("name", "role", "reaches", "restricted", "proves itself by", "state")
    for row in rows:
        reach = [*row.extensions, *(f"group {one}" for one in row.groups), *row.recorders]
        ways = [(row.has_password, "password"), (row.has_totp, "code"), (bool(row.oidc_subject), "OpenID")]
        proof = ", ".join(word for there, word in ways if there)
        state = "disabled" if row.disabled else "open"
        cells = (row.name, row.role, " ".join(reach), "yes" if row.second_right else "", proof, state)
        table.add_row(*(escape(cell) for cell in cells))
    console = Output(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    console.print(table)
    for group, found in groups.items():
        console.print(f"group {group}: {', '.join(f'{kind} {name}' for kind, name in found)}", markup=False)
    return 0


def _disable(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    _accounts(configuration).set_disabled(command_line_actor(), arguments.name, disabled=True)
    return 0


def _enable(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    _accounts(configuration).set_disabled(command_line_actor(), arguments.name, disabled=False)
    return 0


def _password(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    accounts = _accounts(configuration)
    accounts.find(arguments.name)  # before anybody types
    password = read_password(arguments.file) if arguments.file else ask_password()
    accounts.set_password(command_line_actor(), arguments.name, password)
    return 0


def _totp(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    accounts = _accounts(configuration)
    secret = accounts.set_totp(command_line_actor(), arguments.name, wanted=not arguments.off)
    if secret:
        print(totp_uri(secret, account=arguments.name, issuer=configuration.archive.id))
    return 0


def _oidc(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    _accounts(configuration).set_oidc_subject(command_line_actor(), arguments.name, arguments.subject)
    return 0


def _group(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    _accounts(configuration).set_group(
        command_line_actor(), arguments.name, extensions=arguments.extension, queues=arguments.queue
    )
    return 0


def _token(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    words = [word.strip() for word in arguments.scopes.split(",") if word.strip()]
    unknown = sorted(set(words) - {action.value for action in Action})
    if unknown:
        print(f"error: no such scope: {', '.join(unknown)}; known: {', '.join(Action)}", file=sys.stderr)
        return 64
    token, text = _accounts(configuration).add_token(
        command_line_actor(),
        arguments.name,
        name=arguments.label,
        scopes=[Action(word) for word in words],
        days=arguments.days,
    )
    print(json.dumps(asdict(token) | {"token": text}, indent=2) if arguments.json else text)
    return 0


def _tokens(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    rows = _accounts(configuration).tokens(arguments.name)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    table = Table(Column("id", no_wrap=True), "account", "label", "scopes", "good until")
    for row in rows:
        ends = utc_text(row.expires_utc_s * NS_PER_S)
        table.add_row(row.id, escape(row.account), escape(row.name), " ".join(row.scopes), ends)
    Output(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)
    return 0


def _revoke(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    _accounts(configuration).revoke_token(command_line_actor(), arguments.id)
    return 0


def read_password(path: Path) -> str:
    """Read a password from the first line of a file that is its owner's only.

    Errors: KeyUnusable.
    """
    return (read_secret_text(path).splitlines() or [""])[0]


def ask_password(what: str = "Password") -> str:
    """Ask twice, without an echo.

    Errors: PasswordUnfit when the two differ, or when nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise PasswordUnfit(reason="there is no terminal to ask on; use --file")
    first = getpass.getpass(f"{what}: ")
    if getpass.getpass("Again: ") != first:
        raise PasswordUnfit(reason="the two are not the same")
    return first
