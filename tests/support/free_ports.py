"""Ports that nobody on this machine holds: several runs of the tests share it."""

from __future__ import annotations

import random
import socket


def free_ports(count: int, *, address: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """Find so many ports in a row and return the first, an even one; they may be taken a moment later."""
    for _ in range(1000):
        low = random.randrange(40_000, 60_000 - count, 2)
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
