"""What the socket's thread does not wait for: uploads are read and judged, then committed in groups.

Rule: everything goes in by a queue and comes back by ``results``; nothing here speaks to a recorder. Two
threads read, one of them only what is short, so that a long recording holds up no other; of what waits the
shortest is taken first. Long ones are read step by step while they come (``along``). One thread commits
whatever is verified by then, all of it at once; another tidies up behind it, which no receipt waits for, and
``close`` does what it has not come to. The queues are bounded by the uploads that the receiver admits.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event as StopToken
from typing import Final

from recorderd.archive.along import STEP_BYTES, Along
from recorderd.archive.catalogue import Entry
from recorderd.archive.custody import Custody
from recorderd.archive.intake import BundleRefused
from recorderd.archive.store import Key
from recorderd.archive.verdicts import BundleVerdict
from recorderd.core.errors import RecorderError

SHORT_BYTES: Final = 64 << 20  # of these one reader is always free for
GROUP_LIMIT: Final = 64  # recordings in one commit
POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An upload was read; whether it is taken is the receiver's to say."""

    key: Key
    verdict: BundleVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An upload was committed, refused, or could not be taken now."""

    key: Key
    outcome: Entry | BundleRefused | OSError | RecorderError


Result = Checked | Kept


@dataclass(frozen=True, slots=True)
class _ToRead:
    """What a reader is to do: read all of an upload, or a step of one that still comes."""

    key: Key
    is_whole: bool


class _Shortest:
    """What waits to be read."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, _ToRead]] = []
        self._changed = threading.Condition()
        self._number = 0

    def put(self, work: _ToRead, *, size_bytes: int) -> None:
        with self._changed:
            self._number += 1
            self._waiting.append((size_bytes, self._number, work))
            self._changed.notify_all()

    def take(self, *, limit_bytes: int | None, timeout_s: float) -> _ToRead | None:
        with self._changed:
            found = self._first(limit_bytes)
            if found is None:
                self._changed.wait(timeout_s)
                found = self._first(limit_bytes)
            if found is not None:
                self._waiting.remove(found)
            return found[2] if found is not None else None

    def _first(self, limit_bytes: int | None) -> tuple[int, int, _ToRead] | None:
        fitting = (row for row in self._waiting if limit_bytes is None or row[0] <= limit_bytes)
        return min(fitting, default=None, key=lambda row: row[:2])


class Keeping:
    """The way of whole uploads into custody.

    Thread: each of the loops has its own, everything else is called by the receiver's.
    """

    def __init__(self, custody: Custody) -> None:
        self._custody = custody
        self._unread = _Shortest()
        self._along = Along()
        self._verified: queue.SimpleQueue[tuple[Key, BundleVerdict]] = queue.SimpleQueue()
        self._kept: queue.SimpleQueue[Key] = queue.SimpleQueue()
        self._results: deque[Result] = deque()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    @property
    def bell(self) -> int:
        """The descriptor that can be read while there are results."""
        return self._bell

    def follow(self, key: Key, path: Path, *, held_bytes: int, file_bytes: int) -> None:
        """Let a long file be read while it comes, as far as it stands."""
        if self._along.grew(key, path, held_bytes=held_bytes, file_bytes=file_bytes):
            self._unread.put(_ToRead(key, is_whole=False), size_bytes=STEP_BYTES)

    def forget(self, key: Key) -> None:
        """Let go of a file that was being read while it came."""
        self._along.forget(key)

    def check(self, key: Key, *, size_bytes: int) -> None:
        """Let a whole upload be read and judged."""
        unread_bytes = size_bytes - self._along.read_bytes(key)
        self._unread.put(_ToRead(key, is_whole=True), size_bytes=unread_bytes)

    def keep(self, key: Key, verdict: BundleVerdict) -> None:
        """Let a verified upload be committed."""
        self._verified.put((key, verdict))

    def results(self) -> list[Result]:
        """Take what came out since the last time."""
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            return []
        found = []
        while self._results:
            found.append(self._results.popleft())
        return found

    def close(self) -> None:
        """Tidy up behind the last commits and let go of everything; the threads have ended before."""
        with suppress(queue.Empty):
            while True:
                self._custody.conclude([self._kept.get_nowait()])
        self._along.close()
        os.close(self._bell)

    def loops(self) -> dict[str, Callable[[StopToken], None]]:
        """Give the loops that want a thread of this name each."""
        return {
            "read-any": self._read_any,
            "read-short": self._read_short,
            "commit": self._commit,
            "tidy": self._tidy,
        }

    def _commit(self, stop: StopToken) -> None:
        """Commit until ``stop`` is set.

        # thread: commit
        """
        while not stop.is_set():
            try:
                group = [self._verified.get(timeout=POLL_S)]
            except queue.Empty:
                continue
            while len(group) < GROUP_LIMIT and not self._verified.empty():
                group.append(self._verified.get())
            outcomes: list[Entry | BundleRefused | OSError | RecorderError]
            try:
                outcomes = self._custody.take_in_all(group)
            except (OSError, RecorderError) as problem:
                outcomes = [problem] * len(group)
            for (key, _), outcome in zip(group, outcomes, strict=True):
                self._results.append(Kept(key=key, outcome=outcome))
            os.eventfd_write(self._bell, 1)
            for (key, _), outcome in zip(group, outcomes, strict=True):
                if isinstance(outcome, Entry):
                    self._kept.put(key)

    def _tidy(self, stop: StopToken) -> None:
        """Forget uploads whose rows stand until ``stop`` is set.

        # thread: tidy
        """
        while not stop.is_set():
            with suppress(queue.Empty):
                self._custody.conclude([self._kept.get(timeout=POLL_S)])

    def _read_any(self, stop: StopToken) -> None:
        self._read(stop, limit_bytes=None)

    def _read_short(self, stop: StopToken) -> None:
        self._read(stop, limit_bytes=SHORT_BYTES)

    def _read(self, stop: StopToken, *, limit_bytes: int | None) -> None:
        """Read until ``stop`` is set.

        # thread: read-any, read-short
        """
        while not stop.is_set():
            work = self._unread.take(limit_bytes=limit_bytes, timeout_s=POLL_S)
            if work is None:
                continue
            if not work.is_whole:
                if self._along.step(work.key):
                    self._unread.put(work, size_bytes=STEP_BYTES)
                continue
            self._results.append(self._checked(work.key))
            os.eventfd_write(self._bell, 1)

    def _checked(self, key: Key) -> Result:
        begun = self._along.finish(key)
        try:
            return Checked(key=key, verdict=self._custody.verify(key, begun=begun))
        except (OSError, RecorderError) as problem:
            return Kept(key=key, outcome=problem)
        finally:
            if begun is not None:
                begun.close()
