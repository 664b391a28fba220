"""Recordings that are to be deleted unsent, on their way out: `shed/<id>/`.

Rule: recorderd alone moves what is here, by its sealing thread. A recording comes from ``ready`` by a rename,
which the flush may win; a note beside it names the entry of the chain that will tell of it. It goes, when
that entry is sealed, through ``removed``; else it goes back to ``ready``. See ``layout`` for who takes what.
"""

from __future__ import annotations

from typing import Final

from recorderd import durable
from recorderd.core.ids import is_safe_id
from recorderd.spool.layout import SHARED_DIR_MODE, Place, Spool

FOLDER_NAME: Final = "shed"
NOTE_NAME: Final = ".shed-entry"


class ShedFolder:
    """The folder of what is being deleted.

    Thread: one.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._folder = spool.root / FOLDER_NAME

    def prepare(self) -> None:
        """Create the folder if it is missing.

        Durable: after return it survives.
        """
        if not self._folder.exists():
            durable.make_dir(self._folder)
            self._folder.chmod(SHARED_DIR_MODE)

    def ids(self) -> list[str]:
        """List what a cut has left here, oldest first."""
        return sorted(path.name for path in self._folder.iterdir() if is_safe_id(path.name))

    def take(self, recording_id: str, *, entry_id: str) -> bool:
        """Take a ready recording, to be told of by an entry; say whether it was still there.

        Durable: after return it stands here with its note; a cut may leave it without.
        Errors: OSError; it stands in ``ready`` again then, and may be taken once more.
        """
        folder = self._folder / recording_id
        try:
            durable.publish(self._spool.path(Place.READY, recording_id), folder)
        except FileNotFoundError:
            return False  # the flush was first
        try:
            durable.replace(folder / NOTE_NAME, entry_id.encode())
        except OSError:
            self.put_back(recording_id)
            raise
        return True

    def entry_of(self, recording_id: str) -> str:
        """Name the entry that tells of a recording here; empty when a cut came before the note."""
        note = self._folder / recording_id / NOTE_NAME
        return note.read_text() if note.exists() else ""

    def put_back(self, recording_id: str) -> None:
        """Let a recording be flushed after all.

        Durable: a cut leaves it here or whole in ``ready``.
        """
        folder = self._folder / recording_id
        for note in (NOTE_NAME, f".{NOTE_NAME}.new"):
            durable.discard(folder / note)
        durable.publish(folder, self._spool.path(Place.READY, recording_id))

    def drop(self, recording_id: str) -> None:
        """Delete a recording of which a sealed entry tells.

        Durable: a cut leaves the whole folder here or a remainder in ``removed``.
        """
        gone = self._spool.path(Place.REMOVED, recording_id)
        durable.publish(self._folder / recording_id, gone)
        durable.remove_tree(gone)
