"""The enrolment port: slow ones take nobody's turn; a code's time is over whatever the clock is set to."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.database import Database
from recorderd.archive.enrolment import Enrolment, Identity
from recorderd.archive.enrolment_desk import EnrolmentDesk
from recorderd.archive.migrations import migrate
from recorderd.core.clock import NS_PER_S, SystemClock
from recorderd.core.errors import EnrolmentRefused
from recorderd.core.events import EventLog
from recorderd.evidence.enrolment_code import EnrolmentCode
from recorderd.flush.curve import make_keypair
from recorderd.flush.joining import join
from recorderd.wire.enrolment import MAC_BYTES, JoinRequest, Kind, encode_message, encode_request
from tests.support.bundles import make_signer
from tests.support.free_ports import free_port
from tests.support.programs import wait_until

WHO = Actor(name="cli:root")
MINUTES_15 = 15 * 60
AT_ONCE, OF_ONE_ADDRESS = 64, 8  # written out: what an archive's port bears


class SetClock(SystemClock):
    """This machine's clocks, which somebody sets and which stand still for whoever is slow."""

    def __init__(self) -> None:
        self.utc_shift_ns, self.mono_shift_ns = 0, 0
        self.stands_at_ns: int | None = None

    def utc_ns(self) -> int:
        return super().utc_ns() + self.utc_shift_ns

    def mono_ns(self) -> int:
        now_ns = self.stands_at_ns if self.stands_at_ns is not None else super().mono_ns()
        return now_ns + self.mono_shift_ns


class Port:
    """An archive's enrolment port in this process."""

    def __init__(self, folder: Path) -> None:
        self.clock = SetClock()
        self.database = Database.of_file(folder / "catalogue.sqlite3")
        migrate(self.database)
        self.log = EventLog(logger=logging.getLogger("test.enrolment"), clock=self.clock)
        make_signer(folder, "recorder")
        self.certificate = (folder / "recorder.cert.pem").read_text()
        self.enrolment = Enrolment(
            self.database,
            owner_of=lambda _: None,
            audit=AuditLog(self.database, clock=self.clock),
            clock=self.clock,
            log=self.log,
        )
        identity = Identity(
            archive_id="arc-1",
            server_public_key=make_keypair()[0],
            receipt_certificate_pem=self.certificate,
            endpoints=(),
            port=7100,
        )
        self.port, self._stop = free_port(), threading.Event()
        desk = EnrolmentDesk(
            self.enrolment, identity, address=("127.0.0.1", self.port), clock=self.clock, log=self.log
        )
        self._thread = threading.Thread(target=desk.run, args=(self._stop, lambda: None), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(30)
        self.database.close()

    def code(self) -> EnrolmentCode:
        return self.enrolment.begin("rec-1", who=WHO, valid_s=MINUTES_15)

    def request(self, code: EnrolmentCode) -> JoinRequest:
        return JoinRequest(
            code_id=code.code_id,
            recorder_id="rec-1",
            curve_public_key=make_keypair()[0],
            certificates_pem=self.certificate,
        )

    def join(self, code: EnrolmentCode) -> str:
        """Join as a recorder does; which archive it is, or why not."""
        try:
            return join(("127.0.0.1", self.port), code, self.request(code)).archive_id
        except EnrolmentRefused as problem:
            return str(problem)

    def silent(self, address: str, count: int, words: bytes = b"") -> list[socket.socket]:
        """Connect from an address, and say no more than a few octets."""
        found = []
        for _ in range(count):
            found.append(socket.create_connection(("127.0.0.1", self.port), 20, (address, 0)))
            found[-1].sendall(words)
        return found


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    opened = Port(tmp_path)
    yield opened
    opened.close()


def is_open(stream: socket.socket) -> bool:
    """Tell whether the other end has not closed it."""
    stream.setblocking(False)
    try:
        return bool(stream.recv(1))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def test_a_recorder_joins_while_slow_ones_hold_their_places(port: Port) -> None:
    port.clock.stands_at_ns = port.clock.mono_ns()  # nobody's patience ends in this test
    slow = port.silent("127.0.0.2", OF_ONE_ADDRESS, b"Q\0")
    assert port.join(port.code()) == "arc-1"
    assert all(is_open(stream) for stream in slow)
    greedy = port.silent("127.0.0.2", 1)
    wait_until(lambda: not is_open(greedy[0]), what="one too many of an address to be left")
    assert all(is_open(stream) for stream in slow)
    assert port.join(port.code()) == "arc-1"


def test_where_all_places_are_taken_the_newest_is_heard_all_the_same(port: Port) -> None:
    port.clock.stands_at_ns = port.clock.mono_ns()
    slow = [
        stream
        for number in range(AT_ONCE // OF_ONE_ADDRESS)
        for stream in port.silent(f"127.0.1.{number + 1}", OF_ONE_ADDRESS)
    ]
    assert port.join(port.code()) == "arc-1"
    wait_until(lambda: sum(map(is_open, slow)) == AT_ONCE - 1, what="one to be left for it")


def test_the_place_is_taken_from_the_address_that_has_most(port: Port) -> None:
    port.clock.stands_at_ns = port.clock.mono_ns()
    (first,) = port.silent("127.0.2.1", 1)
    many = [port.silent(f"127.0.1.{number + 1}", OF_ONE_ADDRESS) for number in range(AT_ONCE // 8 - 1)]
    few = port.silent("127.0.2.2", AT_ONCE - 1 - sum(map(len, many)))
    assert port.join(port.code()) == "arc-1"
    wait_until(lambda: not is_open(many[0][0]), what="the oldest of those to be left")
    assert is_open(first) and all(is_open(stream) for stream in few)


def test_an_address_that_did_not_know_a_code_rests_and_the_others_do_not(port: Port) -> None:
    port.clock.stands_at_ns = port.clock.mono_ns()
    raw = encode_request(port.request(EnrolmentCode.make()))
    guess = encode_message(Kind.REQUEST, raw, bytes(MAC_BYTES))
    (refused,) = port.silent("127.0.0.2", 1, guess)
    assert refused.recv(1) == Kind.REFUSAL.value
    (again,) = port.silent("127.0.0.2", 1, guess)
    assert port.join(port.code()) == "arc-1"
    again.setblocking(False)
    with pytest.raises(BlockingIOError):
        again.recv(1)
    port.clock.mono_shift_ns += NS_PER_S
    again.settimeout(60)
    assert again.recv(1) == Kind.REFUSAL.value


def test_who_is_slow_is_left_after_some_seconds(port: Port) -> None:
    (slow,) = port.silent("127.0.0.2", 1, b"Q\0\0")
    assert is_open(slow)
    wait_until(lambda: not is_open(slow), what="it to be left", timeout_s=60)
    assert port.log.counters()["enrolment_refused"] == 1


def test_a_code_gets_no_time_from_a_clock_that_is_set_back(port: Port) -> None:
    code = port.code()
    wait_until(lambda: code.code_id in port.enrolment._ends_ns, what="the code to be seen")
    port.clock.utc_shift_ns -= 3600 * NS_PER_S
    port.clock.mono_shift_ns += MINUTES_15 * NS_PER_S
    assert "its time is over" in port.join(code)
    wait_until(lambda: not port.enrolment._ends_ns, what="the code to be forgotten")
    port.clock.utc_shift_ns = 0
    assert "its time is over" in port.join(code)


def test_a_code_ends_when_the_clock_is_set_ahead_and_stays_so(port: Port) -> None:
    code = port.code()
    wait_until(lambda: code.code_id in port.enrolment._ends_ns, what="the code to be seen")
    port.clock.utc_shift_ns += MINUTES_15 * NS_PER_S
    wait_until(lambda: not port.enrolment._ends_ns, what="the code to be forgotten")
    port.clock.utc_shift_ns = 0
    assert "its time is over" in port.join(code)


def test_a_code_that_runs_is_good_although_the_clock_was_set_back(port: Port) -> None:
    code = port.code()
    port.clock.utc_shift_ns -= 3600 * NS_PER_S
    assert port.join(code) == "arc-1"
