"""All rooms of the recorder, put together: what is made in which order, which threads run, what stops when.

Order at start: configuration, key, spool, tap, calls that go on, recovery of the rest, signalling, ready.
Order at stop: signalling ends its sessions, or leaves them to the next process (``continuing``), the
recording seals them, the tap closes its sockets. A thread that dies ends the process; systemd starts it
anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from recorderd import __version__
from recorderd.app.appliance_parts import ears_of, host_clock_of, pace_of, sealing_parts, shedder_of
from recorderd.app.backpressure import Backpressure, Limits
from recorderd.app.continuing import continuing_of
from recorderd.app.encryption_configuration import recipients_of
from recorderd.app.left_drafts import LeftDrafts
from recorderd.app.power import PowerDuty
from recorderd.app.power_cut import PowerCut
from recorderd.app.prompts import PromptLibrary
from recorderd.app.recipient_watch import RecipientWatch
from recorderd.app.recorder_configuration import RecorderConfiguration
from recorderd.app.service import Service, settle_memory
from recorderd.app.signalling import rule_of, sip_settings
from recorderd.app.signing import KeyWatch
from recorderd.core.clock import NS_PER_S, SystemClock
from recorderd.core.events import Ev
from recorderd.core.messages import CallDescription, ControlAction, SessionSilent
from recorderd.core.terms import RecordingTerms
from recorderd.evidence.keys import Signer
from recorderd.record.recorder import QUEUE_MAX, Recorder
from recorderd.record.recovery import is_quick
from recorderd.record.shedding import Shedder
from recorderd.record.tail_files import read_boot_id
from recorderd.record.tail_recovery import extend_drafts
from recorderd.sip.desk import SessionDesk
from recorderd.sip.report import Report
from recorderd.sip.room import SipRoom
from recorderd.sip.settings import SipSettings
from recorderd.sip.speech import Speech
from recorderd.spool.layout import Place
from recorderd.tap.ports import PortPool
from recorderd.tap.speaker import Speaker, UtteranceEnded

COMMANDS: Final = tuple(
    ControlAction[name].value for name in ("START", "STOP", "PAUSE", "RESUME", "CONSENT", "OBJECT")
)


class Appliance:
    """All rooms of the recorder, put together."""

    def __init__(
        self, configuration: RecorderConfiguration, prompts: PromptLibrary, service: Service
    ) -> None:
        log, clock = service.log, SystemClock()
        self.service = service
        self.log = log
        self._clock = clock
        self._stopping = threading.Event()
        self._head_every_ns = configuration.evidence.head_every_s * NS_PER_S
        self.key = KeyWatch(configuration.evidence, clock=clock, log=log)
        signer = self.key.open_first()
        self.duty = PowerDuty(configuration.power, service=service, clock=clock)
        self.host_clock = host_clock_of(configuration, clock=clock, log=log)
        recipients = recipients_of(configuration)
        self.recipients = RecipientWatch(recipients, clock=clock, log=log)
        parts = self._parts = sealing_parts(
            configuration,
            signer=signer,
            recipients=recipients,
            host_clock=self.host_clock,
            clock=clock,
            log=log,
        )
        self.drafts = LeftDrafts(parts, log=log)
        self.continuing = continuing_of(configuration, clock=clock, log=log)
        left_drafts = parts.spool.ids(Place.DRAFTS)
        shedder = shedder_of(parts, clock=clock, log=log)
        ports, self.tap = ears_of(configuration, self.continuing, clock=clock, log=log)
        self.recorder = Recorder(
            source=self.tap,
            disks=parts.disks,
            spool=parts.spool,
            sealer=parts.sealer,
            entries=parts.entries,
            pace=pace_of(configuration),
            clock=clock,
            log=log,
            on_silent=self._hang_up,
            encryption=recipients,
            on_closed=self.continuing.standing.closed,
            on_left=self.drafts.give_up,
            draft_keys=self.continuing.draft_keys,
        )
        self.backpressure = self._backpressure(configuration, shedder)
        self.backpressure.prepare()
        self.speaker = Speaker(clock=clock, log=log, on_ended=self._heard)
        settings = sip_settings(configuration)
        desk = self._desk(settings, rule_of(configuration), ports, prompts)
        self.sip = SipRoom(settings=settings, desk=desk, clock=clock, log=log)
        self._power_cut = PowerCut(
            sip=self.sip, recorder=self.recorder, disks=parts.disks, heads=parts.heads, spool=parts.spool,
            checkpoint_s=partial(self.backpressure.checkpoint_s, configuration.record.checkpoint_s),
            waiting_bytes=lambda: self.backpressure.usage.unreceipted_bytes,
            on_done=self.duty.release, clock=clock, log=log,
        )  # fmt: skip
        going = self.continuing.go_on(tap=self.tap, ports=ports, recorder=self.recorder, desk=desk)
        self._begin_recovery([name for name in left_drafts if name not in going], beside_calls=bool(going))

    def _backpressure(self, configuration: RecorderConfiguration, shedder: Shedder) -> Backpressure:
        parts = self._parts
        return Backpressure(
            section=configuration.spool,
            spool=parts.spool,
            disks=parts.disks,
            space=parts.space,
            reserve=parts.reserve,
            shedder=shedder,
            power=lambda: self.duty.power,
            limits=Limits(
                max_calls=configuration.sip.max_calls,
                queue_full=lambda: self.recorder.messages.qsize() > QUEUE_MAX // 2,
                stopping=self._stopping.is_set,
                calls=lambda: self.recorder.sessions_open,
            ),
            seal_where_room_is=self._seal_where_room_is,
            clock=self._clock,
            log=self.log,
        )

    def _desk(
        self,
        settings: SipSettings,
        rule: Callable[[CallDescription], RecordingTerms],
        ports: PortPool,
        prompts: PromptLibrary,
    ) -> SessionDesk:
        return SessionDesk(
            settings=settings,
            rule=rule,
            admit=self.backpressure.admit,
            ports=ports,
            tap=self.tap,
            speech=Speech(prompts=prompts, speaker=self.speaker, tap=self.tap, log=self.log),
            report=Report(
                messages=self.recorder.messages,
                tap=self.tap,
                clock=self._clock,
                log=self.log,
                count=self._parts.heads.count,
                standing=self.continuing.standing,
            ),
            clock=self._clock,
            log=self.log,
        )

    def _begin_recovery(self, drafts: Sequence[str], *, beside_calls: bool) -> None:
        spool = self._parts.spool
        extend_drafts(spool, drafts, chain=self._parts.chain, log=self.log, boot_id=read_boot_id())
        if beside_calls or not is_quick(spool, drafts):  # calls do not wait for what is over
            self._parts.disks.sealing.put(partial(self._recover, drafts))
        else:
            self._recover(drafts)

    def _recover(self, drafts: Sequence[str]) -> None:
        self.drafts.recover(drafts)
        self._parts.heads.state("start")

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer the control socket."""
        command = request.get("command", "status")
        if command in COMMANDS:
            return self.sip.command(request)
        if command != "status":
            return {"error": f"known commands: status, {', '.join(COMMANDS)}"}
        return self.status()

    def status(self) -> dict[str, Any]:
        """Describe everything that an operator asks for."""
        return {
            "program": "recorderd",
            "version": __version__,
            "sip": self.sip.status(),
            "sessions": list(self.recorder.describe()),
            "spool": self.backpressure.describe_spool(),
            "stance": self.backpressure.describe(),
            "sealed": self.recorder.sealed,
            "signing": {**self.key.describe(), "waiting": self._waiting},
            "chain": self._parts.heads.describe(),
            "disk": {
                "waiting_bytes": self._parts.disks.audio.waiting_bytes,
                "waiting_max_bytes": self._parts.disks.audio.waiting_bytes_max,
            },
            "recipients_expired": self.recipients.describe(),
            "clock": self.host_clock.describe(),
            "power": self._power_cut.describe(self.duty.describe()),
            "rtp": {**self.tap.totals(), **self.tap.lateness.describe()},
            "events": self.log.counters(),
        }

    def run(self) -> None:
        """Serve until asked to stop.

        Errors: whatever a thread died of.
        """
        sip_stop, record_stop, tap_stop = threading.Event(), threading.Event(), threading.Event()
        clock_stop, spool_stop = threading.Event(), threading.Event()
        speaker_stop, audio_stop, sealing_stop = threading.Event(), threading.Event(), threading.Event()
        failed: list[BaseException] = []
        host_clock = self._thread("clock", lambda: self.host_clock.run(clock_stop), failed)
        spool = self._thread("spool", lambda: self.backpressure.run(spool_stop), failed)
        sealing = self._thread("seal", lambda: self._parts.disks.sealing.run(sealing_stop), failed)
        audio = self._thread("disk", lambda: self._parts.disks.audio.run(audio_stop), failed)
        tap = self._thread("tap", lambda: self.tap.run(tap_stop), failed)
        record = self._thread("record", lambda: self.recorder.run(record_stop), failed)
        speaker = self._thread("speaker", lambda: self.speaker.run(speaker_stop), failed)
        sip = self._thread("sip", lambda: self.sip.run(sip_stop), failed)
        try:
            while not self.sip.ready.wait(0.05) and not failed:
                pass
            if not failed:
                settle_memory()
                self.log.info(Ev.READY)
                self.duty.start(self._power_cut.changed)
                self.service.ready("recording")
                self.continuing.settled()
            self._serve(failed)
        finally:
            self._stopping.set()
            self._parts.space.stop()
            self.service.stopping()
            leaves = (
                not failed and not self._power_cut.is_shut and self.continuing.leaves(self.sip, self.recorder)
            )
            for stop, thread in (
                (sip_stop, sip),
                (speaker_stop, speaker),
                (record_stop, record),
                (tap_stop, tap),
                (audio_stop, audio),  # writes what the recording has left
                (sealing_stop, sealing),
                (spool_stop, spool),
                (clock_stop, host_clock),
            ):
                stop.set()
                thread.join(timeout=30)
            self.duty.stop()
            if not leaves:  # else another process goes on with the sockets
                self.tap.close()
            if not sealing.is_alive():  # else the chain has an owner still
                self._parts.entries.make_again()
                self._parts.entries.give_up()
                self._parts.heads.state("stop")
        if failed:
            raise failed[0]

    def _serve(self, failed: list[BaseException]) -> None:
        seen = (-1, -1, -1, -1)
        head_due_ns = self._clock.mono_ns() + self._head_every_ns
        while not failed and not self.service.stop.wait(1.0):
            now = (self.tap.drains, self.recorder.rounds, self.sip.polls, self.speaker.rounds)
            self._look_at_key()
            self.recipients.look()
            if all(fresh != stale for fresh, stale in zip(now, seen, strict=True)):
                self.service.alive(f"{self.recorder.sessions_open} sessions, {self.recorder.sealed} sealed")
            seen = now
            if self._clock.mono_ns() >= head_due_ns:
                head_due_ns += self._head_every_ns
                self._parts.disks.sealing.put(partial(self._parts.heads.state, "hour"))

    @property
    def _waiting(self) -> int:
        return self.drafts.waiting + self._parts.entries.waiting + self.recorder.closing.waiting

    def _look_at_key(self) -> None:
        if reload := self.service.reload.is_set():
            self.service.reload.clear()  # else one that comes between would be lost
        then = self._parts.disks.sealing.put
        self.key.look(reload=reload, waiting=self._waiting, then=then, work=self._seal_waiting)

    def _seal_waiting(self, signer: Signer) -> None:
        """Seal what waited for the key.  # thread: sealing"""
        self._parts.sealer.use(signer)
        self.drafts.recover_waiting()
        self._parts.entries.make_again()
        self.recorder.closing.seal_waiting()
        self._parts.heads.state_owed()

    def _thread(self, name: str, work: Callable[[], None], failed: list[BaseException]) -> threading.Thread:
        def body() -> None:
            try:
                work()
            except BaseException as problem:  # the main thread raises it
                failed.append(problem)
                self.log.error(Ev.INTERNAL_ERROR, subject=name, reason=f"{type(problem).__name__}: {problem}")

        thread = threading.Thread(target=body, name=name)
        thread.start()
        return thread

    def _hang_up(self, silent: SessionSilent) -> None:
        self.sip.hang_up(silent)

    def _heard(self, ended: UtteranceEnded) -> None:
        self.sip.heard(ended)

    def _seal_where_room_is(self) -> None:
        if self.recorder.closing.waiting_for_room:
            self._parts.disks.sealing.put(self.recorder.closing.seal_where_room_is)
