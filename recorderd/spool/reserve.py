"""Space that is set aside on the spool's file system, for when anybody has filled it.

Contract: the file `reserve` is preallocated, so that no other program can have its blocks. When a write finds
the disk full, a slice of it is given back and the write tried again; the last eighth is for sealing and for
the entries of what is deleted, which free more than they take. It is filled up again when there is room for
it twice over. A file system that cannot preallocate has no reserve, and says so by ``held_bytes``.
Thread: any.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

from recorderd import durable

RESERVE_NAME: Final = "reserve"
SLICES: Final = 16
LAST_SLICES: Final = 2  # for sealing


class Reserve:
    """The reserve of one spool; the recorder owns it."""

    def __init__(self, spool_root: Path, *, size_bytes: int) -> None:
        self._path = spool_root / RESERVE_NAME
        self._lock = threading.Lock()
        self.size_bytes = size_bytes
        self.held_bytes = 0

    def prepare(self) -> None:
        """Set the space aside, as far as there is room; another size than the last process's is put right.

        Errors: OSError.
        """
        with self._lock:
            if self._path.exists():
                self.held_bytes = self._path.stat().st_blocks * 512  # what it really has
                if self.held_bytes > self.size_bytes:
                    durable.truncate(self._path, self.size_bytes)
                    self.held_bytes = self.size_bytes
        self.fill()

    @property
    def missing_bytes(self) -> int:
        """What is not set aside at the moment."""
        return max(0, self.size_bytes - self.held_bytes)

    def fill(self) -> bool:
        """Set aside what is missing, if there is room for it twice over; tell whether anything was.

        Errors: OSError.
        """
        with self._lock:
            missing = self.missing_bytes
            if not missing or free_bytes(self._path.parent) < 2 * missing:
                return False
            if not durable.preallocate(self._path, self.size_bytes):
                return False
            self.held_bytes = self.size_bytes
            return True

    def give(self, *, last: bool = False) -> bool:
        """Give a slice back to the file system; ``last`` may take what is kept for sealing too.

        Errors: OSError.
        """
        with self._lock:
            slice_bytes = max(1, self.size_bytes // SLICES)
            if free_bytes(self._path.parent) > slice_bytes:
                return False  # it is another disk that is full
            kept = 0 if last else LAST_SLICES * slice_bytes
            if self.held_bytes <= kept:
                return False
            self.held_bytes = max(kept, self.held_bytes - slice_bytes)
            durable.truncate(self._path, self.held_bytes)
            return True


def free_bytes(folder: Path) -> int:
    """Count what the file system of a folder has left for us.

    Errors: OSError.
    """
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
