"""The threads that wait for the disk, so that the recording never does.

Contract: jobs are done one after the other in the order in which they were given. What waits in memory is
bounded by ``limit_bytes``: beyond it ``put`` waits, and the ring keeps meanwhile what comes. A job's owner
guards it: one that raises ends the thread, and with it the process.
Thread: ``put`` and ``waiting_bytes`` any; ``run`` is the disk's own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from recorderd.record.many_files import ManyFiles

Job = Callable[[], None]

LIMIT_BYTES: Final = 256 << 20  # a thousand calls in 16-bit stereo for eight seconds


class Disk:
    """A queue of jobs and whoever does them."""

    def __init__(self, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._jobs: deque[tuple[Job, int]] = deque()
        self._changed = threading.Condition()
        self._limit_bytes = limit_bytes
        self.many_files = ManyFiles()  # for jobs that write for many recordings
        self.waiting_bytes = 0
        self.waiting_bytes_max = 0

    def put(self, job: Job, *, size_bytes: int = 0) -> None:
        """Give a job that holds so much memory until it is done."""
        with self._changed:
            while self.waiting_bytes and self.waiting_bytes + size_bytes > self._limit_bytes:
                self._changed.wait()
            self._jobs.append((job, size_bytes))
            self.waiting_bytes += size_bytes
            self.waiting_bytes_max = max(self.waiting_bytes_max, self.waiting_bytes)
            self._changed.notify_all()

    def run(self, stop: threading.Event) -> None:
        """Do what is given until ``stop``, and then what is left."""
        while True:
            with self._changed:
                if not self._jobs:
                    if stop.is_set():
                        return
                    self._changed.wait(timeout=0.2)
            self._do_all()

    def _do_all(self) -> None:
        while self._jobs:
            job, size_bytes = self._jobs.popleft()
            job()
            with self._changed:
                self.waiting_bytes -= size_bytes
                self._changed.notify_all()


class InlineDisk(Disk):
    """A disk without a thread: every job is done at once by whoever gives it."""

    def put(self, job: Job, *, size_bytes: int = 0) -> None:
        """Do a job."""
        job()


@dataclass(frozen=True, slots=True, kw_only=True)
class Disks:
    """Who writes audio and journals, and who seals; neither waits for the other."""

    audio: Disk = field(default_factory=Disk)
    sealing: Disk = field(default_factory=Disk)

    @classmethod
    def inline(cls) -> Disks:
        """Do everything at once, without threads."""
        return cls(audio=InlineDisk(), sealing=InlineDisk())
