"""recorder-archive mirror: tells how far the off-site copy is, or copies now."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.progress import SlowWork
from recorderd.app.retention_parts import RetentionParts, retention_parts
from recorderd.archive.catalogue import Catalogue
from recorderd.archive.jobs import Working
from recorderd.archive.mirror import Mirror
from recorderd.core.clock import NS_PER_S, utc_text
from recorderd.core.errors import NotConfigured

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

    Errors: NotConfigured without [mirror]; OSError when its place cannot be reached.
    """
    parts = retention_parts(configuration)
    mirror = mirror_of(parts, config=arguments.config)
    if arguments.now:
        copy_now(parts, mirror)
    progress = mirror.progress()
    if arguments.json:
        print(json.dumps(mirror_table(mirror), indent=2))
    else:
        for row in mirror.left():
            print(f"{row.recording_id}: {row.reason} (since {utc_text(row.since_utc_s * NS_PER_S)})")
        behind = f"{progress.rows_behind} recordings and {progress.tombstones_behind} tombstones behind"
        print(f"{mirror.name}: {behind}, {progress.left} could not be copied or erased")
    return 0 if progress.is_whole else EXIT_LEFT


def mirror_of(parts: RetentionParts, *, config: object) -> Mirror:
    """Give the off-site copy.

    Errors: NotConfigured without [mirror].
    """
    if parts.mirror is None:
        raise NotConfigured(path=config, what="mirror", remedy="add [mirror]")
    return parts.mirror


def copy_now(
    parts: RetentionParts,
    mirror: Mirror,
    *,
    working: Working = SlowWork,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Copy what is behind, also what could not be copied before.

    Errors: CatalogueFailed; OSError when its place cannot be reached.
    """
    with working("copying", total_bytes=Catalogue(parts.database, read_only=True).size_bytes()) as work:
        mirror.run(advance=work.advance, stopped=stopped, again=True)


def mirror_table(mirror: Mirror) -> dict[str, Any]:
    """Make the copy's table for programs."""
    left = [asdict(row) for row in mirror.left()]
    return {"place": mirror.name, **asdict(mirror.progress()), "not_copied": left}
