"""How a sender's clock runs against ours, and how unevenly its packets come."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.ids import StreamId
from recorderd.tap.trend import BIN_NS, BINS_MAX, Trends
from tests.support.networks import BEGIN_NS, HeardTap, Sender, pcm

STREAM = StreamId("0")
SLOT = np.array([0], dtype=np.int64)


def _rfc_jitter_ns(delays_ns: list[int]) -> float:
    """RFC 3550 appendix A.8, packet by packet."""
    jitter = 0.0
    for before, now in pairwise(delays_ns):
        jitter += (abs(now - before) - jitter) / 16
    return jitter


def _take(trends: Trends, arrival_ns: int, delays_ns: list[int], position: int = 0) -> None:
    trends.take(
        SLOT,
        SLOT,
        delay_ns=np.array(delays_ns, dtype=np.int64),
        arrival_ns=np.full(len(delays_ns), arrival_ns, dtype=np.int64),
        last_ticks=np.array([position], dtype=np.int64),
    )


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_jitter_is_that_of_the_rfc_wherever_drains_cut(cut: int) -> None:
    chance = random.Random(8)
    delays_ns = [chance.randint(0, 80) * NS_PER_MS for _ in range(100)]
    trends = Trends(slots=1)
    for start in range(0, 100, cut):
        _take(trends, start, delays_ns[start : start + cut])
    assert trends.jitter_ns[0] == pytest.approx(_rfc_jitter_ns(delays_ns))


def test_jitter_of_a_stream_is_counted_in_its_figures() -> None:
    tap, sender, chance = HeardTap([[pcm()]]), Sender(codec=pcm()), random.Random(2)
    delays_ns, rows = [], []
    for _ in range(60):
        packet = sender.send()
        delays_ns.append(chance.randint(0, 15) * NS_PER_MS)
        rows.append((0, packet.sent_ns + delays_ns[-1], packet.datagram))
    for start in range(0, 60, 10):
        tap.hear(rows[start : start + 10])
    assert tap.stats(STREAM).jitter_ns == pytest.approx(_rfc_jitter_ns(delays_ns), abs=1_000)


@pytest.mark.parametrize("ppm", [-100.0, 0.0, 100.0])
def test_the_course_of_the_lowest_delays_tells_the_senders_clock(ppm: float) -> None:
    tap, sender, chance = HeardTap([[pcm()]]), Sender(codec=pcm(), ppm=ppm), random.Random(3)
    at = 0
    for _ in range(300):  # five minutes, a drain a second
        rows = []
        for _ in range(50):
            packet = sender.send()
            delay_ns = chance.randint(0, 40) * NS_PER_MS if chance.random() > 0.1 else 0
            rows.append((0, packet.sent_ns + delay_ns, packet.datagram))
        tap.hear(sorted(rows, key=lambda row: row[1]))
        end = tap.clock_of(STREAM).end_ticks - 8_000
        tap.take(STREAM, start_ticks=at, end_ticks=end)
        at = end
    trend = tap.arrival_trend(0)
    assert 30 <= trend.delay_ns.size <= 32
    slope = np.polyfit(trend.position_ticks / 8_000, trend.delay_ns - trend.delay_ns[0], 1)[0]
    assert -slope / 1_000 == pytest.approx(ppm, abs=5)
    low_ns, known = tap.recent_delay_ns(SLOT)
    assert known.all()
    assert low_ns[0] == min(trend.delay_ns[-3:])


def test_recent_delays_forget_what_is_half_a_minute_old() -> None:
    trends = Trends(slots=1)
    assert not trends.recent_delay_ns(SLOT)[1].any()
    _take(trends, BEGIN_NS, [5])
    _take(trends, BEGIN_NS + 2 * BIN_NS, [50])
    assert trends.recent_delay_ns(SLOT)[0].tolist() == [5]
    _take(trends, BEGIN_NS + 3 * BIN_NS, [40])
    assert trends.recent_delay_ns(SLOT)[0].tolist() == [40]
    _take(trends, BEGIN_NS + 10 * BIN_NS, [60])
    assert trends.recent_delay_ns(SLOT)[0].tolist() == [60]


def test_eight_hours_are_kept_and_days_in_wider_bins() -> None:
    trends = Trends(slots=1)
    for number in range(2_880):
        _take(trends, BEGIN_NS + number * BIN_NS, [number + 10, number], position=number)
    assert trends.arrival_trend(0).delay_ns.tolist() == list(range(2_880))
    for number in range(2_880, 10_000):
        _take(trends, BEGIN_NS + number * BIN_NS, [number], position=number)
    trend = trends.arrival_trend(0)
    assert BINS_MAX // 2 < trend.delay_ns.size <= BINS_MAX
    assert np.array_equal(trend.delay_ns, trend.position_ticks)  # each the lowest of its while
    assert trend.delay_ns[0] == 0
    assert trend.delay_ns[-1] == 9_999
    steps = np.diff(trend.delay_ns[:-2])
    assert steps.max() <= 4


def test_a_slot_that_is_opened_again_knows_nothing() -> None:
    trends = Trends(slots=1)
    _take(trends, BEGIN_NS, [5, 900])
    trends.open(0)
    assert trends.arrival_trend(0).delay_ns.size == 0
    assert trends.jitter_ns[0] == 0
    assert not trends.recent_delay_ns(SLOT)[1].any()


def test_a_sender_that_starts_anew_goes_on_in_the_same_course() -> None:
    tap, sender = HeardTap([[pcm()]]), Sender(codec=pcm())
    tap.play([sender.send() for _ in range(50)])
    sender.ssrc, sender.timestamp, sender.sequence = 77, 5, 5
    tap.play([sender.send() for _ in range(50)])
    sender.now_ns += 10 * NS_PER_S
    sender.timestamp += 80_000
    tap.play([sender.send() for _ in range(10)])
    trend = tap.arrival_trend(0)
    assert np.ptp(trend.delay_ns) == 0
    assert np.diff(trend.position_ticks).min() > 0
