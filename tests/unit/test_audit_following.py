"""Rows of the audit log reach journal and syslog: in order, none left out, also after an outage."""

from __future__ import annotations

import json
import logging
import re
import socket
from pathlib import Path

import pytest

from recorderd.archive.audit_following import Follower, JournalTarget, SyslogTarget
from recorderd.core.clock import SystemClock
from recorderd.core.events import Ev, EventLog
from tests.support.audit_logs import ALICE, open_log
from tests.support.free_ports import free_port

HEAD = re.compile(rb"<(\d+)>1 (\S+Z) (\S+) recorder-archive (\d+) (\S+) - \xef\xbb\xbf")


def quiet_log() -> EventLog:
    return EventLog(logger=logging.getLogger("test.audit"), clock=SystemClock())


def told(message: bytes) -> tuple[int, str, dict[str, object]]:
    """Read a message as RFC 5424 has it: priority, MSGID, and our row."""
    head = HEAD.match(message)
    assert head is not None, message
    return int(head[1]), head[5].decode(), json.loads(message[head.end() :])


def counted(stream: bytes) -> list[bytes]:
    """Take a stream apart as RFC 6587 section 3.4.1 has it."""
    messages = []
    while stream:
        size, _, rest = stream.partition(b" ")
        messages.append(rest[: int(size)])
        stream = rest[int(size) :]
    return messages


def test_each_row_is_one_event_with_its_columns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database, log = open_log(tmp_path / "a.sqlite3", rows=2)
    events = quiet_log()
    with caplog.at_level(logging.INFO, logger="test.audit"):
        follower = Follower(database, log, JournalTarget(events), log=events)
        assert follower.step() == 2
        assert follower.step() == 0
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith("audited subject=rec-1 number=1 ")
    assert "who=account:alice" in lines[0]
    assert "reason='complaint 1'" in lines[0]


def test_a_restart_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    database, log = open_log(tmp_path / "a.sqlite3", rows=3)
    Follower(database, log, JournalTarget(quiet_log()), log=quiet_log()).step()
    log.note(ALICE, "searched", "1001")
    events = quiet_log()
    assert Follower(database, log, JournalTarget(events), log=events).step() == 1


def test_syslog_over_udp(tmp_path: Path) -> None:
    database, log = open_log(tmp_path / "a.sqlite3", rows=1)
    log.note(ALICE, "recording_erased", "rec-2 é", outcome="refused")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        target = SyslogTarget(f"udp://127.0.0.1:{server.getsockname()[1]}")
        Follower(database, log, target, log=quiet_log()).step()
        first, second = told(server.recv(9000)), told(server.recv(9000))
        target.close()
    assert (first[0], first[1], first[2]["number"]) == (13 * 8 + 6, "recording_played", 1)
    assert (second[0], second[2]["subject"], second[2]["outcome"]) == (13 * 8 + 4, "rec-2 é", "refused")


def test_syslog_over_a_unix_socket(tmp_path: Path) -> None:
    database, log = open_log(tmp_path / "a.sqlite3", rows=1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        server.settimeout(10)
        target = SyslogTarget(f"unix:{tmp_path / 'log'}")
        Follower(database, log, target, log=quiet_log()).step()
        assert told(server.recv(9000))[1] == "recording_played"
        target.close()


def test_what_a_syslog_server_missed_comes_when_it_is_back(tmp_path: Path) -> None:
    database, log = open_log(tmp_path / "a.sqlite3", rows=2)
    port, events = free_port(), quiet_log()
    target = SyslogTarget(f"tcp://127.0.0.1:{port}")
    follower = Follower(database, log, target, log=events)
    assert follower.step() == 0
    assert events.counters()[Ev.AUDIT_EXPORT_FAILED.value] == 1
    received = []
    for expected in (2, 1):
        with socket.create_server(("127.0.0.1", port)) as server:
            assert follower.step() == expected
            client, _ = server.accept()
            with client:
                client.settimeout(10)
                received += counted(client.recv(65536))
        log.note(ALICE, "searched", "1001")  # the server is away again
    target.close()
    assert [told(message)[2]["number"] for message in received] == [1, 2, 3]
