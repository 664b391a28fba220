"""Signed chain heads on their way to the archive: one small file each, beside the recordings' folders.

Rule: recorderd puts heads here, recorderd-flush takes one away when the archive has said that it keeps it.
A head that comes twice is the same head; the recorder's own copy stays in its state folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.spool.layout import SHARED_DIR_MODE
from recorderd.wire.chain_head import HEAD_ENDING, HEAD_LIMIT_BYTES

BOX_NAME: Final = "heads"


class HeadBox:
    """The folder of heads that wait.

    Thread: any; ``put`` is the recorder's, ``drop`` the flush's.
    """

    def __init__(self, spool_dir: Path) -> None:
        self._folder = spool_dir / BOX_NAME

    def prepare(self) -> None:
        """Create the folder if it is missing.

        Durable: after return it survives.
        """
        if not self._folder.exists():
            durable.make_dir(self._folder)
            self._folder.chmod(SHARED_DIR_MODE)

    def put(self, name: str, document: bytes) -> None:
        """Lay a head down to be sent; again is the same.

        Durable: after return it survives.
        """
        durable.replace(self._folder / name, document)

    def waiting(self) -> list[str]:
        """List the heads that wait, oldest first."""
        return sorted(path.name for path in self._folder.glob(f"*{HEAD_ENDING}") if path.name[0] != ".")

    def read(self, name: str) -> bytes:
        """Read a head; one that is too long is cut, and does not hold.

        Errors: OSError, FileNotFoundError too.
        """
        with (self._folder / name).open("rb") as stream:
            return stream.read(HEAD_LIMIT_BYTES + 1)

    def drop(self, name: str) -> None:
        """Take a head away that the archive keeps.

        Durable: after return it is gone.
        """
        durable.discard(self._folder / name)
