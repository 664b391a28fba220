"""Why a span is absent, as the packets around it tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.gap_causes import (
    DTMF,
    KERNEL_DROP,
    LATE,
    NETWORK_LOSS,
    NOT_RECEIVED,
    RING_OVERRUN,
    SILENCE_SUPPRESSED,
)
from recorderd.core.ids import StreamId
from tests.support.networks import HeardTap, Packet, Sender, pcm

STREAM = StreamId("0")
PTIME = 160


def _talk(sender: Sender, packets: int = 10) -> list[Packet]:
    return [sender.send() for _ in range(packets)]


@pytest.fixture
def tap() -> HeardTap:
    return HeardTap([[pcm()]])


@pytest.fixture
def sender() -> Sender:
    return Sender(codec=pcm(), sequence=65_530, timestamp=2**32 - 800)


def test_steady_speech_has_no_gaps(tap: HeardTap, sender: Sender) -> None:
    tap.play(_talk(sender, 100))
    assert tap.causes() == []
    assert tap.stats(STREAM).packets_lost == 0
    assert tap.stats(STREAM).packets_expected == 100


@pytest.mark.parametrize("talk", [3, 10, 17])  # within a drain, at its edge, across
def test_missing_numbers_are_the_networks_loss(tap: HeardTap, sender: Sender, talk: int) -> None:
    sent = _talk(sender, talk)
    sender.lose(3)
    tap.play(sent + _talk(sender))
    assert tap.causes() == [(talk * PTIME, (talk + 3) * PTIME, NETWORK_LOSS)]
    assert tap.stats(STREAM).packets_lost == 3
    assert tap.causes() == []  # told once


def test_a_jump_without_missing_numbers_is_silence_that_was_not_sent(tap: HeardTap, sender: Sender) -> None:
    sent = _talk(sender)
    sender.pause(8_000)
    sent += [sender.send(marker=True), *_talk(sender)]
    sender.pause(4_000)
    tap.play(sent + _talk(sender))  # without the marker as well
    assert tap.causes() == [(1_600, 9_600, SILENCE_SUPPRESSED), (11_360, 15_360, SILENCE_SUPPRESSED)]


@pytest.mark.parametrize("pauses", [[4_000], [100, 2_000, 3_000]])
def test_comfort_noise_marks_silence(tap: HeardTap, sender: Sender, pauses: list[int]) -> None:
    sent = _talk(sender)
    for pause in pauses:
        sent.append(sender.event(kind=13))
        sender.pause(pause)
    tap.play(sent + _talk(sender))
    assert tap.causes() == [(1_600, 1_600 + sum(pauses), SILENCE_SUPPRESSED)]
    assert tap.stats(STREAM).packets_lost == 0


@pytest.mark.parametrize("padding", [b"", bytes([0, 0, 0, 4])])
def test_packets_without_payload_are_silence_and_no_loss(
    tap: HeardTap, sender: Sender, padding: bytes
) -> None:
    sent = [sender.send() for _ in range(10)]
    for _ in range(5):
        packet = sender.event(kind=8)
        first = bytes([0xA0 if padding else 0x80])
        sent.append(replace(packet, datagram=first + packet.datagram[1:12] + padding))
        sender.pause(800)
    sent += [sender.send() for _ in range(10)]
    tap.play(sent)
    stats = tap.stats(STREAM)
    assert (stats.packets_lost, stats.counters["malformed"], stats.counters["received"]) == (0, 0, 20)
    assert tap.causes() == [(1_600, 5_600, SILENCE_SUPPRESSED)]


def test_key_events_stand_in_the_place_of_samples(tap: HeardTap, sender: Sender) -> None:
    sent = _talk(sender)
    for _ in range(15):  # 300 ms: two drains
        sent.append(sender.event())
        sender.now_ns += 20 * NS_PER_MS
    sender.timestamp += 2_400
    sender.at_ticks += 2_400
    tap.play(sent + _talk(sender))
    assert tap.causes() == [(1_600, 4_000, DTMF)]
    assert [key for _, key in tap.digits()] == ["5"]


def test_one_key_event_at_the_end_of_a_drain_is_remembered(tap: HeardTap, sender: Sender) -> None:
    tap.play([*_talk(sender), sender.event()])
    sender.pause(2_400)
    tap.play(_talk(sender))
    assert tap.causes() == [(1_600, 4_000, DTMF)]


def test_a_loss_before_the_end_of_a_drain_is_remembered(tap: HeardTap, sender: Sender) -> None:
    sent = _talk(sender)
    sender.lose(1)
    tap.play([*sent, sender.event(kind=77)])
    sender.pause(PTIME)
    tap.play(_talk(sender))
    assert tap.causes() == [(1_600, 1_920, NETWORK_LOSS)]


def test_a_key_that_did_not_interrupt_the_samples_explains_no_later_silence(
    tap: HeardTap, sender: Sender
) -> None:
    tap.play([*_talk(sender), sender.event()])
    tap.play(_talk(sender))
    sender.pause(8_000)
    tap.play(_talk(sender))
    assert tap.causes() == [(3_200, 11_200, SILENCE_SUPPRESSED)]


def test_a_spurt_that_begins_after_a_loss_explains_only_what_was_lost(tap: HeardTap, sender: Sender) -> None:
    sent = _talk(sender)
    sender.lose(2)
    sender.pause(8_000)
    sent.append(sender.send(marker=True))
    tap.play(sent)
    assert tap.causes() == [(1_600, 1_920, NETWORK_LOSS), (1_920, 9_920, SILENCE_SUPPRESSED)]


def test_packets_of_an_unknown_kind_explain_nothing(tap: HeardTap, sender: Sender) -> None:
    sent = _talk(sender)
    for _ in range(3):
        sent.append(sender.event(kind=77))
        sender.pause(PTIME)
    tap.play(sent + _talk(sender))
    assert tap.causes() == [(1_600, 2_080, NOT_RECEIVED)]


@pytest.mark.parametrize("beside", ["noise before it speaks", "keys of another", "copies", "its own keys"])
def test_packets_without_samples_hide_no_loss(tap: HeardTap, sender: Sender, beside: str) -> None:
    other = Sender(codec=pcm(), ssrc=99)
    sent = []
    if beside == "noise before it speaks":
        for _ in range(10):
            sent.append(sender.event(kind=13))
            sender.pause(160)
    for number in range(100):
        packet = sender.send()
        if number % 20 != 7:
            sent.append(packet)
        other.now_ns = sender.now_ns
        if number % 10 == 3 and beside == "keys of another":
            sent.append(other.event())
        elif number % 10 == 3 and beside in ("copies", "its own keys"):
            event = sender.event()
            sent += [event, event] if beside == "copies" else [event]
    tap.play(sent)
    assert tap.stats(STREAM).packets_lost == 5


def test_keys_before_a_sender_starts_anew_are_not_lost(tap: HeardTap, sender: Sender) -> None:
    tap.play([sender.send() for _ in range(20)])
    last = [sender.send(), sender.event(), sender.event(), sender.send()]
    sender.ssrc, sender.timestamp = 77, 500_000_000
    rows = [*last, *[sender.send() for _ in range(5)]]
    tap.hear([(0, packet.sent_ns, packet.datagram) for packet in rows])
    assert tap.stats(STREAM).counters["ssrc_changes"] == 1
    assert tap.stats(STREAM).packets_lost == 0


def test_what_the_kernel_dropped_is_not_the_networks_fault(tap: HeardTap, sender: Sender) -> None:
    tap.play(_talk(sender))
    sender.lose(4)
    tap.intake.table.counters["kernel_dropped"][0] = 3
    tap.play(_talk(sender))
    sender.lose(1)
    tap.play(_talk(sender))
    assert tap.causes() == [
        (1_600, 1_600 + 3 * PTIME, KERNEL_DROP),
        (1_600 + 3 * PTIME, 1_600 + 4 * PTIME, NETWORK_LOSS),
        (3_840, 4_000, NETWORK_LOSS),
    ]


def test_a_packet_that_comes_after_its_span_was_read_is_late(tap: HeardTap, sender: Sender) -> None:
    sent = _talk(sender, 30)
    slow = sent.pop(12)
    tap.play(sent)
    first = tap.clock_of(STREAM).first_ticks
    tap.take(STREAM, start_ticks=0, end_ticks=first + 20 * PTIME)
    tap.hear([(0, sent[-1].sent_ns, slow.datagram)])
    assert tap.causes() == [(12 * PTIME, 13 * PTIME, NETWORK_LOSS), (12 * PTIME, 13 * PTIME, LATE)]
    assert tap.stats(STREAM).counters["late"] == 1


def test_a_packet_too_far_ahead_of_the_reader_is_an_overrun(tap: HeardTap, sender: Sender) -> None:
    tap.play(_talk(sender, 50 * 4))
    room = 32_768 - 8_000  # nobody has read yet
    last = tap.causes()[-1]
    assert last == (199 * PTIME, 200 * PTIME, RING_OVERRUN)
    assert tap.stats(STREAM).counters["overrun"] == 200 - room // PTIME


def test_packets_that_overtake_each_other_leave_no_cause_within_a_drain(
    tap: HeardTap, sender: Sender
) -> None:
    sent = _talk(sender)
    order = [0, 3, 2, 1, 5, 4, 7, 6, 9, 8]
    tap.hear([(0, sent[9].sent_ns, sent[number].datagram) for number in order])
    assert tap.causes() == []


def test_a_sender_that_starts_anew_tells_nothing_of_the_time_between(tap: HeardTap, sender: Sender) -> None:
    sent = _talk(sender)
    sender.ssrc, sender.sequence, sender.timestamp = 99, 7, 12_345
    sender.now_ns += NS_PER_S
    sent += _talk(sender)
    sender.lose(2)
    tap.play(sent + _talk(sender))
    ends = 1_600 + 8_000 + 1_600
    assert tap.causes() == [(ends, ends + 320, NETWORK_LOSS)]
    assert tap.stats(STREAM).packets_expected == 32


def test_a_long_hold_with_a_running_timestamp_moves_nothing(tap: HeardTap, sender: Sender) -> None:
    sent = _talk(sender)
    sender.pause(60 * 8_000)
    tap.play(sent)
    tap.take(STREAM, start_ticks=0, end_ticks=8_000 + 60 * 8_000)
    tap.play(_talk(sender))
    assert tap.causes() == [(1_600, 1_600 + 60 * 8_000, SILENCE_SUPPRESSED)]
    assert tap.restarts == []


def test_causes_of_a_stream_that_has_ended_are_not_told_of_the_next_in_its_place(
    tap: HeardTap, sender: Sender
) -> None:
    sent = _talk(sender)
    sender.lose(3)
    tap.play(sent + _talk(sender))
    tap.intake.forget(0)
    assert tap.gap_causes() == []


def test_spans_and_marks_tell_the_same_of_random_loss(tap: HeardTap, sender: Sender) -> None:
    chance = np.random.default_rng(3)
    sent = [packet for packet in _talk(sender, 150) if chance.random() > 0.2 or packet.at_ticks == 0]
    tap.play(sent)
    first, end = tap.clock_of(STREAM).first_ticks, tap.clock_of(STREAM).end_ticks
    _, marks = tap.take(STREAM, start_ticks=first, end_ticks=end)
    lost = np.zeros(end - first, dtype=np.bool_)
    for start, stop, cause in tap.causes():
        assert cause == NETWORK_LOSS
        lost[start:stop] = True
    assert np.array_equal(lost, marks == 0)
