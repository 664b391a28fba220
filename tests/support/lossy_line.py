"""A line between two networks of their own on which packets are lost, late, doubled and out of order.

Rule: what runs ``near`` and ``far`` has the kernel's real TCP at both ends; every IP packet passes through
here, by a TUN device in each network. Needs the right to make both, which OSError says is missing.
Source: network_namespaces(7), netdevice(7); the kernel's networking/tuntap.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Self

from tests.support.own_network import CLONE_NEWNET, IFF_UP, SIOCSIFFLAGS, own_network

NEAR: Final = "10.77.0.1"
FAR: Final = "10.77.0.2"
_NAME: Final = b"line"
_TUNSETIFF: Final = 0x4004_54CA
_IFF_TUN_NO_PI: Final = 0x1001
_SIOCSIFADDR: Final = 0x8916
_SIOCSIFDSTADDR: Final = 0x8918
_PACKET_BYTES: Final = 2048  # a TUN device's are of 1500 at most


class LossyLine:
    """The two networks and the line between them."""

    def __init__(
        self,
        *,
        loss: float = 0.0,
        duplicates: float = 0.0,
        delay_s: float = 0.0,
        jitter_s: float = 0.0,
        seed: int = 1,
    ) -> None:
        self._loss, self._duplicates = loss, duplicates
        self._delay_s, self._jitter_s = delay_s, jitter_s
        self._chance = random.Random(seed)
        self._late: list[tuple[float, int, int, bytes]] = []  # when, in which turn, to which end, what
        self.carried = self.lost = self.doubled = 0
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._networks: list[int] = []
        self._ends: list[int] = []
        self._stop = threading.Event()
        self._carrier = threading.Thread(target=self._carry, name="line")
        try:
            for address, other in ((NEAR, FAR), (FAR, NEAR)):
                _in_a_thread(lambda address=address, other=other: self._add(address, other))
        except OSError:
            self._close()
            raise

    def __enter__(self) -> Self:
        self._carrier.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._carrier.join()
        self._close()

    @contextlib.contextmanager
    def near(self) -> Iterator[None]:
        """Let what this thread starts have the near network."""
        with self._within(0):
            yield

    @contextlib.contextmanager
    def far(self) -> Iterator[None]:
        """Let what this thread starts have the far network."""
        with self._within(1):
            yield

    @contextlib.contextmanager
    def _within(self, number: int) -> Iterator[None]:
        _enter(self._networks[number])
        try:
            yield
        finally:
            _enter(self._home)

    def _add(self, address: str, other: str) -> None:
        """Make a network with one end of the line; in a thread that ends then."""
        own_network()
        self._networks.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        self._ends.append(end)
        fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH14x", _NAME, _IFF_TUN_NO_PI))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for request, place in ((_SIOCSIFADDR, address), (_SIOCSIFDSTADDR, other)):
                words = struct.pack("16sHH4s8x", _NAME, socket.AF_INET, 0, socket.inet_aton(place))
                fcntl.ioctl(sock, request, words)
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", _NAME, IFF_UP))

    def _carry(self) -> None:
        """Pass packets on until the line is closed."""
        turn = 0
        while not self._stop.is_set():
            wait_s = self._late[0][0] - time.monotonic() if self._late else 0.05
            ready, _, _ = select.select(self._ends, [], [], min(0.05, max(0.0, wait_s)))
            for end in ready:
                with contextlib.suppress(BlockingIOError):
                    packet = os.read(end, _PACKET_BYTES)
                    if self._chance.random() < self._loss:
                        self.lost += 1
                        continue
                    copies = 2 if self._chance.random() < self._duplicates else 1
                    self.doubled += copies - 1
                    for _ in range(copies):
                        due_s = time.monotonic() + self._delay_s + self._chance.uniform(0, self._jitter_s)
                        turn += 1
                        heapq.heappush(
                            self._late, (due_s, turn, self._ends[1 - self._ends.index(end)], packet)
                        )
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(self._late)
                self.carried += 1
                with contextlib.suppress(OSError):  # the other end is gone, or has no room: one more is lost
                    os.write(end, packet)

    def _close(self) -> None:
        for descriptor in (*self._ends, *self._networks, self._home):
            os.close(descriptor)


def _enter(network: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(network, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _in_a_thread(work: Callable[[], None]) -> None:
    """Do something in a thread of its own, whose network nobody else has; raise what it raises."""
    problems: list[OSError] = []

    def run() -> None:
        try:
            work()
        except OSError as problem:
            problems.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
