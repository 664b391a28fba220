"""How much the tap takes at a time of what waits in the kernel, so that no ring overruns."""

from __future__ import annotations

import pytest

from recorderd.core.ids import StreamId
from recorderd.tap.backlog import EVERYTHING, PIECE_NS, take_until_ns
from recorderd.tap.drain import RING_MS
from tests.support.networks import HeardTap, Sender, pcm

MS = 1_000_000
NOW_NS = 10**12


@pytest.mark.parametrize(
    ("heard_ms_ago", "rendered_ms_ago", "reach_ns"),
    [
        (500, 3000, EVERYTHING),  # two drains a second, a window of 1.6 s, 0.8 s behind
        (500, 3300, 0),  # the recording did not get its turn
        (1300, 3300, PIECE_NS),  # the tap did not
        (15_000, 17_000, PIECE_NS),
        (15_000, 17_200, 0),  # a piece is in the ring that the recording has not read
    ],
)
def test_what_the_ring_cannot_hold_stays_in_the_kernel(
    *, heard_ms_ago: int, rendered_ms_ago: int, reach_ns: int
) -> None:
    heard_ns, rendered_ns = NOW_NS - heard_ms_ago * MS, NOW_NS - rendered_ms_ago * MS
    until_ns = take_until_ns(now_ns=NOW_NS, heard_until_ns=heard_ns, rendered_until_ns=rendered_ns)
    assert until_ns == (heard_ns + PIECE_NS if reach_ns == PIECE_NS else reach_ns)


def test_a_ring_that_nobody_has_read_yet_was_opened_for_all_that_waits() -> None:
    assert take_until_ns(now_ns=NOW_NS, heard_until_ns=0, rendered_until_ns=0) == EVERYTHING


@pytest.mark.parametrize("delay_ms", [200, 800, 2000])
@pytest.mark.parametrize("stall_ms", [1000, 3000, 30_000])
def test_a_stall_of_any_length_is_caught_up_with_and_never_overruns_the_ring(
    *, delay_ms: int, stall_ms: int
) -> None:
    """Tap and recording take turns after a stall: the recording every 200 ms, the tap every 50."""
    heard_ms, rendered_ms = -250, -250 - delay_ms - 500  # of a moment when the stall begins
    for now_ms in range(stall_ms, stall_ms + 240_000, 50):
        until_ns = take_until_ns(
            now_ns=NOW_NS + now_ms * MS,
            heard_until_ns=NOW_NS + heard_ms * MS,
            rendered_until_ns=NOW_NS + rendered_ms * MS,
        )
        heard_ms = max(heard_ms, min(now_ms, (until_ns - NOW_NS) // MS))
        assert heard_ms - rendered_ms <= RING_MS
        if now_ms % 200 == 0:
            rendered_ms = max(rendered_ms, heard_ms - delay_ms)
    assert now_ms - heard_ms <= 50


@pytest.mark.parametrize("third", [1, 3])
def test_senders_that_follow_each_other_while_nobody_listens_are_all_heard(third: int) -> None:
    sender = Sender(codec=pcm(), ssrc=1, sequence=65_500, timestamp=2**32 - 9_000)
    packets = [sender.send() for _ in range(40)]
    held = Sender(codec=pcm(), ssrc=2, sequence=500, timestamp=7_000_000, now_ns=sender.now_ns)
    packets += [held.send() for _ in range(60)]
    sender.pause(60 * 160)
    sender.ssrc = third
    packets += [sender.send() for _ in range(40)]
    in_time, at_once = HeardTap([[pcm()]]), HeardTap([[pcm()]])
    in_time.play(packets)
    at_once.hear([(0, packet.sent_ns, packet.datagram) for packet in packets])
    stream = StreamId("0")
    assert at_once.stats(stream) == in_time.stats(stream)
    assert at_once.stats(stream).counters["received"] == len(packets)
    end = at_once.clock_of(stream).end_ticks
    octets, marks = at_once.take(stream, start_ticks=8_000, end_ticks=end)
    assert marks.all()
    assert octets.tobytes() == b"".join(packet.payload for packet in packets)
