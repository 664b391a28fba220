"""Keys that telephone events tell of: each once, with its place and its length."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from recorderd.core.clock import NS_PER_MS
from recorderd.core.ids import StreamId
from recorderd.tap.keys import KeyEvent
from tests.support.networks import EVENTS, HeardTap, Packet, Sender, pcm

STREAM = StreamId("0")


def _key(sender: Sender, code: int, *, ms: int = 100, ends: int = 3, kind: int = EVENTS) -> list[Packet]:
    """Press a key as RFC 4733 has it: an update every 20 ms, the end three times."""
    packets = []
    durations = [160 * (number + 1) for number in range(ms // 20)]
    for duration, flags in [(ticks, 0) for ticks in durations] + [(durations[-1], 0x80)] * ends:
        payload = struct.pack("!BBH", code, flags | 10, duration)
        packet = sender.event(kind=kind)
        packets.append(replace(packet, payload=payload, datagram=packet.datagram[:12] + payload))
        sender.now_ns += 20 * NS_PER_MS
    sender.timestamp += durations[-1]
    sender.at_ticks += durations[-1]
    return packets


def _last(events: list[KeyEvent]) -> list[tuple[str, int, int, bool]]:
    """Keep what was told last of each key."""
    known = {event.position_ticks: event for event in events}
    return [
        (event.key, event.position_ticks - 8_000, event.duration_ticks, event.ended)
        for event in known.values()
    ]


def _stage() -> tuple[HeardTap, Sender]:
    return HeardTap([[pcm()]]), Sender(codec=pcm(), timestamp=2**32 - 800)


def test_a_key_is_told_once_with_its_whole_span() -> None:
    tap, sender = _stage()
    sent = [sender.send() for _ in range(10)]
    sent += _key(sender, 11)
    sent += [sender.send() for _ in range(10)]
    sent += _key(sender, 15, ms=200)
    tap.play(sent)
    events = tap.key_events()
    assert _last(events) == [("#", 1_600, 800, True), ("D", 4_000, 1_600, True)]
    assert {(event.stream, event.volume_dbm0) for event in events} == {(STREAM, -10)}
    assert [key for _, key in tap.digits()] == ["#", "D"]
    assert (tap.key_events(), tap.digits()) == ([], [])


def test_copies_of_the_end_tell_nothing_new() -> None:
    tap, sender = _stage()
    tap.play([sender.send(), *_key(sender, 1, ms=20, ends=3)])
    assert [event.ended for event in tap.key_events()] == [False, True]


def test_a_key_of_which_only_a_copy_of_the_end_arrives_is_told_with_its_length() -> None:
    tap, sender = _stage()
    tap.play([sender.send(), _key(sender, 7)[-1], sender.send()])
    assert _last(tap.key_events()) == [("7", 160, 800, True)]
    assert tap.digits() == [(STREAM, "7")]


def test_the_same_key_twice_is_two_keys_and_a_late_copy_of_the_first_is_none() -> None:
    tap, sender = _stage()
    first, between, second = [sender.send(), *_key(sender, 5)], sender.send(), _key(sender, 5)
    late = first.pop()
    tap.play([*first, between, *second])
    tap.hear([(0, second[-1].sent_ns, late.datagram)])
    assert [key for _, key in tap.digits()] == ["5", "5"]
    assert len(_last(tap.key_events())) == 2


def test_a_key_that_is_held_for_longer_than_an_event_can_tell_is_one_key() -> None:
    tap, sender = _stage()
    sent = [sender.send()]
    start_ns = sender.now_ns
    for durations, flags in [
        ((160, 40_000, 65_535), 0),
        ((160, 65_535), 0),
        ((160, 9_000), 0),
        ((9_000,), 0x80),
    ]:
        for duration in durations:
            payload = struct.pack("!BBH", 5, flags | 10, duration)
            packet = sender.event()
            packet = replace(packet, payload=payload, datagram=packet.datagram[:12] + payload)
            sent.append(replace(packet, sent_ns=sender.now_ns + duration * 125_000))
        if durations[-1] == 65_535:
            sender.timestamp += 65_535
            sender.now_ns += 65_535 * 125_000
    assert sent[-1].sent_ns - start_ns == (2 * 65_535 + 9_000) * 125_000
    tap.play(sent)
    assert tap.digits() == [(STREAM, "5")]
    assert _last(tap.key_events()) == [("5", 160, 2 * 65_535 + 9_000, True)]


def test_the_same_key_again_after_a_lost_end_is_another_one() -> None:
    tap, sender = _stage()
    first = _key(sender, 5)[:-3]
    tap.play([sender.send(), *first, *_key(sender, 5)])
    assert tap.digits() == [(STREAM, "5"), (STREAM, "5")]


def test_keys_before_a_stream_has_samples_are_placed_by_their_arrival() -> None:
    tap, sender = _stage()
    sent = []
    for code in (5, 5, 6):
        sent += _key(sender, code, ends=1)
        sender.now_ns += 380 * NS_PER_MS
    sender.now_ns += 8_500 * NS_PER_MS
    tap.play(sent[:-1])
    assert tap.key_events() == []
    tap.play([*sent[-1:], *[sender.send() for _ in range(10)]])
    found = _last(tap.key_events())
    assert [(key, duration_ticks) for key, _, duration_ticks, _ in found] == [
        ("5", 800),
        ("5", 800),
        ("6", 800),
    ]
    assert [start_ticks for _, start_ticks, _, _ in found] == [-80_000, -76_000, -72_000]
    assert [key for _, key in tap.digits()] == ["5", "5", "6"]
    assert tap.key_events() == []


def test_a_payload_type_that_changes_in_a_call_goes_on_telling() -> None:
    tap, sender = _stage()
    tap.play([sender.send(), *_key(sender, 1)])
    tap.intake.table.set_codecs(0, codecs=[pcm()], event_payload_types=[96])
    tap.play([*_key(sender, 2, kind=96), *_key(sender, 3)])  # the old one is still under way
    assert [key for _, key in tap.digits()] == ["1", "2", "3"]


def test_other_events_and_broken_ones_are_no_keys() -> None:
    tap, sender = _stage()
    flash = _key(sender, 16)
    short = sender.event(3)
    tap.play([sender.send(), *flash, replace(short, datagram=short.datagram[:-1])])
    assert (tap.digits(), tap.key_events()) == ([], [])
    assert tap.stats(STREAM).counters["event_payload"] == len(flash) + 1


def test_keys_of_a_stream_that_has_ended_are_not_told_of_the_next_in_its_place() -> None:
    tap, sender = _stage()
    tap.play([sender.send(), *_key(sender, 1)])
    tap.intake.forget(0)
    assert (tap.digits(), tap.key_events()) == ([], [])


def test_a_sender_that_gives_its_keys_an_ssrc_of_their_own_is_placed_by_arrival() -> None:
    tap, sender = _stage()
    sent = [sender.send() for _ in range(10)]
    keys = Sender(codec=pcm(), ssrc=99, timestamp=5, now_ns=sender.now_ns)
    tap.play([*sent, *_key(keys, 4)])
    (key, start_ticks, duration_ticks, ended) = _last(tap.key_events())[0]
    assert (key, duration_ticks, ended) == ("4", 800, True)
    assert abs(start_ticks - 1_600) <= 160


@pytest.mark.parametrize("offset", [30_000, 2**31 + 5, 2**32 - 90_000])
def test_an_event_that_counts_otherwise_than_its_stream_is_placed_by_arrival(offset: int) -> None:
    """Some gateways make their events beside the audio, with its SSRC and with timestamps of their own."""
    tap, sender = _stage()
    sent = [sender.send() for _ in range(10)]
    timestamp = sender.timestamp
    sender.timestamp += offset
    sent += _key(sender, 4)
    sender.timestamp = timestamp + 8 * 160
    tap.play([*sent, *[sender.send() for _ in range(10)]])
    (key, start_ticks, duration_ticks, ended) = _last(tap.key_events())[0]
    assert (key, duration_ticks, ended) == ("4", 800, True)
    assert abs(start_ticks - 1_600) <= 160
