"""RTP ports: what an old call's sender still sends finds nobody."""

import contextlib
import itertools
import os
import socket
from pathlib import Path

import pytest

from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import NoPortFree
from recorderd.tap.ports import PortPool
from tests.support.free_ports import free_ports


class HandClock:
    """A clock that somebody turns."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def mono_ns(self) -> int:
        return round(self.now_s * NS_PER_S)

    def utc_ns(self) -> int:
        return self.mono_ns()


class Office:
    """A pool of three pairs and its clock."""

    def __init__(self, *, low: int = 0) -> None:
        self.low = low or free_ports(6)
        self.clock = HandClock()
        self.pool = PortPool(
            address="127.0.0.1",
            port_min=self.low,
            port_max=self.low + 5,
            receive_buffer_bytes=1 << 15,
            rest_s=30.0,
            clock=self.clock,
        )

    def call(self, *, heard: bool = True) -> int:
        """Take a pair and give it back; return how far its port is from the first."""
        pair = self.pool.acquire()
        pair.close()
        self.pool.give_back(pair.rtp_port, heard=heard)
        return pair.rtp_port - self.low


def test_a_port_rests_while_others_are_free() -> None:
    office = Office()
    assert [office.call() for _ in range(3)] == [0, 2, 4]
    office.clock.now_s += 30
    assert office.call() == 0  # the longest rested


def test_a_rested_port_is_taken_before_its_time_only_if_no_other_is_left() -> None:
    office = Office()
    assert office.call() == 0
    office.clock.now_s += 10
    assert office.call() == 2
    assert office.call() == 4
    assert office.pool.short_rests == 0
    office.clock.now_s += 3
    assert office.call() == 0
    assert office.pool.short_rests == 1


def test_nothing_is_free_rather_than_used_again_at_once() -> None:
    office = Office()
    for _ in range(3):
        office.call()
    office.clock.now_s += 1.9
    assert office.pool.free_pairs == 0
    with pytest.raises(NoPortFree):
        office.pool.acquire()
    office.clock.now_s += 0.2
    assert office.pool.free_pairs == 3
    office.call()


def test_a_port_to_which_nobody_sent_need_not_rest() -> None:
    office = Office()
    for _ in range(5):
        office.call(heard=False)
    assert office.pool.free_pairs == 3


def test_a_port_that_another_program_holds_is_passed_over() -> None:
    office = Office()
    other = Office(low=office.low).pool.acquire()
    pair = office.pool.acquire()
    assert (other.rtp_port, pair.rtp_port) == (office.low, office.low + 2)
    pair.close()
    other.close()


class Exchange:
    """A range of 200 pairs of which pool after pool hands out some and is killed."""

    def __init__(self, mark_path: Path) -> None:
        self.low = free_ports(400)
        self.mark_path = mark_path

    def killed_after(self, calls: int) -> list[int]:
        pool = PortPool(
            address="127.0.0.1",
            port_min=self.low,
            port_max=self.low + 399,
            receive_buffer_bytes=1 << 15,
            mark_path=self.mark_path,
        )
        pairs = [pool.acquire() for _ in range(calls)]
        for pair in pairs:
            pair.close()
        return [pair.rtp_port for pair in pairs]


@pytest.mark.parametrize("calls", [1, 63, 64, 65, 70])
def test_after_a_kill_the_next_process_begins_behind_every_port_that_was_in_use(
    tmp_path: Path, calls: int
) -> None:
    exchange = Exchange(tmp_path / "rtp-ports")
    before = exchange.killed_after(calls)
    assert not set(before) & set(exchange.killed_after(60))


def test_kill_after_kill_goes_round_the_whole_range(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path / "rtp-ports")
    rounds = [exchange.killed_after(2) for _ in range(8)]
    assert all(not set(one) & set(other) for one, other in itertools.pairwise(rounds))


@pytest.mark.parametrize("octets", [b"", b"x", b"-1", b"7", b"\xff"])
def test_a_mark_that_says_nothing_is_no_mark(tmp_path: Path, octets: bytes) -> None:
    exchange = Exchange(tmp_path / "rtp-ports")
    exchange.mark_path.write_bytes(octets)
    assert exchange.killed_after(2) == [exchange.low, exchange.low + 2]


def test_a_mark_that_cannot_be_left_holds_up_no_call(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path / "nowhere" / "rtp-ports")
    assert len(exchange.killed_after(70)) == 70


def _asked_for_dates() -> int:
    """Count the sockets of this process for which the kernel dates packets."""
    found = 0
    for held in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(held.name))) as sock:
            found += sock.getsockopt(socket.SOL_SOCKET, 35)  # SO_TIMESTAMPNS
    return found


def test_the_kernel_dates_packets_before_the_first_call_comes() -> None:
    before = _asked_for_dates()
    office = Office()
    assert _asked_for_dates() == before + 1
    pair = office.pool.acquire()
    assert _asked_for_dates() == before + 3
    pair.close()
