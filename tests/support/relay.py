"""A bad line between two programs: a TCP relay that is slow, late, cut, or breaks off again and again."""

from __future__ import annotations

import contextlib
import queue
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Self

BLOCK_BYTES = 1024
BUFFER_BYTES = 4096
LOOK_S = 0.01
THIN_BYTES_PER_S = 50_000


class Relay:
    """Takes connections on ``port`` and passes them on."""

    def __init__(
        self,
        target_port: int,
        *,
        delay_s: float = 0.0,
        bytes_per_s: float = 0.0,
        breaks_after_bytes: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> None:
        self._target_port = target_port
        self._delay_s = delay_s
        self._bytes_per_s = bytes_per_s
        self._breaks_after_bytes = breaks_after_bytes
        self._chance = random.Random(seed)
        self._open: list[socket.socket] = []
        self._stop = threading.Event()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._door.getsockname()[1])
        self.passes = True
        self.keeps_answers: Callable[[], bool] = lambda: False  # on the line, while this holds
        self.connections = self.breaks = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._door.close()
        self.cut()

    def cut(self) -> None:
        """Break off every connection, as a cable that is pulled and a router that resets."""
        while self._open:
            _reset(self._open.pop())

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            far = socket.socket()
            try:
                if not self.passes:
                    raise ConnectionRefusedError
                if (
                    0 < self._bytes_per_s < THIN_BYTES_PER_S
                ):  # else the line would seem to take it all at once
                    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
                far.connect(("127.0.0.1", self._target_port))
            except OSError:
                _reset(near)
                far.close()
                continue
            self.connections += 1
            self._open += [near, far]
            limit = self._chance.randint(*self._breaks_after_bytes) if self._breaks_after_bytes else 0
            asks, answers = (near, far, limit, False), (far, near, 0, True)
            for way in (asks, answers):
                threading.Thread(target=self._pass, args=way, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, limit_bytes: int, answers: bool) -> None:
        passed = 0
        late: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        if self._delay_s:
            threading.Thread(target=_send_late, args=(sink, late), daemon=True).start()
        with contextlib.suppress(OSError):
            while block := source.recv(BLOCK_BYTES):
                while answers and self.keeps_answers():
                    time.sleep(LOOK_S)
                if self._delay_s:
                    late.put((time.monotonic() + self._delay_s, block))
                else:
                    sink.sendall(block)
                passed += len(block)
                if self._bytes_per_s:
                    time.sleep(len(block) / self._bytes_per_s)
                if limit_bytes and passed > limit_bytes:
                    self.breaks += 1
                    break
        for end in (source, sink):
            _reset(end)


def _send_late(sink: socket.socket, late: queue.SimpleQueue[tuple[float, bytes]]) -> None:
    with contextlib.suppress(OSError):
        while True:
            due_s, block = late.get()
            time.sleep(max(0.0, due_s - time.monotonic()))
            sink.sendall(block)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
    end.close()
