"""Answers over HTTP that are there by a deadline, however slowly their octets drip.

A socket's own time limit begins anew with each octet: a server that sends one now and then would hold
whoever asked for ever.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any


def response_until(deadline_s: float) -> Any:
    """Make a class of responses whose reading ends with TimeoutError at a time of the monotonic clock."""

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
            super().__init__(sock, *arguments, **named)
            self._plain = self.fp  # keeps the socket open after the connection let go of it
            self.fp = io.BufferedReader(_UntilDeadline(sock, deadline_s))

        def close(self) -> None:
            super().close()
            self._plain.close()

    return Response


class _UntilDeadline(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline_s: float) -> None:
        self._socket, self._deadline_s = sock, deadline_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(left_s)
        return self._socket.recv_into(buffer)
