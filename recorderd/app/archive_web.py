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

from recorderd import durable
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.http_configuration import HttpSection, OidcSection
from recorderd.app.retention_parts import retention_parts
from recorderd.app.service import Service
from recorderd.archive.accounts import Accounts
from recorderd.archive.annotations import Annotations
from recorderd.archive.catalogue import Catalogue
from recorderd.archive.criteria import tag_of
from recorderd.archive.database import Database
from recorderd.archive.oidc import Oidc, ProviderSettings
from recorderd.archive.search import Search
from recorderd.archive.shares import Shares
from recorderd.archive.sign_in import SignIn
from recorderd.archive.web.application import make_application, put_desk
from recorderd.archive.web.desk import AccessTerms, Desk, Keeping
from recorderd.archive.web.peaks import Peaks
from recorderd.archive.web.serving import serve_https
from recorderd.core.clock import Clock, SystemClock
from recorderd.core.errors import ConfigurationError
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.secret_files import read_secret_text, resolve_secret

NICENESS: Final = 5  # recordings come first
PEAKS_NAME: Final = "peaks"  # in archive.run_dir
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
    serve_https(
        app,
        address=section.address,
        port=section.port,
        certificate_file=section.certificate_file,
        key_file=resolve_secret(section.key_file),
        stop=service.stop,
        ready=lambda address: service.log.info(Ev.HTTP_READY, subject=address),
    )
    desk.database.close()
    return 0


def make_desk(
    configuration: ArchiveConfiguration, section: HttpSection, *, clock: Clock, log: EventLog
) -> Desk:
    """Put together what requests need.

    Errors: CatalogueFailed; KeyUnusable when the database's password or the receipt key cannot be read.
    """
    for folder in (configuration.archive.data_dir, configuration.archive.run_dir):
        durable.make_dir(folder)
    parts = retention_parts(configuration, log=log)
    database, audit_log = parts.database, parts.audit
    accounts = Accounts(database, audit_log, clock=clock)
    access, archive = configuration.access, configuration.archive
    return Desk(
        archive_id=archive.id,
        root=archive.data_dir,
        terms=AccessTerms(
            restricted_tags=frozenset(tag_of(tag) for tag in access.restricted_tags),
            restricted_classes=frozenset(access.restricted_classes),
            reason_tags=frozenset(tag_of(tag) for tag in access.reason_tags),
            reason_classes=frozenset(access.reason_classes),
        ),
        database=database,
        catalogue=Catalogue(database, region=configuration.catalogue.region),
        search=Search(database, region=configuration.catalogue.region),
        annotations=Annotations(database),
        keeping=Keeping(book=parts.book, holds=parts.holds, eraser=parts.eraser, sweeper=parts.sweeper),
        accounts=accounts,
        sign_in=SignIn(
            database,
            accounts,
            audit_log,
            clock=clock,
            session_idle_s=section.session_idle_s,
            session_max_s=section.session_max_s,
        ),
        oidc=_oidc(section.oidc, database, clock),
        shares=Shares(database, audit_log, clock=clock),
        audit_log=audit_log,
        peaks=Peaks(archive.run_dir / PEAKS_NAME),
        clock=clock,
        log=log,
    )


def _oidc(section: OidcSection | None, database: Database, clock: Clock) -> Oidc | None:
    if section is None:
        return None
    secret = section.client_secret_file
    settings = ProviderSettings(
        issuer=section.issuer,
        client_id=section.client_id,
        client_secret=read_secret_text(resolve_secret(secret)) if secret is not None else "",
        return_url=section.return_url,
        ca_file=section.tls_ca_file,
    )
    return Oidc(database, settings, clock=clock)


def _end_with_parent(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    stop.set()
