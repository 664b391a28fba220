"""The claimed recordings, shared by the senders of all archives: claimed once, released once.

Rule: a local copy goes when as many archives as are needed have receipted it, their verified receipts are
stored beside it and their grace is over. What one archive refuses for good the others are to have all the
same; it goes to quarantine once each has spoken and too few have receipted it. What the disk has to keep is
done by one thread, all that waits at a time; its answers are fetched by the senders. Nothing is ever deleted
for another reason.
"""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from threading import Event as StopToken
from typing import Final

from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import RecorderError, SpoolBroken
from recorderd.core.events import Ev, EventLog
from recorderd.flush.claims import Claims
from recorderd.flush.parcel import is_passing, list_files, priority_of
from recorderd.flush.stamping import Stamper
from recorderd.spool.layout import RECEIPT_NAME, Place, Spool, receipt_name
from recorderd.wire.frames import OfferedFile

POLL_S: Final = 0.2
GROUP_LIMIT: Final = 128  # jobs that the disk is waited for together


@dataclass(slots=True, kw_only=True)
class Held:
    """One claimed recording."""

    files: tuple[OfferedFile, ...] = ()
    priority: int = 0
    broken: str = ""  # why it cannot be offered
    done: set[str] = field(default_factory=set)  # archives that want the copy no more
    refused: dict[str, str] = field(default_factory=dict)  # archives that will never take it, and why
    is_gone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreJob:
    """Keep an archive's verified receipt."""

    archive: str
    recording_id: str
    receipt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseJob:
    """An archive's grace is over."""

    archive: str
    recording_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineJob:
    """It is broken."""

    archive: str  # that was to have it
    recording_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalJob:
    """An archive will never take it."""

    archive: str
    recording_id: str
    reason: str


Job = StoreJob | ReleaseJob | QuarantineJob | RefusalJob


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDone:
    """What came of a job; ``problem`` says why nothing did."""

    job: Job
    problem: str = ""


class Shelf:
    """What is claimed.

    Thread: any; ``run`` has its own.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        stamper: Stamper | None,
        archives: tuple[str, ...],
        needed: int,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._log = log
        self._claims = Claims(spool=spool, stamper=stamper, log=log)
        self._archives = archives
        self._needed = needed
        self._receipt_names = {
            name: receipt_name(name) if number else RECEIPT_NAME for number, name in enumerate(archives)
        }
        self._held: dict[str, Held] = {}
        self._lock = threading.RLock()
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._answers: dict[str, queue.SimpleQueue[JobDone]] = defaultdict(queue.SimpleQueue)

    @property
    def claims_made(self) -> int:
        """How many were ever claimed."""
        return self._claims.made

    def adopt(self) -> None:
        """Take up every claimed recording that is not on the shelf yet."""
        with self._lock:
            for recording_id in self._spool.ids(Place.CLAIMED):
                if recording_id not in self._held:
                    priority = priority_of(self._spool.path(Place.CLAIMED, recording_id))
                    self._load(recording_id, priority=priority)

    def claim(self, wanted: int) -> int:
        """Claim up to so many more from ``ready/``; return how many were tried."""
        with self._lock:
            tried, claimed = self._claims.take(wanted)
            for entry in claimed:
                self._load(entry.recording_id, priority=entry.priority)
            return tried

    def wanted_by(self, archive: str) -> dict[str, Held]:
        """Give what is on the shelf and not done with for an archive."""
        with self._lock:
            return {
                name: held
                for name, held in self._held.items()
                if archive not in held.done and archive not in held.refused
            }

    def refused_by(self, archive: str) -> dict[str, str]:
        """Give what an archive will never take and others are still to have, with its reasons."""
        with self._lock:
            return {
                name: held.refused[archive] for name, held in self._held.items() if archive in held.refused
            }

    def receipt(self, archive: str, recording_id: str) -> bytes | None:
        """Return an archive's stored receipt, or None.

        Errors: OSError.
        """
        return self._spool.receipt(recording_id, self._receipt_names[archive])

    def receipt_age_s(self, archive: str, recording_id: str) -> float:
        """Seconds since an archive's receipt was stored.

        Errors: OSError.
        """
        now_utc_s = self._clock.utc_ns() / NS_PER_S
        name = self._receipt_names[archive]
        return max(0.0, self._spool.receipt_age_s(recording_id, name, now_utc_s=now_utc_s))

    def put(self, job: Job) -> None:
        """Let the disk keep something; the answer comes by ``answers``."""
        self._jobs.put(job)

    def answers(self, archive: str) -> list[JobDone]:
        """Take what became of an archive's jobs since the last time."""
        waiting, found = self._answers[archive], []
        while not waiting.empty():
            found.append(waiting.get())
        return found

    def run(self, stop: StopToken) -> None:
        """Do jobs until ``stop`` is set; what is left then is done once more after the next start.

        # thread: shelf
        """
        while not stop.is_set():
            try:
                jobs = [self._jobs.get(timeout=POLL_S)]
            except queue.Empty:
                continue
            while len(jobs) < GROUP_LIMIT and not self._jobs.empty():
                jobs.append(self._jobs.get())
            self._store([job for job in jobs if isinstance(job, StoreJob)])
            self._release([job for job in jobs if isinstance(job, ReleaseJob)])
            for job in jobs:
                if isinstance(job, QuarantineJob):
                    self._quarantine(job, reason=job.reason)
                elif isinstance(job, RefusalJob):
                    self._refuse(job)

    # --- what the disk keeps -----------------------------------------------------------------------------

    def _store(self, jobs: list[StoreJob]) -> None:
        fresh = []
        for job in jobs:
            try:
                if self.receipt(job.archive, job.recording_id) == job.receipt:
                    self._stored(job)
                    continue
            except OSError as refused:
                self._answer(job, refused)
                continue
            fresh.append(job)
        rows = [(job.recording_id, self._receipt_names[job.archive], job.receipt) for job in fresh]
        for job, problem in zip(fresh, self._spool.store_receipts(rows), strict=True):
            if problem is None:
                self._stored(job)
            else:
                self._answer(job, problem)

    def _stored(self, job: StoreJob) -> None:
        self._log.info(Ev.RECEIPT_VERIFIED, subject=job.recording_id, archive=job.archive)
        self._answer(job)

    def _release(self, jobs: list[ReleaseJob]) -> None:
        due = []
        for job in jobs:
            with self._lock:
                held = self._held.get(job.recording_id)
                if held is None or held.is_gone:
                    self._answer(job)
                    continue
                if problem := self._missing(job):
                    self._answer(job, problem)
                    continue
                held.done.add(job.archive)
                is_due = len(held.done) >= self._needed
            if is_due:
                due.append(job)
            else:
                self._settle(job)
        once = {job.recording_id: job for job in due}
        names = tuple(self._receipt_names.values())
        try:
            problems = self._spool.release_all(list(once), receipts=names, needed=self._needed)
        except OSError as left:  # remainders: each is asked for again
            problems = [left] * len(once)
        came_of = dict(zip(once, problems, strict=True))
        for recording_id, problem in came_of.items():
            if problem is None:
                with self._lock:
                    self._held.pop(recording_id).is_gone = True
                self._log.info(Ev.LOCAL_COPY_DELETED, subject=recording_id)
        for job in due:
            problem = came_of[job.recording_id]
            if problem is not None:
                with self._lock:
                    self._held[job.recording_id].done.discard(job.archive)
            self._answer(job, problem)

    def _missing(self, job: ReleaseJob) -> OSError | SpoolBroken | None:
        """Say why an archive is not done with a recording: the disk may have refused its receipt."""
        path = self._spool.path(Place.CLAIMED, job.recording_id)
        try:
            if self.receipt(job.archive, job.recording_id) is not None or not path.exists():
                return None  # what was moved away with its receipts is only to be removed
        except OSError as problem:
            return problem
        return SpoolBroken(path=path, reason=f"the receipt of {job.archive} is not stored")

    def _refuse(self, job: RefusalJob) -> None:
        with self._lock:
            held = self._held.get(job.recording_id)
            if held is not None:
                held.refused[job.archive] = job.reason
        self._log.error(Ev.REFUSED_FOR_GOOD, subject=job.recording_id, archive=job.archive, reason=job.reason)
        self._settle(job)

    def _settle(self, job: ReleaseJob | RefusalJob) -> None:
        """Set a recording aside that every archive has spoken of, and too few have receipted."""
        with self._lock:
            held = self._held.get(job.recording_id)
            is_open = held is None or len(held.done) + len(held.refused) < len(self._archives)
        if held is None or is_open:
            self._answer(job)
            return
        words = [f"{name} refuses it: {reason}" for name, reason in held.refused.items()]
        words += [f"{name} has receipted it" for name in sorted(held.done)]
        self._quarantine(job, reason="; ".join(words))

    def _quarantine(self, job: QuarantineJob | RefusalJob | ReleaseJob, *, reason: str) -> None:
        try:
            with self._lock:
                held = self._held.get(job.recording_id)
                if held is not None and not held.is_gone:
                    self._spool.quarantine(job.recording_id, come_from=Place.CLAIMED, reason=reason)
                    held.is_gone = True
                    del self._held[job.recording_id]
                    self._log.error(Ev.RECORDING_QUARANTINED, subject=job.recording_id, reason=reason)
        except (OSError, SpoolBroken) as problem:
            with self._lock:
                if held is not None:  # it is asked for again
                    held.done.discard(job.archive)
                    held.refused.pop(job.archive, None)
            self._answer(job, problem)
        else:
            self._answer(job)

    def _answer(self, job: Job, problem: OSError | RecorderError | None = None) -> None:
        if problem is not None:
            doing = type(job).__name__
            self._log.error(Ev.INTERNAL_ERROR, subject=job.recording_id, doing=doing, reason=problem)
        self._answers[job.archive].put(JobDone(job=job, problem=str(problem) if problem is not None else ""))

    def _load(self, recording_id: str, *, priority: int) -> None:
        folder = self._spool.path(Place.CLAIMED, recording_id)
        try:
            self._held[recording_id] = Held(files=list_files(folder), priority=priority)
        except (SpoolBroken, OSError) as problem:
            if isinstance(problem, OSError) and is_passing(problem):
                self._log.error(Ev.INTERNAL_ERROR, subject=recording_id, reason=problem)
                return  # the next adoption tries again
            self._held[recording_id] = Held(broken=f"broken in the spool: {problem}")
