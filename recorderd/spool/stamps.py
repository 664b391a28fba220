"""The spool's folder of batched time stamps, and the hashes that wait for the next batch.

Rule: a hash that was noted is in ``waiting`` or in a batch at every instant, whatever is cut; after a cut it
may be in both, which costs a leaf. A batch's root is stamped once its file stands; nothing here is deleted.

    stamps/waiting            hashes of the next batch, one a line
    stamps/<utc>.json         a batch (wire/stamp_batch), with <utc>.tsr beside it once it is stamped
    stamps/sent/<utc>.*       batches that the archive holds
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.spool.layout import SHARED_DIR_MODE

FOLDER_NAME: Final = "stamps"
KNOWN_MAX: Final = 200_000  # hashes that are remembered; a forgotten one would be stamped twice
RECENT_BATCHES: Final = 50  # are read at start for the hashes that they hold
_WAITING: Final = "waiting"
_SENT: Final = "sent"
_HASH: Final = re.compile(r"[0-9a-f]{64}")


class StampFolder:
    """Hashes that wait, batches that were made.

    Thread: any.
    """

    def __init__(self, spool_root: Path) -> None:
        self.root = spool_root / FOLDER_NAME
        self._lock = threading.Lock()
        self._waiting: list[str] = []
        self._known: dict[str, None] = {}
        self._torn = False  # a line was begun and the disk refused the rest

    def prepare(self, read_leaves: Callable[[bytes], Sequence[str]]) -> None:
        """Create the folders, and take up what an earlier process left.

        Durable: after return the folders survive and no half-written hash stands in ``waiting``.
        """
        for folder in (self.root, self.root / _SENT):
            if not folder.exists():
                durable.make_dir(folder)
                folder.chmod(SHARED_DIR_MODE)
        for stamp in self.root.glob("*.tsr"):  # cut while a batch was moved
            if (
                not stamp.with_suffix(".json").exists()
                and (self.root / _SENT / f"{stamp.stem}.json").exists()
            ):
                durable.publish(stamp, self.root / _SENT / stamp.name)
        batches = sorted([*self.root.glob("*.json"), *(self.root / _SENT).glob("*.json")], key=_name)
        batched = [leaf for path in batches[-RECENT_BATCHES:] for leaf in read_leaves(path.read_bytes())]
        for leaf in batched:
            self._remember(leaf)
        path = self.root / _WAITING
        text = path.read_text(errors="replace") if path.exists() else ""
        rows = dict.fromkeys(text.splitlines())
        self._waiting = [row for row in rows if _HASH.fullmatch(row) and row not in self._known]
        for leaf in self._waiting:
            self._remember(leaf)
        if self._lines() != text:
            self._write_waiting()

    def note(self, manifest_sha256: str) -> None:
        """Let a manifest's hash wait for the next batch; one that is known already is not noted again.

        Durable: after return the hash survives.
        """
        with self._lock:
            if manifest_sha256 in self._known:
                return
            if self._torn:
                self._write_waiting()
            self._torn = True  # until the line stands whole
            durable.append(self.root / _WAITING, f"{manifest_sha256}\n".encode())
            self._torn = False
            self._remember(manifest_sha256)
            self._waiting.append(manifest_sha256)

    def waiting(self) -> tuple[str, ...]:
        """Give the hashes that wait, in the order in which they came."""
        with self._lock:
            return tuple(self._waiting)

    def close(self, name: str, content: bytes, *, leaves: Sequence[str]) -> Path:
        """Write a batch of the first of the waiting hashes; they do not wait any more.

        Durable: at every instant each hash waits or is in a batch.
        """
        with self._lock:
            path, number = self.root / f"{name}.json", 1
            while path.exists() or (self.root / _SENT / path.name).exists():
                path, number = self.root / f"{name}-{number}.json", number + 1
            durable.replace(path, content)
            self._waiting = self._waiting[len(leaves) :]
            self._write_waiting()
            return path

    def unstamped(self) -> list[Path]:
        """List the batches without a stamp, oldest first."""
        batches = sorted(self.root.glob("*.json"), key=_name)
        return [path for path in batches if not path.with_suffix(".tsr").exists()]

    def store(self, batch: Path, tsr: bytes) -> None:
        """Keep the stamp of a batch.

        Durable: after return it survives.
        """
        durable.replace(batch.with_suffix(".tsr"), tsr)

    def unsent(self) -> list[Path]:
        """List the stamped batches that the archive does not hold yet, oldest first."""
        batches = sorted(self.root.glob("*.json"), key=_name)
        return [path for path in batches if path.with_suffix(".tsr").exists()]

    def mark_sent(self, batch: Path) -> None:
        """Set a batch aside that the archive holds.

        Durable: a cut leaves it where it was, or its stamp to be moved by the next ``prepare``.
        """
        stamp = batch.with_suffix(".tsr")
        durable.publish(batch, self.root / _SENT / batch.name)
        durable.publish(stamp, self.root / _SENT / stamp.name)

    def _remember(self, leaf: str) -> None:
        self._known[leaf] = None
        while len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]

    def _write_waiting(self) -> None:
        durable.replace(self.root / _WAITING, self._lines().encode())
        self._torn = False

    def _lines(self) -> str:
        return "".join(f"{leaf}\n" for leaf in self._waiting)


def _name(path: Path) -> str:
    return path.name
