"""What the archive takes, as its operator says and sees it: `recorder-archive drain`, lines of `status`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from rich.markup import escape

from recorderd.app.archive_configuration import CONTROL_NAME, ArchiveConfiguration
from recorderd.app.control import ask
from recorderd.archive.willingness import Willingness


def add_drain(command: argparse.ArgumentParser) -> None:
    """Add the options of `drain`."""
    command.add_argument("--off", action="store_true", help="take recordings again")
    command.add_argument("--reason", default="", metavar="TEXT", help="told to the recorders")


def drain(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    """Let the running daemon take no new recordings, or take them again.

    Errors: ControlUnavailable.
    """
    request = {"command": "drain", "on": not arguments.off, "reason": arguments.reason}
    answer = ask(configuration.archive.run_dir / CONTROL_NAME, request)
    if "error" in answer:
        print(f"error: {answer['error']}")
        return 1
    print("takes recordings again" if arguments.off else "takes no new recordings; what is in flight may end")
    return 0


def take_drain(request: dict[str, Any], willingness: Willingness) -> dict[str, Any]:
    """Take the operator's word; the answer is given once it survives."""
    on, reason = request.get("on"), request.get("reason", "")
    if not isinstance(on, bool) or not isinstance(reason, str):
        return {"error": "drain wants on: true or false, and reason: a text"}
    willingness.drain(on=on, reason=reason)
    return {"drained": on}


def intake_lines(status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Write what the archive takes and what its recorders told, as lines for people."""
    intake = status["intake"]
    free = f"{intake['free_bytes'] / 1e9:.1f} GB free"
    yield (
        "intake",
        f"open, {free}"
        if intake["takes"]
        else f"[red]nothing is taken[/]: {escape(intake['reason'])} ({free})",
    )
    for name, row in sorted(status["recorders"].items()):
        words = [f"protocol {row['protocol']}"]
        if row["farewell"]:
            words.append(f"has left: {row['farewell']}")
        if "told_at" in row:
            words.append(f"disk {row['used_permille'] / 10:.0f} % full")
            words.append(f"clock {row['clock_ahead_ms']:+d} ms")
        if "power" in row:
            words.append(f"{row['power']['state'].replace('_', ' ')}: {row['power']['reason']}")
        yield f"recorder {name}", escape(", ".join(words))
