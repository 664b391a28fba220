"""recorder-archive scrub: tells what the scrub has found, or reads everything now."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.progress import SlowWork
from recorderd.app.put_off import look_at_power
from recorderd.app.retention_parts import RetentionParts, quiet_log, retention_parts
from recorderd.app.scrub_duty import scrub_picture
from recorderd.archive.catalogue import Catalogue
from recorderd.archive.jobs import Working
from recorderd.archive.scrub import Scrubber
from recorderd.core.clock import NS_PER_S, utc_text

EXIT_DIFFERS: Final = 65


def add_scrub(commands: Any) -> None:
    """Declare the command."""
    command = commands.add_parser(
        "scrub", help="tell what reading everything again has found; with --now, read it"
    )
    command.add_argument("--config", type=Path, required=True, metavar="F", help="archive.toml")
    command.add_argument("--now", action="store_true", help="read now, as fast as it goes, to the end")
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(run=_scrub)


def _scrub(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    """Read or tell; 0 good, 65 when something differs.

    Errors: PutOff while the daemon says that this host is on battery.
    """
    parts = retention_parts(configuration)
    scrubber = scrubber_of(parts)
    if arguments.now:
        look_at_power(configuration, work="the scrub")
        read_now(parts, scrubber)
    found, newest = scrubber.differences(), scrubber.newest()
    if arguments.json:
        print(json.dumps(scrub_table(scrubber), indent=2))
        return EXIT_DIFFERS if found else 0
    for row in found:
        print(f"{row.recording_id}: {row.reason} (since {utc_text(row.found_utc_s * NS_PER_S)})")
    if newest is None:
        print("nothing was read yet")
    else:
        until = f"ended {utc_text(newest.ended_utc_s * NS_PER_S)}" if newest.ended_utc_s else "is under way"
        told = f"{newest.recordings} recordings, {newest.read_bytes} octets"
        print(f"round {newest.number} {until}: {told}; {len(found)} differ")
    return EXIT_DIFFERS if found else 0


def scrubber_of(parts: RetentionParts) -> Scrubber:
    """Give what reads."""
    return Scrubber(parts.store, parts.database, clock=parts.clock, log=quiet_log(parts.clock))


def read_now(
    parts: RetentionParts,
    scrubber: Scrubber,
    *,
    working: Working = SlowWork,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Read everything, or on from where a round was left, as fast as it goes.

    Errors: CatalogueFailed; OSError when the store as a whole cannot be read.
    """
    with working("reading", total_bytes=Catalogue(parts.database, read_only=True).size_bytes()) as work:
        scrubber.run(advance=work.advance, stopped=stopped)


def scrub_table(scrubber: Scrubber) -> dict[str, Any]:
    """Make the table of the newest round, and of what differs, for programs."""
    return scrub_picture(scrubber) | {"found": [asdict(row) for row in scrubber.differences()]}
