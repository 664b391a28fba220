"""Long files are read back while the rest of them still comes.

Rule: what is read is what the file system gives of what was written, each octet once; it counts for the
judging at the end only if that very file still stands there (``reading``). At each step the disk is told to
begin writing what is about to be read, so that it is busy from the first moment.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recorderd.archive.reading import Reading
from recorderd.archive.store import Key

STEP_BYTES: Final = 8 << 20  # is read in one go; shorter files are read when they are whole


@dataclass(slots=True, kw_only=True)
class _Follower:
    """One file that grows."""

    path: Path
    file_bytes: int  # when it is whole
    held_bytes: int  # that stand by now
    reading: Reading | None = None
    is_asked: bool = False  # somebody is to read a step
    is_reading: bool = False
    is_dropped: bool = False


class Along:
    """The files that are read while they come.

    Thread: any.
    """

    def __init__(self) -> None:
        self._followers: dict[Key, _Follower] = {}
        self._changed = threading.Condition()

    def grew(self, key: Key, path: Path, *, held_bytes: int, file_bytes: int) -> bool:
        """Note how much of a file stands; say whether a step of it is to be read."""
        with self._changed:
            follower = self._followers.get(key)
            if follower is None:
                follower = _Follower(path=path, file_bytes=file_bytes, held_bytes=held_bytes)
                self._followers[key] = follower
            follower.held_bytes = held_bytes
            if follower.is_asked or not _is_due(follower):
                return False
            follower.is_asked = True
            return True

    def step(self, key: Key) -> bool:
        """Read a step, if one is due and nobody is at it; say whether another one is due.

        A file that cannot be read, or is shorter than was said, is left to whoever reads it in the end.
        """
        with self._changed:
            follower = self._followers.get(key)
            if follower is None or follower.is_reading or not _is_due(follower):
                return False
            follower.is_reading = True
        try:
            if follower.reading is None:
                follower.reading = Reading(follower.path, file_bytes=follower.file_bytes)
            until_bytes = follower.reading.at_bytes + STEP_BYTES
            follower.reading.start_writing(until_bytes=until_bytes)
            follower.reading.go_on(until_bytes=until_bytes)
            is_short = follower.reading.at_bytes < until_bytes
        except OSError:
            is_short = True
        with self._changed:
            follower.is_reading = False
            follower.is_dropped = follower.is_dropped or is_short
            self._changed.notify_all()
            if follower.is_dropped:
                _close(follower)
            follower.is_asked = _is_due(follower)
            return follower.is_asked

    def read_bytes(self, key: Key) -> int:
        """Say how much of a file was read."""
        with self._changed:
            follower = self._followers.get(key)
            return follower.reading.at_bytes if follower is not None and follower.reading is not None else 0

    def finish(self, key: Key) -> Reading | None:
        """Hand over what was read of a file that is whole; waits for the step that is being read."""
        with self._changed:
            follower = self._followers.pop(key, None)
            if follower is None:
                return None
            while follower.is_reading:
                self._changed.wait()
            return follower.reading if not follower.is_dropped else None

    def forget(self, key: Key) -> None:
        """Let go of a file that is put down, or begun afresh."""
        with self._changed:
            follower = self._followers.pop(key, None)
            if follower is not None:
                follower.is_dropped = True
                if not follower.is_reading:
                    _close(follower)

    def close(self) -> None:
        """Let go of everything; nobody reads any more."""
        for key in list(self._followers):
            self.forget(key)


def _is_due(follower: _Follower) -> bool:
    read_bytes = follower.reading.at_bytes if follower.reading is not None else 0
    return not follower.is_dropped and follower.held_bytes - read_bytes >= STEP_BYTES


def _close(follower: _Follower) -> None:
    if follower.reading is not None:
        follower.reading.close()
        follower.reading = None
