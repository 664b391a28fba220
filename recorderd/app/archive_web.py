"""recorder-archive web: the archive over HTTP, in a process of its own.

Contract: `serve` starts it where [http] is configured, and starts it again when it ends; encoding, searching
and hashing passwords take no turn of the interpreter from the process that receives recordings. The two meet
in the database and in the store, nowhere else; of the store this process removes what it was asked to erase,
for which it holds the key that signs receipts and tombstones. It ends with whoever started it: a pipe that
nobody holds any more says so.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path
from typing import Final

from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.service import Service
from recorderd.app.workers import Workers
from recorderd.core.clock import SystemClock
from recorderd.core.errors import ConfigurationError
from recorderd.core.events import Ev
from recorderd.evidence.secret_files import resolve_secret

NICENESS: Final = 5  # recordings come first
CHILD_OPTION: Final = "--until-stdin-ends"


def add_web(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    command = commands.add_parser("web", help="serve people and programs over HTTP (serve starts it)")
    command.add_argument("--config", type=Path, required=True, metavar="F", help="archive.toml")
    command.add_argument(CHILD_OPTION, action="store_true", help=argparse.SUPPRESS, dest="child")
    command.set_defaults(run=web)


def web(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    """Serve until told to stop.

    Errors: ConfigurationError without [http]; KeyUnusable, PortTaken, CatalogueFailed.
    """
    from recorderd.app.web_desk import make_desk
    from recorderd.archive.tar_pieces import drop_left
    from recorderd.archive.web.application import make_application, put_desk
    from recorderd.archive.web.serving import serve_https

    section = configuration.http
    if section is None:
        raise ConfigurationError(path=arguments.config, count=1, problems="  http: missing; add [http]")
    clock = SystemClock()
    service = Service(program="recorder-archive-web", level=configuration.log.level.value, clock=clock)
    if arguments.child:
        os.nice(NICENESS)
        threading.Thread(target=_end_with_parent, args=(service.stop,), name="parent", daemon=True).start()
    desk = make_desk(configuration, section, clock=clock, log=service.log)
    app = make_application(log=service.log, clock=clock, requests_per_minute=section.requests_per_minute)
    put_desk(app, desk)
    drop_left(desk.store.root)
    workers = Workers(service)

    def ready(address: str) -> None:
        desk.jobs.settle()  # now: the port is ours, so no other process of this front end does any
        for name, work in desk.jobs.loops().items():
            workers.start(name, work)
        service.log.info(Ev.HTTP_READY, subject=address)

    serve_https(
        app,
        address=section.address,
        port=section.port,
        certificate_file=section.certificate_file,
        key_file=resolve_secret(section.key_file),
        stop=service.stop,
        ready=ready,
        log=service.log,
    )
    workers.end()
    desk.database.close()
    return 0


def _end_with_parent(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    stop.set()
