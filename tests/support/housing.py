"""Where an archive of the tests has its catalogue and its recordings: each database with each store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recorderd.archive.catalogue import CATALOGUE_NAME
from recorderd.archive.folders import Folders
from recorderd.archive.published import Published

FOLDERS_SQLITE: Final = "folders+sqlite"
FOLDERS_POSTGRESQL: Final = "folders+postgresql"
OBJECTS_SQLITE: Final = "objects+sqlite"
OBJECTS_POSTGRESQL: Final = "objects+postgresql"


@dataclass(frozen=True, slots=True, kw_only=True)
class Housing:
    """One empty catalogue and one empty store; the archive's folder is ``folder / "archive"``."""

    folder: Path
    url: str
    published: Published
    new_url: Callable[[], str]

    def lose_catalogue(self) -> str:
        """Give the place of an empty catalogue beside the same store; a file is gone then."""
        for path in (self.folder / "archive").glob(f"{CATALOGUE_NAME}*"):
            path.unlink()
        return self.new_url()


def housing(
    kind: str, folder: Path, *, new_database: Callable[[], str], new_objects: Callable[[], Published]
) -> Housing:
    """Make one of these kinds; only what it needs is asked for."""
    store, _, database = kind.partition("+")
    folder.mkdir()
    root = folder / "archive"
    new_url = new_database if database == "postgresql" else lambda: f"sqlite:///{root / CATALOGUE_NAME}"
    return Housing(
        folder=folder,
        url=new_url(),
        published=new_objects() if store == "objects" else Folders(root),
        new_url=new_url,
    )
