"""recorderd-flush: takes sealed recordings from the spool to the archive host."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from recorderd import __version__, durable
from recorderd.app.control import ControlServer
from recorderd.app.power import PowerDuty
from recorderd.app.recorder_configuration import RecorderConfiguration, load_recorder_configuration
from recorderd.app.service import FolderLock, Service, run_reporting
from recorderd.app.stamp_authorities import stamping_settings
from recorderd.app.workers import Workers
from recorderd.core.clock import NS_PER_S, SystemClock
from recorderd.core.errors import KeyUnusable
from recorderd.core.events import Ev
from recorderd.evidence.keys import read_secret_text, resolve_secret
from recorderd.evidence.verify import TrustStore
from recorderd.flush.curve import public_key_of
from recorderd.flush.heads import HeadCourier
from recorderd.flush.link import Link, LinkSettings
from recorderd.flush.sender import Sender, SenderSettings
from recorderd.flush.shelf import Shelf
from recorderd.flush.stamping import WORKERS, Stamper, StampingSettings
from recorderd.policy.power import does_background_work
from recorderd.spool.head_box import HeadBox
from recorderd.spool.layout import Spool

CONTROL_NAME: Final = "flush.sock"
LOCK_NAME: Final = ".flush.lock"
PRIMARY: Final = "archive"


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
    link, trust = link_settings(configuration), archive_trust(configuration)
    stamping = stamping_settings(configuration.timestamps)
    if arguments.command == "check-config":
        print(f"{arguments.config}: right for recorderd-flush")
        return 0
    serve(configuration, link=link, trust=trust, stamping=stamping)
    return 0


def link_settings(configuration: RecorderConfiguration) -> LinkSettings:
    """Read the link's secret key and put the settings together.

    Errors: KeyUnusable.
    """
    archive = configuration.archive
    path = resolve_secret(archive.secret_key_file)
    secret = read_secret_text(path).strip()
    try:
        public_key_of(secret)
    except ValueError as problem:
        raise KeyUnusable(path=path, reason=problem) from None
    return LinkSettings(
        endpoint=archive.endpoint,
        server_public_key=archive.server_public_key,
        secret_key=secret,
        heartbeat_ms=archive.heartbeat_s * 1000,
    )


def archive_trust(configuration: RecorderConfiguration) -> TrustStore:
    """Read the certificate that receipts must be signed with.

    Errors: KeyUnusable.
    """
    return TrustStore.from_files([configuration.archive.receipt_certificate_file])


def serve(
    configuration: RecorderConfiguration,
    *,
    link: LinkSettings,
    trust: TrustStore,
    stamping: StampingSettings | None,
) -> None:
    """Flush until asked to stop."""
    service, clock = Service(program="recorderd-flush", level=configuration.log.level.value), SystemClock()
    spool = Spool(configuration.spool.dir, quota_bytes=configuration.spool.quota_bytes)
    spool.prepare()
    durable.make_dir(configuration.recorder.run_dir)
    lock = FolderLock(configuration.spool.dir / LOCK_NAME)
    settings = SenderSettings(
        archive=PRIMARY,
        recorder_id=configuration.recorder.id,
        endpoint=link.endpoint,
        chunk_bytes=configuration.archive.chunk_bytes,
        heartbeat_ns=configuration.archive.heartbeat_s * NS_PER_S,
        retry_ns=configuration.archive.retry_s * NS_PER_S,
        local_grace_s=configuration.spool.local_grace_s,
    )
    service.log.info(Ev.STARTED, version=__version__, recorder=settings.recorder_id)
    box, connection = HeadBox(configuration.spool.dir), Link(link, now_ns=clock.mono_ns())
    box.prepare()
    duty, stamper = PowerDuty(configuration.power, service=service, clock=clock, logs_in=False), None
    if stamping is not None:
        stamper = Stamper(
            settings=stamping,
            spool=spool,
            clock=clock,
            log=service.log,
            has_power=lambda: does_background_work(duty.power),
        )
    shelf = Shelf(spool=spool, stamper=stamper, archives=(PRIMARY,), needed=1, clock=clock, log=service.log)
    sender = Sender(
        settings=settings,
        spool=spool,
        shelf=shelf,
        link=connection,
        heads=HeadCourier(box=box, send=connection.send, retry_ns=settings.retry_ns, log=service.log),
        trust=trust,
        clock=clock,
        log=service.log,
        stamper=stamper,
    )

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request.get("command", "status") != "status":
            return {"error": "known commands: status"}
        return {
            "program": "recorderd-flush",
            "version": __version__,
            **sender.status(),
            "power": duty.describe(),
            "events": service.log.counters(),
        }

    control = ControlServer(configuration.recorder.run_dir / CONTROL_NAME, answer, log=service.log)
    control_stop = threading.Event()
    thread = control.start(control_stop)
    if stamper is not None:
        for number in range(WORKERS):
            # A daemon: an authority that is slow to answer does not hold up the end; its answer may be lost.
            name = f"stamps-{number}"
            threading.Thread(target=stamper.run, args=(service.stop,), name=name, daemon=True).start()
    workers = Workers(service)
    workers.start("shelf", shelf.run)
    try:
        service.log.info(Ev.READY)
        service.ready("waiting for recordings")
        sender.run(duty.halt(), service.beat)
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
