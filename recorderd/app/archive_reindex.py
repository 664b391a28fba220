"""recorder-archive reindex: makes the catalogue anew from the store; nothing else may run meanwhile."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from recorderd import durable
from recorderd.app.archive_actor import command_line_actor
from recorderd.app.archive_catalogue import open_to_write
from recorderd.app.archive_configuration import LOCK_NAME, ArchiveConfiguration
from recorderd.app.archive_store import open_store
from recorderd.app.progress import SlowWork
from recorderd.app.roster_duty import make_roster
from recorderd.app.service import FolderLock
from recorderd.archive.audit_log import Actor
from recorderd.archive.front_ends import Presence
from recorderd.archive.jobs import Working
from recorderd.archive.reindex import Rebuilt, Reindexer
from recorderd.core.clock import SystemClock
from recorderd.evidence.keys import Signer, resolve_secret
from recorderd.evidence.verify import TrustStore

EXIT_LEFT_OUT = 65


def add_reindex(commands: Any) -> None:
    """Declare the command."""
    command = commands.add_parser(
        "reindex", help="make the catalogue's recordings anew from the store; the daemon must be stopped"
    )
    command.add_argument("--config", type=Path, required=True, metavar="F", help="archive.toml")
    command.set_defaults(run=_reindex)


def _reindex(_arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    told = make_anew(configuration, command_line_actor())
    for recording_id in told.reissued:
        print(f"{recording_id}: its receipt was gone, it was verified and has a new one")
    for path, reason in told.left_out:
        print(f"{path}: has no row: {reason}")
    if told.terms:
        print(f"signed retention terms that came back: {told.terms}")
    print(f"{told.rows} recordings, of which {told.tombstones} were erased or made anonymous")
    return EXIT_LEFT_OUT if told.left_out else 0


def hold_alone(configuration: ArchiveConfiguration) -> FolderLock:
    """Keep every daemon off the archive's folder until what is given is closed.

    Errors: AlreadyRunning.
    """
    durable.make_dir(configuration.archive.data_dir)
    return FolderLock(configuration.archive.data_dir / LOCK_NAME)


def make_anew(configuration: ArchiveConfiguration, who: Actor, *, working: Working = SlowWork) -> Rebuilt:
    """Make the catalogue's recordings anew.

    Durable: after return the new rows survive; before it, the old ones.
    Errors: AlreadyRunning, ArchiveServed; CatalogueFailed, KeyUnusable, OSError; what ``working`` raises.
    """
    archive, receipt = configuration.archive, configuration.receipt
    lock = hold_alone(configuration)
    database = open_to_write(configuration)
    presence = Presence(database)
    try:
        presence.enter()
        reindexer = Reindexer(
            store=open_store(configuration),
            database=database,
            trusts=make_roster(configuration, database).trusts,
            receipts=TrustStore.from_files([receipt.certificate_file]),
            signer=Signer.from_files(
                key_file=resolve_secret(receipt.key_file), certificate_file=receipt.certificate_file
            ),
            archive_id=archive.id,
            region=configuration.catalogue.region,
            clock=SystemClock(),
        )
        with working("reading", total_bytes=reindexer.count(), counts="recordings") as work:
            return reindexer.run(who, advance=work.advance)
    finally:
        presence.leave()
        database.close()
        lock.close()
