"""Paced RTP with a scripted network: which packet leaves when, which never, which twice.

`network_script` is pure, so a test knows exactly what was lost. `send_streams` drives many streams from one
thread against absolute deadlines.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

PTIME_S: Final = 0.020
REPORT_SLOTS: Final = 5  # a report every tenth of a second
NTP_EPOCH_S: Final = 2_208_988_800


@dataclass(frozen=True, kw_only=True)
class Script:
    """What the network does: packets by slot of 20 ms, in sending order; and those that never leave."""

    slots: tuple[tuple[int, ...], ...]
    lost: frozenset[int]


def network_script(
    packets: int, *, loss: float = 0.0, reorder_packets: int = 0, duplicate: float = 0.0, seed: int = 0
) -> Script:
    """Make a script; the first and the last packet always arrive, nothing moves by more than asked."""
    chance = random.Random(seed)
    lost = frozenset(n for n in range(1, packets - 1) if chance.random() < loss)
    slots: list[list[int]] = [[] for _ in range(packets + reorder_packets + 1)]
    for number in range(packets):
        if number in lost:
            continue
        slots[number + (chance.randint(0, reorder_packets) if reorder_packets else 0)].append(number)
        if chance.random() < duplicate:
            slots[number + chance.randint(0, max(1, reorder_packets))].append(number)
    return Script(slots=tuple(tuple(slot) for slot in slots), lost=lost)


@dataclass(kw_only=True)
class RtpStream:
    """One stream to send."""

    port: int
    payload_type: int
    payload: bytes
    octets_per_packet: int = 160
    ticks_per_packet: int = 160
    ssrc: int = field(default_factory=lambda: random.getrandbits(32))
    first_sequence: int = field(default_factory=lambda: random.getrandbits(16))
    first_timestamp: int = field(default_factory=lambda: random.getrandbits(32))
    script: Script | None = None
    wall_s: float | None = None  # what its wall clock says at the first packet; with it, reports are sent
    reported_ppm: float = 0.0  # by which its media clock runs fast by that clock

    @property
    def packets(self) -> int:
        """Whole packets of the payload."""
        return len(self.payload) // self.octets_per_packet

    def packet(self, number: int) -> bytes:
        """Build one packet."""
        header = struct.pack(
            "!BBHII",
            0x80,
            self.payload_type | (0x80 if number == 0 else 0),
            (self.first_sequence + number) & 0xFFFF,
            (self.first_timestamp + number * self.ticks_per_packet) & 0xFFFF_FFFF,
            self.ssrc,
        )
        start = number * self.octets_per_packet
        return header + self.payload[start : start + self.octets_per_packet]

    def report(self, slot: int, *, wall_s: float) -> bytes:
        """Build the sender report of an instant: so many packets after the first."""
        media_s = slot * PTIME_S
        ntp = round((wall_s + media_s / (1 + self.reported_ppm * 1e-6)) * 2**32) if wall_s else 0
        timestamp = (self.first_timestamp + slot * self.ticks_per_packet) & 0xFFFF_FFFF
        octets = slot * self.octets_per_packet
        return struct.pack("!BBHIQIII", 0x80, 200, 6, self.ssrc, ntp % 2**64, timestamp, slot, octets)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What was sent, and how punctually."""

    packets: int
    lateness_max_s: float
    started_mono_s: float
    ended_mono_s: float


def send_streams(streams: Sequence[RtpStream], *, address: str = "127.0.0.1") -> Sent:
    """Send all streams side by side, a slot every 20 ms."""
    for stream in streams:
        if stream.script is None:
            stream.script = network_script(stream.packets)
    scripts = [stream.script for stream in streams if stream.script is not None]
    sent, lateness_max_s = 0, 0.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        started = time.monotonic()
        for slot in range(max(len(script.slots) for script in scripts)):
            due = started + slot * PTIME_S
            while (wait_s := due - time.monotonic()) > 0:
                time.sleep(wait_s)
            lateness_max_s = max(lateness_max_s, time.monotonic() - due)
            for stream, script in zip(streams, scripts, strict=True):
                if stream.wall_s is not None and slot and slot % REPORT_SLOTS == 0:
                    sock.sendto(stream.report(slot, wall_s=stream.wall_s), (address, stream.port + 1))
                if slot < len(script.slots):
                    for number in script.slots[slot]:
                        sock.sendto(stream.packet(number), (address, stream.port))
                        sent += 1
        ended = time.monotonic()
    return Sent(packets=sent, lateness_max_s=lateness_max_s, started_mono_s=started, ended_mono_s=ended)
