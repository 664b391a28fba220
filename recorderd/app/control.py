"""The control socket: one JSON request line in, one JSON reply line out, on a unix socket.

Rule: whoever may open the socket file may ask; the file's mode and folder decide. A slow or broken client
costs at most its timeout.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from recorderd.core.errors import ControlUnavailable, PortTaken
from recorderd.core.events import Ev, EventLog

SOCKET_MODE: Final = 0o660
REQUEST_LIMIT_BYTES: Final = 64 * 1024
REPLY_LIMIT_BYTES: Final = 16 * 1024 * 1024  # a thousand sessions take 1 MiB
CLIENT_TIMEOUT_S: Final = 2.0
ACCEPT_POLL_S: Final = 0.5

Handler = Callable[[dict[str, Any]], dict[str, Any]]


class ControlServer:
    """Answers requests, one after the other.

    Thread: ``run`` in one of its own, which also calls the handler.
    Errors: PortTaken when another process answers on this path.
    """

    def __init__(self, path: Path, handler: Handler, *, log: EventLog) -> None:
        self._path = path
        self._handler = handler
        self._log = log
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._bind()
        except BaseException:
            self._socket.close()
            raise
        self._inode = path.stat().st_ino

    def run(self, stop: threading.Event) -> None:
        """Serve until ``stop`` is set."""
        self._socket.settimeout(ACCEPT_POLL_S)
        while not stop.is_set():
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as problem:  # no descriptor is free now: who asks is answered when one is
                self._log.error(Ev.INTERNAL_ERROR, subject="control", reason=problem)
                stop.wait(ACCEPT_POLL_S)
                continue
            with client:
                self._serve(client)

    def start(self, stop: threading.Event) -> threading.Thread:
        """Serve in a thread of its own."""
        thread = threading.Thread(target=self.run, args=(stop,), name="control", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Stop to listen and remove the socket file, unless another process put its own there."""
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def _bind(self) -> None:
        try:
            if self._path.exists():
                self._replace_stale()
            with _short(self._path) as short:
                self._socket.bind(short)
            self._path.chmod(SOCKET_MODE)
            self._socket.listen(8)
        except OSError as problem:
            raise PortTaken(address=self._path, reason=problem) from None

    def _replace_stale(self) -> None:
        if not stat.S_ISSOCK(self._path.stat().st_mode):
            raise PortTaken(address=self._path, reason="there is a file that is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, _short(self._path) as short:
            probe.settimeout(CLIENT_TIMEOUT_S)
            try:
                probe.connect(short)
            except ConnectionRefusedError:
                self._path.unlink()
            else:
                raise PortTaken(address=self._path, reason="another process answers there")

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(CLIENT_TIMEOUT_S)
        try:
            raw = _read_line(client, limit_bytes=REQUEST_LIMIT_BYTES, timeout_s=CLIENT_TIMEOUT_S)
            if not raw:
                return  # somebody looked whether we are here
            request = json.loads(raw)
            if not isinstance(request, dict):
                raise ValueError("not a JSON object")  # noqa: TRY004 - what a reader catches
        except (OSError, ValueError, RecursionError) as problem:
            self._log.warning(Ev.CONTROL_MALFORMED, subject=self._path.name, reason=problem)
            reply = {"error": f"malformed request: {problem}"}
        else:
            reply = self._answer(request)
        client.settimeout(CLIENT_TIMEOUT_S)
        with contextlib.suppress(OSError):
            client.sendall(json.dumps(reply, default=str).encode() + b"\n")

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._handler(request)
        except Exception as problem:  # the next question must still be answered
            reason = f"{type(problem).__name__}: {problem}"
            self._log.error(Ev.INTERNAL_ERROR, subject="control", reason=reason)
            return {"error": reason}


def ask(path: Path, request: dict[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
    """Ask a daemon.

    Errors: ControlUnavailable.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, _short(path) as short:
            client.settimeout(timeout_s)
            client.connect(short)
            client.sendall(json.dumps(request).encode() + b"\n")
            reply = json.loads(_read_line(client, limit_bytes=REPLY_LIMIT_BYTES, timeout_s=timeout_s))
    except (OSError, ValueError) as problem:
        raise ControlUnavailable(path=path, reason=problem) from None
    if not isinstance(reply, dict):
        raise ControlUnavailable(path=path, reason="the reply is no object")
    return reply


def _read_line(connection: socket.socket, *, limit_bytes: int, timeout_s: float) -> bytes:
    """Read a line that is there in time, in however many pieces.

    Errors: OSError, ValueError.
    """
    line, deadline_s = bytearray(), time.monotonic() + timeout_s
    while not line.endswith(b"\n"):
        if len(line) > limit_bytes:
            raise ValueError(f"longer than {limit_bytes} bytes")
        connection.settimeout(max(0.001, deadline_s - time.monotonic()))
        piece = connection.recv(65_536)
        if not piece:
            break
        line += piece
    return bytes(line)


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Name a socket by its folder's descriptor: a unix socket's path holds 107 bytes only."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
