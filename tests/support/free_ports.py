"""Ports that nobody on this machine holds: several runs of the tests share it."""

from __future__ import annotations

import random
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"
DATAGRAM_PORTS: Final = range(40_000, 60_000)
PORTS: Final = range(10_000, 20_000)  # below those of the kernel, from which one may connect to itself


def free_ports(count: int, *, address: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """Find so many ports in a row and return the first, an even one; they may be taken a moment later."""
    for _ in range(1000):
        ports = PORTS if kind is socket.SOCK_STREAM else DATAGRAM_PORTS
        low = random.randrange(ports.start, ports.stop - count, 2)
        held: list[socket.socket] = []
        try:
            for port in range(low, low + count):
                held.append(socket.socket(socket.AF_INET, kind))
                held[-1].bind((address, port))
        except OSError:
            continue
        finally:
            for sock in held:
                sock.close()
        return low
    raise AssertionError("no free ports")


def free_port(address: str = LOOPBACK) -> int:
    """Return a port that is free for UDP and for TCP at this moment."""
    for port in random.sample(PORTS, 100):
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind((address, port))
        except OSError:
            continue
        return port
    raise OSError(f"no free port among 100 tried on {address}")
