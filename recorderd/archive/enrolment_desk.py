"""The archive's port for recorders that want to join: one question and one answer each, many at a time.

Contract: open to whoever reaches it, so it is open only where it is configured, reads no more than a small
message, waits for nobody longer than a few seconds, and lets an address rest after each question that did not
know a code. Who is slow takes nobody's turn: so many are heard at once, few of one address, and where all
places are taken the oldest of the address that has most gives its own up. What a recorder is told is vouched
for by the code alone.
"""

from __future__ import annotations

import selectors
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event as StopToken
from typing import Final

from recorderd.archive.enrolment import Enrolment, Identity
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import CatalogueFailed, EnrolmentFormatError, PortTaken
from recorderd.core.events import Ev, EventLog
from recorderd.wire.enrolment import HEAD_BYTES, Kind, encode_message, encode_refusal, parse_head

AT_ONCE: Final = 64
OF_ONE_ADDRESS: Final = 8
_POLL_S: Final = 0.2
_WATCH_NS: Final = NS_PER_S
_REST_NS: Final = NS_PER_S // 2  # of an address, after a refusal
_PATIENCE_NS: Final = 5 * NS_PER_S  # with one who asks
_WAITING: Final = 64
_PIECE_BYTES: Final = 16 * 1024


@dataclass(slots=True, kw_only=True)
class _Guest:
    """One who asks."""

    stream: socket.socket
    address: str
    until_ns: int
    wanted_bytes: int = HEAD_BYTES
    is_asked: bool = False  # the head is read
    heard: bytearray = field(default_factory=bytearray)
    answer: bytes = b""  # what of it is still to be sent

    @property
    def is_ready(self) -> bool:
        """Tell whether the whole question is here, and not answered."""
        return self.is_asked and len(self.heard) == self.wanted_bytes and not self.answer


class EnrolmentDesk:
    """Answers at one address.

    Thread: made by the main thread; ``run`` has its own.
    """

    def __init__(
        self,
        enrolment: Enrolment,
        identity: Identity,
        *,
        address: tuple[str, int],
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._enrolment = enrolment
        self._identity = identity
        self._clock = clock
        self._log = log
        self._guests: list[_Guest] = []  # in the order in which they came
        self._rest_ns: dict[str, int] = {}  # until when nobody of an address is answered
        self._watch_at_ns = 0
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            self._socket = socket.create_server(address, family=family, backlog=_WAITING)
        except OSError as problem:
            named = f"{address[0]}:{address[1]}"
            raise PortTaken(address=named, reason=problem.strerror or problem) from None
        self._socket.setblocking(False)

    def run(self, stop: StopToken, joined: Callable[[], None]) -> None:
        """Answer until ``stop`` is set; ``joined`` is called when a recorder is new.

        # thread: enrolment
        """
        with self._socket, selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            while not stop.is_set():
                for key, _ in selector.select(_POLL_S):
                    if key.data is None:
                        self._welcome(selector)
                    elif key.data in self._guests:
                        self._go_on(selector, key.data)
                self._answer_all(selector, joined)
                self._end_slow(selector)
                self._watch()
            for guest in list(self._guests):
                self._leave(selector, guest)

    def _watch(self) -> None:
        """Let codes end by the monotonic clock too."""
        now_ns = self._clock.mono_ns()
        if now_ns < self._watch_at_ns:
            return
        self._watch_at_ns = now_ns + _WATCH_NS
        try:
            self._enrolment.end_codes()
        except CatalogueFailed as problem:
            self._log.warning(Ev.ENROLMENT_REFUSED, subject="codes", reason=problem)

    # --- guests ----------------------------------------------------------------------------------------

    def _welcome(self, selector: selectors.BaseSelector) -> None:
        try:
            stream, (address, *_) = self._socket.accept()
        except OSError as problem:  # it was gone again, or descriptors are short
            self._log.warning(Ev.ENROLMENT_REFUSED, subject="?", reason=problem)
            return
        stream.setblocking(False)
        until_ns = self._clock.mono_ns() + _PATIENCE_NS
        guest = _Guest(stream=stream, address=str(address), until_ns=until_ns)
        selector.register(stream, selectors.EVENT_READ, guest)
        self._guests.append(guest)
        places = Counter(other.address for other in self._guests)
        if places[guest.address] > OF_ONE_ADDRESS:
            self._leave(selector, guest, why=f"{OF_ONE_ADDRESS} of its address are here")
        elif len(self._guests) > AT_ONCE:
            most = max(places, key=lambda name: places[name])
            oldest = next(other for other in self._guests if other.address == most)
            self._leave(selector, oldest, why="others wait")

    def _leave(self, selector: selectors.BaseSelector, guest: _Guest, *, why: object = "") -> None:
        if why:
            self._log.warning(Ev.ENROLMENT_REFUSED, subject=guest.address, reason=why)
        self._guests.remove(guest)
        with suppress(KeyError):
            selector.unregister(guest.stream)
        guest.stream.close()

    def _end_slow(self, selector: selectors.BaseSelector) -> None:
        now_ns = self._clock.mono_ns()
        for guest in [one for one in self._guests if now_ns >= one.until_ns]:
            self._leave(selector, guest, why="it was too slow")
        self._rest_ns = {name: until for name, until in self._rest_ns.items() if until > now_ns}

    def _go_on(self, selector: selectors.BaseSelector, guest: _Guest) -> None:
        """Read what came, or send what goes."""
        try:
            if guest.answer:
                guest.answer = guest.answer[guest.stream.send(guest.answer) :]
                if not guest.answer:
                    self._leave(selector, guest)
                return
            piece = guest.stream.recv(min(_PIECE_BYTES, guest.wanted_bytes - len(guest.heard)))
            if not piece:
                raise ConnectionError("the connection ended in the midst of a message")
            guest.heard += piece
            if not guest.is_asked and len(guest.heard) == guest.wanted_bytes:
                kind, guest.wanted_bytes = parse_head(bytes(guest.heard))
                if kind is not Kind.REQUEST:
                    raise EnrolmentFormatError(what="request", field="kind", reason="is none of a recorder")
                guest.heard.clear()
                guest.is_asked = True
            if guest.is_ready:
                selector.unregister(guest.stream)  # until it is answered
        except BlockingIOError:
            return
        except (OSError, EnrolmentFormatError) as problem:
            self._rest(guest)
            self._leave(selector, guest, why=problem)

    def _answer_all(self, selector: selectors.BaseSelector, joined: Callable[[], None]) -> None:
        """Answer who has asked, and whose address does not rest."""
        for guest in [one for one in self._guests if one.is_ready]:
            if self._rest_ns.get(guest.address, 0) > self._clock.mono_ns():
                continue
            kind, guest.answer = self._answer(bytes(guest.heard))
            if kind is Kind.ANSWER:
                joined()
            else:
                self._rest(guest)
            guest.until_ns = self._clock.mono_ns() + _PATIENCE_NS
            selector.register(guest.stream, selectors.EVENT_WRITE, guest)

    def _rest(self, guest: _Guest) -> None:
        self._rest_ns[guest.address] = self._clock.mono_ns() + _REST_NS

    def _answer(self, message: bytes) -> tuple[Kind, bytes]:
        try:
            return self._enrolment.answer(message, self._identity)
        except CatalogueFailed as problem:
            self._log.error(Ev.ENROLMENT_REFUSED, subject="?", reason=problem)
            refusal = encode_refusal("the archive cannot look it up now; try again")
            return Kind.REFUSAL, encode_message(Kind.REFUSAL, refusal)
