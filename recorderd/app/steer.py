"""recorderctl start, stop, pause, resume, object, consent: change a recording that is running."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from pathlib import Path
from typing import Any, Final

from recorderd.app.control import ask
from recorderd.app.recorder_configuration import load_recorder_configuration
from recorderd.core.messages import ControlAction

EXIT_REFUSED: Final = 77  # sysexits(3): permission denied
STEERED: Final = {
    ControlAction.START: "start a recording on demand",
    ControlAction.STOP: "stop a recording on demand",
    ControlAction.PAUSE: "silence a recording from now on; the time line goes on",
    ControlAction.RESUME: "end a pause",
    ControlAction.OBJECT: "erase what was recorded of a call and record no more, where the rule allows it",
    ControlAction.CONSENT: "note that the parties agree",
}


def add_commands(commands: Any) -> None:
    """Add the actions to the commands of ``recorderctl``."""
    for action, text in STEERED.items():
        parser = commands.add_parser(action.value, help=text)
        parser.add_argument("--config", type=Path, required=True, metavar="F", help="recorderd.toml")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--session", default="", metavar="ID", help="as `recorderctl status` shows it")
        which.add_argument("--call", default="", metavar="ID", help="the exchange's id of the call")
        which.add_argument("--extension", default="", metavar="E", help="the last call of an extension")
        parser.add_argument("--json", action="store_true", help="for programs")
        parser.set_defaults(run=run, action=action.value)


def run(arguments: argparse.Namespace) -> int:
    """Ask the daemon; say what became of it.

    Errors: ConfigurationError, ControlUnavailable.
    """
    configuration = load_recorder_configuration(arguments.config)
    request = {
        "command": arguments.action,
        "session": arguments.session,
        "call": arguments.call,
        "extension": arguments.extension,
        "by": getpass.getuser(),
    }
    answer = ask(configuration.recorder.run_dir / "recorderd.sock", request)
    if arguments.json:
        print(json.dumps(answer, indent=2))
    elif answer.get("done"):
        print(f"{answer['session']}: {answer['state']}")
    else:
        print(f"recorderctl: {answer.get('reason') or answer.get('error')}", file=sys.stderr)
    return 0 if answer.get("done") else EXIT_REFUSED
