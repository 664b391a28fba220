"""The spool's folders and who moves what through them.

Rule: a recording is one folder named by its id. `drafts/` belongs to recorderd; the rename to `ready/` is
the commit point; recorderd-flush claims from `ready/` into `claimed/`, and `release` removes a sealed
recording, after a verified receipt was stored beside it. `quarantine/` takes what must not go on and must
not be lost; only people empty it.

    drafts/<id>/ --publish--> ready/<id>/ --claim--> claimed/<id>/ --release--> removed/<id>/ --> gone
         |                       | ^                                                 ^
         |                       v | (see ``shed``)                                  |
         |                     shed/<id>/ -------------------------------------------|
         |----------------- drop_draft (no audio was taken) -------------------------|
         \\------------------------ quarantine ------------------------------> quarantine/<id>/

Who may take what: what stands in `ready/` belongs to whoever renames it first, and the other one finds it
gone. The flush takes to send, the recorder only where `spool.shed_unreceipted` is set and the spool is full,
to delete the only copy: it notes in `shed/<id>/` which entry of the chain will tell of it, has that entry
sealed, and deletes then. A cut before the entry stands puts the recording back into `ready/`, one after it
goes on deleting. What is in `claimed/` is the flush's alone, receipted or not: only it
deletes there, after a receipt, at the end of the local grace or earlier where the recorder asks (`stance`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.core.errors import SpoolBroken
from recorderd.core.ids import is_safe_id

RECEIPT_NAME: Final = "receipt.json"
SHARED_DIR_MODE: Final = 0o2770  # the recorder and the flush are two users of one group


class Place(StrEnum):
    """The folders of a spool."""

    DRAFTS = "drafts"
    READY = "ready"
    CLAIMED = "claimed"
    REMOVED = "removed"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolUsage:
    """How full the spool is, by folder."""

    recordings: dict[str, int]
    used_bytes: int
    quota_bytes: int
    unreceipted_bytes: int = 0  # that the archive has not confirmed
    receipted_bytes: int = 0  # copies of what it has


class Spool:
    """One spool folder.

    Thread: any; each recording folder has one owner at a time (see the rule above).
    """

    def __init__(self, root: Path, *, quota_bytes: int) -> None:
        self.root = root
        self.quota_bytes = quota_bytes
        self._file_system: durable.FileSystem | None = None
        self._sealed_bytes: dict[str, int] = {}  # by id; a sealed recording does not change any more
        self._receipted: set[str] = set()  # of the claimed ones; a receipt does not go away

    def prepare(self) -> None:
        """Create the folders that are missing and finish removals that were cut short.

        Durable: after return all folders survive.
        """
        for folder in (self.root / place for place in Place):
            if not folder.exists():
                durable.make_dir(folder)
                folder.chmod(SHARED_DIR_MODE)
        durable.spread_folders(self.root / Place.DRAFTS)
        for leftover in list((self.root / Place.REMOVED).iterdir()):
            durable.remove_tree(leftover)

    def path(self, place: Place, recording_id: str) -> Path:
        """Name the folder of a recording.

        Errors: SpoolBroken when the id could lead out of the spool.
        """
        if not is_safe_id(recording_id):
            raise SpoolBroken(path=repr(recording_id), reason="not a recording id")
        return self.root / place / recording_id

    def ids(self, place: Place) -> list[str]:
        """List the recordings in a folder, oldest first; names that are no ids are left out."""
        with os.scandir(self.root / place) as entries:
            return sorted(entry.name for entry in entries if is_safe_id(entry.name) and entry.is_dir())

    def begin_draft(self, recording_id: str, *, synced: bool = True) -> Path:
        """Create the folder of a new draft.

        The quota decides on new sessions (``policy.admission``), never on one that was accepted.
        Durable: after return the folder survives; without ``synced`` after the next ``sync``.
        """
        folder = self.path(Place.DRAFTS, recording_id)
        folder.mkdir()
        folder.chmod(SHARED_DIR_MODE)
        if synced:
            durable.sync_dir(folder.parent)
        return folder

    def drop_draft(self, recording_id: str) -> None:
        """Remove a draft of which nothing is to be kept: no audio was taken.

        Durable: a cut leaves the whole folder in ``drafts`` or a remainder in ``removed``.
        """
        durable.remove_tree(self._move(recording_id, Place.DRAFTS, Place.REMOVED))

    def publish(self, recording_id: str) -> Path:
        """Move a sealed draft to ``ready``: the commit point of a recording."""
        return self._move(recording_id, Place.DRAFTS, Place.READY)

    def publish_all(self, recording_ids: Sequence[str]) -> list[OSError | None]:
        """Move sealed, synced drafts to ``ready``, each for itself; returns what went wrong."""
        names = [(self.path(Place.DRAFTS, name), self.path(Place.READY, name)) for name in recording_ids]
        return durable.publish_all(names)

    def claim(self, recording_id: str) -> Path:
        """Take a ready recording for flushing; a claim outlives the process that made it."""
        return self._move(recording_id, Place.READY, Place.CLAIMED)

    def quarantine(self, recording_id: str, *, come_from: Place, reason: str) -> Path:
        """Set a recording aside with the reason in ``reason.txt``; nothing is deleted."""
        folder = self.path(come_from, recording_id)
        durable.replace(folder / "reason.txt", reason.encode() + b"\n")
        return self._move(recording_id, come_from, Place.QUARANTINE)

    def store_receipt(self, recording_id: str, receipt: bytes) -> None:
        """Keep a verified receipt beside a claimed recording.

        Durable: after return the receipt survives.
        """
        durable.replace(self.path(Place.CLAIMED, recording_id) / RECEIPT_NAME, receipt)

    def receipt(self, recording_id: str) -> bytes | None:
        """Return the stored receipt of a claimed recording, or None."""
        path = self.path(Place.CLAIMED, recording_id) / RECEIPT_NAME
        return path.read_bytes() if path.exists() else None

    def receipt_age_s(self, recording_id: str, *, now_utc_s: float) -> float:
        """Seconds since the receipt of a claimed recording was stored."""
        return now_utc_s - (self.path(Place.CLAIMED, recording_id) / RECEIPT_NAME).stat().st_mtime

    def release(self, recording_id: str) -> None:
        """Delete the local copy of a claimed recording whose verified receipt was stored.

        Durable: a cut leaves the whole folder in ``claimed`` or a remainder in ``removed``.
        Errors: SpoolBroken without a stored receipt; this is a sealed recording's only way out of the spool.
        """
        if self.receipt(recording_id) is None:
            raise SpoolBroken(path=self.path(Place.CLAIMED, recording_id), reason="no receipt is stored")
        durable.remove_tree(self._move(recording_id, Place.CLAIMED, Place.REMOVED))

    def sync(self) -> None:
        """Make everything last that was written into the spool; one call for all drafts.

        Durable: after return everything written before the call survives.
        Errors: OSError, also when something of another file could not be written.
        """
        if self._file_system is None:  # kept: a failure is told to whoever had it open
            self._file_system = durable.FileSystem(self.root)
        self._file_system.sync()

    def usage(self) -> SpoolUsage:
        """Add up what the spool holds; files that vanish while we look do not count.

        Cheap also when a dead link has left tens of thousands: only drafts and new recordings are measured.
        Thread: one at a time.
        """
        recordings: dict[str, int] = {}
        sealed_bytes: dict[str, int] = {}
        used_bytes = receipted_bytes = 0
        receipted: set[str] = set()
        for place in Place:
            ids = self.ids(place)
            recordings[place.value] = len(ids)
            folder = os.fspath(self.root / place)
            for recording_id in ids:
                known = self._sealed_bytes.get(recording_id)
                if place is Place.DRAFTS or known is None:
                    known = _folder_bytes(f"{folder}/{recording_id}")  # no path object for each of a thousand
                if place is not Place.DRAFTS:
                    sealed_bytes[recording_id] = known
                used_bytes += known
                if place is Place.CLAIMED and self._is_receipted(folder, recording_id):
                    receipted.add(recording_id)
                    receipted_bytes += known
        self._sealed_bytes, self._receipted = sealed_bytes, receipted
        return SpoolUsage(
            recordings=recordings,
            used_bytes=used_bytes,
            quota_bytes=self.quota_bytes,
            unreceipted_bytes=used_bytes - receipted_bytes,
            receipted_bytes=receipted_bytes,
        )

    def _is_receipted(self, folder: str, recording_id: str) -> bool:
        return recording_id in self._receipted or Path(folder, recording_id, RECEIPT_NAME).exists()

    def _move(self, recording_id: str, source: Place, target: Place) -> Path:
        moved = self.path(target, recording_id)
        durable.publish(self.path(source, recording_id), moved)
        return moved


def _folder_bytes(folder: str) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat().st_size for entry in entries)
    except FileNotFoundError:
        return 0
