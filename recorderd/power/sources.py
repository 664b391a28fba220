"""Where a UPS is asked: a connection to upsd, or to apcupsd's information server.

Contract: ``read`` gives the present reading or raises; after any error the source is closed, and the next
``read`` connects anew. A server that says nothing for ``ANSWER_S``, or is not done after ``WHOLE_ANSWER_S``,
has failed. With ``tls`` a NUT
server is believed, and given the password, only over TLS with a certificate that is trusted.
Thread: one.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from recorderd.core.conditions import UpsReading
from recorderd.core.errors import UpsFormatError, UpsSilent
from recorderd.wire import apcupsd_nis
from recorderd.wire.nut import LoginRefused, NotTold, NutConversation, Refused, TlsAgreed, Told

ANSWER_S: Final = 3.0  # upsd and apcupsd answer from memory
WHOLE_ANSWER_S: Final = 10.0  # however it drips
_PIECE_BYTES: Final = 8192


class UpsSource(Protocol):
    """One UPS that can be asked."""

    def read(self) -> UpsReading:
        """Ask how it is.

        Errors: UpsSilent, UpsFormatError, OSError.
        """
        ...

    def close(self, *, leaves: bool = False) -> None:
        """Let go; ``leaves`` says good-bye first, so that nobody waits for us."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NutServer:
    """How upsd is reached."""

    host: str
    port: int
    ups: str  # empty = the server's only one
    user: str = ""  # empty = no login
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None  # whom to trust; None = in clear
    tls_name: str = ""  # in the server's certificate; empty = host


class NutSource:
    """A UPS behind upsd."""

    def __init__(self, server: NutServer, *, on_login_refused: Callable[[str], None]) -> None:
        self._server = server
        self._on_login_refused = on_login_refused
        self._connection: socket.socket | None = None
        self._talk = NutConversation(ups="")

    def read(self) -> UpsReading:
        """Ask how it is.

        Errors: UpsSilent, UpsFormatError, OSError.
        """
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._talk.ask_status()
            return self._listen(self._connection)
        except (UpsFormatError, OSError):
            self.close()
            raise

    def close(self, *, leaves: bool = False) -> None:
        """Let go; ``leaves`` logs out first, so that a shutdown does not wait for us."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with contextlib.suppress(OSError):
            if leaves:
                self._talk.leave()
                connection.sendall(self._talk.take_outgoing())
                connection.recv(_PIECE_BYTES)
        connection.close()

    def _connect(self) -> socket.socket:
        server = self._server
        self._talk = NutConversation(
            ups=server.ups,
            user=server.user,
            password=server.password,
            wants_tls=server.tls is not None,
        )
        return socket.create_connection((server.host, server.port), timeout=ANSWER_S)

    def _listen(self, connection: socket.socket) -> UpsReading:
        until_s = time.monotonic() + WHOLE_ANSWER_S
        while True:
            connection.sendall(self._talk.take_outgoing())
            octets = _receive(connection, until_s)
            for event in self._talk.receive(octets):
                match event:
                    case TlsAgreed():
                        connection = self._connection = _secured(connection, self._server)
                        self._talk.secured()
                    case LoginRefused(reason=reason):
                        self._on_login_refused(reason)
                    case Told(reading=reading):
                        return reading
                    case NotTold(reason=reason):
                        raise UpsSilent(reason=reason)
                    case Refused(reason=reason):
                        self.close()
                        raise UpsSilent(reason=reason)


class NisSource:
    """A UPS behind apcupsd; each question has a connection of its own."""

    def __init__(self, *, host: str, port: int) -> None:
        self._address = (host, port)

    def read(self) -> UpsReading:
        """Ask how it is.

        Errors: UpsSilent, UpsFormatError, OSError.
        """
        with socket.create_connection(self._address, timeout=ANSWER_S) as connection:
            connection.sendall(apcupsd_nis.REQUEST)
            reply = apcupsd_nis.NisReply()
            until_s = time.monotonic() + WHOLE_ANSWER_S
            while (reading := reply.receive(_receive(connection, until_s))) is None:
                pass
        return reading

    def close(self, *, leaves: bool = False) -> None:
        """There is nothing to let go of."""


def _secured(connection: socket.socket, server: NutServer) -> socket.socket:
    if server.tls is None:
        return connection
    return server.tls.wrap_socket(connection, server_hostname=server.tls_name or server.host)


def _receive(connection: socket.socket, until_s: float) -> bytes:
    if time.monotonic() > until_s:
        raise TimeoutError("the answer does not end")
    octets = connection.recv(_PIECE_BYTES)
    if not octets:
        raise ConnectionError("the server closed the connection")
    return octets
