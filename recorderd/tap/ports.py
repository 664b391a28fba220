"""RTP and RTCP sockets in pairs from a configured range; a port rests before it is used again.

Contract: ``acquire`` returns two bound sockets (even port RTP, next port RTCP) or raises NoPortFree;
``give_back`` puts the pair at the end of the queue, so that stale RTP of an old call finds nobody.
Source: RFC 3550 section 11.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

from recorderd.core.errors import NoPortFree
from recorderd.tap.batch import prepare_socket

_SO_RCVBUFFORCE: Final = 33
_TRIES_MAX: Final = 64  # ports that other programs hold, before we call the range full


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketPair:
    """One stream's sockets."""

    rtp: socket.socket
    rtcp: socket.socket
    rtp_port: int

    def close(self) -> None:
        """Close both sockets."""
        self.rtp.close()
        self.rtcp.close()


class PortPool:
    """The port range.

    Thread: any.
    """

    def __init__(self, *, address: str, port_min: int, port_max: int, receive_buffer_bytes: int) -> None:
        self._address = address
        self._range = (port_min, port_max)
        self._receive_buffer_bytes = receive_buffer_bytes
        self._free = deque(range(port_min, port_max, 2))
        self._lock = threading.Lock()

    @property
    def free_pairs(self) -> int:
        """Pairs that could be handed out."""
        return len(self._free)

    def acquire(self) -> SocketPair:
        """Bind the pair that has rested longest.

        Errors: NoPortFree.
        """
        for _ in range(_TRIES_MAX):
            with self._lock:
                if not self._free:
                    break
                port = self._free.popleft()
            with contextlib.suppress(OSError):
                return self._bind(port)
            self.give_back(port)
        raise NoPortFree(port_min=self._range[0], port_max=self._range[1])

    def give_back(self, rtp_port: int) -> None:
        """Return a pair whose sockets are closed."""
        with self._lock:
            self._free.append(rtp_port)

    def _bind(self, port: int) -> SocketPair:
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        bound: list[socket.socket] = []
        try:
            for number in (port, port + 1):
                sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                bound.append(sock)
                sock.bind((self._address, number))
                prepare_socket(sock)
            self._widen(bound[0])
        except OSError:
            for sock in bound:
                sock.close()
            raise
        return SocketPair(rtp=bound[0], rtcp=bound[1], rtp_port=port)

    def _widen(self, sock: socket.socket) -> None:
        try:  # beyond the system's limit, where we may
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, self._receive_buffer_bytes)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer_bytes)
