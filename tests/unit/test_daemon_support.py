"""Control socket, journal fields, folder lock: what every daemon leans on."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from recorderd.app.control import CLIENT_TIMEOUT_S, ControlServer, ask
from recorderd.app.service import FolderLock, set_up_logging, watchdog_interval_s
from recorderd.core.clock import SystemClock
from recorderd.core.errors import AlreadyRunning, ControlUnavailable, PortTaken
from recorderd.core.events import Ev, EventLog


def a_log() -> EventLog:
    return EventLog(logger=logging.getLogger("test"), clock=SystemClock())


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, EventLog]]:
    """A control socket at a path longer than a unix socket's address may be."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    path, log, stop = folder / "x.sock", a_log(), threading.Event()

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        return {"echo": request, "none": 1 // request.get("divisor", 1)}

    server = ControlServer(path, answer, log=log)
    thread = server.start(stop)
    yield path, log
    stop.set()
    thread.join(5)
    server.close()
    assert not path.exists()


def test_a_request_gets_its_reply_and_only_the_group_may_ask(served: tuple[Path, EventLog]) -> None:
    path, _ = served
    assert ask(path, {"command": "status"})["echo"] == {"command": "status"}
    assert path.stat().st_mode & 0o777 == 0o660


def test_bad_requests_are_answered_counted_and_not_the_end(served: tuple[Path, EventLog]) -> None:
    path, log = served
    for raw in (b"rubbish\n", b"[]\n", b"\xff\n"):
        with socket.socket(socket.AF_UNIX) as client:
            descriptor = os.open(path.parent, os.O_RDONLY)
            client.connect(f"/proc/self/fd/{descriptor}/{path.name}")
            os.close(descriptor)
            client.sendall(raw)
            assert b"error" in client.recv(1000)
    assert "ZeroDivisionError" in ask(path, {"divisor": 0})["error"]
    assert ask(path, {})["echo"] == {}
    assert (log.counters()["control_malformed"], log.counters()["internal_error"]) == (3, 1)


def test_a_client_that_sends_bit_by_bit_costs_others_its_timeout_and_no_more(
    served: tuple[Path, EventLog],
) -> None:
    path, log = served
    with socket.socket(socket.AF_UNIX) as slow:
        descriptor = os.open(path.parent, os.O_RDONLY)
        slow.connect(f"/proc/self/fd/{descriptor}/{path.name}")
        os.close(descriptor)
        over = threading.Event()

        def dribble() -> None:
            with contextlib.suppress(OSError):
                while not over.wait(0.2):
                    slow.sendall(b" ")

        dribbling = threading.Thread(target=dribble)
        dribbling.start()
        try:
            assert ask(path, {"command": "status"}, timeout_s=3 * CLIENT_TIMEOUT_S)["echo"]
        finally:
            over.set()
            dribbling.join()
    assert log.counters()["control_malformed"] == 1


def test_who_asks_while_no_descriptor_is_free_is_answered_when_one_is(tmp_path: Path) -> None:
    path, log, stop = tmp_path / "x.sock", a_log(), threading.Event()
    server = ControlServer(path, dict, log=log)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        free = os.open(path.parent, os.O_RDONLY)
        client.connect(f"/proc/self/fd/{free}/{path.name}")
        os.close(free)
        client.sendall(b'{"pause": 1}\n')
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        thread = server.start(stop)
        try:
            until_s = time.monotonic() + 30
            while not log.counters().get("internal_error") and thread.is_alive():
                assert time.monotonic() < until_s
                time.sleep(0.02)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        try:
            assert thread.is_alive()
            assert client.recv(100) == b'{"pause": 1}\n'
        finally:
            stop.set()
            thread.join()
            server.close()


def test_a_living_socket_is_respected_and_a_stale_one_replaced(served: tuple[Path, EventLog]) -> None:
    path, log = served
    with pytest.raises(PortTaken):
        ControlServer(path, dict, log=log)
    stale = path.with_name("stale.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        descriptor = os.open(stale.parent, os.O_RDONLY)
        dead.bind(f"/proc/self/fd/{descriptor}/{stale.name}")
        os.close(descriptor)
    with pytest.raises(ControlUnavailable):
        ask(stale, {})
    ControlServer(stale, dict, log=log).close()
    with pytest.raises(ControlUnavailable):
        ask(path.with_name("absent.sock"), {})


def test_a_folder_has_one_holder(tmp_path: Path) -> None:
    first = FolderLock(tmp_path / "lock")
    with pytest.raises(AlreadyRunning):
        FolderLock(tmp_path / "lock")
    first.close()
    FolderLock(tmp_path / "lock").close()


def test_a_signal_that_finds_the_main_thread_at_its_tokens_lock_is_taken() -> None:
    code = (
        "import os, signal\n"
        "from recorderd.app.service import Service\n"
        "service = Service(program='x')\n"
        "service.take_hangups()\n"
        "for number, token in (signal.SIGHUP, service.reload), (signal.SIGTERM, service.stop):\n"
        "    with token._cond:  # as Event.wait holds it for a moment, before and after it waits\n"
        "        os.kill(os.getpid(), number)\n"
        "    assert token.wait(30)\n"
        "print('both were taken')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert told.stdout == "both were taken\n", told.stderr


@pytest.mark.parametrize(("value", "seconds"), [("30000000", 10.0), ("rubbish", 0.0), ("", 0.0)])
def test_the_watchdog_is_fed_three_times_within_its_limit(value: str, seconds: float) -> None:
    assert watchdog_interval_s({"WATCHDOG_USEC": value}) == seconds


def test_events_reach_the_journal_with_their_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr("recorderd.app.service.stderr_is_journal", lambda _: True)
    monkeypatch.setattr("systemd.journal.send", lambda text, **fields: sent.append({**fields, "text": text}))
    log = EventLog(logger=set_up_logging(program="test-journal", level="info"), clock=SystemClock())
    log.warning(Ev.LINK_DOWN, subject="x", reason="a\nb", message="also a field")
    (entry,) = sent
    assert entry["MESSAGE_ID"] == Ev.LINK_DOWN.message_id
    assert (entry["RECORDERD_EVENT"], entry["RECORDERD_REASON"]) == ("link_down", "a\nb")
    assert entry["SYSLOG_IDENTIFIER"] == "test-journal" and "\n" not in entry["text"]
    assert all(name.isupper() for name in entry if name != "text")


def test_an_event_is_one_line_with_its_utc_time_whatever_its_fields_hold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorderd.app.service.stderr_is_journal", lambda _: False)
    log = EventLog(logger=set_up_logging(program="test-lines", level="info"), clock=SystemClock())
    began_s = time.time()
    log.info(Ev.STREAM_ENDED, subject="s/1", cause="bye")
    log.error(Ev.LINK_DOWN, reason="a\nb")
    first, second = capsys.readouterr().err.splitlines()
    stamp, _, rest = first.partition(" ")
    written_s = datetime.fromisoformat(stamp).timestamp()
    assert stamp.endswith("Z") and len(stamp) == len("2026-11-23T06:22:36.125Z")
    assert began_s - 0.001 <= written_s <= time.time()
    assert (rest, second.partition(" ")[2]) == (
        "INFO stream_ended subject=s/1 cause=bye",
        "ERROR link_down reason='a\\nb'",
    )
    log = EventLog(logger=set_up_logging(program="test-lines", level="warning"), clock=SystemClock())
    log.info(Ev.STREAM_ENDED, subject="s/2")
    assert (capsys.readouterr().err, log.counters()) == ("", {"stream_ended": 1})


def test_cycles_are_still_found_after_the_start_has_settled() -> None:
    program = """
import gc, weakref
from recorderd.app.service import GARBAGE_LOOK_AFTER, settle_memory
class Knot: pass
settle_memory()
assert gc.get_freeze_count() > 1_000
knots = []
for _ in range(3 * GARBAGE_LOOK_AFTER):
    knot = Knot()
    knot.itself = knot
    knots.append(weakref.ref(knot))
print(sum(knot() is not None for knot in knots) <= 2 * GARBAGE_LOOK_AFTER, gc.get_stats()[2]["collections"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "1"]  # one look at everything: that of the start itself
