"""What the load generator says: made from a seed and a number, so that a judge makes the same anew.

A stream's payload is a walk through one block of noise from a place of its own, or marks: a burst at every
whole second of true time on a sender's clock that may run fast or slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tests.support import g711_reference

RATE_HZ: Final = 8000
PACKET_OCTETS: Final = 160
PTIME_NS: Final = 20_000_000
PCMA: Final = 8
BLOCK_OCTETS: Final = 1 << 20  # over two minutes before a stream repeats itself
SIDES: Final = 2
PAUSE_EVERY_MS: Final = 8_000
BURST_SAMPLES: Final = 80
BURST_HZ: Final = 1000
SILENT_OCTET: Final = 0xD5  # A-law for the smallest sample

U8 = np.ndarray[Any, np.dtype[np.uint8]]
I16 = np.ndarray[Any, np.dtype[np.int16]]
BOOL = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class Network:
    """What happens to packets on the way; nothing moves or loses a stream's first packet."""

    loss: float = 0.0
    pause_ms: int = 0  # of every ``PAUSE_EVERY_MS`` nothing comes for so long
    duplicate: float = 0.0
    jitter_ms: int = 0
    reorder_packets: int = 0

    @property
    def is_perfect(self) -> bool:
        """Tell whether every packet arrives when it is sent, once."""
        return not (self.loses or self.duplicate or self.jitter_ms or self.reorder_packets)

    @property
    def loses(self) -> bool:
        """Tell whether some packets never arrive."""
        return bool(self.loss or self.pause_ms)

    @property
    def delay_max_ms(self) -> int:
        """The longest way that a packet can take."""
        return self.jitter_ms + 20 * self.reorder_packets


@dataclass(frozen=True, kw_only=True)
class Identity:
    """How a stream is told from the others."""

    ssrc: int
    first_sequence: int
    first_timestamp: int
    offset_octets: int  # into the block


def call_name(seed: int, number: int) -> str:
    """Name a call as its session id does."""
    return f"{seed & 0xFFFF_FFFF:08x}{number:024x}"


def number_of(name: str) -> int:
    """Read a call's number from its name."""
    return int(name[8:], 16)


def stream_number(call: int, side: int) -> int:
    """Number the streams of all calls."""
    return SIDES * call + side


def identity(seed: int, stream: int) -> Identity:
    """Give a stream its numbers."""
    chance = np.random.default_rng([seed, stream])
    ssrc, timestamp = (int(value) for value in chance.integers(1, 1 << 32, 2))
    return Identity(
        ssrc=ssrc,
        first_timestamp=timestamp,
        first_sequence=int(chance.integers(1 << 16)),
        offset_octets=int(chance.integers(BLOCK_OCTETS)),
    )


def lost_packets(seed: int, stream: int, packets: int, *, network: Network) -> BOOL:
    """Say which packets never arrive; the first and the last always do."""
    chance = np.random.default_rng([seed, stream, 1])
    lost = chance.random(packets) < network.loss
    at_ms = 20 * np.arange(packets) + PAUSE_EVERY_MS * chance.random()
    lost |= at_ms % PAUSE_EVERY_MS < network.pause_ms
    lost[[0, -1]] = False
    return lost


def noise_block(seed: int) -> U8:
    """Make the block that all streams walk through, its beginning again behind its end."""
    block = np.random.default_rng([seed, 2]).integers(0, 256, BLOCK_OCTETS, dtype=np.uint8)
    return np.concatenate([block, block[:PACKET_OCTETS]])


def marked_payload(*, packets: int, skew_ppm: float) -> U8:
    """Make silence with a burst at every whole second of true time.

    A sender whose clock is fast by ``skew_ppm`` counts so many more samples in a second.
    """
    burst = np.round(16_000 * np.sin(2 * np.pi * BURST_HZ * np.arange(BURST_SAMPLES) / RATE_HZ))
    octets = np.frombuffer(g711_reference.encode(burst.astype(np.int64), law="PCMA"), dtype=np.uint8)
    payload = np.full(packets * PACKET_OCTETS, SILENT_OCTET, dtype=np.uint8)
    per_second = RATE_HZ * (1 + 1e-6 * skew_ppm)
    for second in range(1, int(payload.size / per_second)):
        start = round(second * per_second)
        payload[start : start + BURST_SAMPLES] = octets[: payload.size - start]
    return payload


class Expectation:
    """The samples that a judge expects of a seed's streams."""

    def __init__(self, seed: int, *, network: Network | None = None) -> None:
        self._seed, self._network = seed, network or Network()
        block = noise_block(seed)[:BLOCK_OCTETS]
        self._decoded = g711_reference.decode(block.tobytes(), law="PCMA")

    def samples(self, stream: int, packets: int) -> I16:
        """Decode what was sent, with silence where it was lost."""
        size, offset = packets * PACKET_OCTETS, identity(self._seed, stream).offset_octets
        laps = -(-(offset + size) // BLOCK_OCTETS)
        samples = np.tile(self._decoded, laps)[offset : offset + size]
        if self._network.loses:
            lost = lost_packets(self._seed, stream, packets, network=self._network)
            samples = np.where(np.repeat(lost, PACKET_OCTETS), np.int16(0), samples)
        return samples

    def lost(self, stream: int, packets: int) -> int:
        """Count what was lost on the way."""
        if not self._network.loses:
            return 0
        return int(lost_packets(self._seed, stream, packets, network=self._network).sum())
