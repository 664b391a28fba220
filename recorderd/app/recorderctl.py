"""recorderctl: for people. Set up, look, verify."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from recorderd import __version__
from recorderd.app import explain, join_command, keys_command, opening, verify
from recorderd.app.backpressure_words import spool_lines
from recorderd.app.control import ask
from recorderd.app.flush_words import refusal_lines
from recorderd.app.output import Output
from recorderd.app.power_words import power_line
from recorderd.app.quickstart import Ports, quickstart
from recorderd.app.recorder_configuration import RecorderConfiguration, load_recorder_configuration
from recorderd.app.service import run_reporting
from recorderd.app.steer import add_commands as add_steering
from recorderd.app.verify import EXIT_CANNOT_TELL
from recorderd.core.errors import ControlUnavailable
from recorderd.record.heads import stated_chain


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run_reporting(_run, argv)


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    code: int = arguments.run(arguments)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recorderctl", description="Set up, look at and verify a call recorder."
    )
    parser.add_argument("--version", action="version", version=f"recorderctl {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    quick = commands.add_parser("quickstart", help="write a complete loopback set-up into a folder")
    quick.add_argument("folder", type=Path, metavar="DIR", help="where to")
    quick.add_argument(
        "--sip-port", type=int, default=5060, metavar="N", help="where exchanges call us (5060)"
    )
    quick.add_argument(
        "--archive-port", type=int, default=5555, metavar="N", help="where the archive listens (5555)"
    )
    quick.add_argument("--rtp-ports", default="30000-39999", metavar="A-B", help="for audio")
    quick.set_defaults(run=_quickstart)

    status = commands.add_parser("status", help="registration, sessions, spool, link")
    status.add_argument("--config", type=Path, required=True, metavar="F", help="recorderd.toml")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(run=_status)

    chain = commands.add_parser("chain", help="how far the chain of recordings goes, and its fingerprint")
    chain.add_argument("--config", type=Path, required=True, metavar="F", help="recorderd.toml")
    chain.add_argument("--json", action="store_true", help="for programs")
    chain.set_defaults(run=_chain)

    verify.add_command(commands)
    schema = commands.add_parser("schema", help="print the JSON Schema of manifests, or the XSD of their XML")
    which = schema.add_mutually_exclusive_group()
    which.add_argument("--xsd", action="store_true", help="the XSD")
    which.add_argument("--index", action="store_true", help="that of the index beside an encrypted manifest")
    schema.set_defaults(run=_schema)

    opening.add_command(commands)
    explain.add_command(commands)
    keys_command.add_command(commands)
    add_steering(commands)
    join_command.add_command(commands)
    return parser


# --- quickstart -------------------------------------------------------------------------------------


def _quickstart(arguments: argparse.Namespace) -> int:
    low, _, high = arguments.rtp_ports.partition("-")
    if not (low.isdigit() and high.isdigit()):
        print(
            f"recorderctl: --rtp-ports {arguments.rtp_ports}: give A-B, for example 30000-39999",
            file=sys.stderr,
        )
        return 64
    ports = Ports(sip=arguments.sip_port, archive=arguments.archive_port, rtp_min=int(low), rtp_max=int(high))
    for line in quickstart(arguments.folder, ports):
        print(line)
    return 0


# --- status -----------------------------------------------------------------------------------------


def _status(arguments: argparse.Namespace) -> int:
    configuration = load_recorder_configuration(arguments.config)
    report = gather_status(configuration)
    if arguments.json:
        print(json.dumps(report, indent=2, sort_keys=True))
    else:
        _show_status(report)
    return 0 if "error" not in report["recorder"] else EXIT_CANNOT_TELL


def gather_status(configuration: RecorderConfiguration) -> dict[str, Any]:
    """Ask both daemons; one that does not answer is reported as such."""
    report: dict[str, Any] = {}
    for name, sock in (("recorder", "recorderd.sock"), ("flush", "flush.sock")):
        try:
            report[name] = ask(configuration.recorder.run_dir / sock, {"command": "status"})
        except ControlUnavailable as problem:
            report[name] = {"error": str(problem)}
    return report


def _show_status(report: dict[str, Any]) -> None:
    console = Output()
    recorder, flush = report["recorder"], report["flush"]
    lines = Table.grid(padding=(0, 2))
    if "error" in recorder:
        lines.add_row("recorderd", f"[red]{escape(recorder['error'])}")
    else:
        sip, rtp = recorder["sip"], recorder["rtp"]
        lines.add_row("registration", escape(f"{sip['registration']} {sip['registration_status']}"))
        accepting = "yes" if sip["accepting"] else "[red]no"
        lines.add_row("accepting", f"{accepting}   dialogs {sip['dialogs']}, sessions {sip['sessions']}")
        for number, line in enumerate(spool_lines(recorder["spool"])):
            lines.add_row("" if number else "spool", line)
        stance = recorder["stance"]
        lines.add_row("archive", f"{stance['archive']}   {escape(stance['archive_reason'])}")
        for number, line in enumerate(stance["held_back"] or ["nothing"]):
            lines.add_row("" if number else "held back", escape(line))
        lost = f"kernel drops {rtp['kernel_dropped']}, late {rtp['late']}, malformed {rtp['malformed']}"
        lines.add_row("rtp", f"{rtp['received']} packets of open streams; {lost}")
        lines.add_row("sealed", str(recorder["sealed"]))
        lines.add_row("chain", _chain_text(recorder["chain"]))
        lines.add_row("clock", _clock_line(recorder["clock"]))
        lines.add_row("power", power_line(recorder["power"]))
        lines.add_row("signing", _signing(recorder["signing"]))
        for row in recorder["recipients_expired"]:
            how = "encrypted to all the same" if row["used"] else "left out"
            text = f"[red]expired {row['ended']}[/]: {escape(row['recipient'])}, {how}"
            lines.add_row(f"encryption.{row['section']}", text)
    if "error" in flush:
        lines.add_row("link", f"[red]{escape(flush['error'])}")
    else:
        plain = (f"{name} {value}" for name, value in flush.items() if not isinstance(value, dict | list))
        lines.add_row("link", escape(", ".join(plain)))
        if stamps := flush.get("stamps"):
            counts = (
                f"{name.replace('_', ' ')} {count}" for name, count in stamps.items() if name != "figures"
            )
            lines.add_row("time stamps", ", ".join(counts))
        for line in refusal_lines(flush):
            lines.add_row("refused", line)
    console.print(lines)
    if recorder.get("sessions"):
        console.print(sessions_table(recorder["sessions"]))


def _chain_text(chain: dict[str, Any]) -> str:
    head = chain["head"]
    stated = f"head {head['number']} of {head['stated_at']}" if head["number"] else "no head yet"
    waiting = f", {head['waiting']} wait for the archive" if head["waiting"] else ""
    return f"{chain['sequence']}   {chain['fingerprint']}   ({stated}{waiting})"


def _chain(arguments: argparse.Namespace) -> int:
    """Ask recorderd; where it does not run, its newest signed head tells."""
    recorder = load_recorder_configuration(arguments.config).recorder
    try:
        chain = ask(recorder.run_dir / "recorderd.sock", {"command": "status"})["chain"]
    except ControlUnavailable:
        chain = stated_chain(recorder.state_dir)
        if chain is None:
            raise
    print(json.dumps(chain, indent=2) if arguments.json else _chain_text(chain))
    return 0


def _clock_line(clock: dict[str, Any]) -> str:
    health = clock["health"] if clock["health"] == "good" else f"[red]{clock['health']}[/red]"
    parts = [f"{health} by {clock['source']}", f"checked {clock['checked_at']}"]
    if clock["synchronised"]:
        parts += [f"off by {clock['offset_ms']} ms", f"stratum {clock['stratum']}"]
    if clock["steps"]:
        parts.append(f"set {clock['steps']} times")
    return ", ".join(parts)


def _signing(signing: dict[str, Any]) -> str:
    certificate, waiting = signing["certificate"], signing["waiting"]
    words = ["yes" if signing["usable"] else f"[red]no: {escape(signing['problem'])}[/]"]
    if waiting:
        words.append(f"[red]{waiting} recordings wait for the key[/]")
    if certificate is not None:
        colour = "[red]" if certificate["expires_soon"] else "[default]"
        words.append(f"{certificate['sha256'][:16]} until {certificate['valid_to'][:10]}")
        words.append(f"{colour}{certificate['days_left']} days left[/]")
    return "   ".join(words)


def sessions_table(sessions: list[dict[str, Any]]) -> Table:
    """Show the sessions in progress, a line for each stream."""
    table = Table("session", "call", "from", "to", "recorded", "stream", "packets", "lost", "level")
    for session in sessions:
        for number, stream in enumerate(session["streams"] or [None]):
            head = [session["session"], session["call_id"], session["caller"], session["callee"]]
            row = [*head, f"{session['recorded_s']:.1f} s"] if number == 0 else [""] * 5
            if stream is not None:
                row.append(f"{stream['label']} {stream['encoding']}")
                row += [
                    str(stream["packets_received"]),
                    str(stream["packets_lost"]),
                    f"{stream['rms_dbfs']} dB",
                ]
            table.add_row(*(escape(cell) for cell in row))
    return table


def _schema(arguments: argparse.Namespace) -> int:
    name = "manifest.xsd" if arguments.xsd else "manifest.schema.json"
    name = "index.schema.json" if arguments.index else name
    print((resources.files("recorderd.wire") / name).read_text(), end="")
    return 0
