"""The flush loop of one archive: keeps the link, hears what the archive says, lets the deliveries go on.

Rule: nothing is sent before the archive has welcomed us; what goes quiet is offered again. See ``shelf`` for
when a local copy goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event as StopToken
from typing import Any, Final

from recorderd.core.clock import NS_PER_MS, NS_PER_S, Clock
from recorderd.core.conditions import ArchiveLink, ArchiveState, PowerState
from recorderd.core.errors import FormatError
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.verify import TrustStore
from recorderd.flush.board import Board, Rate
from recorderd.flush.deliveries import Deliveries
from recorderd.flush.deposits import Deposits
from recorderd.flush.far_end import FarEnd
from recorderd.flush.heads import HeadCourier
from recorderd.flush.link import Link, LinkBroke, LinkEvent, LinkStood, LinkTurnedAway
from recorderd.flush.outbox import DeliverySettings
from recorderd.flush.pace import Limit
from recorderd.flush.shelf import Shelf
from recorderd.flush.stamping import Stamper
from recorderd.spool.layout import Spool
from recorderd.spool.stance import read_stance
from recorderd.wire import frames as f

FAREWELL_MS: Final = 500  # that the last word may take
POLL_MS: Final = 200
LOOK_NS: Final = 50 * NS_PER_MS  # how often every delivery is looked at while chunks flow
STATUS_NS: Final = NS_PER_S
SLOW_AFTER_NS: Final = (
    60 * NS_PER_S
)  # a recording that has waited for so long: the archive takes less than comes
SILENT_HEARTBEATS: Final = 4  # unanswered for so many heartbeats, the link counts as dead


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderSettings:
    """How to flush."""

    archive: str  # its name among the archives of this recorder
    recorder_id: str
    endpoint: str
    chunk_bytes: int
    heartbeat_ns: int
    retry_ns: int
    local_grace_s: int
    packs: bool | None
    limits: tuple[Limit, ...]


class Sender:
    """Takes recordings from the spool to the archive.

    Thread: one; ``status`` may be called from any.
    """

    def __init__(
        self,
        *,
        settings: SenderSettings,
        spool: Spool,
        shelf: Shelf,
        link: Link,
        trust: TrustStore,
        clock: Clock,
        log: EventLog,
        heads: HeadCourier,
        deposits: Deposits | None,
        board: Board,
        host: Callable[[], f.HostReport],
        stamper: Stamper | None = None,
    ) -> None:
        self._settings = settings
        self._heads = heads
        self._board = board
        self._host = host
        self._rate = Rate()
        self._far_end = FarEnd(subject=settings.endpoint, log=log)
        self._gone_because = "not connected yet"
        self._protocol = f.PROTOCOL_VERSION
        self._spool_root = spool.root
        self._welcomed_ns = 0
        self._shelf = shelf
        self._stamper = stamper
        self._link = link
        self._clock = clock
        self._log = log
        self._figures: Counter[str] = Counter()
        self._deliveries = Deliveries(
            settings=DeliverySettings(
                archive=settings.archive,
                recorder_id=settings.recorder_id,
                chunk_bytes=settings.chunk_bytes,
                retry_ns=settings.retry_ns,
                local_grace_s=settings.local_grace_s,
                packs=settings.packs,
                limits=settings.limits,
            ),
            spool=spool,
            shelf=shelf,
            send=lambda message: link.send(f.encode_message(message)),
            trust=trust,
            figures=self._figures,
            clock=clock,
            log=log,
        )
        self._endpoint = settings.endpoint  # of the front end that we speak with, or spoke with last
        self._refused_ns = 0  # since when it takes nothing
        self._archive_id = ""  # set while the archive has welcomed us
        self._heard_ns = self._asked_ns = clock.mono_ns()
        self._adopt_at_ns = self._look_at_ns = self._status_at_ns = 0
        self._status: dict[str, Any] = {}
        self._deposits = deposits

    def run(self, stop: StopToken, beat: Callable[[], None]) -> None:
        """Flush until ``stop`` is set; ``beat`` is called a few times a second."""
        try:
            while not stop.is_set():
                self.turn(timeout_ms=POLL_MS)
                beat()
        finally:
            self._leave()

    def _leave(self) -> None:
        """Close the link; where the machine is being shut down, tell the archive why."""
        power, knows = self._host().power, self._archive_id and self._protocol >= f.WINDOWS_SINCE
        if knows and power is not None and power.state >= PowerState.FORCED_SHUTDOWN:
            reason = f.plain_reason(f"power: {power.reason}")
            self._link.send(f.encode_message(f.Farewell(reason=reason)))
        self._link.end(linger_ms=FAREWELL_MS)

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
            self._shelf.adopt()
            self._deliveries.adopt()
        if self._deliveries.is_nudged or now_ns >= self._look_at_ns:
            self._look_at_ns = now_ns + LOOK_NS
            self._look(now_ns)
        if self._archive_id:
            self._deliveries.pump()
        if now_ns >= self._status_at_ns:
            self._status_at_ns = now_ns + STATUS_NS
            self._status = self._picture()
            sent_bytes = self._figures["bytes_sent"]
            self._rate.take(sent_bytes, now_ns=now_ns, busy=self._deliveries.is_busy)
            self._board.tell(self._settings.archive, self._archive_link())

    def _look(self, now_ns: int) -> None:
        told = self._protocol < f.WINDOWS_SINCE or self._deliveries.allowance is not None
        waited = now_ns - self._welcomed_ns > self._settings.heartbeat_ns
        self._deliveries.look(
            now_ns,
            open_for_offers=bool(self._archive_id) and (told or waited),
            stance=read_stance(self._spool_root, now_utc_ns=self._clock.utc_ns()),
        )
        if self._archive_id:
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
            case LinkTurnedAway(reason=reason, endpoint=endpoint):
                self._lost(reason)
                self._log.warning(Ev.LINK_REFUSED, subject=endpoint or self._endpoint, reason=reason)

    def _lost(self, reason: str) -> None:
        if self._archive_id:
            self._archive_id = ""
            self._log.warning(Ev.LINK_DOWN, subject=self._endpoint, reason=reason)
        self._deliveries.link_lost()
        self._far_end.lost()
        self._gone_because = reason

    def _hello(self) -> None:
        self._endpoint = self._link.endpoint
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
        elif self._is_better_elsewhere(now_ns):
            self._lost(f"it takes nothing: {self._far_end.refusal}")
            self._link.rebuild(now_ns=now_ns)
        elif now_ns - self._asked_ns > heartbeat_ns:
            self._asked_ns = now_ns
            message: f.FlushMessage = f.Hello(recorder_id=self._settings.recorder_id)
            if self._archive_id:
                message = self._ping(now_ns)
            self._link.send(f.encode_message(message))

    def _is_better_elsewhere(self, now_ns: int) -> bool:
        """Tell whether to try another front end: this one has taken nothing for two heartbeats."""
        if not self._far_end.refusal or self._deliveries.is_busy:
            self._refused_ns = now_ns
        waited_ns = now_ns - self._refused_ns
        return self._link.has_others and waited_ns > 2 * self._settings.heartbeat_ns

    def _ping(self, now_ns: int) -> f.Ping:
        self._figures["pings"] += 1
        number = self._figures["pings"]
        self._far_end.asked(number, now_ns=now_ns)
        return f.Ping(number=number, host=self._host() if self._protocol >= f.WINDOWS_SINCE else None)

    def _archive_link(self) -> ArchiveLink:
        """Say in one word how the archive takes recordings."""
        state, reason = ArchiveState.UP, ""
        waits_ns = self._deliveries.waits_ns
        waited_ns = self._clock.mono_ns() - waits_ns if waits_ns else 0
        if not self._archive_id:
            state, reason = ArchiveState.GONE, self._gone_because
        elif self._far_end.refusal:
            state, reason = ArchiveState.REFUSING, self._far_end.refusal
        elif waited_ns > SLOW_AFTER_NS:
            state, reason = ArchiveState.SLOW, f"a recording has waited for {waited_ns // NS_PER_S} s"
            limit = self._deliveries.limit_bytes_per_s
            reason += f", and the limit of this hour is {limit} bytes/s" if limit is not None else ""
        return ArchiveLink(
            state=state,
            reason=reason,
            bytes_per_s=self._rate.bytes_per_s,
            at_utc_ns=self._clock.utc_ns(),
            power=self._far_end.power,
        )

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
                self._deliveries.on_answer(message)
            case f.Allowance():
                self._far_end.allow(message)
                self._deliveries.allow(message)
            case f.HeadAnswer():
                self._heads.answered(message)
            case f.Deposited():
                if self._deposits is not None:
                    self._deposits.on_answer(message)
            case f.Pong():
                self._far_end.answered(message, now_ns=self._clock.mono_ns(), utc_ns=self._clock.utc_ns())
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
            self._log.info(Ev.LINK_UP, subject=self._endpoint, archive=message.archive_id)
            self._deliveries.window.measured(self._clock.mono_ns() - self._asked_ns)
        self._archive_id, self._protocol = message.archive_id, message.protocol
        self._welcomed_ns = self._clock.mono_ns()
        self._asked_ns = 0  # let both ends know each other at once
        self._heads.welcomed(message.protocol)

    def _picture(self) -> dict[str, Any]:
        link = "up" if self._archive_id else ("standing" if self._link.stands else "down")
        limit = self._deliveries.limit_bytes_per_s
        return {
            "link": link,
            "endpoint": self._endpoint,
            "archive_id": self._archive_id,
            "archive": self._far_end.describe(),
            "bytes_per_s": round(self._rate.bytes_per_s),
            **({"limit_bytes_per_s": limit} if limit is not None else {}),
            **self._deliveries.picture(),
            "figures": {**self._figures, "claims": self._shelf.claims_made},
            **({"stamps": self._stamper.status()} if self._stamper is not None else {}),
        }
