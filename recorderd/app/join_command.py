"""recorderctl join: lets this recorder and an archive know each other's keys, by a one-time code.

Contract: the recorder's CURVE key is made once and kept, so that a join that was cut can be given again with
the same code. recorderd.toml is changed last, in one go, and only by what is added to its end.
"""

from __future__ import annotations

import argparse
import getpass
import os
import pwd
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from recorderd import durable
from recorderd.app.archive_link_configuration import PRIMARY
from recorderd.app.checks import safe_id
from recorderd.app.keyring import SIGNER_NAME, Keyring
from recorderd.app.schema import Problem, refuse
from recorderd.core.errors import KeyUnusable
from recorderd.evidence.enrolment_code import EnrolmentCode
from recorderd.evidence.secret_files import read_secret_text
from recorderd.flush.curve import make_keypair, public_key_of
from recorderd.flush.joining import join
from recorderd.wire.enrolment import JoinAnswer, JoinRequest

_SECRET_MODE: Final = 0o600
_PUBLIC_MODE: Final = 0o644
_OWNER: Final = "recorderd-flush"  # who reads the CURVE key, where there is such a user
_CERTIFICATE: Final = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def add_command(commands: Any) -> None:
    """Add ``join`` to the commands of ``recorderctl``."""
    command = commands.add_parser("join", help="join an archive by the code of `recorder-archive enroll`")
    command.add_argument("archive", type=_address, metavar="HOST:PORT", help="where [enrolment] listens")
    command.add_argument("code", nargs="?", default="", metavar="CODE", help="asked for when left out")
    command.add_argument("--config", type=Path, required=True, metavar="F", help="recorderd.toml")
    command.add_argument("--name", default="", metavar="NAME", help="it is a further archive of this name")
    command.add_argument(
        "--certificate",
        action="append",
        default=[],
        type=Path,
        metavar="F",
        help="what recordings are signed with, or its authority, PEM; else the certificate that signs now",
    )
    command.set_defaults(run=_join)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise argparse.ArgumentTypeError("give HOST:PORT")
    return host.strip("[]"), int(port)


def _join(arguments: argparse.Namespace) -> int:
    path: Path = arguments.config
    raw = path.read_text()
    table = _read(path, raw, name=arguments.name)
    label = arguments.name or PRIMARY
    folder = path.parent.resolve()
    certificates = _certificates(folder, table, arguments.certificate)
    secret_file = folder / f"{label}-curve.secret"
    secret = _curve_secret(secret_file)
    code = EnrolmentCode.read(arguments.code or _asked())
    request = JoinRequest(
        code_id=code.code_id,
        recorder_id=str(table["recorder"]["id"]),
        curve_public_key=public_key_of(secret),
        certificates_pem=certificates,
    )
    answer = join(arguments.archive, code, request)
    receipt_file = folder / f"{label}-receipts.pem"
    durable.replace(receipt_file, answer.receipt_certificate_pem.encode(), mode=_PUBLIC_MODE)
    files = (secret_file.name, receipt_file.name)
    section = _section(answer, arguments.archive[0], arguments.name, files=files)
    _add_to(path, raw, section)
    print(f"{request.recorder_id} is known at {answer.archive_id}, and {path} says how to reach it:")
    print(section)
    print("Restart recorderd-flush.")
    return 0


def _asked() -> str:
    return getpass.getpass("code: ") if sys.stdin.isatty() else sys.stdin.readline()


def _read(path: Path, raw: str, *, name: str) -> dict[str, Any]:
    """Read what is needed of a configuration that is not whole before it has an archive.

    Errors: ConfigurationError.
    """
    try:
        table = tomllib.loads(raw)
    except tomllib.TOMLDecodeError as problem:
        refuse(path, [Problem(key="file", reason=str(problem), remedy="write valid TOML")])
        raise
    problems = []
    recorder = table.get("recorder")
    if not isinstance(recorder, dict) or safe_id(recorder.get("id", "")) is not None:
        problems.append(Problem(key="recorder.id", reason="missing", remedy="name this recorder"))
    if name and safe_id(name) is not None:
        problems.append(Problem(key="--name", reason="is no name", remedy="give letters, digits, _ or -"))
    taken = {entry.get("name") for entry in table.get("archives", []) if isinstance(entry, dict)}
    if name and (name in taken or name == PRIMARY or PRIMARY not in table):
        remedy = "give another one, and join the first archive without a name"
        problems.append(Problem(key="--name", reason=f"{name} cannot be added", remedy=remedy))
    if not name and PRIMARY in table:
        remedy = "take the section out to join anew, or give --name for a further archive"
        problems.append(Problem(key=PRIMARY, reason="is there already", remedy=remedy))
    refuse(path, problems)
    return table


def _certificates(folder: Path, table: dict[str, Any], named: Sequence[Path]) -> str:
    """Read what the archive is to trust: what was named, or the certificate that signs now, without issuers.

    Errors: KeyUnusable.
    """
    if named:
        return "".join(f"{one}\n" for path in named for one in _pem(path))
    evidence = table.get("evidence", {})
    if "keys_dir" in evidence:
        current = Keyring(folder / evidence["keys_dir"]).current()
        if current is None:
            raise KeyUnusable(path=evidence["keys_dir"], reason="no certificate signs yet")
        return f"{_pem(current.folder / SIGNER_NAME)[0]}\n"
    if "certificate_file" not in evidence:
        raise KeyUnusable(path="[evidence]", reason="names no certificate; give --certificate")
    return f"{_pem(folder / evidence['certificate_file'])[0]}\n"


def _pem(path: Path) -> list[str]:
    try:
        found = _CERTIFICATE.findall(path.read_text())
    except (OSError, UnicodeDecodeError) as problem:
        raise KeyUnusable(path=path, reason=problem) from None
    if not found:
        raise KeyUnusable(path=path, reason="no certificate in PEM")
    return [str(one) for one in found]


def _curve_secret(path: Path) -> str:
    """Give our CURVE secret of this archive; it is made when there is none.

    Errors: KeyUnusable, OSError.
    """
    if not path.exists():
        durable.create(path, make_keypair()[1].encode() + b"\n", mode=_SECRET_MODE)
        if os.geteuid() == 0 and any(entry.pw_name == _OWNER for entry in pwd.getpwall()):
            owner = pwd.getpwnam(_OWNER)
            os.chown(path, owner.pw_uid, owner.pw_gid)
    return read_secret_text(path).strip()


def _section(answer: JoinAnswer, host: str, name: str, *, files: tuple[str, str]) -> str:
    shown = f"[{host}]" if ":" in host else host
    first, *others = answer.endpoints or (f"tcp://{shown}:{answer.port}",)
    lines = ["[[archives]]", f'name = "{name}"'] if name else [f"[{PRIMARY}]"]
    lines.append(f'endpoint = "{first}"')
    if others:
        listed = ", ".join(f'"{one}"' for one in others)
        lines.append(f"further_endpoints = [{listed}]")
    lines += [
        f"server_public_key = '{answer.server_public_key}'",
        f'secret_key_file = "{files[0]}"',
        f'receipt_certificate_file = "{files[1]}"',
    ]
    return "\n".join(lines) + "\n"


def _add_to(path: Path, raw: str, section: str) -> None:
    """Add a section to the end of a configuration, whose owner and mode stay.

    Durable: after return it survives; before, the former content.
    """
    former = path.stat()
    content = f"{raw.rstrip()}\n\n{section}" if raw.strip() else section
    durable.replace(path, content.encode(), mode=former.st_mode & 0o777)
    if os.geteuid() == 0:
        os.chown(path, former.st_uid, former.st_gid)
