"""When packets came, while somebody sets the wall clock."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from dsp.shapes import I64
from recorderd.core.clock import NS_PER_MS, NS_PER_S, SystemClock
from recorderd.tap.batch import Batch
from recorderd.tap.dating import Dating
from tests.support.networks import Sender, pcm
from tests.unit.test_tap_drain import Stage

HOUR_NS = 3_600 * NS_PER_S


class WallClockSet(SystemClock):
    """Clocks of a machine whose wall clock somebody sets at an instant."""

    def __init__(self, *, by_ns: int, in_ns: int) -> None:
        self.by_ns, self.at_utc_ns = by_ns, time.time_ns() + in_ns

    def utc_ns(self) -> int:
        now_ns = super().utc_ns()
        return now_ns + self.by_ns if now_ns >= self.at_utc_ns else now_ns


class Clocks:
    """Two clocks that somebody turns; each reading of the wall clock may cost its turn."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * NS_PER_S
        self.ahead_ns = 1_790_000_000 * NS_PER_S
        self.turns_ns: list[int] = []

    def mono_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        read_ns = self.now_ns + self.ahead_ns
        self.now_ns += self.turns_ns.pop() if self.turns_ns else 0
        return read_ns

    def stamps(self, *came_ns: int) -> np.ndarray:
        return np.array(came_ns, dtype=np.int64) + self.ahead_ns


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.mark.parametrize("set_by_ns", [HOUR_NS, -HOUR_NS, 3 * NS_PER_S, -3 * NS_PER_S])
def test_packets_from_before_and_after_the_wall_clock_was_set_come_when_they_came(
    clocks: Clocks, set_by_ns: int
) -> None:
    dating, began_ns = Dating(clocks), clocks.now_ns
    dating.arrivals_ns(clocks.stamps(began_ns), since_ns=began_ns)
    early = [began_ns + number * 20 * NS_PER_MS for number in range(1, 11)]
    late = [began_ns + number * 20 * NS_PER_MS for number in range(11, 21)]
    before = clocks.stamps(*early)
    clocks.ahead_ns += set_by_ns
    stamps = np.concatenate([before, clocks.stamps(*late)])
    clocks.now_ns += 450 * NS_PER_MS
    assert dating.arrivals_ns(stamps, since_ns=began_ns).tolist() == early + late
    assert dating.arrivals_ns(stamps, since_ns=began_ns).tolist() == early + late  # in pieces, too


@pytest.mark.parametrize("set_by_ns", [HOUR_NS, -HOUR_NS])
def test_what_waits_for_the_first_drain_is_dated_by_the_clock_as_it_was(
    clocks: Clocks, set_by_ns: int
) -> None:
    dating, began_ns = Dating(clocks), clocks.now_ns
    came_ns = [began_ns + number * 20 * NS_PER_MS for number in range(1, 6)]
    stamps = clocks.stamps(*came_ns)
    clocks.ahead_ns += set_by_ns
    clocks.now_ns += 200 * NS_PER_MS
    assert dating.arrivals_ns(stamps, since_ns=began_ns).tolist() == came_ns


@pytest.mark.parametrize("set_by_ns", [HOUR_NS, -HOUR_NS, 30 * NS_PER_S, -30 * NS_PER_S])
def test_after_a_stall_in_which_the_wall_clock_was_set_every_piece_is_dated_right(
    clocks: Clocks, set_by_ns: int
) -> None:
    dating, began_ns = Dating(clocks), clocks.now_ns
    dating.arrivals_ns(clocks.stamps(began_ns), since_ns=began_ns)
    came = [began_ns + number * 20 * NS_PER_MS for number in range(1, 501)]
    before = clocks.stamps(*came[:300])
    clocks.ahead_ns += set_by_ns
    stamps = np.concatenate([before, clocks.stamps(*came[300:])])
    clocks.now_ns += 10 * NS_PER_S
    for piece in range(20):
        of_piece = slice(25 * piece, 25 * (piece + 1))
        since_ns = began_ns + piece * 500 * NS_PER_MS
        assert dating.arrivals_ns(stamps[of_piece], since_ns=since_ns).tolist() == came[of_piece]
        clocks.now_ns += 50 * NS_PER_MS


@pytest.mark.parametrize("set_by_ns", [200 * NS_PER_MS, -200 * NS_PER_MS])
def test_where_both_settings_may_be_meant_no_packet_comes_too_early(clocks: Clocks, set_by_ns: int) -> None:
    dating, began_ns = Dating(clocks), clocks.now_ns
    dating.arrivals_ns(clocks.stamps(began_ns), since_ns=began_ns)
    came = [began_ns + number * 20 * NS_PER_MS for number in range(1, 21)]
    before = clocks.stamps(*came[:10])
    clocks.ahead_ns += set_by_ns
    stamps = np.concatenate([before, clocks.stamps(*came[10:])])
    clocks.now_ns += 450 * NS_PER_MS
    late_ns = dating.arrivals_ns(stamps, since_ns=began_ns) - np.array(came)
    assert ((late_ns == 0) | (late_ns == 200 * NS_PER_MS)).all()
    assert (late_ns == 0).any()


def test_the_old_setting_is_forgotten_once_all_that_it_dated_has_been_taken(clocks: Clocks) -> None:
    dating = Dating(clocks)
    dating.arrivals_ns(clocks.stamps(clocks.now_ns), since_ns=clocks.now_ns)
    clocks.ahead_ns -= 300 * NS_PER_MS
    for _ in range(2):
        clocks.now_ns += 500 * NS_PER_MS
        came_ns = clocks.now_ns - 400 * NS_PER_MS
        last = dating.arrivals_ns(clocks.stamps(came_ns), since_ns=clocks.now_ns - 450 * NS_PER_MS)
    assert last.tolist() == [came_ns]


def test_a_slewed_clock_is_followed(clocks: Clocks) -> None:
    dating = Dating(clocks)
    for _ in range(10_000):
        clocks.now_ns += 500 * NS_PER_MS
        clocks.ahead_ns += NS_PER_MS // 2
        came_ns = clocks.now_ns - 400 * NS_PER_MS
        assert dating.arrivals_ns(clocks.stamps(came_ns), since_ns=0).tolist() == [came_ns]


def test_a_turn_of_another_thread_between_the_two_clocks_moves_no_packet(clocks: Clocks) -> None:
    dating, came_ns = Dating(clocks), clocks.now_ns - 100 * NS_PER_MS
    clocks.turns_ns = [5 * NS_PER_MS]
    assert dating.arrivals_ns(clocks.stamps(came_ns), since_ns=0).tolist() == [came_ns]
    clocks.turns_ns = [5 * NS_PER_MS] * 9  # always: then too late rather than too early
    assert dating.arrivals_ns(clocks.stamps(came_ns), since_ns=0)[0] >= came_ns


def test_what_has_no_date_and_what_is_dated_in_the_future_came_now(clocks: Clocks) -> None:
    stamps = np.append(clocks.stamps(clocks.now_ns + NS_PER_S), 0)
    assert Dating(clocks).arrivals_ns(stamps, since_ns=0).tolist() == [clocks.now_ns] * 2


@pytest.fixture
def set_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A tap on a machine whose wall clock is set half a second from now; the kernel's dates follow it."""
    clock = WallClockSet(by_ns=request.param, in_ns=500 * NS_PER_MS)
    true = Batch.stamps_utc_ns

    def of_that_clock(batch: Batch) -> I64:
        stamps = true(batch)
        return np.where(stamps >= clock.at_utc_ns, stamps + clock.by_ns, stamps)

    monkeypatch.setattr(Batch, "stamps_utc_ns", of_that_clock)
    stage = Stage(clock=clock)
    yield stage
    stage.close()


@pytest.mark.parametrize("set_clock", [3_600 * NS_PER_S, -3_600 * NS_PER_S], indirect=True)
@pytest.mark.parametrize("idle_ms", [0, 300])
def test_a_wall_clock_that_is_set_while_packets_wait_moves_no_stream(set_clock: Stage, idle_ms: int) -> None:
    tap, stream, sender = set_clock.tap, set_clock.open(pcm()), Sender(codec=pcm())
    for _ in range(idle_ms // 100):
        tap.drain()
        time.sleep(0.1)
    for number in range(60):
        before_ns = time.monotonic_ns()
        set_clock.say(stream, sender.send().datagram)
        time.sleep(0.02)
        if number % 20 == 19:
            tap.drain()
    counters = tap.stats(stream).counters
    assert (counters["received"], counters["foreign"], counters["timestamp_jumps"]) == (60, 0, 0)
    arrived_ns = int(tap.clocks(np.array([0])).last_arrival_ns[0])
    assert before_ns - NS_PER_MS <= arrived_ns <= time.monotonic_ns()
