"""The threads that wait for the disk, so that the recording never does.

Contract: jobs are done one after the other in the order in which they were given; what can be done together
and waits one behind the other is done together. What waits in memory is bounded by ``limit_bytes``: beyond it
``put`` waits, and the ring keeps meanwhile what comes. While the disk is full (see ``space``) nobody shall
wait so: from three quarters of the limit on it ``is_choked``, and whoever records leaves audio out.
A job's owner guards it: one that raises ends the thread, and with it the process.
Thread: ``put``, ``is_choked`` and ``waiting_bytes`` any; ``run`` is the disk's own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from recorderd.record.many_files import ManyFiles
from recorderd.record.space import Space

T = TypeVar("T")
Job = Callable[[], None]
Together = Callable[[list[Any]], None]

GATHER_S: Final = 0.05  # a round gives a dozen jobs, a call that begins as many; waking for each costs both
SEAL_GATHER_S: Final = 0.05  # what ends in one window is handed on one by one, and sealed together
TOGETHER_MAX: Final = 64
LIMIT_BYTES: Final = 256 << 20  # a thousand calls in 16-bit stereo for eight seconds


@dataclass(frozen=True, slots=True)
class _Row:
    """One of those that are done together."""

    together: Together
    row: Any


class Disk:
    """A queue of jobs and whoever does them."""

    def __init__(
        self,
        *,
        limit_bytes: int = LIMIT_BYTES,
        gather_s: float = 0.0,
        space: Space | None = None,
        waits: bool = True,
    ) -> None:
        """Begin empty; ``gather_s`` is how long a thread that was woken lets more come before it begins.

        With ``space`` a job's step that finds the disk full is patient; without, it fails. One that does not
        ``waits`` has the reserve only.
        """
        self._space, self._waits = space, waits
        self._jobs: deque[tuple[Job | _Row, int]] = deque()
        self._changed = threading.Condition()
        self._limit_bytes = limit_bytes
        self._gather_s = gather_s
        self.many_files = ManyFiles()  # for jobs that write for many recordings
        self.waiting_bytes = 0
        self.waiting_bytes_max = 0
        self.taken_bytes = 0  # since the beginning

    @property
    def is_full(self) -> bool:
        """Tell whether a job waits for room on the disk just now."""
        return self._space is not None and self._space.is_waiting

    @property
    def is_choked(self) -> bool:
        """Tell whether the disk is full and so much waits for it that no more may."""
        if not self.is_full:
            return False
        return self.waiting_bytes * 4 > self._limit_bytes * 3

    def patiently(self, step: Callable[[], T]) -> T:
        """Do a step of a job, which may be done again when there was no space for it.

        Errors: what the step raises.  # thread: the disk's
        """
        return step() if self._space is None else self._space.patiently(step, waits=self._waits)

    def put(self, job: Job, *, size_bytes: int = 0) -> None:
        """Give a job that holds so much memory until it is done."""
        with self._changed:
            while self.waiting_bytes and self.waiting_bytes + size_bytes > self._limit_bytes:
                self._changed.wait()
            self._jobs.append((job, size_bytes))
            self.waiting_bytes += size_bytes
            self.taken_bytes += size_bytes
            self.waiting_bytes_max = max(self.waiting_bytes_max, self.waiting_bytes)
            self._changed.notify_all()

    def put_together(self, together: Together, row: Any) -> None:
        """Give a row to what is done for many at once; at most ``TOGETHER_MAX`` of them."""
        with self._changed:
            self._jobs.append((_Row(together, row), 0))
            self._changed.notify_all()

    def run(self, stop: threading.Event) -> None:
        """Do what is given until ``stop``, and then what is left."""
        while True:
            with self._changed:
                if not self._jobs:
                    if stop.is_set():
                        return
                    self._changed.wait(timeout=0.2)
            if self._jobs and not stop.is_set():
                time.sleep(self._gather_s)
            self._do_all()

    def _do_all(self) -> None:
        while self._jobs:
            job, size_bytes = self._jobs.popleft()
            if isinstance(job, _Row):
                job.together([job.row, *self._take_more(job.together)])
                continue
            job()
            with self._changed:
                self.waiting_bytes -= size_bytes
                self._changed.notify_all()

    def _take_more(self, together: Together) -> list[Any]:
        rows: list[Any] = []
        while self._jobs and len(rows) < TOGETHER_MAX - 1:
            job, _ = self._jobs[0]
            if not isinstance(job, _Row) or job.together != together:
                break
            rows.append(job.row)
            self._jobs.popleft()
        return rows


class InlineDisk(Disk):
    """A disk without a thread: every job is done at once by whoever gives it."""

    def put(self, job: Job, *, size_bytes: int = 0) -> None:
        """Do a job."""
        self.taken_bytes += size_bytes
        job()

    def put_together(self, together: Together, row: Any) -> None:
        """Do it for one row."""
        together([row])


@dataclass(frozen=True, slots=True, kw_only=True)
class Disks:
    """Who writes audio and journals, and who seals; neither waits for the other."""

    audio: Disk = field(default_factory=lambda: Disk(gather_s=GATHER_S))
    sealing: Disk = field(default_factory=lambda: Disk(gather_s=SEAL_GATHER_S))

    @classmethod
    def inline(cls) -> Disks:
        """Do everything at once, without threads."""
        return cls(audio=InlineDisk(), sealing=InlineDisk())

    @classmethod
    def patient(cls, space: Space) -> Disks:
        """Make room, or wait for it, where the disk is full."""
        audio = Disk(gather_s=GATHER_S, space=space)
        return cls(audio=audio, sealing=Disk(space=space, waits=False))
