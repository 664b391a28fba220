"""RTP ports: what an old call's sender still sends finds nobody."""

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
