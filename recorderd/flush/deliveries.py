"""The recordings on their way to one archive: performs what their machines ask for, decides nothing.

Rule: what the disk must keep is asked of the shelf and counts once it has answered. Chunks go out while the
window has room, to whomever ``order`` gives the turn. Everything may be lost or come twice: whatever goes
quiet is offered again, and the archive knows how far it stands.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from recorderd.core.clock import NS_PER_MS, NS_PER_S, Clock
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.verify import TrustStore
from recorderd.flush import delivery as d
from recorderd.flush.early_release import EarlyRelease
from recorderd.flush.order import Candidate, whose_turn
from recorderd.flush.outbox import DeliverySettings, Outbox
from recorderd.flush.receipt_check import check_receipt
from recorderd.flush.shelf import Job, QuarantineJob, RefusalJob, ReleaseJob, Shelf, StoreJob
from recorderd.policy.admission import FlushOrder
from recorderd.spool.layout import Spool
from recorderd.spool.stance import USUAL, FlushStance
from recorderd.wire import frames as f

IN_FLIGHT: Final = 4  # recordings at a time, where the archive has not said how many
CLAIMS_PART: Final = (
    4  # more is claimed once this part of the places is free: the disk is waited for each time
)
SCAN_NS: Final = 500 * NS_PER_MS  # how often ready/ is looked at


class Deliveries:
    """What is carried to one archive.

    Thread: one.
    """

    def __init__(
        self,
        *,
        settings: DeliverySettings,
        spool: Spool,
        shelf: Shelf,
        send: Callable[[f.FlushMessage], bool],
        trust: TrustStore,
        figures: Counter[str],
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._settings = settings
        self._shelf = shelf
        self._trust = trust
        self._clock = clock
        self._log = log
        self._deliveries: dict[str, d.Delivery] = {}
        self._priorities: dict[str, int] = {}
        self._since_ns: dict[str, int] = {}  # when it came to us
        self._asked: Counter[str] = Counter()  # jobs of the shelf that are not answered
        self._scan_at_ns = 0
        self._turn = 0
        self._stance = USUAL
        self._early = EarlyRelease()
        self._nudged = True  # a place in flight came free
        self._outbox = Outbox(
            settings=settings, spool=spool, shelf=shelf, send=send, figures=figures, clock=clock, log=log
        )
        self.window = self._outbox.window

    @property
    def allowance(self) -> f.Allowance | None:
        """What the archive takes; None = it has not said."""
        return self._outbox.allowance

    @property
    def limit_bytes_per_s(self) -> int | None:
        """The limit that holds at this time of the day; None = as fast as it goes."""
        return self._outbox.limit_bytes_per_s

    # --- the link ----------------------------------------------------------------------------------------

    def link_lost(self) -> None:
        """Take back everything that was under way."""
        self._outbox.link_lost()
        for recording_id in list(self._deliveries):
            self._apply(recording_id, d.LinkLost())

    def allow(self, allowance: f.Allowance) -> None:
        """Take the archive's word on how much it takes."""
        self._outbox.allow(allowance)
        self._nudged = True
        taken_back = {d.State.OFFERED} | (set() if allowance.window_bytes else {d.State.SENDING})
        for recording_id, delivery in list(self._deliveries.items()):
            if allowance.reason and delivery.state in taken_back:
                self._apply(recording_id, d.LinkLost())

    def on_answer(self, message: f.Credit | f.ReceiptMessage | f.Refused) -> None:
        """Take what the archive says of one recording."""
        recording_id, retry_ns = message.recording_id, self._settings.retry_ns
        delivery = self._deliveries.get(recording_id)
        if delivery is None or delivery.state not in d.OPEN:
            return
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
                    Ev.OFFER_REFUSED,
                    subject=recording_id,
                    archive=self._settings.archive,
                    code=code,
                    reason=reason,
                    retryable=retryable,
                )
                event = d.Postponed(retry_ns=retry_ns)
                if not retryable:
                    event = d.RejectedForGood(reason=f"{code}: {reason}", by_archive=True)
        self._apply(recording_id, event)
        self._count_answer(recording_id, message)

    def _count_answer(self, recording_id: str, message: f.Credit | f.ReceiptMessage | f.Refused) -> None:
        delivery = self._deliveries.get(recording_id)
        if not isinstance(message, f.Credit) or delivery is None or delivery.state not in d.ACTIVE:
            self.window.forget(recording_id)
        else:
            mark = delivery.size_bytes if delivery.state is d.State.AWAITING else delivery.held_bytes
            self.window.answered(recording_id, mark=mark, now_ns=self._clock.mono_ns())
            if message.rewind:
                self.window.forget(recording_id)

    # --- time --------------------------------------------------------------------------------------------

    def look(self, now_ns: int, *, open_for_offers: bool, stance: FlushStance) -> None:
        """Do what time, the shelf and the recorder have brought; offer more while there is a place."""
        self._stance = stance
        for done in self._shelf.answers(self._settings.archive):
            self._asked[done.job.recording_id] -= 1
            if done.problem and done.job.recording_id in self._deliveries:
                self._apply(done.job.recording_id, d.EffectFailed(retry_ns=self._settings.retry_ns))
            self._drop_if_done(done.job.recording_id)
        for recording_id, delivery in list(self._deliveries.items()):
            due = d.due_event(delivery, now_ns=now_ns)
            if due is not None:
                self._apply(recording_id, due)
        for recording_id in self._early.due(self._deliveries.values(), stance):
            self._apply(recording_id, d.GraceOver())
        if open_for_offers:
            self._offer(now_ns)

    @property
    def is_busy(self) -> bool:
        """Tell whether something is under way."""
        return any(entry.state in d.ACTIVE for entry in self._deliveries.values())

    @property
    def waits_ns(self) -> int:
        """Since when the oldest that is not under way has waited for its turn; 0 = none does."""
        ready = (name for name, entry in self._deliveries.items() if entry.state is d.State.READY)
        return min((self._since_ns[name] for name in ready), default=0)

    @property
    def is_nudged(self) -> bool:
        """Tell whether it is worth while to look at once."""
        return self._nudged

    def adopt(self) -> None:
        """Take up everything on the shelf that this archive is to have; let go of what is gone."""
        wanted = self._shelf.wanted_by(self._settings.archive)
        for recording_id, held in wanted.items():
            if recording_id in self._deliveries:
                continue
            delivery = d.Delivery(
                recording_id=recording_id,
                files=held.files,
                chunk_bytes=self._settings.chunk_bytes,
            )
            self._deliveries[recording_id] = delivery
            self._priorities[recording_id] = held.priority
            self._since_ns[recording_id] = self._clock.mono_ns()
            if held.broken:
                self._apply(recording_id, d.RejectedForGood(reason=held.broken))
            else:
                self._recall(delivery)
        for recording_id in [name for name in self._deliveries if name not in wanted]:
            if not self._asked[recording_id]:
                self._forget(recording_id)

    def _recall(self, delivery: d.Delivery) -> None:
        """See whether a receipt is stored from before."""
        try:
            receipt = self._shelf.receipt(self._settings.archive, delivery.recording_id)
        except OSError as problem:
            self._log.error(Ev.INTERNAL_ERROR, subject=delivery.recording_id, reason=problem)
            return
        event = self._receipt_event(delivery, receipt) if receipt is not None else None
        if event is not None:
            self._apply(delivery.recording_id, event)

    def _receipt_event(self, delivery: d.Delivery, raw: bytes) -> d.ReceiptVerified | None:
        recording_id, archive = delivery.recording_id, self._settings.archive
        try:
            check_receipt(raw, delivery, recorder_id=self._settings.recorder_id, trust=self._trust)
        except RecorderError as problem:
            self._log.error(Ev.RECEIPT_REFUSED, subject=recording_id, reason=problem)
            return None
        age_s = 0.0
        if self._shelf.receipt(archive, recording_id) == raw:
            age_s = self._shelf.receipt_age_s(archive, recording_id)
        keep_s = max(0.0, self._settings.local_grace_s - age_s)
        return d.ReceiptVerified(receipt=raw, keep_ns=int(keep_s * NS_PER_S))

    # --- offers and chunks -------------------------------------------------------------------------------

    def _offer(self, now_ns: int) -> None:
        """Offer what is ready while there is room in flight; claim more when nothing is ready."""
        self._nudged = False
        places, ready = self._places(), self._ready()
        room = places - sum(entry.state in d.ACTIVE for entry in self._deliveries.values())
        wanted = room - len(ready)
        if wanted > 0 and wanted >= places // CLAIMS_PART and now_ns >= self._scan_at_ns:
            if self._shelf.claim(wanted) == 0:
                self._scan_at_ns = now_ns + SCAN_NS
            self.adopt()
            ready = self._ready()
        while ready and room > 0 and self._outbox.has_room:
            chosen = whose_turn(ready, turn=self._turn, urgent=self._is_urgent)
            ready.remove(chosen)
            self._turn += 1
            room -= 1
            self._apply(chosen.recording_id, d.Offered(windowed=self.allowance is not None))

    @property
    def _is_urgent(self) -> bool:
        return self._stance.order is FlushOrder.URGENT

    def _ready(self) -> list[Candidate]:
        return [self._candidate(row) for row in self._deliveries.values() if row.state is d.State.READY]

    def _candidate(self, entry: d.Delivery) -> Candidate:
        return Candidate(
            recording_id=entry.recording_id,
            priority=self._priorities[entry.recording_id],
            size_bytes=entry.unsent_bytes,
        )

    def _places(self) -> int:
        places = IN_FLIGHT
        if self.allowance is not None:
            places = 0 if self.allowance.reason else min(self.allowance.recordings, self.window.recordings)
        return -(-places * self._stance.flush_percent // 100)

    def pump(self) -> bool:
        """Send chunks while the window has room and the pace allows it; say whether any went out."""
        sent = False
        self._outbox.look()
        if not self._outbox.piece_bytes():
            return False
        turns = {
            entry.recording_id: self._candidate(entry)
            for entry in self._deliveries.values()
            if entry.windowed and entry.state is d.State.SENDING and entry.unsent_bytes
        }
        while turns and self._outbox.piece_bytes():
            chosen = whose_turn(turns.values(), turn=self._turn, urgent=self._is_urgent).recording_id
            self._turn += 1
            if self._send_turn(chosen):
                turns[chosen] = self._candidate(self._deliveries[chosen])
            else:
                del turns[chosen]
            sent = True
        return sent

    def _send_turn(self, recording_id: str) -> bool:
        """Send as much as one turn is long; say whether there is more."""
        left_bytes = self._settings.chunk_bytes
        while left_bytes > 0 and (piece_bytes := self._outbox.piece_bytes()):
            before = self._deliveries[recording_id].sent_bytes
            self._apply(recording_id, d.RoomGiven(size_bytes=piece_bytes))
            entry = self._deliveries.get(recording_id)
            if entry is None or entry.state is not d.State.SENDING or not entry.unsent_bytes:
                return False
            left_bytes -= entry.sent_bytes - before
        return True

    # --- effects -----------------------------------------------------------------------------------------

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
            self.window.forget(recording_id)
        self._drop_if_done(recording_id)

    def _drop_if_done(self, recording_id: str) -> None:
        delivery = self._deliveries.get(recording_id)
        if delivery is None or self._asked[recording_id]:
            return
        is_broken = delivery.state is d.State.WAITING and not delivery.files  # and could not be set aside
        if delivery.state in d.FINAL or is_broken:
            self._forget(recording_id)  # a broken one is tried again with the next adoption

    def _forget(self, recording_id: str) -> None:
        self._outbox.forget(recording_id)
        for table in (self._deliveries, self._priorities, self._since_ns, self._asked):
            table.pop(recording_id, None)

    def _perform(self, delivery: d.Delivery, effect: d.Effect) -> d.Event | None:
        """Do what the reducer asked for; return what went wrong as an event."""
        recording_id, archive = delivery.recording_id, self._settings.archive
        match effect:
            case d.SendOffer():
                return self._outbox.offer(delivery)
            case d.SendChunk():
                return self._outbox.chunk(delivery, effect)
            case d.StoreReceipt(receipt=receipt):
                self._ask(StoreJob(archive=archive, recording_id=recording_id, receipt=receipt))
            case d.Release():
                self._ask(ReleaseJob(archive=archive, recording_id=recording_id))
            case d.Quarantine(reason=reason):
                self._ask(QuarantineJob(archive=archive, recording_id=recording_id, reason=reason))
            case d.GiveUp(reason=reason):
                self._ask(RefusalJob(archive=archive, recording_id=recording_id, reason=reason))
        return None

    def _ask(self, job: Job) -> None:
        self._asked[job.recording_id] += 1
        self._shelf.put(job)

    def picture(self) -> dict[str, Any]:
        """Tell what is carried: by state, in flight, the window."""
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
        return {
            "claimed": len(self._deliveries),
            "states": dict(Counter(entry.state.value for entry in self._deliveries.values())),
            "in_flight": in_flight,
            "refused": self._shelf.refused_by(self._settings.archive),
            "window": {
                "limit_bytes": self.window.limit_bytes,
                "flying_bytes": self.window.flying_bytes,
                "delay_ms": self.window.delay_ns // NS_PER_MS,
            },
        }
