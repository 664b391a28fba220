"""recorderd: records the calls that an exchange hands over."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from recorderd import __version__, durable
from recorderd.app.appliance import Appliance
from recorderd.app.control import ControlServer
from recorderd.app.memory import keep_freed_memory
from recorderd.app.recorder_checks import check_configuration, load_prompts
from recorderd.app.recorder_configuration import RecorderConfiguration, load_recorder_configuration
from recorderd.app.service import FolderLock, Service, run_reporting
from recorderd.core.events import Ev

CONTROL_NAME: Final = "recorderd.sock"
LOCK_NAME: Final = ".recorderd.lock"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run_reporting(_run, argv)


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    configuration = load_recorder_configuration(arguments.config)
    if arguments.command == "check-config":
        return check_configuration(arguments.config, configuration)
    return _serve(arguments.config, configuration)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recorderd", description="Record the calls that an exchange hands over."
    )
    parser.add_argument("--version", action="version", version=f"recorderd {__version__}")
    parser.add_argument("command", nargs="?", choices=("serve", "check-config"), default="serve")
    parser.add_argument("--config", type=Path, required=True, metavar="F", help="recorderd.toml")
    return parser


def _serve(path: Path, configuration: RecorderConfiguration) -> int:
    keep_freed_memory()
    service = Service(program="recorderd", level=configuration.log.level.value)
    service.take_hangups()
    prompts = load_prompts(path, configuration, service.log)
    durable.make_dir(configuration.recorder.run_dir)
    durable.make_dir(configuration.recorder.state_dir)
    lock = FolderLock(configuration.recorder.state_dir / LOCK_NAME)
    service.log.info(Ev.STARTED, version=__version__, recorder=configuration.recorder.id)
    control_stop = threading.Event()
    try:
        appliance = Appliance(configuration, prompts, service)
        control = ControlServer(configuration.recorder.run_dir / CONTROL_NAME, appliance.ask, log=service.log)
        control_thread = control.start(control_stop)
        try:
            appliance.run()
        finally:
            control_stop.set()
            control_thread.join(timeout=5)
            control.close()
    finally:
        service.log.info(Ev.STOPPED)
        lock.close()
    return 0
