"""The archive's loop: one ROUTER socket, its door and its monitor; performs what the uploads ask for.

Rule: whose recording it is comes from the CURVE key of the connection, never from a message. A message that
does not fit is counted, logged and answered where an answer helps; no other upload notices. Replies that
cannot be delivered are dropped: the recorder asks again, and the answer is the same.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event as StopToken
from typing import Any, Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from recorderd.archive import door
from recorderd.archive import intake as i
from recorderd.archive.catalogue import Entry
from recorderd.archive.custody import Custody
from recorderd.archive.deposits import keep_deposit
from recorderd.archive.store import Key, Store
from recorderd.archive.upload import Upload
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import FormatError, PortTaken, RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.wire import frames as f

POLL_MS: Final = 200
WINDOW_CHUNKS: Final = 16  # 4 MiB of 256 KiB chunks keep a 1 Gbit/s line busy for 30 ms
HIGH_WATER_MESSAGES: Final = 128  # above what a recorder may have in flight (4 recordings x the window)
SEND_TIMEOUT_MS: Final = 500
UPLOADS_LIMIT: Final = 32  # of one recorder at a time; ours sends 4
IDLE_NS: Final = 120 * NS_PER_S  # an upload that is quiet for so long is put down; its parts stay
TURN_MESSAGES: Final = 64  # between two looks at the door
HEARTBEAT_MS: Final = 5000
_FAILURES: Final = zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSettings:
    """Where to listen, as whom, and for whom."""

    archive_id: str
    endpoint: str
    secret_key: str
    recorders: Mapping[str, str]  # CURVE public key -> recorder id


class Receiver:
    """Takes recordings from recorders into custody.

    Thread: one; ``status`` may be called from any.
    """

    def __init__(
        self, *, settings: ReceiverSettings, store: Store, custody: Custody, clock: Clock, log: EventLog
    ) -> None:
        self._settings = settings
        self._store = store
        self._custody = custody
        self._clock = clock
        self._log = log
        self._uploads: dict[Key, Upload] = {}
        self._figures: Counter[str] = Counter()
        self._sweep_at_ns = 0
        self._context = zmq.Context()
        self._door = self._context.socket(zmq.REP)
        self._door.bind(door.ZAP_ENDPOINT)
        self._router = self._context.socket(zmq.ROUTER)
        self._monitor: zmq.Socket[bytes] = self._router.get_monitor_socket(_FAILURES)
        self._status: dict[str, Any] = {}

    def open(self) -> str:
        """Start to listen; return the endpoint with its real port.

        Errors: PortTaken.
        """
        secret = self._settings.secret_key.encode("ascii")
        options: dict[int, Any] = {
            zmq.LINGER: 0,
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
        while not stop.is_set():
            ready = dict(poller.poll(POLL_MS))
            if self._door in ready:
                self._answer_door()
            if self._monitor in ready:
                self._read_monitor()
            if self._router in ready:
                self._receive()
            self._sweep()
            self._status = self._picture()
            beat()

    def status(self) -> dict[str, Any]:
        """Return the latest picture: uploads and figures.

        Thread: any.
        """
        return self._status

    def close(self) -> None:
        """Put every upload down and close the sockets."""
        for key in list(self._uploads):
            self._put_down(key)
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
        for _ in range(TURN_MESSAGES):
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
            self._figures["messages"] += 1
            try:
                message = f.parse_message([frame.buffer for frame in body])
            except FormatError as problem:
                self._log.warning(Ev.MALFORMED_FRAME, subject=recorder_id, reason=problem)
                continue
            self._on_message(peer, recorder_id, message)

    def _on_message(self, peer: bytes, recorder_id: str, message: f.FlushMessage) -> None:
        match message:
            case f.Hello():
                self._on_hello(peer, recorder_id, message)
            case f.HeadOffer(document=document):
                self._on_head(peer, recorder_id, document)
            case f.Ping(number=number):
                self._send(peer, f.Pong(number=number))
            case f.Deposit():
                self._on_deposit(peer, recorder_id, message)
            case f.Offer() | f.Chunk():
                key = Key(recorder_id, message.recording_id)
                try:
                    if isinstance(message, f.Offer):
                        self._on_offer(peer, key, message)
                    else:
                        self._on_chunk(peer, key, message)
                except (RecorderError, OSError) as problem:
                    self._put_down(key)
                    self._log.error(Ev.INTERNAL_ERROR, subject=message.recording_id, reason=problem)
                    reason = f"the archive cannot take it now: {problem}"
                    self._refuse(peer, key, i.Refuse(code="storage", reason=reason, retryable=True))
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
            self._send(peer, f.Welcome(archive_id=self._settings.archive_id, protocol=hello.protocol))

    def _on_head(self, peer: bytes, recorder_id: str, document: bytes) -> None:
        try:
            reason = self._custody.keep_head(recorder_id, document)
        except RecorderError as problem:
            self._log.error(Ev.INTERNAL_ERROR, subject=recorder_id, reason=problem)
            reason = f"the archive cannot take it now: {problem}"
        self._figures["heads"] += not reason
        sha256 = hashlib.sha256(document).hexdigest()
        self._send(peer, f.HeadAnswer(sha256=sha256, kept=not reason, reason=f.plain_reason(reason)))

    def _on_offer(self, peer: bytes, key: Key, offer: f.Offer) -> None:
        upload = self._uploads.get(key)
        if upload is not None and upload.intake.files == offer.files:
            upload.peer = peer
            self._apply(key, i.OfferRepeated(), b"")
            return
        self._put_down(key)
        entry = self._custody.known(key)
        if entry is not None:
            self._offered_again(peer, key, offer, entry)
            return
        if sum(other.recorder_id == key.recorder_id for other in self._uploads) >= UPLOADS_LIMIT:
            reason = f"{UPLOADS_LIMIT} uploads are under way"
            self._refuse(peer, key, i.Refuse(code="busy", reason=reason, retryable=True))
            return
        sizes_bytes, moved = self._store.begin(key, offer)
        if moved is not None:
            self._log.warning(
                Ev.RECORDING_REJECTED, subject=key.recording_id, reason="another offer came", aside=moved.name
            )
        self._uploads[key] = Upload(
            intake=i.Intake(recording_id=key.recording_id, files=offer.files),
            peer=peer,
            heard_ns=self._clock.mono_ns(),
        )
        self._log.info(
            Ev.OFFERED, subject=key.recording_id, recorder=key.recorder_id, found_bytes=sum(sizes_bytes)
        )
        self._apply(key, i.PartsFound(sizes_bytes=sizes_bytes), b"")

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

    def _offered_again(self, peer: bytes, key: Key, offer: f.Offer, entry: Entry) -> None:
        if entry.manifest_sha256 == offer.manifest_sha256:
            self._figures["offered_again"] += 1
            self._send(peer, f.ReceiptMessage(recording_id=key.recording_id, receipt=entry.receipt))
            return
        reason = f"archived with manifest {entry.manifest_sha256}, offered with {offer.manifest_sha256}"
        self._refuse(peer, key, i.Refuse(code="differs", reason=reason, retryable=False))

    def _on_chunk(self, peer: bytes, key: Key, chunk: f.Chunk) -> None:
        upload = self._uploads.get(key)
        if upload is None:
            self._figures["stray_chunks"] += 1  # of an upload that we put down or finished
            return
        upload.peer, upload.heard_ns = peer, self._clock.mono_ns()
        self._figures["bytes"] += len(chunk.payload)
        event = i.ChunkArrived(
            name=chunk.name,
            offset_bytes=chunk.offset_bytes,
            size_bytes=len(chunk.payload),
            intact=hashlib.sha256(chunk.payload).hexdigest() == chunk.sha256,
        )
        self._apply(key, event, chunk.payload)

    # --- effects -------------------------------------------------------------------------------------

    def _apply(self, key: Key, event: i.Event, payload: bytes | memoryview) -> None:
        upload = self._uploads[key]
        waiting = deque([event])
        while waiting:
            upload.intake, effects = i.step(upload.intake, waiting.popleft())
            for effect in effects:
                follow = self._perform(key, upload, effect, payload)
                if follow is not None:
                    waiting.append(follow)
        if upload.intake.state in (i.State.ARCHIVED, i.State.REJECTED):
            self._put_down(key)

    def _perform(
        self, key: Key, upload: Upload, effect: i.Effect, payload: bytes | memoryview
    ) -> i.Event | None:
        """Do what the reducer asked for; return what came of it as an event."""
        match effect:
            case i.GiveCredit():
                self._credit(key, upload.peer, effect)
            case i.NoteMalformed(reason=reason):
                self._log.warning(Ev.MALFORMED_FRAME, subject=key.recording_id, reason=reason)
            case i.Verify():
                upload.put_down()
                taken = self._custody.take_in(key)
                if isinstance(taken, i.BundleRefused):
                    return taken
                self._send(
                    upload.peer, f.ReceiptMessage(recording_id=key.recording_id, receipt=taken.receipt)
                )
                return i.BundleArchived()
            case i.Refuse():
                upload.put_down()
                if not effect.retryable:
                    self._store.reject(key, reason=f"{effect.code}: {effect.reason}")
                    self._log.error(
                        Ev.RECORDING_REJECTED,
                        subject=key.recording_id,
                        code=effect.code,
                        reason=effect.reason,
                    )
                self._refuse(upload.peer, key, effect)
            case _:
                return upload.perform(key, effect, payload, store=self._store)
        return None

    def _credit(self, key: Key, peer: bytes, effect: i.GiveCredit) -> None:
        credit = f.Credit(
            recording_id=key.recording_id,
            name=effect.name,
            offset_bytes=effect.offset_bytes,
            window_chunks=WINDOW_CHUNKS,
            rewind=effect.rewind,
        )
        self._send(peer, credit)

    def _refuse(self, peer: bytes, key: Key, effect: i.Refuse) -> None:
        self._log.warning(
            Ev.OFFER_REFUSED,
            subject=key.recording_id,
            code=effect.code,
            reason=effect.reason,
            retryable=effect.retryable,
        )
        refused = f.Refused(
            recording_id=key.recording_id,
            code=effect.code,
            reason=f.plain_reason(effect.reason),
            retryable=effect.retryable,
        )
        self._send(peer, refused)

    def _send(self, peer: bytes, message: f.FlushMessage) -> None:
        try:
            self._router.send_multipart([peer, *f.encode_message(message)])
        except zmq.ZMQError as problem:  # gone (EHOSTUNREACH) or not reading (EAGAIN)
            self._figures[f"undelivered_{type(problem).__name__.lower()}"] += 1

    def _put_down(self, key: Key) -> None:
        upload = self._uploads.pop(key, None)
        if upload is not None:
            upload.put_down()

    def _sweep(self) -> None:
        now_ns = self._clock.mono_ns()
        if now_ns < self._sweep_at_ns:
            return
        self._sweep_at_ns = now_ns + NS_PER_S
        for key, upload in list(self._uploads.items()):
            if now_ns - upload.heard_ns > IDLE_NS:
                self._put_down(key)

    def _picture(self) -> dict[str, Any]:
        uploads = [
            {
                "recorder_id": key.recorder_id,
                "recording_id": key.recording_id,
                "file": upload.intake.current.name,
                "offset_bytes": upload.intake.offset_bytes,
            }
            for key, upload in self._uploads.items()
        ]
        return {"uploads": uploads, "figures": dict(self._figures)}


def _user_id(body: Sequence[zmq.Frame]) -> str | None:
    """Return the recorder that ZeroMQ authenticated for this message."""
    if not body:
        return None
    try:
        return str(body[-1].get("User-Id")) or None
    except zmq.ZMQError:
        return None
