"""Long work that somebody begins and asks after later: one thread for each kind, told of in the database.

Contract: a job's row stands before its work begins; begin and end are rows of the audit log too. Of each kind
one is under way at a time in one process; another one is refused. Any front end tells of every job, and takes
the word that stops it. What is under way when its process ends is called cut by the next process of that
front end: each work may be cut anywhere and begun again. The newest jobs are kept, the others' rows go.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from threading import Event as StopToken
from typing import Any, Final, Protocol

from sqlalchemy import Connection, delete, func, insert, select, update

from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.database import Database, storable
from recorderd.archive.job_tables import JOBS
from recorderd.core.clock import Clock, utc_text
from recorderd.core.errors import CatalogueFailed, JobStopped, JobUnderWay, RecorderError
from recorderd.core.events import Ev, EventLog

JOBS_KEPT: Final = 200
_LOOK_S: Final = 1.0
_LET_END_S: Final = 5.0  # a row is written within that, unless the database is away
_J: Final = JOBS.c


class Work(StrEnum):
    """What a job may do."""

    FSCK = "fsck"
    REINDEX = "reindex"
    SWEEP = "sweep"
    RENEW = "renew"
    MIRROR = "mirror"
    DELIVER = "deliver"
    SCRUB = "scrub"


class JobState(StrEnum):
    """How a job stands; whoever has ended stays so."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"  # as somebody wanted, or because the process had to end
    CUT = "cut"  # its process ended without a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job as it stands."""

    number: int
    work: Work
    who: str
    front_end: str  # that does it; empty: the only one
    begun_at: str
    ended_at: str  # empty: under way
    state: JobState
    step: str  # what it is at
    counts: str  # what ``done`` and ``total`` count; empty: octets
    done: int
    total: int  # 0: not known
    stop_by: str  # who wanted it stopped
    result: dict[str, Any] | None
    problem: str


class Step(Protocol):
    """A part of long work, of which is told how far it is."""

    def advance(self, size_bytes: int, /) -> None:
        """Note that so many more octets, or things, are done."""


class Working(Protocol):
    """Begins a part of long work: shows a bar, or tells it in a job."""

    def __call__(
        self, what: str, /, *, total_bytes: int | None = None, counts: str = ""
    ) -> AbstractContextManager[Step]:
        """Begin a part; it ends with its context."""


class Telling:
    """Through which a work tells how far it is, and hears that it is to stop.

    Thread: the work's; ``stop`` and what is read, any.
    """

    def __init__(self) -> None:
        self._stop = StopToken()
        self._halt: StopToken | None = None
        self.step, self.counts, self.done, self.total = "", "", 0, 0

    @contextmanager
    def working(self, what: str, /, *, total_bytes: int | None = None, counts: str = "") -> Iterator[Step]:
        """Begin a part of work that asks by itself whether it is to stop."""
        self.step, self.counts, self.done, self.total = what, counts, 0, total_bytes or 0
        yield self

    @contextmanager
    def cutting(self, what: str, /, *, total_bytes: int | None = None, counts: str = "") -> Iterator[Step]:
        """Begin a part of work that may be cut wherever it tells how far it is.

        Errors: JobStopped, of ``advance``.
        """
        with self.working(what, total_bytes=total_bytes, counts=counts):
            yield _Cutting(self)

    def advance(self, size_bytes: int, /) -> None:
        """Note that so many more octets, or things, are done."""
        self.done += size_bytes

    def stopped(self) -> bool:
        """Tell whether the work is to stop."""
        return self._stop.is_set() or (self._halt is not None and self._halt.is_set())

    def stop(self) -> None:
        """Want it stopped."""
        self._stop.set()

    def halt_by(self, stop: StopToken) -> None:
        """Let it stop with its process too."""
        self._halt = stop


class _Cutting:
    def __init__(self, telling: Telling) -> None:
        self._telling = telling

    def advance(self, size_bytes: int, /) -> None:
        self._telling.advance(size_bytes)
        if self._telling.stopped():
            raise JobStopped


@dataclass(frozen=True, slots=True, kw_only=True)
class _Live:
    number: int
    work: Work
    who: Actor
    run: Callable[[Telling], dict[str, Any]]
    telling: Telling


class Jobs:
    """The jobs of one process.

    Thread: any; each of the ``loops`` has one of its own.
    Errors: CatalogueFailed.
    """

    def __init__(
        self, database: Database, audit: AuditLog, *, front_end: str, clock: Clock, log: EventLog
    ) -> None:
        self._database = database
        self._audit = audit
        self._front_end = front_end
        self._clock = clock
        self._log = log
        self._changed = threading.Condition()
        self._live: dict[Work, _Live | None] = {}  # None: is just being written down
        self._ending: set[Work] = set()  # done, but its row may not tell so yet

    def loops(self) -> Mapping[str, Callable[[StopToken], None]]:
        """Give the work of each thread, by the thread's name."""
        return {"jobs": self._tell} | {f"job-{work}": self._worker(work) for work in Work}

    def settle(self) -> None:
        """Call cut what a former process of this front end has left under way."""
        ours = (_J.front_end == self._front_end, _J.state == JobState.RUNNING.value)
        with self._database.write() as connection:
            for number, work in connection.execute(select(_J.number, _J.work).where(*ours)).all():
                ended = {"state": JobState.CUT.value, "ended_at": self._now()}
                connection.execute(update(JOBS).where(_J.number == number).values(**ended))
                who = Actor(name="archive:jobs")
                self._audit.note(
                    who, f"{work}_ended", f"job {number}", outcome="failed", connection=connection,
                    detail="its process ended",
                )  # fmt: skip

    def begin(
        self, work: Work, who: Actor, run: Callable[[Telling], dict[str, Any]], *, reason: str, detail: str
    ) -> Job:
        """Write a job down and let it begin.

        Durable: after return its row survives, and that it was begun is in the audit log.
        Errors: JobUnderWay.
        """
        with self._changed:
            self._let_end(work)
            if work in self._live:
                live = self._live[work]
                raise JobUnderWay(number=live.number if live is not None else "of another", work=work)
            self._live[work] = None
        live = None
        try:
            with self._database.write() as connection:
                job = self._written(connection, work, who)
                self._audit.note(
                    who, f"{work}_begun", f"job {job.number}", reason=reason, detail=detail,
                    connection=connection,
                )  # fmt: skip
            live = _Live(number=job.number, work=work, who=who, run=run, telling=Telling())
        finally:
            with self._changed:
                if live is None:
                    del self._live[work]
                else:
                    self._live[work] = live
                self._changed.notify_all()
        return job

    def find(self, number: int) -> Job | None:
        """Tell of a job."""
        with self._database.read() as connection:
            row = connection.execute(select(JOBS).where(_J.number == number)).mappings().first()
        return self._job(row) if row is not None else None

    def newest(self, limit: int) -> list[Job]:
        """List jobs, the newest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(JOBS).order_by(_J.number.desc()).limit(limit)).mappings().all()
        return [self._job(row) for row in rows]

    def stop(self, number: int, who: Actor, *, reason: str) -> bool:
        """Want a job stopped, whichever front end does it; say whether it was under way."""
        # Ours hears of it first: a reindex holds the database against whoever writes until it ends.
        ours = self._stop_ours(number)
        wanted = (_J.number == number, *(() if ours else (_J.state == JobState.RUNNING.value,)))
        with self._database.write() as connection:
            if not connection.execute(update(JOBS).where(*wanted).values(stop_by=who.name)).rowcount:
                return False
            self._audit.note(who, "job_stopped", f"job {number}", reason=reason, connection=connection)
        return True

    # --- threads -------------------------------------------------------------------------------------

    def _worker(self, work: Work) -> Callable[[StopToken], None]:
        def run(stop: StopToken) -> None:
            """Do what is begun of one kind.

            # thread: job-WORK
            """
            while (live := self._next(work, stop)) is not None:
                self._do(live, stop)
                with self._changed:
                    del self._live[work]
                    self._ending.discard(work)
                    self._changed.notify_all()

        return run

    def _next(self, work: Work, stop: StopToken) -> _Live | None:
        with self._changed:
            while not stop.is_set():
                if (live := self._live.get(work)) is not None:
                    return live
                self._changed.wait(_LOOK_S)
        return None

    def _do(self, live: _Live, stop: StopToken) -> None:
        live.telling.halt_by(stop)
        state, result, problem = JobState.DONE, None, ""
        try:
            result = live.run(live.telling)
        except JobStopped:
            state = JobState.STOPPED
        except (RecorderError, OSError) as failure:
            state, problem = JobState.FAILED, str(failure)
        except Exception as failure:  # the next job must still be done
            state, problem = JobState.FAILED, "a mistake in this program; its log has it"
            reason = f"{type(failure).__name__}: {failure}"
            self._log.error(Ev.INTERNAL_ERROR, subject=f"job {live.number}", reason=reason)
        with self._changed:
            self._ending.add(live.work)  # from here on nobody stops it
            if state is JobState.DONE and live.telling.stopped():
                state = JobState.STOPPED
        if problem:
            self._log.error(Ev.JOB_FAILED, subject=live.work, job=live.number, reason=problem)
        else:
            self._log.info(Ev.JOB_ENDED, subject=live.work, job=live.number, state=state)
        while not self._ended(live, state, result, problem) and not stop.wait(_LOOK_S):
            pass  # the database is away; who stops now leaves a job that was cut

    def _ended(self, live: _Live, state: JobState, result: dict[str, Any] | None, problem: str) -> bool:
        told = json.dumps(result, ensure_ascii=False, default=str) if result is not None else ""
        row = {"state": state.value, "ended_at": self._now(), "result": storable(told)}
        row["problem"] = storable(problem)
        outcome = "done" if state is JobState.DONE else "failed"
        try:
            with self._database.write() as connection:
                connection.execute(
                    update(JOBS).where(_J.number == live.number).values(**row, **_progress(live.telling))
                )
                self._audit.note(
                    live.who, f"{live.work}_ended", f"job {live.number}", outcome=outcome,
                    detail=problem or state.value, connection=connection,
                )  # fmt: skip
        except CatalogueFailed as failure:
            self._log.warning(Ev.JOB_FAILED, subject=live.work, job=live.number, reason=failure)
            return False
        return True

    def _tell(self, stop: StopToken) -> None:
        """Write down how far jobs are, and hear who wants one stopped at another front end.

        # thread: jobs
        """
        told: dict[int, dict[str, Any]] = {}
        while not stop.wait(_LOOK_S):
            running = self._running()
            told = {live.number: told[live.number] for live in running if live.number in told}
            for live in running:
                progress = _progress(live.telling)
                try:
                    with self._database.read() as connection:
                        query = select(_J.stop_by).where(_J.number == live.number)
                        if connection.execute(query).scalar():
                            live.telling.stop()
                    if progress != told.get(live.number):
                        of_job = (_J.number == live.number, _J.state == JobState.RUNNING.value)
                        with self._database.write() as connection:
                            connection.execute(update(JOBS).where(*of_job).values(**progress))
                        told[live.number] = progress
                except CatalogueFailed:  # a reindex writes for long; the next look tells
                    continue

    def _let_end(self, work: Work) -> None:
        """Wait, not for long, until a job that is done is out of the way of whoever reads of its end.

        Thread: any that holds ``_changed``.
        """
        self._changed.wait_for(lambda: work not in self._ending, timeout=_LET_END_S)

    def _stop_ours(self, number: int) -> bool:
        """Stop a job that this process does; say whether there was one that had not come to its end."""
        with self._changed:
            for live in [live for live in self._live.values() if live is not None and live.number == number]:
                self._let_end(live.work)
                if self._live.get(live.work) is live and live.work not in self._ending:
                    live.telling.stop()
                    return True
        return False

    # --- rows ----------------------------------------------------------------------------------------

    def _running(self) -> list[_Live]:
        with self._changed:
            return [live for live in self._live.values() if live is not None]

    def _written(self, connection: Connection, work: Work, who: Actor) -> Job:
        number = int(connection.execute(select(func.max(_J.number))).scalar() or 0) + 1
        row: dict[str, Any] = dict.fromkeys(
            ("ended_at", "step", "counts", "stop_by", "result", "problem"), ""
        )
        row |= {"number": number, "work": work.value, "who": who.name, "front_end": self._front_end}
        row |= {"begun_at": self._now(), "state": JobState.RUNNING.value, "done": 0, "total": 0}
        connection.execute(insert(JOBS), row)
        connection.execute(
            delete(JOBS).where(_J.number <= number - JOBS_KEPT, _J.state != JobState.RUNNING.value)
        )
        return _job(row)

    def _job(self, row: Mapping[Any, Any]) -> Job:
        job = _job(row)
        if job.state is JobState.RUNNING:
            for live in self._running():
                if live.number == job.number:
                    return replace(job, **_progress(live.telling))
        return job

    def _now(self) -> str:
        return utc_text(self._clock.utc_ns())


def _progress(telling: Telling) -> dict[str, Any]:
    told = {"step": telling.step, "counts": telling.counts}
    return told | {"done": telling.done, "total": telling.total}


def _job(row: Mapping[Any, Any]) -> Job:
    told = dict(row) | {"work": Work(row["work"]), "state": JobState(row["state"])}
    return Job(**told | {"result": json.loads(row["result"]) if row["result"] else None})
