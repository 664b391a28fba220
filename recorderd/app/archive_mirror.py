"""recorder-archive mirror: tells how far the off-site copy is, or copies now."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.progress import SlowWork
from recorderd.app.retention_parts import retention_parts
from recorderd.archive.catalogue import Catalogue
from recorderd.core.clock import NS_PER_S, utc_text
from recorderd.core.errors import ConfigurationError

EXIT_LEFT: Final = 75


def add_mirror(commands: Any) -> None:
    """Declare the command."""
    command = commands.add_parser("mirror", help="tell how far the off-site copy is; with --now, copy")
    command.add_argument("--config", type=Path, required=True, metavar="F", help="archive.toml")
    command.add_argument("--now", action="store_true", help="copy now, also what could not be copied before")
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(run=_mirror)


def _mirror(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    """Copy or tell; 0 when the copy is whole, 75 when something is left to do.

    Errors: ConfigurationError without [mirror]; OSError when its place cannot be reached.
    """
    parts = retention_parts(configuration)
    mirror = parts.mirror
    if mirror is None:
        raise ConfigurationError(path=arguments.config, count=1, problems="  mirror: missing; add [mirror]")
    if arguments.now:
        with SlowWork("copying", total_bytes=Catalogue(parts.database, read_only=True).size_bytes()) as work:
            mirror.run(advance=work.advance, again=True)
    progress, left = mirror.progress(), mirror.left()
    if arguments.json:
        told = {"place": mirror.name, **asdict(progress), "not_copied": [asdict(row) for row in left]}
        print(json.dumps(told, indent=2))
    else:
        for row in left:
            print(f"{row.recording_id}: {row.reason} (since {utc_text(row.since_utc_s * NS_PER_S)})")
        behind = f"{progress.rows_behind} recordings and {progress.tombstones_behind} tombstones behind"
        print(f"{mirror.name}: {behind}, {progress.left} could not be copied")
    return 0 if progress.is_whole else EXIT_LEFT
