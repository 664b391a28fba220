"""How long a client may take, and how many connections there may be: who opens many, or sends a letter at a
time, takes nobody's place for long.

Contract: a connection whose request does not come whole in time is closed; one too many is closed at once;
both are counted in one event. Bodies and answers have their time in ``limits``.
Thread: the event loop's.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from recorderd.archive.web.limits import Patience
from recorderd.core.events import Ev, EventLog

CONNECTIONS_MAX: Final = 2000
OF_ONE_ADDRESS_MAX: Final = 200
_DESCRIPTORS: Final = 8192  # connections whose TLS has not begun hold one too, for a minute at most


def protocol_of(patience: Patience, log: EventLog) -> type[asyncio.Protocol]:
    """Give the protocol that uvicorn makes for each connection."""

    class Patient(H11Protocol):
        """HTTP/1.1 of one connection."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # ours is always a TCP one
            """Take a connection, or close it when there are too many."""
            super().connection_made(transport)
            address = _address_of(self)
            near = sum(_address_of(other) == address for other in self.connections)
            if len(self.connections) > CONNECTIONS_MAX or near > OF_ONE_ADDRESS_MAX:
                self._close(transport, "too-many-connections")
                return
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            """Forget it."""
            self._stop_waiting()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            """Take what came; the time for a request runs from its first octet to its last header."""
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._stop_waiting()
            elif self._timer is None:
                self._wait()

        def _wait(self) -> None:
            self._timer = self.loop.call_later(
                patience.headers_s, lambda: self._close(self.transport, "too-slow")
            )

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _close(self, transport: asyncio.Transport, why: str) -> None:
            log.warning(Ev.HTTP_LIMITED, subject=_address_of(self), reason=why)
            transport.abort()

    return Patient


def _address_of(connection: object) -> str:
    client = getattr(connection, "client", None)
    return str(client[0]) if client else "?"


def raise_descriptor_limit() -> None:
    """Let this process have as many connections open as it is to have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
