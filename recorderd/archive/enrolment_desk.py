"""The archive's port for recorders that want to join: one question and one answer at a time.

Contract: open to whoever reaches it, so it is open only where it is configured, reads no more than a small
message, waits for nobody longer than a few seconds, and rests after each that did not know a code. What a
recorder is told is vouched for by the code alone.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from threading import Event as StopToken
from typing import Final

from recorderd.archive.enrolment import Enrolment, Identity
from recorderd.core.errors import CatalogueFailed, EnrolmentFormatError, PortTaken
from recorderd.core.events import Ev, EventLog
from recorderd.wire.enrolment import HEAD_BYTES, Kind, encode_message, encode_refusal, parse_head

_POLL_S: Final = 0.2
_REST_S: Final = 0.5  # after a refusal
_PATIENCE_S: Final = 5.0  # with one who asks
_WAITING: Final = 16


class EnrolmentDesk:
    """Answers at one address.

    Thread: made by the main thread; ``run`` has its own.
    """

    def __init__(
        self, enrolment: Enrolment, identity: Identity, *, address: tuple[str, int], log: EventLog
    ) -> None:
        self._enrolment = enrolment
        self._identity = identity
        self._log = log
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            self._socket = socket.create_server(address, family=family, backlog=_WAITING)
        except OSError as problem:
            named = f"{address[0]}:{address[1]}"
            raise PortTaken(address=named, reason=problem.strerror or problem) from None
        self._socket.settimeout(_POLL_S)

    def run(self, stop: StopToken, joined: Callable[[], None]) -> None:
        """Answer until ``stop`` is set; ``joined`` is called when a recorder is new."""
        with self._socket:
            while not stop.is_set():
                try:
                    asker, _ = self._socket.accept()
                except TimeoutError:
                    continue
                except OSError as problem:  # it was gone again, or descriptors are short
                    self._log.warning(Ev.ENROLMENT_REFUSED, subject="?", reason=problem)
                    stop.wait(_REST_S)
                    continue
                with asker:
                    if self._serve(asker) is Kind.ANSWER:
                        joined()
                    else:
                        stop.wait(_REST_S)

    def _serve(self, asker: socket.socket) -> Kind:
        """Answer one who asks; say with what."""
        until_s = time.monotonic() + _PATIENCE_S
        try:
            kind, size_bytes = parse_head(receive(asker, HEAD_BYTES, until_s=until_s))
            if kind is not Kind.REQUEST:
                return Kind.REFUSAL
            answered, message = self._answer(receive(asker, size_bytes, until_s=until_s))
            asker.sendall(message)
        except (OSError, EnrolmentFormatError) as problem:
            self._log.warning(Ev.ENROLMENT_REFUSED, subject="?", reason=problem)
            return Kind.REFUSAL
        return answered

    def _answer(self, message: bytes) -> tuple[Kind, bytes]:
        try:
            return self._enrolment.answer(message, self._identity)
        except CatalogueFailed as problem:
            self._log.error(Ev.ENROLMENT_REFUSED, subject="?", reason=problem)
            refusal = encode_refusal("the archive cannot look it up now; try again")
            return Kind.REFUSAL, encode_message(Kind.REFUSAL, refusal)


def receive(stream: socket.socket, size_bytes: int, *, until_s: float) -> bytes:
    """Read so many octets, by a time of the monotonic clock.

    Errors: OSError, also when less comes.
    """
    found = bytearray()
    while len(found) < size_bytes:
        stream.settimeout(max(0.001, until_s - time.monotonic()))
        piece = stream.recv(size_bytes - len(found))
        if not piece:
            raise ConnectionError("the connection ended in the midst of a message")
        found += piece
    return bytes(found)
