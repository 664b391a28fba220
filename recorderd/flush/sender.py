"""The flush loop: performs what the deliveries ask for, hears what the archive says, decides nothing.

Rule: a recording is claimed by rename and adopted again at every start; its local copy goes only through
``Spool.release`` after ``check_receipt`` passed and the local grace is over. Everything may be lost or come
twice: whatever goes quiet is offered again, and the archive knows how far it stands.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event as StopToken
from typing import Any, Final

from recorderd.core.clock import NS_PER_MS, NS_PER_S, Clock
from recorderd.core.errors import FormatError, RecorderError, SpoolBroken
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.verify import TrustStore
from recorderd.flush import delivery as d
from recorderd.flush.claims import Claims
from recorderd.flush.deposits import Deposits
from recorderd.flush.early_release import EarlyRelease
from recorderd.flush.heads import HeadCourier
from recorderd.flush.link import Link, LinkBroke, LinkEvent, LinkStood, LinkTurnedAway
from recorderd.flush.parcel import is_passing, list_files, read_piece
from recorderd.flush.receipt_check import check_receipt
from recorderd.flush.stamping import Stamper
from recorderd.spool.layout import Place, Spool
from recorderd.spool.stance import read_stance
from recorderd.wire import frames as f

IN_FLIGHT: Final = 4  # recordings at a time: a long one does not hold up the short ones
POLL_MS: Final = 200
SCAN_NS: Final = 500 * NS_PER_MS  # how often ready/ is looked at
LOOK_NS: Final = 50 * NS_PER_MS  # how often every delivery is looked at while chunks flow
STATUS_NS: Final = 200 * NS_PER_MS
SILENT_HEARTBEATS: Final = 4  # unanswered for so many heartbeats, the link counts as dead


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderSettings:
    """How to flush."""

    recorder_id: str
    endpoint: str
    chunk_bytes: int
    heartbeat_ns: int
    retry_ns: int
    local_grace_s: int


class Sender:
    """Takes recordings from the spool to the archive.

    Thread: one; ``status`` may be called from any.
    """

    def __init__(
        self,
        *,
        settings: SenderSettings,
        spool: Spool,
        link: Link,
        trust: TrustStore,
        clock: Clock,
        log: EventLog,
        heads: HeadCourier,
        stamper: Stamper | None = None,
    ) -> None:
        self._settings = settings
        self._heads = heads
        self._spool = spool
        self._stamper = stamper
        self._early = EarlyRelease()
        self._claims = Claims(spool=spool, stamper=stamper, log=log)
        self._link = link
        self._trust = trust
        self._clock = clock
        self._log = log
        self._deliveries: dict[str, d.Delivery] = {}
        self._figures: Counter[str] = Counter()
        self._archive_id = ""  # set while the archive has welcomed us
        self._heard_ns = self._asked_ns = clock.mono_ns()
        self._scan_at_ns = self._adopt_at_ns = self._look_at_ns = self._status_at_ns = 0
        self._nudged = True  # a place in flight came free
        self._status: dict[str, Any] = {}
        self._deposits: Deposits | None = None
        if stamper is not None:
            self._deposits = Deposits(
                folder=stamper.folder,
                send=lambda deposit: link.send(f.encode_message(deposit)),
                retry_ns=settings.retry_ns,
                clock=clock,
                log=log,
            )

    def run(self, stop: StopToken, beat: Callable[[], None]) -> None:
        """Flush until ``stop`` is set; ``beat`` is called a few times a second."""
        try:
            while not stop.is_set():
                self.turn(timeout_ms=POLL_MS)
                beat()
        finally:
            self._link.end()

    def status(self) -> dict[str, Any]:
        """Return the latest picture: link, recordings by state, in flight, figures.

        Thread: any.
        """
        return self._status

    def turn(self, *, timeout_ms: int) -> None:
        """Do one round: hear, then act on what time has brought."""
        events, messages = self._link.poll(timeout_ms=timeout_ms, now_ns=self._clock.mono_ns())
        for event in events:
            self._on_link(event)
        for message in messages:
            self._on_frames(message)
        now_ns = self._clock.mono_ns()
        self._keep_link(now_ns)
        if now_ns >= self._adopt_at_ns:
            self._adopt_at_ns = now_ns + self._settings.retry_ns
            self._adopt()
        if self._nudged or now_ns >= self._look_at_ns:
            self._nudged, self._look_at_ns = False, now_ns + LOOK_NS
            self._look(now_ns)
        if now_ns >= self._status_at_ns:
            self._status_at_ns = now_ns + STATUS_NS
            self._status = self._picture()

    def _look(self, now_ns: int) -> None:
        for recording_id, delivery in list(self._deliveries.items()):
            due = d.due_event(delivery, now_ns=now_ns)
            if due is not None:
                self._apply(recording_id, due)
        stance = read_stance(self._spool.root, now_utc_ns=self._clock.utc_ns())
        for recording_id in self._early.due(self._deliveries.values(), stance):
            self._apply(recording_id, d.GraceOver())
        if self._archive_id:
            self._fill(now_ns)
            self._heads.turn(now_ns)
            if self._deposits is not None:
                self._deposits.turn()

    # --- the link ------------------------------------------------------------------------------------

    def _on_link(self, event: LinkEvent) -> None:
        match event:
            case LinkStood():
                self._hello()
            case LinkBroke():
                self._lost("the connection broke")
            case LinkTurnedAway(reason=reason):
                self._lost(reason)
                self._log.warning(Ev.LINK_REFUSED, subject=self._settings.endpoint, reason=reason)

    def _lost(self, reason: str) -> None:
        if self._archive_id:
            self._archive_id = ""
            self._log.warning(Ev.LINK_DOWN, subject=self._settings.endpoint, reason=reason)
        for recording_id in list(self._deliveries):
            self._apply(recording_id, d.LinkLost())

    def _hello(self) -> None:
        self._heard_ns = self._asked_ns = self._clock.mono_ns()
        self._link.send(f.encode_message(f.Hello(recorder_id=self._settings.recorder_id)))

    def _keep_link(self, now_ns: int) -> None:
        if not self._link.stands:
            return
        heartbeat_ns = self._settings.heartbeat_ns
        if now_ns - self._heard_ns > SILENT_HEARTBEATS * heartbeat_ns:
            self._lost(f"no answer for {(now_ns - self._heard_ns) // NS_PER_S} s")
            self._link.rebuild(now_ns=now_ns)
            self._heard_ns = now_ns
        elif now_ns - max(self._heard_ns, self._asked_ns) > heartbeat_ns:
            self._asked_ns = now_ns
            self._figures["pings"] += 1
            message: f.FlushMessage = f.Ping(number=self._figures["pings"])
            if not self._archive_id:
                message = f.Hello(recorder_id=self._settings.recorder_id)
            self._link.send(f.encode_message(message))

    # --- what the archive says -----------------------------------------------------------------------

    def _on_frames(self, raw: Sequence[bytes]) -> None:
        self._heard_ns = self._clock.mono_ns()
        try:
            message = f.parse_message(raw)
        except FormatError as problem:
            self._log.warning(Ev.MALFORMED_FRAME, subject=self._settings.endpoint, reason=problem)
            return
        match message:
            case f.Welcome():
                self._on_welcome(message)
            case f.Unwelcome(reason=reason):
                self._on_link(LinkTurnedAway(reason=reason))
                self._link.rebuild(now_ns=self._clock.mono_ns())
            case f.Credit() | f.ReceiptMessage() | f.Refused():
                delivery = self._deliveries.get(message.recording_id)
                if delivery is not None and delivery.state in d.OPEN:
                    self._on_answer(delivery, message)
            case f.HeadAnswer():
                self._heads.answered(message)
            case f.Deposited():
                if self._deposits is not None:
                    self._deposits.on_answer(message)
            case f.Pong():
                pass
            case _:
                reason = f"unexpected {type(message).__name__}"
                self._log.warning(Ev.MALFORMED_FRAME, subject=self._settings.endpoint, reason=reason)

    def _on_welcome(self, message: f.Welcome) -> None:
        if message.protocol not in f.PROTOCOLS:
            reason = f"the archive speaks protocol {message.protocol}, we speak {f.PROTOCOL_VERSION}"
            self._on_link(LinkTurnedAway(reason=reason))
            self._link.rebuild(now_ns=self._clock.mono_ns())
            return
        self._link.settle()
        if not self._archive_id:
            self._log.info(Ev.LINK_UP, subject=self._settings.endpoint, archive=message.archive_id)
        self._archive_id = message.archive_id
        self._nudged = True
        self._heads.welcomed(message.protocol)

    def _on_answer(self, delivery: d.Delivery, message: f.Credit | f.ReceiptMessage | f.Refused) -> None:
        retry_ns, recording_id = self._settings.retry_ns, delivery.recording_id
        event: d.Event | None
        match message:
            case f.Credit():
                event = d.credit_event(delivery, message, retry_ns=retry_ns)
                if event is None:
                    reason = f"no such credit: {message}"
                    self._log.warning(Ev.MALFORMED_FRAME, subject=recording_id, reason=reason)
                    return
            case f.ReceiptMessage(receipt=raw):
                event = self._receipt_event(delivery, raw) or d.Postponed(retry_ns=retry_ns)
            case f.Refused(code=code, reason=reason, retryable=retryable):
                self._log.warning(
                    Ev.OFFER_REFUSED, subject=recording_id, code=code, reason=reason, retryable=retryable
                )
                event = d.Postponed(retry_ns=retry_ns)
                if not retryable:
                    event = d.RejectedForGood(reason=f"refused by the archive: {code}: {reason}")
        self._apply(recording_id, event)

    def _receipt_event(self, delivery: d.Delivery, raw: bytes) -> d.ReceiptVerified | None:
        recording_id = delivery.recording_id
        try:
            check_receipt(raw, delivery, recorder_id=self._settings.recorder_id, trust=self._trust)
        except RecorderError as problem:
            self._log.error(Ev.RECEIPT_REFUSED, subject=recording_id, reason=problem)
            return None
        age_s = 0.0
        if self._spool.receipt(recording_id) == raw:
            now_utc_s = self._clock.utc_ns() / NS_PER_S
            age_s = max(0.0, self._spool.receipt_age_s(recording_id, now_utc_s=now_utc_s))
        keep_s = max(0.0, self._settings.local_grace_s - age_s)
        return d.ReceiptVerified(receipt=raw, keep_ns=int(keep_s * NS_PER_S))

    # --- the spool -----------------------------------------------------------------------------------

    def _adopt(self) -> None:
        """Take up every claimed recording that we do not carry yet."""
        for recording_id in self._spool.ids(Place.CLAIMED):
            if recording_id not in self._deliveries:
                self._load(recording_id)

    def _load(self, recording_id: str) -> None:
        folder = self._spool.path(Place.CLAIMED, recording_id)
        try:
            files = list_files(folder)
            receipt = self._spool.receipt(recording_id)
        except (SpoolBroken, OSError) as problem:
            if isinstance(problem, OSError) and is_passing(problem):
                self._log.error(Ev.INTERNAL_ERROR, subject=recording_id, reason=problem)
                return  # the next adoption tries again
            broken = d.Delivery(recording_id=recording_id, files=(), chunk_bytes=1)
            self._deliveries[recording_id] = broken
            self._apply(recording_id, d.RejectedForGood(reason=f"broken in the spool: {problem}"))
            return
        delivery = d.Delivery(recording_id=recording_id, files=files, chunk_bytes=self._settings.chunk_bytes)
        self._deliveries[recording_id] = delivery
        event = self._receipt_event(delivery, receipt) if receipt is not None else None
        if event is not None:
            self._apply(recording_id, event)

    def _fill(self, now_ns: int) -> None:
        """Offer what is ready while there is room in flight; claim more when nothing is ready."""
        room = IN_FLIGHT - sum(entry.state in d.ACTIVE for entry in self._deliveries.values())
        ready = [entry for entry in self._deliveries.values() if entry.state is d.State.READY]
        if len(ready) < room and now_ns >= self._scan_at_ns:
            tried, claimed = self._claims.take(room - len(ready))
            for name in claimed:
                self._load(name)
            if tried == 0:
                self._scan_at_ns = now_ns + SCAN_NS
            ready = [entry for entry in self._deliveries.values() if entry.state is d.State.READY]
        for entry in sorted(ready, key=lambda entry: (entry.size_bytes, entry.recording_id))[: max(0, room)]:
            self._apply(entry.recording_id, d.Offered())

    # --- effects -------------------------------------------------------------------------------------

    def _apply(self, recording_id: str, event: d.Event) -> None:
        waiting = deque([event])
        while waiting:
            delivery, effects = d.step(
                self._deliveries[recording_id], waiting.popleft(), now_ns=self._clock.mono_ns()
            )
            self._deliveries[recording_id] = delivery
            for effect in effects:
                failed = self._perform(delivery, effect)
                if failed is not None:
                    waiting.append(failed)
                    break
        if self._deliveries[recording_id].state not in d.ACTIVE:
            self._nudged = True
        if self._deliveries[recording_id].state in d.FINAL:
            del self._deliveries[recording_id]

    def _perform(self, delivery: d.Delivery, effect: d.Effect) -> d.Event | None:
        """Do what the reducer asked for; return what went wrong as an event."""
        recording_id = delivery.recording_id
        match effect:
            case d.SendOffer():
                offer = f.Offer(recording_id=recording_id, files=delivery.files)
                if not self._link.send(f.encode_message(offer)):
                    return d.LinkLost()
                self._log.info(Ev.OFFERED, subject=recording_id, size_bytes=delivery.size_bytes)
                return None
            case d.SendChunk():
                return self._send_chunk(recording_id, effect)
            case _:
                try:
                    self._settle(recording_id, effect)
                except (OSError, SpoolBroken) as problem:
                    self._log.error(
                        Ev.INTERNAL_ERROR, subject=recording_id, doing=type(effect).__name__, reason=problem
                    )
                    return d.EffectFailed(retry_ns=self._settings.retry_ns)
                return None

    def _send_chunk(self, recording_id: str, effect: d.SendChunk) -> d.Event | None:
        path = self._spool.path(Place.CLAIMED, recording_id) / effect.name
        try:
            payload = read_piece(path, offset_bytes=effect.offset_bytes, size_bytes=effect.size_bytes)
        except (SpoolBroken, OSError) as problem:
            if isinstance(problem, OSError) and is_passing(problem):
                return d.Postponed(retry_ns=self._settings.retry_ns)
            return d.RejectedForGood(reason=f"broken in the spool: {problem}")
        chunk = f.Chunk(
            recording_id=recording_id,
            name=effect.name,
            offset_bytes=effect.offset_bytes,
            sha256=sha256_bytes(payload),
            payload=payload,
        )
        if not self._link.send(f.encode_message(chunk)):
            return d.LinkLost()
        self._figures.update(chunks_sent=1, bytes_sent=effect.size_bytes)
        return None

    def _settle(self, recording_id: str, effect: d.Effect) -> None:
        """Store a receipt, release or quarantine: the effects on the spool."""
        match effect:
            case d.StoreReceipt(receipt=receipt):
                if self._spool.receipt(recording_id) != receipt:
                    self._spool.store_receipt(recording_id, receipt)
                self._log.info(Ev.RECEIPT_VERIFIED, subject=recording_id)
            case d.Release():
                self._spool.release(recording_id)
                self._log.info(Ev.LOCAL_COPY_DELETED, subject=recording_id)
            case d.Quarantine(reason=reason):
                self._spool.quarantine(recording_id, come_from=Place.CLAIMED, reason=reason)
                self._log.error(Ev.RECORDING_QUARANTINED, subject=recording_id, reason=reason)
            case _:
                raise RecorderError(reason=f"{type(effect).__name__} is no effect on the spool")

    def _picture(self) -> dict[str, Any]:
        states = Counter(entry.state.value for entry in self._deliveries.values())
        in_flight = [
            {
                "recording_id": entry.recording_id,
                "state": entry.state.value,
                "file": entry.name,
                "acked_bytes": entry.acked_bytes,
                "size_bytes": entry.size_bytes,
            }
            for entry in self._deliveries.values()
            if entry.state in d.ACTIVE
        ]
        link = "up" if self._archive_id else ("standing" if self._link.stands else "down")
        return {
            "link": link,
            "endpoint": self._settings.endpoint,
            "archive_id": self._archive_id,
            "claimed": len(self._deliveries),
            "states": dict(states),
            "in_flight": in_flight,
            "figures": {**self._figures, "claims": self._claims.made},
            **({"stamps": self._stamper.status()} if self._stamper is not None else {}),
        }
