"""The machine's clock under watch: who is asked, what is an alarm, and what is noticed of a step."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import pytest

import recorderd.app.host_clock as host_clock
from recorderd.app.host_clock import HostClock
from recorderd.app.short_program import ask_program
from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.errors import ProgramFailed
from recorderd.core.events import EventLog
from tests.support.programs import wait_until
from tests.unit.test_time_sources import CHRONY_ALONE, CHRONY_SLOW, TIMESYNC


class Clocks:
    """Two clocks that a test moves."""

    def __init__(self) -> None:
        self.mono, self.utc = 5 * NS_PER_S, 1_800_000_000 * NS_PER_S

    def mono_ns(self) -> int:
        self.mono += 100
        return self.mono

    def utc_ns(self) -> int:
        return self.utc + self.mono


class Watched:
    """A clock under watch, with programs that a test writes."""

    def __init__(self, folder: Path, *, offset_limit_ms: int = 1000) -> None:
        self.dir = folder / "bin"
        self.dir.mkdir()
        self.clocks = Clocks()
        self.log = EventLog(logger=logging.getLogger("clock"), clock=self.clocks)
        self.host = HostClock(
            clock=self.clocks,
            log=self.log,
            offset_limit_ms=offset_limit_ms,
            check_s=60,
            program_dirs=str(self.dir),
        )

    def program(self, name: str, body: str) -> None:
        path = self.dir / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def says(self, name: str, output: bytes) -> None:
        (self.dir / f"{name}.output").write_bytes(output)
        self.program(name, f'cat "{self.dir}/{name}.output"')

    def events(self) -> dict[str, int]:
        return {name: count for name, count in self.log.counters().items() if name.startswith("clock_")}


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_chrony_goes_before_timesyncd_and_that_before_the_kernel(watched: Watched) -> None:
    watched.host.check()
    assert watched.host.statement(0).source == "adjtimex"
    watched.says("timedatectl", TIMESYNC)
    watched.host.check()
    assert watched.host.statement(0).source == "timesyncd"
    watched.program("chronyc", "echo '506 Cannot talk to daemon'; exit 1")
    watched.host.check()
    assert watched.host.statement(0).source == "timesyncd"
    watched.says("chronyc", CHRONY_SLOW)
    watched.host.check()
    statement = watched.host.statement(0)
    assert (statement.source, statement.stratum, statement.offset_ns) == ("chrony", 4, 249_998_808)
    assert statement.checked_at == "2027-01-15T08:00:05.000Z"
    assert "clock_source_failed" not in watched.events()


def test_the_programs_are_asked_in_their_words_and_ours(watched: Watched) -> None:
    for name in ("chronyc", "timedatectl"):
        watched.program(name, f'echo "$LC_ALL $@" > {watched.dir}/{name}.asked; exit 1')
    watched.host.check()
    asked = {path.stem: path.read_text().strip() for path in watched.dir.glob("*.asked")}
    assert asked == {"chronyc": "C -n -c tracking", "timedatectl": "C --no-pager timesync-status"}


def test_each_change_of_the_clocks_health_is_one_event(watched: Watched) -> None:
    watched.says("chronyc", CHRONY_SLOW)
    for _ in range(3):
        watched.host.check()
    assert watched.events() == {"clock_synchronised": 1}
    watched.says("chronyc", CHRONY_SLOW.replace(b"0.249998808", b"-1.000000001"))
    for _ in range(3):
        watched.host.check()
    assert watched.events() == {"clock_synchronised": 1, "clock_offset": 1}
    assert watched.host.describe()["health"] == "offset"
    watched.says("chronyc", CHRONY_ALONE)
    for _ in range(3):
        watched.host.check()
    assert watched.events() == {"clock_synchronised": 1, "clock_offset": 1, "clock_unsynchronised": 1}
    watched.says("chronyc", CHRONY_SLOW.replace(b"0.249998808", b"-1.000000000"))
    watched.host.check()
    assert watched.events()["clock_synchronised"] == 2
    assert watched.host.describe()["offset_ms"] == -1000.0


def test_the_limit_is_as_configured(tmp_path: Path) -> None:
    watched = Watched(tmp_path, offset_limit_ms=200)
    watched.says("chronyc", CHRONY_SLOW)
    watched.host.check()
    assert watched.events() == {"clock_offset": 1}


@pytest.mark.parametrize(
    "body",
    [
        "echo rubbish",
        "head -c 100 /dev/urandom",
        "exec yes",
        "true",
    ],
)
def test_a_program_that_says_something_else_is_one_event_and_the_next_source_is_asked(
    watched: Watched, body: str
) -> None:
    watched.program("chronyc", body)
    watched.says("timedatectl", TIMESYNC)
    watched.host.check()
    assert watched.host.statement(0).source == "timesyncd"
    assert watched.events()["clock_source_failed"] == 1


def test_a_program_that_cannot_be_started_is_one_event(watched: Watched) -> None:
    watched.says("timedatectl", TIMESYNC)
    (watched.dir / "chronyc").write_bytes(b"\x7fELF and nothing else")
    (watched.dir / "chronyc").chmod(0o755)
    watched.host.check()
    assert watched.host.statement(0).source == "timesyncd"
    assert watched.events()["clock_source_failed"] == 1


@pytest.mark.parametrize("body", ["sleep 60 & sleep 60", "exec >&-; sleep 60", "trap '' TERM; sleep 60"])
def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path, body: str) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\n{body}\n")
    program.chmod(0o755)
    begun_s = time.monotonic()  # the program's children would go on for a minute
    with pytest.raises(ProgramFailed, match=r"did not end within 0\.3 s"):
        ask_program([str(program)], limit_s=0.3, limit_bytes=1000)
    assert time.monotonic() - begun_s < 30
    group = int((tmp_path / "pid").read_text())
    wait_until(lambda: not _lives(group), what="nothing of it runs")


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    states = [
        path.read_text().rpartition(")")[2].split()
        for path in Path("/proc").glob("[0-9]*/stat")
        if path.exists()
    ]
    return any(int(row[2]) == group and row[0] != "Z" for row in states)


def test_nobody_waits_for_a_program_that_hangs(watched: Watched) -> None:
    hang = f"while [ ! -e {watched.dir}/enough ]; do sleep 0.05; done"
    watched.program("chronyc", f"touch {watched.dir}/runs; {hang}")
    checking = threading.Thread(target=watched.host.check)
    checking.start()
    wait_until((watched.dir / "runs").exists, what="it runs")
    for _ in range(100):
        watched.host.statement(0)
        watched.host.describe()
    assert checking.is_alive()
    (watched.dir / "enough").touch()
    checking.join()


def test_a_step_is_noticed_once_and_told_to_whoever_was_recording(watched: Watched) -> None:
    before, clocks = watched.clocks.mono_ns(), watched.clocks
    clocks.mono += 60 * NS_PER_S
    watched.host.look()
    assert watched.events() == {}
    clocks.utc -= 1500 * NS_PER_MS
    assert watched.host.statement(before).stepped_ns == -1500 * NS_PER_MS
    watched.host.look()
    assert watched.events() == {"clock_stepped": 1}
    clocks.mono += NS_PER_S
    later = clocks.mono_ns()
    assert watched.host.statement(later).stepped_ns == 0
    clocks.utc += 500 * NS_PER_MS
    watched.host.look()
    assert watched.host.statement(later).stepped_ns == 500 * NS_PER_MS
    assert watched.host.statement(before).stepped_ns == -1000 * NS_PER_MS
    assert watched.host.describe()["steps"] == 2


def test_what_a_busy_machine_does_between_two_looks_is_no_step(watched: Watched) -> None:
    before = watched.clocks.mono_ns()
    watched.clocks.utc += 9 * NS_PER_MS
    assert watched.host.statement(before).stepped_ns == 0
    assert watched.events() == {}


def test_the_thread_checks_at_once_and_ends_when_asked(watched: Watched) -> None:
    watched.says("chronyc", CHRONY_SLOW)
    stop = threading.Event()
    thread = threading.Thread(target=watched.host.run, args=(stop,))
    thread.start()
    wait_until(lambda: watched.host.describe()["source"] == "chrony", what="the first check")
    stop.set()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_a_stop_does_not_wait_for_a_program_that_hangs(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_clock, "ANSWER_LIMIT_S", 60)
    watched.program("chronyc", f"echo $$ > {watched.dir}/pid; sleep 60")
    stop = threading.Event()
    thread = threading.Thread(target=watched.host.run, args=(stop,))
    thread.start()
    wait_until(lambda: (watched.dir / "pid").exists() and (watched.dir / "pid").read_text(), what="it hangs")
    stop.set()
    thread.join(timeout=30)
    assert not thread.is_alive()
    group = int((watched.dir / "pid").read_text())
    wait_until(lambda: not _lives(group), what="nothing of it runs")
    assert watched.events() == {}
