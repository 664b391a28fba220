"""recorderd: composition root of the exchange appliance's recorder.

Order at start: configuration, key, spool, tap, calls that go on, recovery of the rest, signalling, ready.
Order at stop: signalling ends its sessions, or leaves them to the next process (``continuing``), the
recording seals them, the tap closes its sockets. A thread that dies ends the process; systemd starts it
anew.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from recorderd import __version__, durable
from recorderd.app.backpressure import Backpressure, Limits, patience
from recorderd.app.continuing import continuing_of
from recorderd.app.control import ControlServer
from recorderd.app.encryption_configuration import recipients_of
from recorderd.app.host_clock import HostClock
from recorderd.app.memory import keep_freed_memory
from recorderd.app.power import PowerDuty
from recorderd.app.power_cut import PowerCut
from recorderd.app.prompts import PromptLibrary
from recorderd.app.recipient_watch import RecipientWatch
from recorderd.app.recorder_checks import check_configuration, load_prompts
from recorderd.app.recorder_configuration import RecorderConfiguration, TimeZone, load_recorder_configuration
from recorderd.app.service import FolderLock, Service, run_reporting, settle_memory
from recorderd.app.signalling import rule_of, sip_settings
from recorderd.app.signing import KeyWatch
from recorderd.core.clock import NS_PER_S, SystemClock
from recorderd.core.events import Ev
from recorderd.core.ids import SessionId
from recorderd.core.messages import ControlAction, SessionSilent
from recorderd.evidence.keys import Signer
from recorderd.policy.file_names import NameTemplate
from recorderd.record.chain import Chain
from recorderd.record.disk import Disks
from recorderd.record.entries import Entries, EntryPolicy
from recorderd.record.heads import Heads
from recorderd.record.recorder import QUEUE_MAX, Pace, Recorder
from recorderd.record.recovery import is_quick, recover
from recorderd.record.seal import Sealer
from recorderd.record.shedding import Shedder
from recorderd.record.steering import SkewMode, SkewPolicy
from recorderd.record.tail_files import read_boot_id
from recorderd.record.tail_recovery import extend_drafts
from recorderd.sip.desk import SessionDesk
from recorderd.sip.report import Report
from recorderd.sip.room import SipRoom
from recorderd.sip.speech import Speech
from recorderd.spool.head_box import HeadBox
from recorderd.spool.layout import Place, Spool
from recorderd.spool.shed import ShedFolder
from recorderd.tap.drain import Tap
from recorderd.tap.ports import PortPool
from recorderd.tap.sources import SourcePolicy
from recorderd.tap.speaker import Speaker, UtteranceEnded

CONTROL_NAME: Final = "recorderd.sock"
PORT_MARK_NAME: Final = "rtp-ports"
LOCK_NAME: Final = ".recorderd.lock"
COMMANDS: Final = tuple(
    ControlAction[name].value for name in ("START", "STOP", "PAUSE", "RESUME", "CONSENT", "OBJECT")
)


class Appliance:
    """All rooms of the recorder, put together."""

    def __init__(
        self, configuration: RecorderConfiguration, prompts: PromptLibrary, service: Service
    ) -> None:
        log, clock = service.log, SystemClock()
        rtp, record = configuration.rtp, configuration.record
        self.service = service
        self.log = log
        self._clock = clock
        self._stopping = threading.Event()
        self.key = KeyWatch(configuration.evidence, clock=clock, log=log)
        signer = self.key.open_first()
        self.duty = PowerDuty(configuration.power, service=service, clock=clock)
        self.spool = Spool(configuration.spool.dir, quota_bytes=configuration.spool.quota_bytes)
        self.spool.prepare()
        self.host_clock = HostClock(
            clock=clock,
            log=log,
            offset_limit_ms=configuration.clock.offset_limit_ms,
            check_s=configuration.clock.check_s,
        )
        chain = Chain(configuration.recorder.state_dir)
        recipients = recipients_of(configuration)
        self.sealer = sealer = Sealer(
            recorder_id=configuration.recorder.id,
            spool=self.spool,
            chain=chain,
            signer=signer,
            clock=clock,
            names=NameTemplate(text=record.file_name, local_time=record.file_name_time is TimeZone.LOCAL),
            host_clock=self.host_clock.statement,
            encryption=recipients,
        )
        self.space, self._reserve = patience(configuration.spool, clock=clock, log=log)
        self.disks = Disks.patient(self.space)
        self.heads = Heads(
            configuration.recorder.state_dir,
            recorder_id=configuration.recorder.id,
            chain=chain,
            box=HeadBox(configuration.spool.dir),
            signer=sealer.signer,
            clock=clock,
            log=log,
        )
        self.heads.begin()
        self._head_every_ns = configuration.evidence.head_every_s * NS_PER_S
        self.entries = entries = Entries(
            sealer=sealer,
            spool=self.spool,
            disk=self.disks.sealing,
            policy=EntryPolicy(
                wanted=frozenset(configuration.evidence.entries),
                per_minute=configuration.evidence.entries_per_minute,
                count=self.heads.count,
            ),
            clock=clock,
            log=log,
        )
        self._recover = partial(
            recover, spool=self.spool, chain=chain, sealer=sealer, entries=entries, log=log, refused=set()
        )
        self.continuing = continuing_of(configuration, clock=clock, log=log)
        left_drafts = self.spool.ids(Place.DRAFTS)
        shedder = Shedder(
            spool=self.spool,
            folder=ShedFolder(self.spool),
            entries=entries,
            chain=chain,
            clock=clock,
            log=log,
        )
        shedder.recover()
        ports = PortPool(
            keeper=self.continuing.store,
            mark_path=configuration.recorder.run_dir / PORT_MARK_NAME,
            address=rtp.address,
            port_min=rtp.port_min,
            port_max=rtp.port_max,
            receive_buffer_bytes=rtp.receive_buffer_bytes,
        )
        self.tap = Tap(
            ports=ports,
            max_streams=rtp.max_streams,
            clock=clock,
            log=log,
            source_policy=SourcePolicy(rtp.source.value),
            memory_file=self.continuing.shelves,
        )
        self.recorder = Recorder(
            source=self.tap,
            disks=self.disks,
            spool=self.spool,
            sealer=sealer,
            entries=entries,
            pace=Pace(
                window_ms=record.window_ms,
                delay_ms=record.delay_ms,
                checkpoint_s=record.checkpoint_s,
                proof_s=configuration.evidence.checkpoint_s,
                silence_limit_s=rtp.silence_limit_s,
                tones=record.tones,
                skew=SkewPolicy(mode=SkewMode(record.skew.value), threshold_ms=record.skew_threshold_ms),
            ),
            clock=clock,
            log=log,
            on_silent=self._hang_up,
            encryption=recipients,
            on_closed=self.continuing.standing.closed,
            on_left=self._left_over,
            draft_keys=self.continuing.draft_keys,
        )
        self.recipients = RecipientWatch(recipients, clock=clock, log=log)
        settings = sip_settings(configuration)
        self.backpressure = Backpressure(
            section=configuration.spool,
            spool=self.spool,
            disks=self.disks,
            space=self.space,
            reserve=self._reserve,
            shedder=shedder,
            power=lambda: self.duty.power,
            limits=Limits(
                max_calls=settings.max_calls,
                queue_full=lambda: self.recorder.messages.qsize() > QUEUE_MAX // 2,
                stopping=self._stopping.is_set,
                calls=lambda: self.recorder.sessions_open,
            ),
            seal_where_room_is=self._seal_where_room_is,
            clock=clock,
            log=log,
        )
        self.backpressure.prepare()
        self.speaker = Speaker(clock=clock, log=log, on_ended=self._heard)
        speech = Speech(prompts=prompts, speaker=self.speaker, tap=self.tap, log=log)
        desk = SessionDesk(
            settings=settings,
            rule=rule_of(configuration),
            admit=self.backpressure.admit,
            ports=ports,
            tap=self.tap,
            speech=speech,
            report=Report(
                messages=self.recorder.messages,
                tap=self.tap,
                clock=clock,
                log=log,
                count=self.heads.count,
                standing=self.continuing.standing,
            ),
            clock=clock,
            log=log,
        )
        self.sip = SipRoom(settings=settings, desk=desk, clock=clock, log=log)
        self._power_cut = PowerCut(
            sip=self.sip, recorder=self.recorder, disks=self.disks, heads=self.heads, spool=self.spool,
            checkpoint_s=partial(self.backpressure.checkpoint_s, record.checkpoint_s),
            waiting_bytes=lambda: self.backpressure.usage.unreceipted_bytes,
            on_done=self.duty.release, clock=clock, log=log,
        )  # fmt: skip
        going = self.continuing.go_on(tap=self.tap, ports=ports, recorder=self.recorder, desk=desk)
        self._unsealed: tuple[str, ...] = ()  # drafts that want the key, or a disk that takes them
        self._left: tuple[str, ...] = ()  # drafts of this process that were given up
        left_drafts = [name for name in left_drafts if name not in going]
        extend_drafts(self.spool, left_drafts, chain=chain, log=log, boot_id=read_boot_id())
        if going or not is_quick(self.spool, left_drafts):  # calls do not wait for what is over
            self.disks.sealing.put(partial(self._recover_left, left_drafts))
        else:
            self._recover_left(left_drafts)

    def _recover_left(self, drafts: Sequence[str]) -> None:
        self._unsealed = self._recover(only=drafts)
        self.heads.state("start")

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer the control socket."""
        if request.get("command") in COMMANDS:
            return self.sip.command(request)
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
            "chain": self.heads.describe(),
            "disk": {
                "waiting_bytes": self.disks.audio.waiting_bytes,
                "waiting_max_bytes": self.disks.audio.waiting_bytes_max,
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
        sealing = self._thread("seal", lambda: self.disks.sealing.run(sealing_stop), failed)
        audio = self._thread("disk", lambda: self.disks.audio.run(audio_stop), failed)
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
            self.space.stop()
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
                self.entries.make_again()
                self.entries.give_up()
                self.heads.state("stop")
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
                self.disks.sealing.put(partial(self.heads.state, "hour"))

    @property
    def _waiting(self) -> int:
        return len(self._unsealed) + len(self._left) + self.entries.waiting + self.recorder.closing.waiting

    def _look_at_key(self) -> None:
        reload = self.service.reload.is_set()
        self.service.reload.clear()
        then = self.disks.sealing.put
        self.key.look(reload=reload, waiting=self._waiting, then=then, work=self._seal_waiting)

    def _seal_waiting(self, signer: Signer) -> None:
        """Seal what waited for the key.  # thread: sealing"""
        self.sealer.use(signer)
        entries, self.entries.unsealed = self.entries.unsealed, []
        if self._unsealed or entries:
            self._unsealed = self._recover(only=(*self._unsealed, *entries))
        if self._left:  # tried for as long as the disk refuses: only a start sets aside
            self._left = self._recover(only=self._left, refused=set())
        self.entries.make_again()
        self.recorder.closing.seal_waiting()
        self.heads.state_owed()

    def _left_over(self, session: SessionId) -> None:
        """Let a draft that was given up be recovered by this process.  # thread: sealing"""
        if self.spool.path(Place.DRAFTS, session).exists():
            self._left = (*self._left, session)

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
            self.disks.sealing.put(self.recorder.closing.seal_where_room_is)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return run_reporting(_run, argv)


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    configuration = load_recorder_configuration(arguments.config)
    if arguments.command == "check-config":
        return check_configuration(arguments.config, configuration)
    return _serve(arguments.config, configuration)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recorderd", description="Record the calls that an exchange hands over."
    )
    parser.add_argument("--version", action="version", version=f"recorderd {__version__}")
    parser.add_argument("command", nargs="?", choices=("serve", "check-config"), default="serve")
    parser.add_argument("--config", type=Path, required=True, metavar="F", help="recorderd.toml")
    return parser


def _serve(path: Path, configuration: RecorderConfiguration) -> int:
    keep_freed_memory()
    service = Service(program="recorderd", level=configuration.log.level.value)
    service.take_hangups()
    prompts = load_prompts(path, configuration, service.log)
    durable.make_dir(configuration.recorder.run_dir)
    durable.make_dir(configuration.recorder.state_dir)
    lock = FolderLock(configuration.recorder.state_dir / LOCK_NAME)
    service.log.info(Ev.STARTED, version=__version__, recorder=configuration.recorder.id)
    control_stop = threading.Event()
    try:
        appliance = Appliance(configuration, prompts, service)
        control = ControlServer(configuration.recorder.run_dir / CONTROL_NAME, appliance.ask, log=service.log)
        control_thread = control.start(control_stop)
        try:
            appliance.run()
        finally:
            control_stop.set()
            control_thread.join(timeout=5)
            control.close()
    finally:
        service.log.info(Ev.STOPPED)
        lock.close()
    return 0
