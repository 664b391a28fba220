"""Which archives hold a small file that goes to each of them: a chain's head, a batch of time stamps.

Rule: a file is done with once every archive has said that it holds it. This is only remembered, never
written: after a restart all are asked again, and an archive answers for the same file the same way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Holders:
    """What each archive has said.

    Thread: any.
    """

    def __init__(self, archives: Iterable[str]) -> None:
        self._archives = frozenset(archives)
        self._holders: dict[str, set[str]] = {}  # by the file's name
        self._lock = threading.Lock()

    def has(self, archive: str, name: str) -> bool:
        """Tell whether an archive has said that it holds a file."""
        with self._lock:
            return archive in self._holders.get(name, ())

    def note(self, archive: str, name: str) -> None:
        """Note that an archive holds a file."""
        with self._lock:
            self._holders.setdefault(name, set()).add(archive)

    def take_whole(self, *names: str) -> bool:
        """Tell whether all archives hold these files; then they are forgotten: one caller is told so."""
        with self._lock:
            if any(self._archives - self._holders.get(name, set()) for name in names):
                return False
            for name in names:
                self._holders.pop(name, None)
            return True
