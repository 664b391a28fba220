"""The archive's loop: one ROUTER socket, its door and its monitor; hands what comes to whom it concerns.

Rule: whose recording it is comes from the CURVE key of the connection, never from a message. A message that
does not fit is counted, logged and answered where an answer helps. Replies that cannot be delivered are
dropped: the recorder asks again, and the answer is the same. Nothing here waits for a disk longer than a
write into memory takes: see ``keeping``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event as StopToken
from typing import Any, Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from recorderd.archive import door
from recorderd.archive.custody import Custody
from recorderd.archive.deposits import keep_deposit
from recorderd.archive.keeping import Keeping
from recorderd.archive.peers import Peers
from recorderd.archive.store import Store
from recorderd.archive.uploads import Uploads
from recorderd.archive.willingness import Willingness
from recorderd.core.clock import NS_PER_MS, NS_PER_S, Clock
from recorderd.core.errors import FormatError, PortTaken, RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.wire import frames as f

POLL_MS: Final = 200
SHOW_NS: Final = 100 * NS_PER_MS
TELL_NS: Final = 2 * NS_PER_S  # a connection that is gone is known by not being reached
HIGH_WATER_MESSAGES: Final = 2048  # above what a recorder may have in flight; the window bounds the memory
SEND_TIMEOUT_MS: Final = 500
TURN_MESSAGES: Final = 64  # between two looks at the door
TURN_BYTES: Final = 2 << 20  # and no more, so that a sender hears how far it is before its window is used up
HEARTBEAT_MS: Final = 5000
_FAILURES: Final = zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSettings:
    """Where to listen, as whom, and for whom."""

    archive_id: str
    endpoint: str
    secret_key: str
    recorders: Mapping[str, str]  # CURVE public key -> recorder id; may change meanwhile


class Receiver:
    """Takes recordings from recorders into custody.

    Thread: one; ``status`` may be called from any.
    """

    def __init__(
        self,
        *,
        settings: ReceiverSettings,
        store: Store,
        custody: Custody,
        keeping: Keeping,
        willingness: Willingness,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._settings = settings
        self._store = store
        self._custody = custody
        self._clock = clock
        self._log = log
        self._figures: Counter[str] = Counter()
        self._keeping = keeping
        self._peers = Peers()
        self._willingness = willingness
        self._uploads = Uploads(
            store=store,
            custody=custody,
            keeping=keeping,
            peers=self._peers,
            willingness=willingness,
            send=self._send,
            figures=self._figures,
            clock=clock,
            log=log,
        )
        self._context = zmq.Context()
        self._door = self._context.socket(zmq.REP)
        self._door.bind(door.ZAP_ENDPOINT)
        self._router = self._context.socket(zmq.ROUTER)
        self._monitor: zmq.Socket[bytes] = self._router.get_monitor_socket(_FAILURES)
        self._status: dict[str, Any] = {}
        self._show_at_ns = self._tell_at_ns = 0

    def open(self) -> str:
        """Start to listen; return the endpoint with its real port.

        Errors: PortTaken.
        """
        secret = self._settings.secret_key.encode("ascii")
        options: dict[int, Any] = {
            zmq.LINGER: 0,
            zmq.IPV6: int("[" in self._settings.endpoint),
            zmq.ROUTER_MANDATORY: 1,
            zmq.SNDTIMEO: SEND_TIMEOUT_MS,
            zmq.SNDHWM: HIGH_WATER_MESSAGES,
            zmq.RCVHWM: HIGH_WATER_MESSAGES,
            zmq.MAXMSGSIZE: max(f.HEADER_LIMIT_BYTES, f.MESSAGE_LIMIT_BYTES),
            zmq.HEARTBEAT_IVL: HEARTBEAT_MS,
            zmq.HEARTBEAT_TIMEOUT: 3 * HEARTBEAT_MS,
            zmq.CURVE_SERVER: 1,
            zmq.CURVE_SECRETKEY: secret,
            zmq.ZAP_DOMAIN: door.ZAP_DOMAIN.encode("ascii"),
            zmq.ZAP_ENFORCE_DOMAIN: 1,  # without an answer from our door nobody comes in
        }
        for name, value in options.items():
            self._router.setsockopt(name, value)
        try:
            self._router.bind(self._settings.endpoint)
        except zmq.ZMQError as problem:
            raise PortTaken(address=self._settings.endpoint, reason=problem) from None
        return self._router.getsockopt_string(zmq.LAST_ENDPOINT)

    def run(self, stop: StopToken, beat: Callable[[], None]) -> None:
        """Receive until ``stop`` is set; ``beat`` is called a few times a second."""
        poller = zmq.Poller()
        for socket in (self._door, self._router, self._monitor):
            poller.register(socket, zmq.POLLIN)
        poller.register(self._keeping.bell, zmq.POLLIN)
        while not stop.is_set():
            ready = dict(poller.poll(POLL_MS))
            if self._door in ready:
                self._answer_door()
            if self._monitor in ready:
                self._read_monitor()
            if self._router in ready:
                self._receive()
            if self._keeping.bell in ready:
                self._uploads.on_results()
            self._uploads.end_turn()
            self._tell_all(self._clock.mono_ns())
            self._show(self._clock.mono_ns())
            beat()

    def status(self) -> dict[str, Any]:
        """Return the latest picture: uploads and figures.

        Thread: any.
        """
        return self._status

    def close(self) -> None:
        """Put every upload down and close the sockets."""
        self._uploads.close()
        self._router.disable_monitor()
        for socket in (self._door, self._router, self._monitor):
            socket.close(linger=0)
        self._context.term()

    # --- who knocks ----------------------------------------------------------------------------------

    def _answer_door(self) -> None:
        knock = door.answer(self._door.recv_multipart(), self._settings.recorders)
        if not knock.recorder_id:
            self._log.warning(
                Ev.CLIENT_REFUSED, subject=knock.address, public_key=knock.public_key, reason=knock.reason
            )
        self._door.send_multipart(knock.reply)

    def _read_monitor(self) -> None:
        while self._monitor.poll(0):
            row = recv_monitor_message(self._monitor)
            reason = "handshake broken off"
            if row["event"] == zmq.Event.HANDSHAKE_FAILED_PROTOCOL:
                reason = f"handshake failed (protocol error {row['value']:#x})"
            self._log.warning(Ev.CLIENT_REFUSED, subject="handshake", reason=reason)

    # --- messages ------------------------------------------------------------------------------------

    def _receive(self) -> None:
        turn_bytes = 0
        for _ in range(TURN_MESSAGES):
            if turn_bytes >= TURN_BYTES:
                return
            try:
                raw = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            peer, body = raw[0].bytes, raw[1:]
            recorder_id = _user_id(body)
            if recorder_id is None:
                self._log.warning(
                    Ev.CLIENT_REFUSED, subject="message", reason="without an authenticated sender"
                )
                continue
            if self._settings.recorders.get(str(body[-1].get(door.KEY_PROPERTY))) != recorder_id:
                self._turn_away(peer, recorder_id)
                continue
            self._figures["messages"] += 1
            try:
                message = f.parse_message([frame.buffer for frame in body])
            except FormatError as problem:
                self._log.warning(Ev.MALFORMED_FRAME, subject=recorder_id, reason=problem)
                continue
            turn_bytes += len(body[-1])
            self._on_message(peer, recorder_id, message)

    def _turn_away(self, peer: bytes, recorder_id: str) -> None:
        """Hear nothing more of a connection whose key does not count any more."""
        reason = "its CURVE key is not listed any more"
        self._log.warning(Ev.CLIENT_REFUSED, subject=recorder_id, reason=reason)
        self._peers.gone(peer)
        self._send(peer, f.Unwelcome(reason=reason))

    def _on_message(self, peer: bytes, recorder_id: str, message: f.FlushMessage) -> None:
        match message:
            case f.Hello():
                self._on_hello(peer, recorder_id, message)
            case f.HeadOffer(document=document):
                self._on_head(peer, recorder_id, document)
            case f.Ping():
                self._on_ping(peer, message)
            case f.Farewell(reason=reason):
                self._peers.leaves(peer, reason, recorder_id=recorder_id)
                self._log.warning(Ev.RECORDER_LEAVES, subject=recorder_id, reason=reason)
            case f.Deposit():
                self._on_deposit(peer, recorder_id, message)
            case f.Offer() | f.Chunk():
                self._uploads.on_message(peer, recorder_id, message)
            case _:
                reason = f"unexpected {type(message).__name__}"
                self._log.warning(Ev.MALFORMED_FRAME, subject=recorder_id, reason=reason)

    def _on_hello(self, peer: bytes, recorder_id: str, hello: f.Hello) -> None:
        reason = ""
        if hello.recorder_id != recorder_id:
            reason = f"this key is registered for recorder {recorder_id}, not {hello.recorder_id}"
        elif hello.protocol not in f.PROTOCOLS:
            reason = f"protocol {hello.protocol} is none of {', '.join(map(str, f.PROTOCOLS))}"
        if reason:
            self._log.warning(Ev.CLIENT_REFUSED, subject=recorder_id, reason=reason)
            self._send(peer, f.Unwelcome(reason=f.plain_reason(reason)))
        else:
            self._peers.greeted(peer, recorder_id=recorder_id, protocol=hello.protocol)
            self._show_at_ns = 0  # who comes is shown at once
            self._send(peer, f.Welcome(archive_id=self._settings.archive_id, protocol=hello.protocol))
            self._tell_allowance(peer)

    def _on_ping(self, peer: bytes, ping: f.Ping) -> None:
        if not self._peers.has_windows(peer):
            self._send(peer, f.Pong(number=ping.number))
            return
        utc_ns = self._clock.utc_ns()
        if ping.host is not None:
            self._peers.told(peer, ping.host, utc_ns=utc_ns)
        self._send(peer, f.Pong(number=ping.number, host=self._willingness.host(utc_ns=utc_ns)))
        self._tell_allowance(peer)  # it may have been lost

    def _tell_allowance(self, peer: bytes) -> None:
        if self._peers.has_windows(peer):
            self._send(peer, self._willingness.allowance)

    def _tell_all(self, now_ns: int) -> None:
        """Tell every connection how much is taken, when that changes and again: who is gone shows by it."""
        if self._willingness.look(now_ns) or now_ns >= self._tell_at_ns:
            self._tell_at_ns = now_ns + TELL_NS
            for peer in self._peers.with_windows():
                self._tell_allowance(peer)

    def _on_head(self, peer: bytes, recorder_id: str, document: bytes) -> None:
        try:
            reason = self._custody.keep_head(recorder_id, document)
        except RecorderError as problem:
            self._log.error(Ev.INTERNAL_ERROR, subject=recorder_id, reason=problem)
            reason = f"the archive cannot take it now: {problem}"
        self._figures["heads"] += not reason
        sha256 = hashlib.sha256(document).hexdigest()
        self._send(peer, f.HeadAnswer(sha256=sha256, kept=not reason, reason=f.plain_reason(reason)))

    def _on_deposit(self, peer: bytes, recorder_id: str, deposit: f.Deposit) -> None:
        try:
            answer = keep_deposit(self._store.root, recorder_id, deposit)
        except OSError as problem:  # no answer: it comes again
            self._log.error(Ev.INTERNAL_ERROR, subject=deposit.name, recorder=recorder_id, reason=problem)
            return
        event = Ev.DEPOSIT_REFUSED if answer.refusal else Ev.DEPOSIT_KEPT
        note = self._log.warning if answer.refusal else self._log.info
        note(event, subject=deposit.name, recorder=recorder_id, reason=answer.refusal or "kept")
        self._send(peer, answer)

    def _send(self, peer: bytes, message: f.FlushMessage) -> None:
        try:
            self._router.send_multipart([peer, *f.encode_message(message)])
        except zmq.ZMQError as problem:  # gone (EHOSTUNREACH) or not reading (EAGAIN)
            self._figures[f"undelivered_{type(problem).__name__.lower()}"] += 1
            if problem.errno == zmq.EHOSTUNREACH:
                self._peers.gone(peer)

    def _show(self, now_ns: int) -> None:
        """Draw the picture for whoever asks, a few times a second."""
        if now_ns < self._show_at_ns:
            return
        self._show_at_ns = now_ns + SHOW_NS
        self._status = {
            "uploads": self._uploads.picture(),
            "intake": self._willingness.describe(),
            "recorders": self._peers.describe(),
            "figures": dict(self._figures),
        }


def _user_id(body: Sequence[zmq.Frame]) -> str | None:
    """Return the recorder that ZeroMQ authenticated for this message."""
    if not body:
        return None
    try:
        return str(body[-1].get("User-Id")) or None
    except zmq.ZMQError:
        return None
