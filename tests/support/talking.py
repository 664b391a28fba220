"""Streams that talk until they are stopped, whatever becomes of who listens."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tests.support.g711_reference import decode
from tests.support.rtp_sender import PTIME_S, RtpStream

PCMA: Final = 8
OCTETS: Final = 160
LONGEST_S: Final = 300


@dataclass
class Talker:
    """One stream that talks until it is stopped."""

    stream: RtpStream
    sent: int = 0
    stopped: bool = False
    late_s: float = 0.0  # by which a packet left later than was due, at most

    def samples(self) -> Any:
        """What it has said."""
        return decode(self.stream.payload[: self.sent * OCTETS], law="PCMA")


class Talking:
    """Sends a packet of every talker each 20 ms, in a thread of its own."""

    def __init__(self) -> None:
        self._talkers: list[Talker] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, port: int, *, seed: int) -> Talker:
        """Let another one talk."""
        payload = (
            np.random.default_rng(seed).integers(0, 256, LONGEST_S * 50 * OCTETS, dtype=np.uint8).tobytes()
        )
        talker = Talker(RtpStream(port=port, payload_type=PCMA, payload=payload))
        with self._lock:
            self._talkers.append(talker)
        return talker

    def stop(self, talkers: Sequence[Talker]) -> None:
        """Let some be silent; what they have sent is sent."""
        with self._lock:
            for talker in talkers:
                talker.stopped = True
            self._talkers = [talker for talker in self._talkers if not talker.stopped]

    def close(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        due_s = time.monotonic()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not self._stop.is_set():
                with self._lock:
                    for talker in self._talkers:
                        talker.late_s = max(talker.late_s, time.monotonic() - due_s)
                        sender.sendto(talker.stream.packet(talker.sent), ("127.0.0.1", talker.stream.port))
                        talker.sent += 1
                due_s += PTIME_S
                time.sleep(max(0.0, due_s - time.monotonic()))
