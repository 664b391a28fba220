"""From where packets are taken: by policy the signalled host, the first address, or anybody."""

from __future__ import annotations

import socket
import struct

import numpy as np
import pytest

from recorderd.core.clock import NS_PER_MS
from recorderd.core.ids import StreamId
from recorderd.tap.batch import NAME_BYTES, SHORT_BYTES, Batch, prepare_socket
from recorderd.tap.sources import SourceBook, SourcePolicy
from tests.support.networks import HeardTap, Packet, Sender, pcm

STREAM = StreamId("0")


class Wire:
    """One stream, several senders with addresses of their own."""

    def __init__(self, policy: SourcePolicy, *, signalled: str = "") -> None:
        self.tap = HeardTap([[pcm()]], policy=policy)
        self.tap.intake.table.signalled_host[0] = self.tap.intake.book.host_of(signalled)
        self.now_ns = 10**12

    def bring(self, *packets: tuple[Packet, str]) -> None:
        """Let packets arrive, 20 ms apart, in one drain."""
        rows, sources = [], []
        for packet, address in packets:
            self.now_ns += 20 * NS_PER_MS
            rows.append((0, self.now_ns, packet.datagram))
            host, _, port = address.partition(":")
            sources.append(self.tap.intake.book.key_of((host, int(port))))
        self.tap.hear(rows, sources=sources)

    @property
    def counters(self) -> dict[str, int]:
        return {name: count for name, count in self.tap.stats(STREAM).counters.items() if count}

    @property
    def sources(self) -> tuple[str, ...]:
        return self.tap.stats(STREAM).sources


def _sender(ssrc: int = 1) -> Sender:
    return Sender(codec=pcm(), ssrc=ssrc, sequence=ssrc * 1000, timestamp=ssrc * 99_999)


HOME, AWAY = "192.0.2.1:4000", "198.51.100.7:6000"


def test_strict_takes_the_signalled_host_alone_whatever_its_port() -> None:
    wire = Wire(SourcePolicy.STRICT, signalled="192.0.2.1")
    sender, stranger = _sender(), _sender(2)
    wire.bring((stranger.send(), AWAY), (stranger.send(), AWAY), (stranger.send(), AWAY))
    assert wire.tap.clock_of(STREAM).started is False
    wire.bring((sender.send(), HOME), (sender.send(), "192.0.2.1:4002"), (sender.send(), AWAY))
    assert wire.counters == {"received": 2, "source_refused": 4, "octets": 320}
    assert wire.sources == ("192.0.2.1:4000", "192.0.2.1:4002")


def test_strict_without_a_signalled_address_takes_anybody() -> None:
    wire = Wire(SourcePolicy.STRICT, signalled="0.0.0.0")
    sender = _sender()
    wire.bring((sender.send(), AWAY), (sender.send(), AWAY))
    assert wire.counters["received"] == 2


def test_learn_keeps_to_the_first_address_and_counts_others() -> None:
    wire = Wire(SourcePolicy.LEARN)
    sender, stranger = _sender(), _sender(2)
    wire.bring((sender.send(), HOME), (sender.send(), HOME))
    wire.bring((sender.send(), HOME), (stranger.send(), AWAY), (sender.send(), HOME))
    assert wire.counters == {"received": 4, "source_refused": 1, "octets": 640}
    assert wire.sources == (HOME,)


def test_learn_goes_along_with_a_sender_that_changes_its_address() -> None:
    wire = Wire(SourcePolicy.LEARN)
    sender = _sender()
    wire.bring((sender.send(), HOME), (sender.send(), AWAY), (sender.send(), AWAY))
    assert wire.counters == {"received": 3, "octets": 480}
    wire.bring(*((sender.send(), "198.51.100.8:1") for _ in range(3)))
    assert wire.counters["received"] == 6
    assert wire.sources == (HOME, AWAY, "198.51.100.8:1")
    assert wire.tap.restarts == []


@pytest.mark.parametrize("packets", [1, 2, 3, 8])
def test_learn_takes_a_new_sender_elsewhere_on_when_it_is_steady(packets: int) -> None:
    wire = Wire(SourcePolicy.LEARN)
    first, second = _sender(), _sender(2)
    wire.bring(*((first.send(), HOME) for _ in range(3)))
    wire.now_ns += 1_000 * NS_PER_MS  # the first is quiet
    for _ in range(packets):  # a drain each
        wire.bring((second.send(), AWAY))
    taken = packets if packets >= 3 else 0
    assert wire.counters["received"] == 3 + taken
    assert wire.counters.get("source_refused", 0) == packets - taken
    assert wire.sources == ((HOME, AWAY) if taken else (HOME,))


def test_strangers_that_share_nothing_never_take_a_stream_over() -> None:
    wire = Wire(SourcePolicy.LEARN)
    sender = _sender()
    wire.bring(*((sender.send(), HOME) for _ in range(3)))
    wire.now_ns += 1_000 * NS_PER_MS
    chance = np.random.default_rng(5)
    for _ in range(20):
        stray = Sender(
            codec=pcm(), ssrc=9, sequence=int(chance.integers(2**16)), timestamp=int(chance.integers(2**32))
        )
        wire.bring((stray.send(), AWAY))
    assert wire.counters["source_refused"] == 20
    assert wire.tap.stats(STREAM).ssrcs == (1,)


def test_any_looks_at_the_ssrc_alone() -> None:
    wire = Wire(SourcePolicy.ANY)
    first, second = _sender(), _sender(2)
    wire.bring((first.send(), HOME), (first.send(), AWAY), (second.send(), HOME), (first.send(), HOME))
    assert wire.counters == {"received": 3, "foreign": 1, "octets": 480}
    wire.now_ns += 1_000 * NS_PER_MS
    wire.bring((second.send(), AWAY))  # after silence one packet is enough
    assert wire.tap.stats(STREAM).ssrcs == (1, 2)


def test_keys_of_strangers_elsewhere_are_not_heard() -> None:
    wire = Wire(SourcePolicy.LEARN)
    sender, stranger = _sender(), _sender(2)
    wire.bring((sender.send(), HOME), (stranger.event(1), AWAY), (sender.event(2), HOME))
    assert wire.tap.digits() == [(STREAM, "2")]
    assert wire.counters["source_refused"] == 1


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_kernel_names_the_sender_and_long_packets_are_whole(family: int, host: str) -> None:
    book, batch, counts = SourceBook(), Batch(capacity=8), np.zeros(1, dtype=np.int64)
    with socket.socket(family, socket.SOCK_DGRAM) as ear, socket.socket(family, socket.SOCK_DGRAM) as mouth:
        ear.bind((host, 0))
        mouth.bind((host, 0))
        prepare_socket(ear)
        datagrams = [bytes([7]) * 20, bytes(range(200)) * 5, bytes(range(250)) * 16]
        for datagram in datagrams:
            mouth.sendto(datagram, ear.getsockname()[:2])
        assert batch.receive([ear.fileno()], counts.data) == {}
        assert counts.tolist() == [3]
        keys = book.keys(batch.names())
        port = mouth.getsockname()[1]
        assert {book.text(int(key)) for key in keys} == {f"{host if '.' in host else f'[{host}]'}:{port}"}
        assert {int(key) >> 16 for key in keys} == {book.host_of(host)}
        assert batch.lengths.tolist() == [20, 1000, 4000]
        rows = batch.whole_rows(np.arange(3))
        assert [bytes(row[: len(sent)]) for row, sent in zip(rows, datagrams, strict=True)] == datagrams
        assert bytes(batch.short[1]) == datagrams[1][:SHORT_BYTES]


def test_an_ipv4_host_is_the_same_on_a_socket_of_ipv6() -> None:
    book = SourceBook()
    name = np.zeros((1, NAME_BYTES), dtype=np.uint8)
    packed = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", 4000, 0)
    packed += b"\0" * 10 + b"\xff\xff" + bytes([192, 0, 2, 1])
    name[0, : len(packed)] = np.frombuffer(packed, dtype=np.uint8)
    (key,) = book.keys(name).tolist()
    assert book.text(key) == "192.0.2.1:4000"
    assert key >> 16 == book.host_of("192.0.2.1")


def test_signalling_that_names_no_address_names_no_host() -> None:
    book = SourceBook()
    assert {book.host_of(text) for text in ("", "0.0.0.0", "::", "pbx.example.com")} == {0}
