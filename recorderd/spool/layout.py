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

RECEIPT_NAME: Final = "receipt.json"  # of the only archive, or the first of several
SHARED_DIR_MODE: Final = 0o2770  # the recorder and the flush are two users of one group


def receipt_name(archive: str) -> str:
    """Name the file of a further archive's receipt."""
    return f"receipt.{archive}.json"


def is_receipt(name: str) -> bool:
    """Tell whether a file's name is a receipt's; no recording has files of such names."""
    return name == RECEIPT_NAME or (name.startswith("receipt.") and name.endswith(".json"))


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

    def __init__(self, root: Path, *, quota_bytes: int, receipts_needed: int = 1) -> None:
        self.root = root
        self.quota_bytes = quota_bytes
        self._receipts_needed = receipts_needed  # before a local copy may go
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
        durable.insist(folder.mkdir)
        durable.insist(folder.chmod, SHARED_DIR_MODE)
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

    def claim_all(self, recording_ids: Sequence[str]) -> list[OSError | None]:
        """Take ready recordings for flushing, each for itself; a claim outlives the process that made it."""
        names = [(self.path(Place.READY, name), self.path(Place.CLAIMED, name)) for name in recording_ids]
        return durable.publish_all(names)

    def quarantine(self, recording_id: str, *, come_from: Place, reason: str) -> Path:
        """Set a recording aside with the reason in ``reason.txt``; nothing is deleted."""
        folder = self.path(come_from, recording_id)
        durable.replace(folder / "reason.txt", reason.encode(errors="backslashreplace") + b"\n")
        return self._move(recording_id, come_from, Place.QUARANTINE)

    def store_receipts(self, receipts: Sequence[tuple[str, str, bytes]]) -> list[OSError | None]:
        """Keep verified receipts beside claimed recordings (id, name of the receipt's file, content).

        Durable: after return those without a problem survive; the disk is waited for once.
        """
        groups: list[list[Path]] = []
        early: list[OSError | None] = []
        for recording_id, name, receipt in receipts:
            folder = self.path(Place.CLAIMED, recording_id)
            groups.append([folder / name, folder])
            try:
                durable.replace(folder / name, receipt, synced=False)
                early.append(None)
            except OSError as refused:
                groups[-1] = []
                early.append(refused)
        synced = durable.sync_groups(self._opened(), groups)
        return [first or second for first, second in zip(early, synced, strict=True)]

    def receipt(self, recording_id: str, name: str = RECEIPT_NAME) -> bytes | None:
        """Return a stored receipt of a claimed recording, or None."""
        path = self.path(Place.CLAIMED, recording_id) / name
        return path.read_bytes() if path.exists() else None

    def receipt_age_s(self, recording_id: str, name: str = RECEIPT_NAME, *, now_utc_s: float) -> float:
        """Seconds since a receipt of a claimed recording was stored."""
        return now_utc_s - (self.path(Place.CLAIMED, recording_id) / name).stat().st_mtime

    def release_all(
        self, recording_ids: Sequence[str], *, receipts: Sequence[str], needed: int
    ) -> list[OSError | SpoolBroken | None]:
        """Delete the local copies of claimed recordings of which verified receipts were stored.

        This is a sealed recording's only way out of the spool: without ``needed`` of the named ``receipts``
        it stays, with SpoolBroken. After an OSError it can be asked for again.
        Durable: a cut leaves each whole in ``claimed`` or as a remainder in ``removed``.
        """
        problems: dict[str, OSError | SpoolBroken | None] = {}
        good: list[str] = []
        for name in recording_ids:
            folder = self.path(Place.CLAIMED, name)
            problems[name] = None
            if not folder.exists():
                continue  # moved with its receipts before; then the disk refused
            stored = sum((folder / receipt).exists() for receipt in receipts)
            if needed > 0 and stored >= needed:
                good.append(name)
            else:
                problems[name] = SpoolBroken(path=folder, reason=f"{stored} of {needed} receipts are stored")
        moves = [(self.path(Place.CLAIMED, name), self.path(Place.REMOVED, name)) for name in good]
        problems |= dict(zip(good, durable.publish_all(moves), strict=True))
        moved = [self.path(Place.REMOVED, name) for name, problem in problems.items() if problem is None]
        durable.remove_trees([folder for folder in moved if folder.exists()])
        return [problems[name] for name in recording_ids]

    def sync(self) -> None:
        """Make everything last that was written into the spool; one call for all drafts.

        Durable: after return everything written before the call survives.
        Errors: OSError, also when something of another file could not be written.
        """
        self._opened().sync()

    def _opened(self) -> durable.FileSystem:
        if self._file_system is None:  # kept: a failure is told to whoever had it open
            self._file_system = durable.FileSystem(self.root)
        return self._file_system

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
        """Tell whether its copy may go: as many archives have confirmed it as are needed, whichever."""
        if recording_id in self._receipted:
            return True
        try:
            with os.scandir(f"{folder}/{recording_id}") as entries:
                return sum(is_receipt(entry.name) for entry in entries) >= self._receipts_needed
        except FileNotFoundError:
            return False

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
