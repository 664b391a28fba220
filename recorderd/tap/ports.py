"""RTP and RTCP sockets in pairs from a configured range; a port rests before it is used again.

Contract: ``acquire`` returns two bound sockets (even port RTP, next port RTCP) or raises NoPortFree;
``give_back`` puts the pair at the end of the queue, so that stale RTP of an old call finds nobody. The pair
that has rested longest is handed out; when none has rested ``rest_s``, one that has rested less, but never
less than ``REST_MIN_S``. A pair to which nobody has ever sent need not rest.
A pair that was handed out is given to ``keeper`` until it is given back, so that it outlives the process.
A process that is killed tells no sender of the end: the next one begins behind all ports that ``mark_path``
says were handed out, or their RTP would be heard in calls that it does not belong to.
Source: RFC 3550 section 11.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.carry import Keeper, NobodyKeeps
from recorderd.core.clock import NS_PER_S, Clock, SystemClock
from recorderd.core.errors import NoPortFree
from recorderd.tap.batch import prepare_socket

_SO_RCVBUFFORCE: Final = 33
REST_S: Final = 30.0  # a sender that was not told of the end goes on until its own timer
REST_MIN_S: Final = 2.0  # what is still under way when a call has ended
MARK_EVERY: Final = 64  # pairs; so many at most are skipped at a start
_TRIES_MAX: Final = 64  # ports that other programs hold, before we call the range full


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketPair:
    """One stream's sockets."""

    rtp: socket.socket
    rtcp: socket.socket
    rtp_port: int

    @classmethod
    def closed(cls) -> SocketPair:
        """Make a pair that nothing comes through any more."""
        pair = cls(rtp=socket.socket(), rtcp=socket.socket(), rtp_port=0)
        pair.close()
        return pair

    def close(self) -> None:
        """Close both sockets."""
        self.rtp.close()
        self.rtcp.close()


class PortPool:
    """The port range.

    Thread: any.
    """

    def __init__(
        self,
        *,
        address: str,
        port_min: int,
        port_max: int,
        receive_buffer_bytes: int,
        rest_s: float = REST_S,
        clock: Clock | None = None,
        keeper: Keeper | None = None,
        mark_path: Path | None = None,
    ) -> None:
        self._keeper = keeper or NobodyKeeps()
        # The kernel begins to date packets a moment after the first socket on the machine asks for it.
        self._dated = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        prepare_socket(self._dated)
        self._address = address
        self._range = (port_min, port_max)
        self._receive_buffer_bytes = receive_buffer_bytes
        self._rest_ns = round(rest_s * NS_PER_S)
        self._rest_min_ns = min(self._rest_ns, round(REST_MIN_S * NS_PER_S))
        self._clock = clock or SystemClock()
        self._mark_path = mark_path
        self._unheard = deque(range(port_min, port_max, 2))
        self._unheard.rotate(-self._marked())
        self._until_mark = 0  # pairs that may be handed out before the mark is moved on
        self._resting: deque[tuple[int, int]] = deque()  # since when, which; the longest first
        self._lock = threading.Lock()
        self.short_rests = 0  # pairs that had to be handed out before they had rested

    def adopt(self, rtp: socket.socket, rtcp: socket.socket) -> SocketPair | None:
        """Take on a pair that another process had bound; None when it is none of this range."""
        port = int(rtp.getsockname()[1])
        with self._lock:
            if port not in self._unheard or int(rtcp.getsockname()[1]) != port + 1:
                return None
            self._unheard.remove(port)
        for sock in (rtp, rtcp):
            prepare_socket(sock)
        return SocketPair(rtp=rtp, rtcp=rtcp, rtp_port=port)

    @property
    def free_pairs(self) -> int:
        """Pairs that could be handed out now."""
        latest_ns = self._clock.mono_ns() - self._rest_min_ns
        with self._lock:
            rested = len(self._resting)
            for since_ns, _ in reversed(self._resting):
                if since_ns <= latest_ns:
                    break
                rested -= 1
            return len(self._unheard) + rested

    def acquire(self) -> SocketPair:
        """Bind the pair that has rested longest.

        Errors: NoPortFree.
        """
        for _ in range(_TRIES_MAX):
            port = self._next()
            if port is None:
                break
            with contextlib.suppress(OSError):
                pair = self._bind(port)
                self._keeper.keep(str(port), (pair.rtp.fileno(), pair.rtcp.fileno()))
                return pair
            self.give_back(port)  # another program's: that may end
        raise NoPortFree(port_min=self._range[0], port_max=self._range[1])

    def give_back(self, rtp_port: int, *, heard: bool = True) -> None:
        """Return a pair whose sockets are closed; it rests from now on if somebody has sent to it."""
        self._keeper.let_go(str(rtp_port))
        with self._lock:
            if heard:
                self._resting.append((self._clock.mono_ns(), rtp_port))
            else:
                self._unheard.append(rtp_port)

    def _marked(self) -> int:
        """Say how many pairs of the range lie before the mark that was left; 0 without one."""
        try:
            port = int(self._mark_path.read_bytes()) if self._mark_path is not None else 0
            return self._unheard.index(port)
        except (OSError, ValueError):
            return 0

    def _move_mark(self) -> None:
        """Leave a mark beyond the next pairs; one that cannot be left costs only their rest."""
        if self._mark_path is None:
            return
        if self._until_mark > 0:
            self._until_mark -= 1
            return
        ahead = min(MARK_EVERY, max(1, len(self._unheard) // 2))
        self._until_mark = ahead - 1
        behind = self._unheard[ahead % len(self._unheard)]
        with contextlib.suppress(OSError):
            durable.replace(self._mark_path, str(behind).encode(), synced=False)

    def _next(self) -> int | None:
        with self._lock:
            rested_ns = self._clock.mono_ns() - self._resting[0][0] if self._resting else 0
            if self._resting and rested_ns >= self._rest_ns:
                return self._resting.popleft()[1]
            if self._unheard:
                self._move_mark()
                return self._unheard.popleft()
            if self._resting and rested_ns >= self._rest_min_ns:
                self.short_rests += 1
                return self._resting.popleft()[1]
        return None

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
