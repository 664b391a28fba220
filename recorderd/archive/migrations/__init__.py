"""Brings a catalogue to this release's tables, step by step (Alembic).

Contract: all steps in one transaction, so that a cut leaves the catalogue as it was; of several programs that
start at once one does it. A file of release 0.1, which knew no steps, is taken over as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recorderd.archive.database import Database


def migrate(database: Database) -> None:
    """Take every step that was not taken yet.

    Durable: after return the tables survive.
    Errors: CatalogueFailed, also when the catalogue is of a later release.
    """
    from alembic.config import Config  # slow, and needed by writing programs only
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    from recorderd.core.errors import CatalogueFailed

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)

    def steps(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs("head", revision)

    try:
        with database.write() as connection, EnvironmentContext(config, script, fn=steps) as environment:
            environment.configure(connection=connection, transactional_ddl=True)
            environment.run_migrations()
    except CommandError as problem:
        reason = f"is of a later release: {problem}"
        raise CatalogueFailed(path=database.name, reason=reason) from problem
