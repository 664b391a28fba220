"""The link to the archive: one DEALER socket with CURVE, its monitor, and what became of it.

Rule: this file turns ZeroMQ's silence into events. A message is handed over only while a connection stands
(IMMEDIATE), nothing lingers, nothing blocks without a bound; a link that is refused or dead is rebuilt from
nothing, after a wait that doubles, a part of it by chance. Where an archive has several front ends, a link
that broke or does not come to stand is rebuilt too, and each time it goes to the next one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from recorderd.core.clock import NS_PER_MS
from recorderd.wire.frames import HEADER_LIMIT_BYTES, MESSAGE_LIMIT_BYTES

SEND_TIMEOUT_MS: Final = 1000
HIGH_WATER_MESSAGES: Final = 2048  # above what all deliveries may have in flight (``window`` bounds it)
RECONNECT_MS: Final = 100
RECONNECT_MAX_MS: Final = 10_000
REBUILD_MAX_MS: Final = 30_000  # a refused client asks again at least this often
CONNECT_TIMEOUT_MS: Final = 5000
ELSEWHERE_MS: Final = 3000  # without a connection for so long, another front end is asked
_REFUSALS: Final = (
    zmq.Event.HANDSHAKE_FAILED_AUTH
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """Where the archive is and how we know each other."""

    endpoint: str
    server_public_key: str
    secret_key: str
    heartbeat_ms: int
    further_endpoints: tuple[str, ...] = ()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All front ends of the archive."""
        return (self.endpoint, *self.further_endpoints)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStood:
    """The encrypted connection stands; the archive may still not want us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkBroke:
    """The connection is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTurnedAway:
    """The handshake failed; the link is rebuilt later."""

    reason: str
    endpoint: str = ""


LinkEvent = LinkStood | LinkBroke | LinkTurnedAway


class Link:
    """One connection to one archive, made anew as often as needed.

    Thread: one.
    """

    def __init__(self, settings: LinkSettings, *, now_ns: int) -> None:
        self._settings = settings
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._rebuild_ms = RECONNECT_MS
        self._rebuild_at_ns = 0
        self._stands = False
        self._place = 0  # of the front end
        self._elsewhere_at_ns = 0
        self._open(now_ns)

    @property
    def endpoint(self) -> str:
        """Where the link goes to now."""
        return self._settings.endpoints[self._place]

    @property
    def has_others(self) -> bool:
        """Tell whether the archive has further front ends."""
        return len(self._settings.endpoints) > 1

    @property
    def stands(self) -> bool:
        """Tell whether the encrypted connection stands."""
        return self._stands

    def poll(self, *, timeout_ms: int, now_ns: int) -> tuple[list[LinkEvent], list[Sequence[bytes]]]:
        """Wait for events and messages; rebuild the link when that is due."""
        if self._socket is None:
            if now_ns < self._rebuild_at_ns:
                time.sleep(timeout_ms / 1000)  # nothing else to wait for
                return [], []
            self._open(now_ns)
        elif self.has_others and not self._stands and now_ns >= self._elsewhere_at_ns:
            self.rebuild(now_ns=now_ns)
            return [], []
        socket, monitor = self._socket, self._monitor
        if socket is None or monitor is None:
            return [], []
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(monitor, zmq.POLLIN)
        ready = dict(poller.poll(timeout_ms))
        messages = _drain(socket) if socket in ready else []
        events = self._read_monitor(monitor, now_ns) if monitor in ready else []
        return events, messages

    def send(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Hand a message over; False when there is no connection or its queue stays full."""
        if self._socket is None or not self._stands:
            return False
        try:
            self._socket.send_multipart(frames)
        except zmq.Again:
            return False
        return True

    def settle(self) -> None:
        """Note that the archive welcomed us: the next rebuild waits a short time again."""
        self._rebuild_ms = RECONNECT_MS

    def rebuild(self, *, now_ns: int) -> None:
        """Drop the connection and make a new one after a wait that doubles from one to the next."""
        self.close()
        self._place = (self._place + 1) % len(self._settings.endpoints)
        wait_ms = self._rebuild_ms * random.uniform(0.5, 1.0)
        self._rebuild_at_ns = now_ns + round(wait_ms * NS_PER_MS)
        self._rebuild_ms = min(2 * self._rebuild_ms, REBUILD_MAX_MS)

    def close(self, *, linger_ms: int = 0) -> None:
        """Close the socket; what it holds then is sent for ``linger_ms`` at most."""
        self._stands = False
        if self._socket is not None:
            self._socket.disable_monitor()
            self._socket.close(linger=linger_ms)
        if self._monitor is not None:
            self._monitor.close(linger=0)
        self._socket = self._monitor = None

    def end(self, *, linger_ms: int) -> None:
        """Close the socket for good; waits for ``linger_ms`` at most."""
        self.close(linger_ms=linger_ms if self._stands else 0)
        self._context.term()

    def _open(self, now_ns: int) -> None:
        settings = self._settings
        socket = self._context.socket(zmq.DEALER)
        secret = settings.secret_key.encode("ascii")
        options: dict[int, Any] = {
            zmq.LINGER: 0,
            zmq.IPV6: int("[" in self.endpoint),
            zmq.IMMEDIATE: 1,
            zmq.SNDTIMEO: SEND_TIMEOUT_MS,
            zmq.RCVTIMEO: 0,
            zmq.SNDHWM: HIGH_WATER_MESSAGES,
            zmq.RCVHWM: HIGH_WATER_MESSAGES,
            zmq.MAXMSGSIZE: max(HEADER_LIMIT_BYTES, MESSAGE_LIMIT_BYTES),
            zmq.RECONNECT_IVL: RECONNECT_MS,
            zmq.RECONNECT_IVL_MAX: RECONNECT_MAX_MS,
            zmq.CONNECT_TIMEOUT: CONNECT_TIMEOUT_MS,
            zmq.HEARTBEAT_IVL: settings.heartbeat_ms,
            zmq.HEARTBEAT_TIMEOUT: 3 * settings.heartbeat_ms,
            zmq.CURVE_SERVERKEY: settings.server_public_key.encode("ascii"),
            zmq.CURVE_SECRETKEY: secret,
            zmq.CURVE_PUBLICKEY: zmq.curve_public(secret),
        }
        for name, value in options.items():
            socket.setsockopt(name, value)
        self._monitor = socket.get_monitor_socket(
            zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED | _REFUSALS
        )
        self._socket = socket
        self._elsewhere_at_ns = now_ns + ELSEWHERE_MS * NS_PER_MS
        socket.connect(self.endpoint)

    def _read_monitor(self, monitor: zmq.Socket[bytes], now_ns: int) -> list[LinkEvent]:
        events: list[LinkEvent] = []
        while self._monitor is monitor and monitor.poll(0):
            row = recv_monitor_message(monitor)
            kind = row["event"]
            if kind == zmq.Event.HANDSHAKE_SUCCEEDED:
                self._stands = True
                events.append(LinkStood())
            elif kind == zmq.Event.DISCONNECTED:
                self._stands = False
                events.append(LinkBroke())
                if self.has_others:
                    self.rebuild(now_ns=now_ns)
            elif kind & _REFUSALS:
                events.append(LinkTurnedAway(reason=_refusal(kind, row["value"]), endpoint=self.endpoint))
                self.rebuild(now_ns=now_ns)
        return events


def _refusal(kind: int, value: int) -> str:
    if kind == zmq.Event.HANDSHAKE_FAILED_AUTH:
        return f"the archive does not know our key (status {value})"
    if kind == zmq.Event.HANDSHAKE_FAILED_PROTOCOL:
        return f"handshake failed (protocol error {value:#x}); is archive.server_public_key right?"
    return "the archive closed the connection during the handshake; is archive.server_public_key right?"


def _drain(socket: zmq.Socket[bytes]) -> list[Sequence[bytes]]:
    messages: list[Sequence[bytes]] = []
    while len(messages) < HIGH_WATER_MESSAGES:
        try:
            messages.append(socket.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            break
    return messages
