"""recorderd-flush: takes sealed recordings from the spool to the archive host."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from recorderd import __version__, durable
from recorderd.app.control import ControlServer
from recorderd.app.flush_archives import Archive, Senders, archive_looks, read_archives
from recorderd.app.memory import keep_freed_memory
from recorderd.app.named_files import Look, check_named_files
from recorderd.app.power import PowerDuty, ups_looks
from recorderd.app.recorder_configuration import RecorderConfiguration, load_recorder_configuration
from recorderd.app.service import FolderLock, Service, run_reporting
from recorderd.app.stamp_authorities import authority_looks, stamping_settings
from recorderd.app.workers import Workers
from recorderd.core.clock import Clock, SystemClock
from recorderd.core.events import Ev, EventLog
from recorderd.flush.stamping import WORKERS, Stamper, StampingSettings
from recorderd.policy.power import does_background_work
from recorderd.spool.layout import Spool

CONTROL_NAME: Final = "flush.sock"
LOCK_NAME: Final = ".flush.lock"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run_reporting(_run, argv)


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="recorderd-flush", description=__doc__)
    parser.add_argument("--version", action="version", version=f"recorderd-flush {__version__}")
    parser.add_argument("command", nargs="?", choices=("run", "check-config"), default="run")
    parser.add_argument("--config", type=Path, required=True, metavar="F", help="recorderd.toml")
    arguments = parser.parse_args(argv)
    configuration = load_recorder_configuration(arguments.config)
    if arguments.command == "check-config":
        check_named_files(arguments.config, _looks(configuration))
        print(f"{arguments.config}: right for recorderd-flush")
        return 0
    archives = read_archives(configuration)
    serve(configuration, archives=archives, stamping=stamping_settings(configuration.timestamps))
    return 0


def _looks(configuration: RecorderConfiguration) -> Iterator[Look]:
    yield from archive_looks(configuration)
    yield from authority_looks(configuration.timestamps)
    log = Service(program="recorderd-flush").log
    yield from ups_looks(configuration.power, log=log, logs_in=False)


def serve(
    configuration: RecorderConfiguration,
    *,
    archives: tuple[Archive, ...],
    stamping: StampingSettings | None,
) -> None:
    """Flush until asked to stop."""
    keep_freed_memory()
    service, clock = Service(program="recorderd-flush", level=configuration.log.level.value), SystemClock()
    spool = Spool(configuration.spool.dir, quota_bytes=configuration.spool.quota_bytes)
    spool.prepare()
    durable.make_dir(configuration.recorder.run_dir)
    lock = FolderLock(configuration.spool.dir / LOCK_NAME)
    service.log.info(Ev.STARTED, version=__version__, recorder=configuration.recorder.id)
    duty = PowerDuty(configuration.power, service=service, clock=clock, logs_in=False)
    stamper = None if stamping is None else _stamper(stamping, spool, duty, clock=clock, log=service.log)
    senders = Senders(
        configuration=configuration,
        archives=archives,
        spool=spool,
        stamper=stamper,
        power=lambda: duty.power,
        clock=clock,
        log=service.log,
    )

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request.get("command", "status") != "status":
            return {"error": "known commands: status"}
        return {
            "program": "recorderd-flush",
            "version": __version__,
            **senders.status(),
            "power": duty.describe(),
            "events": service.log.counters(),
        }

    control = ControlServer(configuration.recorder.run_dir / CONTROL_NAME, answer, log=service.log)
    control_stop = threading.Event()
    thread = control.start(control_stop)
    if stamper is not None:
        _start_stamping(stamper, service.stop)
    workers = Workers(service)
    halt = duty.halt()
    senders.start(workers, halt)
    try:
        service.log.info(Ev.READY)
        service.ready("waiting for recordings")
        senders.run(halt, service.beat)
        duty.sleep()
    finally:
        duty.stop()
        service.log.info(Ev.STOPPING)
        service.stopping()
        workers.end()
        control_stop.set()
        thread.join(timeout=5)
        control.close()
        lock.close()
    service.log.info(Ev.STOPPED)


def _stamper(
    settings: StampingSettings, spool: Spool, duty: PowerDuty, *, clock: Clock, log: EventLog
) -> Stamper:
    def has_power() -> bool:
        return does_background_work(duty.power)

    return Stamper(settings=settings, spool=spool, clock=clock, log=log, has_power=has_power)


def _start_stamping(stamper: Stamper, stop: threading.Event) -> None:
    """Start daemons: an authority that is slow to answer does not hold up the end; its answer may be lost."""
    for number in range(WORKERS):
        threading.Thread(target=stamper.run, args=(stop,), name=f"stamps-{number}", daemon=True).start()
