"""Jobs: told of by every front end, one of a kind at a time, stopped from anywhere, cut by a kill."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from recorderd.archive import jobs as jobs_module
from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.database import Database
from recorderd.archive.jobs import Job, Jobs, JobState, Telling, Work
from recorderd.archive.migrations import migrate
from recorderd.core.clock import SystemClock
from recorderd.core.errors import CatalogueFailed, JobUnderWay
from recorderd.core.events import EventLog
from tests.support.programs import wait_until

WHO = Actor(name="account:alice", address="192.0.2.7")
Run = Callable[[Telling], dict[str, Any]]


class Process:
    """One front end's process with its jobs; it ends with its context."""

    def __init__(self, url: str, name: str) -> None:
        clock = SystemClock()
        self.database = Database(url)
        migrate(self.database)
        self.audit = AuditLog(self.database, clock=clock)
        self.log = EventLog(logger=logging.getLogger("test.jobs"), clock=clock)
        self.jobs = Jobs(self.database, self.audit, front_end=name, clock=clock, log=self.log)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=work, args=(self._stop,), name=name, daemon=True)
            for name, work in self.jobs.loops().items()
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(30)
        self.database.close()

    def begin(self, work: Work, run: Run) -> Job:
        return self.jobs.begin(work, WHO, run, reason="request 17", detail="")

    def ended(self, number: int) -> Job:
        """Wait for a job's end."""
        wait_until(
            lambda: self.find(number).state is not JobState.RUNNING, what=f"job {number}", timeout_s=60
        )
        return self.find(number)

    def find(self, number: int) -> Job:
        found = self.jobs.find(number)
        assert found is not None
        return found

    def rows(self) -> list[tuple[str, str, str, str]]:
        return [(row.what, row.outcome, row.who, row.subject) for row in reversed(self.audit.rows())]


@pytest.fixture
def processes(catalogue_url: str) -> Iterator[Callable[[str], Process]]:
    with ExitStack() as stack:

        @contextmanager
        def running(name: str) -> Iterator[Process]:
            process = Process(catalogue_url, name)
            yield process
            process.end()

        yield lambda name: stack.enter_context(running(name))


def until_stopped(telling: Telling) -> dict[str, Any]:
    """Work until somebody wants it stopped, and tell how far it is."""
    with telling.cutting("counting", total_bytes=10**9, counts="sheep") as step:
        while True:
            step.advance(1)
            threading.Event().wait(0.005)


def test_what_came_of_a_job_is_told_by_every_front_end_and_by_the_audit_log(
    processes: Callable[[str], Process],
) -> None:
    here, there = processes("a"), processes("b")
    here.start()
    job = here.begin(Work.FSCK, lambda _: {"verdict": "good"})
    assert (job.state, job.result) == (JobState.RUNNING, None)
    told = there.ended(job.number)
    assert (told.state, told.result, told.front_end) == (JobState.DONE, {"verdict": "good"}, "a")
    assert told.ended_at >= told.begun_at
    assert here.rows() == [
        ("fsck_begun", "done", WHO.name, f"job {job.number}"),
        ("fsck_ended", "done", WHO.name, f"job {job.number}"),
    ]


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (CatalogueFailed(path="catalogue", reason="is broken"), "catalogue"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (ZeroDivisionError("a secret"), "a mistake in this program"),
    ],
)
def test_a_job_that_fails_says_why_and_the_next_one_is_done(
    processes: Callable[[str], Process], failure: Exception, told: str
) -> None:
    def fail(_: Telling) -> dict[str, Any]:
        raise failure

    process = processes("")
    process.start()
    job = process.ended(process.begin(Work.SWEEP, fail).number)
    assert job.state is JobState.FAILED
    assert told in job.problem
    assert "secret" not in job.problem
    assert process.rows()[-1][:2] == ("sweep_ended", "failed")
    wait_until(lambda: process.log.counters().get("job_failed") == 1, what="the event")
    assert process.ended(process.begin(Work.SWEEP, lambda _: {}).number).state is JobState.DONE


def test_one_of_a_kind_is_under_way_and_any_front_end_stops_it(processes: Callable[[str], Process]) -> None:
    here, there = processes("a"), processes("b")
    here.start()
    there.start()
    job = here.begin(Work.FSCK, until_stopped)
    with pytest.raises(JobUnderWay, match=f"Job {job.number} "):
        here.begin(Work.FSCK, lambda _: {})
    other = here.begin(Work.SCRUB, lambda _: {})  # of another kind
    assert here.ended(other.number).state is JobState.DONE
    wait_until(lambda: there.find(job.number).done > 0, what="progress that the other front end sees")
    seen = there.find(job.number)
    assert (seen.step, seen.counts, seen.total) == ("counting", "sheep", 10**9)
    assert there.jobs.stop(job.number, Actor(name="account:bob"), reason="too slow")
    told = here.ended(job.number)
    assert (told.state, told.stop_by, told.result) == (JobState.STOPPED, "account:bob", None)
    assert not there.jobs.stop(job.number, WHO, reason="again")
    assert ("job_stopped", "done", "account:bob", f"job {job.number}") in here.rows()
    assert here.begin(Work.FSCK, lambda _: {}).number > job.number


def test_who_reads_of_a_job_s_end_begins_the_next_and_stops_it_no_more(
    processes: Callable[[str], Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = Jobs._ended

    def be_slow(*arguments: Any) -> bool:
        is_written = ended(*arguments)
        threading.Event().wait(0.5)  # the thread gets no processor behind its commit
        return is_written

    monkeypatch.setattr(Jobs, "_ended", be_slow)
    process = processes("")
    process.start()
    first = process.ended(process.begin(Work.FSCK, lambda _: {}).number)
    assert not process.jobs.stop(first.number, WHO, reason="too late")
    assert process.find(first.number) == first
    assert "job_stopped" not in {row[0] for row in process.rows()}
    second = process.ended(process.begin(Work.FSCK, lambda _: {}).number)
    assert process.begin(Work.FSCK, lambda _: {}).number == second.number + 1 == first.number + 2


def test_a_job_whose_process_ends_is_stopped_and_one_that_was_killed_is_called_cut(
    processes: Callable[[str], Process],
) -> None:
    here, there, killed = processes("a"), processes("b"), processes("c")
    here.start()
    stopped = here.begin(Work.FSCK, until_stopped)
    wait_until(lambda: here.find(stopped.number).done > 0, what="work")
    here.end()
    assert there.find(stopped.number).state is JobState.STOPPED
    job = killed.begin(Work.MIRROR, until_stopped)  # it has no threads: as after a kill
    there.jobs.settle()
    assert there.find(job.number).state is JobState.RUNNING  # it may well live
    processes("c").jobs.settle()
    told = there.find(job.number)
    assert (told.state, bool(told.ended_at)) == (JobState.CUT, True)
    assert there.rows()[-1] == ("mirror_ended", "failed", "archive:jobs", f"job {job.number}")


def test_only_the_newest_jobs_are_kept_and_no_number_comes_twice(
    processes: Callable[[str], Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "JOBS_KEPT", 3)
    process = processes("")
    process.start()
    numbers = []
    for _ in range(6):
        numbers.append(process.begin(Work.FSCK, lambda _: {}).number)
        process.ended(numbers[-1])
    assert numbers == [1, 2, 3, 4, 5, 6]
    assert [job.number for job in process.jobs.newest(10)] == [6, 5, 4]
    assert process.jobs.find(1) is None
