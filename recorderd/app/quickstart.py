"""quickstart: a complete, working loopback set-up in one folder, with fresh keys.

Contract: never overwrites: a folder that holds a set-up already is left as it is and only explained again,
and one that holds a part of one (of a real recorder, or of a quickstart that was cut) is refused.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.core.errors import ConfigurationError
from recorderd.evidence.keys import create_self_signed
from recorderd.flush.curve import make_keypair

SECRET_MODE: Final = 0o600
RECORDER_ID: Final = "recorder-1"
ARCHIVE_ID: Final = "archive-1"

RECORDER_TOML: Final = """\
# A recorder on loopback without a registration: it records the sessions that the addresses in
# sip.allow_from send. Every option is explained in config/README.md.

[recorder]
id = "{recorder_id}"
state_dir = "state"
run_dir = "run"

[sip]
address = "127.0.0.1"
udp_port = {sip_port}
tcp_port = {sip_port}
allow_from = ["127.0.0.0/8"]

[rtp]
address = "127.0.0.1"
port_min = {rtp_min}
port_max = {rtp_max}

[evidence]
key_file = "keys/signing-key.pem"
certificate_file = "keys/signing-cert.pem"

[spool]
dir = "spool"
local_grace_s = 0

[archive]
endpoint = "tcp://127.0.0.1:{archive_port}"
server_public_key = "{archive_public}"
secret_key_file = "keys/flush-curve.secret"
receipt_certificate_file = "keys/receipt-cert.pem"
"""

ARCHIVE_TOML: Final = """\
[archive]
id = "{archive_id}"
bind = "tcp://127.0.0.1:{archive_port}"
secret_key_file = "keys/archive-curve.secret"
data_dir = "archive"
run_dir = "run"

[receipt]
key_file = "keys/receipt-key.pem"
certificate_file = "keys/receipt-cert.pem"

[recorders.{recorder_id}]
curve_public_key = "{flush_public}"
certificate_files = ["keys/signing-cert.pem"]

[retention]

[retention.classes.default]
maximum_days = 180
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The ports of a set-up."""

    sip: int
    archive: int
    rtp_min: int
    rtp_max: int


def quickstart(folder: Path, ports: Ports) -> Iterator[str]:
    """Write a set-up and give the lines that explain it.

    Errors: ConfigurationError when the ports are none, or something of that name is there already.
    """
    _check(folder, ports)
    if (folder / "archive.toml").exists():
        yield f"{folder} holds a set-up already; nothing was changed."
    else:
        _see_that_nothing_is_there(folder)
        _write(folder, ports)
        yield f"Wrote a loopback set-up into {folder}."
    recorder, archive = folder / "recorderd.toml", folder / "archive.toml"
    at = _programs()
    yield ""
    yield "Start, each in a terminal of its own:"
    yield f"  {at}recorder-archive serve --config {archive}"
    yield f"  {at}recorderd --config {recorder}"
    yield f"  {at}recorderd-flush --config {recorder}"
    yield "Then send sessions (SIPREC, or recording legs) to:"
    yield f"  sip:recorder@127.0.0.1:{ports.sip}   (UDP and TCP)"
    yield "Look:"
    yield f"  {at}recorderctl status --config {recorder}"
    yield f"  {at}recorder-archive list --config {archive}"


def _programs() -> str:
    """Say where our programs lie, so that the printed commands work as they stand."""
    here = Path(sys.executable).parent
    if str(here) in os.environ.get("PATH", "").split(os.pathsep) or not (here / "recorderd").exists():
        return ""
    return f"{here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here}/"


def _check(folder: Path, ports: Ports) -> None:
    problems = [
        f"  {name}: {port} is no port; give one from 1024 to 65535"
        for name, port in (("--sip-port", ports.sip), ("--archive-port", ports.archive))
        if not 1 <= port <= 65_535
    ]
    if not 1024 <= ports.rtp_min < ports.rtp_max <= 65_535:
        problems.append(f"  --rtp-ports: {ports.rtp_min}-{ports.rtp_max} is no range; give A-B above 1023")
    if problems:
        raise ConfigurationError(path=folder, count=len(problems), problems="\n".join(problems))


def _see_that_nothing_is_there(folder: Path) -> None:
    there = [name for name in ("recorderd.toml", "keys", "state") if (folder / name).exists()]
    if there:
        problems = [f"  {name}: is there already; give another folder" for name in there]
        raise ConfigurationError(path=folder, count=len(problems), problems="\n".join(problems))


def _write(folder: Path, ports: Ports) -> None:
    keys = folder / "keys"
    for name in (keys, folder / "state", folder / "run"):
        durable.make_dir(name)
    keys.chmod(0o700)
    for stem, owner in (("signing", RECORDER_ID), ("receipt", ARCHIVE_ID)):
        key_pem, certificate_pem = create_self_signed(common_name=owner)
        durable.replace(keys / f"{stem}-key.pem", key_pem, mode=SECRET_MODE)
        durable.replace(keys / f"{stem}-cert.pem", certificate_pem, mode=0o644)
    flush_public, flush_secret = make_keypair()
    archive_public, archive_secret = make_keypair()
    durable.replace(keys / "flush-curve.secret", flush_secret.encode() + b"\n", mode=SECRET_MODE)
    durable.replace(keys / "archive-curve.secret", archive_secret.encode() + b"\n", mode=SECRET_MODE)
    values = {
        "recorder_id": RECORDER_ID,
        "archive_id": ARCHIVE_ID,
        "sip_port": ports.sip,
        "archive_port": ports.archive,
        "rtp_min": ports.rtp_min + ports.rtp_min % 2,
        "rtp_max": ports.rtp_max,
        "flush_public": flush_public,
        "archive_public": archive_public,
    }
    durable.replace(folder / "recorderd.toml", RECORDER_TOML.format(**values).encode())
    # Written last: its presence says that the set-up is whole.
    durable.replace(folder / "archive.toml", ARCHIVE_TOML.format(**values).encode())
