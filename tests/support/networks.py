"""Senders of any format, networks of any kind, and a tap without sockets that hears them."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.ids import StreamId
from recorderd.core.messages import Codec, Encoding
from recorderd.tap.drain import DRAIN_MS, RING_MS
from recorderd.tap.intake import Intake
from recorderd.tap.placing import Restart
from recorderd.tap.reading import Reading
from recorderd.tap.sources import SourcePolicy
from recorderd.wire.rtp import parse_columns

BEGIN_NS: Final = 5_000 * NS_PER_S
EVENTS: Final = 101
FIRST_DELAY_MAX_MS: Final = 900  # what overtakes a stream's first packet by a second or more is its beginning
ROW_BYTES: Final = 12_000


@dataclass(frozen=True, kw_only=True)
class Packet:
    """One packet as it leaves; ``at_ticks`` counts from the sender's first sample."""

    sent_ns: int
    at_ticks: int
    ticks: int
    payload: bytes
    datagram: bytes


@dataclass(kw_only=True)
class Sender:
    """Writes packets in sequence; every method moves its time on."""

    codec: Codec
    ssrc: int = 0x1234
    sequence: int = 0
    timestamp: int = 0
    now_ns: int = BEGIN_NS
    ppm: float = 0.0
    at_ticks: int = 0
    _chance: random.Random = field(default_factory=lambda: random.Random(1))

    def send(self, ticks: int = 0, *, payload: bytes = b"", marker: bool = False) -> Packet:
        """Send samples; random octets of so many ticks, or a payload as given."""
        codec = self.codec
        ticks = ticks or codec.clock_rate_hz // 50
        payload = payload or self._chance.randbytes(ticks * codec.octets_per_tick)
        packet = self._packet(codec.payload_type, payload, ticks=ticks, marker=marker)
        self.pause(ticks)
        return packet

    def event(self, code: int = 5, *, kind: int = EVENTS) -> Packet:
        """Send a key event, or comfort noise; its time does not pass."""
        payload = bytes([code, 10, 0, 160]) if kind == EVENTS else bytes([60])
        return self._packet(kind, payload, ticks=0, marker=False)

    def lose(self, packets: int, ticks: int = 0) -> None:
        """Send packets that never arrive."""
        for _ in range(packets):
            self.send(ticks)

    def pause(self, ticks: int) -> None:
        """Let the sender's clock run without a packet."""
        self.timestamp += ticks
        self.at_ticks += ticks
        self.now_ns += round(ticks * NS_PER_S / self.codec.clock_rate_hz * (1 - self.ppm / 1e6))

    def _packet(self, kind: int, payload: bytes, *, ticks: int, marker: bool) -> Packet:
        header = struct.pack(
            "!BBHII",
            0x80,
            kind | (0x80 if marker else 0),
            self.sequence & 0xFFFF,
            self.timestamp & 0xFFFF_FFFF,
            self.ssrc,
        )
        self.sequence += 1
        return Packet(
            sent_ns=self.now_ns,
            at_ticks=self.at_ticks,
            ticks=ticks,
            payload=payload,
            datagram=header + payload,
        )


@dataclass(frozen=True, kw_only=True)
class Network:
    """What happens to packets on their way."""

    loss: float = 0.0
    duplicates: float = 0.0
    reorder_packets: int = 0
    jitter_ms: int = 0
    delay_max_ms: int = 2_200
    seed: int = 0

    def carry(self, packets: Sequence[Packet]) -> tuple[list[tuple[int, Packet]], list[Packet]]:
        """Give what arrives with its instants, in order, and each packet that arrives once."""
        chance = random.Random(self.seed)
        arriving, came = [], []
        for number, packet in enumerate(packets):
            if chance.random() < self.loss:
                continue
            came.append(packet)
            for _ in range(2 if chance.random() < self.duplicates else 1):
                behind = packets[min(number + chance.randint(0, self.reorder_packets), len(packets) - 1)]
                held_ns = behind.sent_ns - packet.sent_ns + chance.randint(0, self.jitter_ms) * NS_PER_MS
                longest_ms = self.delay_max_ms if len(came) > 1 else FIRST_DELAY_MAX_MS
                arriving.append((packet.sent_ns + min(held_ns, longest_ms * NS_PER_MS), packet))
        arriving.sort(key=lambda row: row[0])
        return arriving, came


class HeardTap(Reading):
    """A tap that is handed its packets."""

    def __init__(
        self,
        codecs: Sequence[Sequence[Codec]],
        *,
        short_cuts: bool = True,
        policy: SourcePolicy = SourcePolicy.ANY,
    ) -> None:
        count = len(codecs)
        intake = Intake(slots=count, grains=64 * count, source_policy=policy, short_cuts=short_cuts)
        super().__init__(intake=intake)
        self.intake = intake
        self.restarts: list[Restart] = []
        for slot, known in enumerate(codecs):
            rate = known[0].clock_rate_hz * known[0].octets_per_tick
            intake.ring.open(slot, octets_per_s=rate, ring_ms=RING_MS)
            intake.table.open(slot, codecs=known, event_payload_types=[EVENTS])
            intake.open(slot)

    def slot_of(self, stream: StreamId) -> int:
        return int(stream)

    def _names(self) -> dict[int, StreamId]:
        return {slot: StreamId(str(slot)) for slot in range(self.intake.table.slots)}

    def hear(self, packets: Sequence[tuple[int, int, bytes]], *, sources: Sequence[int] = ()) -> None:
        """Take one drain: slot, arrival and datagram of each packet, in order of arrival."""
        if not packets:
            return
        rows = np.zeros((len(packets), ROW_BYTES), dtype=np.uint8)
        for row, (_, _, datagram) in zip(rows, packets, strict=True):
            row[: len(datagram)] = np.frombuffer(datagram, dtype=np.uint8)
        lengths = np.array([len(datagram) for _, _, datagram in packets], dtype=np.int64)
        self.restarts += self.intake.accept(
            np.array([slot for slot, _, _ in packets], dtype=np.int64),
            parse_columns(rows, lengths),
            rows=rows,
            arrival_ns=np.array([at_ns for _, at_ns, _ in packets], dtype=np.int64),
            sources=np.array(sources, dtype=np.int64) if sources else None,
        )

    def play(self, packets: Sequence[Packet], *, slot: int = 0) -> None:
        """Take packets that arrive as they are sent, in drains."""
        for drain in drains([(packet.sent_ns, slot, packet) for packet in packets]):
            self.hear(drain)

    def causes(self, slot: int = 0) -> list[tuple[int, int, str]]:
        """Take what was noted of a slot, in ticks since its first packet."""
        first = int(self.intake.table.first_ticks[slot])
        return [
            (row.start_ticks - first, row.end_ticks - first, row.cause)
            for row in self.gap_causes()
            if row.stream == str(slot)
        ]


def drains(arriving: Sequence[tuple[int, int, Packet]]) -> list[list[tuple[int, int, bytes]]]:
    """Cut arrivals of instant, slot and packet into drains, empty ones included."""
    parts: list[list[tuple[int, int, bytes]]] = []
    end_ns = 0
    for at_ns, slot, packet in sorted(arriving, key=lambda row: row[0]):
        while at_ns >= end_ns:
            end_ns = (end_ns or at_ns) + DRAIN_MS * NS_PER_MS
            parts.append([])
        parts[-1].append((slot, at_ns, packet.datagram))
    return parts


def pcm(encoding: str = "PCMA", *, rate_hz: int = 8_000, channels: int = 1) -> Codec:
    """Make a codec whose octets have each their time."""
    kind = {"PCMU": 0, "PCMA": 8}.get(encoding, 97)
    return Codec(payload_type=kind, encoding=Encoding(encoding), clock_rate_hz=rate_hz, channels=channels)
