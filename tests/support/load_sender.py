"""Sends the packets of thousands of streams: columns of numbers, and sendmmsg on memory that is there.

Work is per slot, not per packet: headers are patched as columns, payload is named by its address in memory.
The sender is a process of its own with real-time priority where that is permitted: a network does not wait
for a scheduler, nor for whoever does the signalling.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import socket
import struct
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np

from tests.support.load_traffic import (
    BOOL,
    PACKET_OCTETS,
    PCMA,
    PTIME_NS,
    U8,
    Network,
    identity,
    lost_packets,
    marked_payload,
    noise_block,
)

SLOT_NS: Final = 2_000_000
BATCH: Final = 1024  # what the kernel takes at once
HEADER_BYTES: Final = 12
LATENESS_BIN_NS: Final = 100_000
LATENESS_BINS: Final = 20_000

_MESSAGE: Final = np.dtype(
    {
        "names": ["name", "name_bytes", "parts", "part_count", "control", "control_bytes", "flags", "sent"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)  # struct mmsghdr on 64-bit Linux
_PART: Final = np.dtype([("base", "u8"), ("length", "u8")])  # struct iovec
_HEADER: Final = np.dtype(
    [("version", "u1"), ("type", "u1"), ("sequence", ">u2"), ("timestamp", ">u4"), ("ssrc", ">u4")]
)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]

I64 = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One stream to send, from a place among the sender's columns that no other stream has meanwhile."""

    place: int
    stream: int  # its number, of which everything is made
    port: int
    packets: int
    begin_mono_ns: int
    skew_ppm: float = 0.0
    marks: bool = False


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all streams have in common."""

    seed: int
    streams_max: int
    network: Network


class Lateness:
    """A histogram of how late something was."""

    def __init__(self) -> None:
        self._counts = np.zeros(LATENESS_BINS, dtype=np.int64)
        self._max_ns = 0

    def add(self, late_ns: int) -> None:
        """Count one."""
        self._counts[min(LATENESS_BINS - 1, max(0, late_ns) // LATENESS_BIN_NS)] += 1
        self._max_ns = max(self._max_ns, late_ns)

    def figures(self) -> dict[str, float]:
        """Say p50, p99 and max in milliseconds; the percentiles to the upper end of 0.1 ms."""
        total = np.cumsum(self._counts)
        places = [int(np.searchsorted(total, share * total[-1])) for share in (0.5, 0.99)]
        p50, p99 = ((place + 1) * LATENESS_BIN_NS / 1e6 for place in places)
        return {"p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "max_ms": round(self._max_ns / 1e6, 1)}


class Sender:
    """One socket and one loop for all streams; lines come through ``control``, the places of those that are
    over go back.
    """

    def __init__(self, control: Connection, *, address: str, destination: str, setup: Setup) -> None:
        self._control = control
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self._destination = socket.inet_aton(destination)
        self._setup = setup
        self._sent = 0
        self._lateness = Lateness()
        self._chance = np.random.default_rng([setup.seed, 4])
        self._block = noise_block(setup.seed)
        self._payloads: dict[int, U8] = {}  # of marks, by place; the columns name them by address
        self._lost: dict[int, BOOL] = {}
        self._running = np.zeros(setup.streams_max, dtype=np.bool_)
        self._columns(setup.streams_max)
        self._buffers()
        self._later: dict[int, list[tuple[I64, I64]]] = defaultdict(list)  # by slot: places, packet numbers
        control.send(self._socket.getsockname()[1])

    def _columns(self, count: int) -> None:
        self._next = np.zeros(count, dtype=np.int64)
        self._packets = np.zeros(count, dtype=np.int64)
        self._begin_ns = np.zeros(count, dtype=np.int64)
        self._interval_ns = np.full(count, float(PTIME_NS))
        self._due_ns = np.zeros(count, dtype=np.int64)
        self._sequence = np.zeros(count, dtype=np.int64)
        self._timestamp = np.zeros(count, dtype=np.int64)
        self._ssrc = np.zeros(count, dtype=np.uint32)
        self._base = np.zeros(count, dtype=np.int64)
        self._offset = np.zeros(count, dtype=np.int64)
        self._size = np.ones(count, dtype=np.int64)
        self._names = np.zeros((count, 16), dtype=np.uint8)

    def _buffers(self) -> None:
        self._headers = np.zeros(BATCH, dtype=_HEADER)
        self._headers["version"] = 0x80
        self._parts = np.zeros((BATCH, 2), dtype=_PART)
        rows = np.arange(BATCH)
        self._parts["base"][:, 0] = self._headers.ctypes.data + HEADER_BYTES * rows
        self._parts["length"] = (HEADER_BYTES, PACKET_OCTETS)
        self._messages = np.zeros(BATCH, dtype=_MESSAGE)
        self._messages["name_bytes"] = 16
        self._messages["parts"] = self._parts.ctypes.data + 2 * _PART.itemsize * rows
        self._messages["part_count"] = 2

    def run(self) -> None:
        """Send until told to stop, a slot at a time against absolute deadlines; then report."""
        began_ns, slot = time.monotonic_ns(), 0
        while self._take_in():
            slot += 1
            due_ns = began_ns + slot * SLOT_NS
            while (wait_ns := due_ns - time.monotonic_ns()) > 0:
                time.sleep(wait_ns / 1e9)
            if self._running.any():
                self._lateness.add(time.monotonic_ns() - due_ns)
            self._play(slot, due_ns)
        cpu = os.times()
        lateness = self._lateness.figures()
        self._control.send({"packets": self._sent, "lateness": lateness, "cpu_s": cpu.user + cpu.system})

    def _take_in(self) -> bool:
        """Take the lines that have come; False when there was a word to stop."""
        while self._control.poll():
            line = self._control.recv()
            if line is None:
                return False
            self._begin(line)
        return True

    def _begin(self, line: Line) -> None:
        place, seed = line.place, self._setup.seed
        who, payload = identity(seed, line.stream), self._block
        if line.marks:
            marked = marked_payload(packets=line.packets, skew_ppm=line.skew_ppm)
            who, payload = replace(who, offset_octets=0), np.concatenate([marked, marked[:PACKET_OCTETS]])
            self._payloads[place] = payload
        if self._setup.network.loses:
            self._lost[place] = lost_packets(seed, line.stream, line.packets, network=self._setup.network)
        self._next[place], self._packets[place] = 0, line.packets
        self._begin_ns[place] = self._due_ns[place] = line.begin_mono_ns
        self._interval_ns[place] = PTIME_NS / (1 + 1e-6 * line.skew_ppm)
        self._sequence[place], self._timestamp[place] = who.first_sequence, who.first_timestamp
        self._ssrc[place] = who.ssrc
        self._base[place] = payload.ctypes.data
        self._offset[place] = who.offset_octets
        self._size[place] = payload.size - PACKET_OCTETS
        name = struct.pack("=HH", socket.AF_INET, socket.htons(line.port)) + self._destination + bytes(8)
        self._names[place] = np.frombuffer(name, dtype=np.uint8)
        self._running[place] = True

    def _play(self, slot: int, due_ns: int) -> None:
        places = np.flatnonzero(self._running & (self._due_ns <= due_ns))
        numbers = self._next[places]
        self._next[places] += 1
        self._due_ns[places] = self._begin_ns[places] + np.round(
            self._next[places] * self._interval_ns[places]
        ).astype(np.int64)
        if not self._setup.network.is_perfect:
            self._disturb(slot, places, numbers)
            for late_places, late_numbers in self._later.pop(slot, []):
                self._send(late_places, late_numbers)
        else:
            self._send(places, numbers)
        for place in places[self._next[places] >= self._packets[places]]:
            self._running[place] = False
            self._control.send(int(place))

    def _disturb(self, slot: int, places: I64, numbers: I64) -> None:
        """Lose, repeat and delay."""
        net = self._setup.network
        if net.loses:
            rows = zip(places, numbers, strict=True)
            kept = np.array([not self._lost[place][number] for place, number in rows], dtype=np.bool_)
            places, numbers = places[kept], numbers[kept]
        again = self._chance.random(places.size) < net.duplicate
        places, numbers = np.concatenate([places, places[again]]), np.concatenate([numbers, numbers[again]])
        delay_ns = self._chance.integers(0, net.jitter_ms + 1, places.size) * 1_000_000
        delay_ns += self._chance.integers(0, net.reorder_packets + 1, places.size) * PTIME_NS
        delay_ns[numbers == 0] = 0
        slots = slot + delay_ns // SLOT_NS
        for later in np.unique(slots):
            self._later[int(later)].append((places[slots == later], numbers[slots == later]))

    def _send(self, places: I64, numbers: I64) -> None:
        for start in range(0, places.size, BATCH):
            self._send_batch(places[start : start + BATCH], numbers[start : start + BATCH])

    def _send_batch(self, places: I64, numbers: I64) -> None:
        count = places.size
        headers = self._headers[:count]
        headers["type"] = PCMA | np.where(numbers == 0, 0x80, 0)
        headers["sequence"] = (self._sequence[places] + numbers) & 0xFFFF
        headers["timestamp"] = (self._timestamp[places] + numbers * PACKET_OCTETS) & 0xFFFF_FFFF
        headers["ssrc"] = self._ssrc[places]
        walked = (self._offset[places] + numbers * PACKET_OCTETS) % self._size[places]
        self._parts["base"][:count, 1] = self._base[places] + walked
        self._messages["name"][:count] = self._names.ctypes.data + 16 * places
        done = 0
        while done < count:
            at = self._messages.ctypes.data + _MESSAGE.itemsize * done
            sent = _libc.sendmmsg(self._socket.fileno(), at, count - done, 0)
            if sent < 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
            done += sent
        self._sent += count


def start_sender(*, address: str, destination: str, setup: Setup) -> tuple[Connection, int]:
    """Start a sender; returns how to talk to it, and the port that it sends from.

    Lines go in, the places of those whose last packet has left come out; None ends it, and it reports.
    """
    context = multiprocessing.get_context("fork")
    ours, its = context.Pipe()
    process = context.Process(target=_serve, args=(ours, its, address, destination, setup), daemon=True)
    process.start()
    its.close()
    return ours, int(ours.recv())


def _serve(theirs: Connection, control: Connection, address: str, destination: str, setup: Setup) -> None:
    theirs.close()  # so that it is seen when the other side has died
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
    except PermissionError:
        with contextlib.suppress(PermissionError):
            os.nice(-15)
    with contextlib.suppress(EOFError, BrokenPipeError):
        Sender(control, address=address, destination=destination, setup=setup).run()
