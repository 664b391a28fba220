"""The recording loop: takes the sessions' messages, renders what is due, hands on what has ended.

Contract: messages come in through ``messages`` (bounded; whoever puts says what happens when it is full).
Every window (``pace.window_ms``; longer while many are open) each session is rendered up to ``delay_ms``
before the tap's last drain, after all messages that wait were taken: a pause always comes before the samples
it is about, and what waits in the kernel while the tap does not run is not late. A recording that leaves a
stream to another is rendered before it. A session that fails to be written is reported, its draft stays for
recovery, and the others go on. Nothing here waits for a disk (see ``disk``).
Thread: ``run`` is the recording thread; ``describe``, ``sessions_open``, ``sealed`` and
``closing.waiting`` are for any.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from recorderd.core.clock import NS_PER_MS, NS_PER_S, Clock
from recorderd.core.errors import EncryptionFailed, RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import SessionId, StreamId
from recorderd.core.messages import (
    CallDescribed,
    ControlRefused,
    OfferReceived,
    RecordingChanged,
    RecordingState,
    RecordMessage,
    SessionEnded,
    SessionRefused,
    SessionSilent,
    SessionStarted,
    StreamDescribed,
    StreamEnd,
    StreamEnded,
    StreamHeld,
    StreamMoved,
    StreamOpened,
    StreamRecoded,
    opened_of,
)
from recorderd.record.closing import Closing
from recorderd.record.disk import Disks
from recorderd.record.draft_encryption import DraftEncryption
from recorderd.record.draft_keys import DraftKeys
from recorderd.record.encrypting import Recipients
from recorderd.record.entries import Entries
from recorderd.record.files import RecordingFiles
from recorderd.record.going_on import Needed, go_on, has_begun, is_being_sealed, pending
from recorderd.record.joining import in_order, move_stream, render_absorbed
from recorderd.record.meter import Meter
from recorderd.record.proving import RunningProof
from recorderd.record.seal import Sealer
from recorderd.record.session import Recording
from recorderd.record.source import Source
from recorderd.record.status import describe
from recorderd.record.steady import SteadyRound
from recorderd.record.steering import SkewPolicy
from recorderd.record.tail_keeping import TailKeeping
from recorderd.record.watch import Watch
from recorderd.spool.layout import Place, Spool

QUEUE_MAX: Final = 20_000  # a thousand sessions that begin and end at once take eight thousand
LINGER_NS: Final = 300 * NS_PER_MS  # more than a drain: what was in the kernel when the session ended
TAP_WAIT_NS: Final = NS_PER_S  # for a tap that hangs: with window and delay, what the ring holds
PROGRESS_NS: Final = 30 * NS_PER_S  # how old the counters are that a recovery finds
LOOK_NS: Final = NS_PER_S  # how often it is looked who is silent
DESCRIBE_WAIT_S: Final = 2.0
STALL_NS: Final = 300 * NS_PER_MS  # so late a round was because nobody got his turn, the tap neither
MANY_SESSIONS: Final = 200
MANY_WINDOW_NS: Final = (
    1_200 * NS_PER_MS
)  # with delay, ``TAP_WAIT_NS`` and ``CLOSING_NS`` 3.8 s of the ring's 4.1
CLOSING_NS: Final = 800 * NS_PER_MS  # so long a round hands on at most what is over, before others wait
GATHER_NS: Final = 50 * NS_PER_MS  # a call that comes or goes tells a dozen things: one waking for them all
SHUTDOWN_NS: Final = 2 * NS_PER_S  # signalling ends its sessions within this, or they are ended for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often what is done."""

    window_ms: int
    delay_ms: int
    checkpoint_s: int
    silence_limit_s: int
    proof_s: int = 10  # how often the audio so far is signed; 0 = never
    skew: SkewPolicy = field(default_factory=SkewPolicy)
    tones: bool = False  # whether keys are listened for in the audio


class Recorder:
    """All sessions that are being recorded."""

    def __init__(
        self,
        *,
        source: Source,
        spool: Spool,
        sealer: Sealer,
        entries: Entries,
        pace: Pace,
        disks: Disks,
        clock: Clock,
        log: EventLog,
        on_silent: Callable[[SessionSilent], None],
        encryption: Mapping[str, Recipients] | None = None,
        draft_keys: DraftKeys | None = None,
        on_closed: Callable[[SessionId], None] = lambda _: None,  # thread: the disk's
        on_left: Callable[[SessionId], None] = lambda _: None,  # a draft to recovery; thread: the sealing
    ) -> None:
        self._on_closed = on_closed
        self.leaves = threading.Event()  # sessions go on in another process: ``run`` ends none of them
        self._encryption = encryption or {}
        self._draft_keys = draft_keys or DraftKeys()
        self.messages: queue.Queue[RecordMessage | _Question] = queue.Queue(maxsize=QUEUE_MAX)
        self.rounds = 0  # progress that the watchdog looks at
        self.checkpoint_ns = pace.checkpoint_s * NS_PER_S  # how often drafts are synced; any may set it
        self._source = source
        self._spool = spool
        self._disks, self._disk = disks, disks.audio
        self.closing = Closing(
            source=source, sealer=sealer, entries=entries, disk=disks.sealing, clock=clock, log=log,
            on_left=on_left,
        )  # fmt: skip
        self._entries = entries
        self._tail = TailKeeping(source=source, spool=spool, disk=disks.audio, log=log)
        self._proof = RunningProof(every_s=pace.proof_s, disks=disks, sealer=sealer, clock=clock, log=log)
        self._meter = Meter()
        self._steady = SteadyRound(source=source, disk=disks.audio, meter=self._meter, guarded=self._guarded)
        self._watch = Watch(source=source, silence_limit_s=pace.silence_limit_s, log=log, on_silent=on_silent)
        self._owners: dict[StreamId, SessionId] = {}
        self._recorder_id, self._has_named = sealer.recorder_id, sealer.has_named
        self._pace = pace
        self._clock = clock
        self._log = log
        self._sessions: dict[SessionId, Recording] = {}
        self._synced_mono_ns = self._looked_mono_ns = 0
        self._awake_ns = -TAP_WAIT_NS  # since when this process is known to get its turns, the tap too
        self._has_joins = False
        self._has_begun = False  # a session, of which no sync has made the journal last
        self._over: deque[tuple[Recording, SessionEnded]] = deque()  # rendered to their end, not closed yet

    @property
    def sessions_open(self) -> int:
        """Sessions that are being recorded."""
        return len(self._sessions) + len(self._over)

    @property
    def sealed(self) -> int:
        """Recordings that were sealed since the start."""
        return self.closing.sealed

    def describe(self) -> tuple[dict[str, Any], ...]:
        """Describe the sessions; nothing when the recording thread does not answer in time.  # thread: any"""
        question = _Question()
        with contextlib.suppress(queue.Empty, queue.Full):
            self.messages.put_nowait(question)
            return question.reply.get(timeout=DESCRIBE_WAIT_S)
        return ()

    def rows(self) -> tuple[dict[str, Any], ...]:
        """Describe the sessions.  # thread: the recording's"""
        return tuple(describe(recording, self._source) for recording in self._sessions.values())

    def run(self, stop: threading.Event) -> None:
        """Record until ``stop``, then seal everything that is open."""
        due_ns = self._awake_ns = self._clock.mono_ns()
        if not self._sessions:  # what goes on is written at once: the next kill may come early
            due_ns += self._window_ns
        stopped_ns: int | None = None
        while True:
            self._wait(min(due_ns, self._tail.due_ns or due_ns))
            now_ns = self._clock.mono_ns()
            if now_ns - due_ns > STALL_NS and self._source.heard_until_ns >= self._awake_ns:
                self._awake_ns = now_ns
            if now_ns >= due_ns:
                self.round(now_ns)
                due_ns = max(due_ns + self._window_ns, now_ns)
            self.keep_tail(now_ns)
            if stop.is_set():
                if self.leaves.is_set():
                    return
                stopped_ns = stopped_ns or now_ns
                if now_ns - stopped_ns > SHUTDOWN_NS:
                    self._end_all(now_ns)
                if not self.sessions_open and self.messages.empty():
                    return

    def round(self, now_ns: int) -> None:
        """Take the messages that wait; render, note and hand on what is due."""
        self._take_waiting()
        self._take_causes()
        self._take_keys()
        sessions = self._sessions
        ordered = in_order(sessions) if self._has_joins else list(sessions.values())
        hangs = now_ns - self._awake_ns > TAP_WAIT_NS
        heard_ns = min(now_ns, max(self._source.heard_until_ns, now_ns - TAP_WAIT_NS if hangs else 0))
        due_ns = heard_ns - self._pace.delay_ms * NS_PER_MS
        for recording in ordered:
            if not self._steady.take(recording, due_ns=due_ns):
                self._guarded(recording, partial(self._advance, recording, due_ns))
        self._steady.render()
        for recording in ordered:
            if now_ns - recording.noted_mono_ns >= PROGRESS_NS and recording.ended is None:
                self._guarded(recording, partial(recording.note_progress, self._source, now_ns=now_ns))
        is_sync_due = now_ns - self._synced_mono_ns >= self.checkpoint_ns
        sync = not (is_sync_due or self._has_begun)
        self._tail.keep(ordered, now_ns=now_ns, heard_ns=heard_ns, drafts_to_ns=due_ns, sync=sync)
        if is_sync_due:
            files = [recording.files for recording in ordered]
            self._disk.put(partial(self._sync, files, self._proof.due(files, now_ns=now_ns)))
            self._synced_mono_ns, self._has_begun = now_ns, False
        self._sync_begun(ordered)
        self._close_over(ordered, heard_ns)
        if now_ns - self._looked_mono_ns >= LOOK_NS:
            self._looked_mono_ns = now_ns
            self._watch.look(ordered, now_ns=heard_ns)
        self.rounds += 1

    def keep_tail(self, now_ns: int) -> None:
        """Keep what came for a power cut, between two rounds, when it is due."""
        if now_ns >= self._tail.due_ns:
            self._take_waiting()  # a pause is known before what it is about is kept
            going, heard_ns = list(self._sessions.values()), self._source.heard_until_ns
            self._tail.keep(going, now_ns=now_ns, heard_ns=heard_ns, sync=not self._has_begun)
            self._sync_begun(going)

    def _keep_tail_of_others(self) -> None:
        """Keep what came while many are handed on; a message that waits meanwhile, waits for all."""
        now_ns = self._clock.mono_ns()
        if now_ns >= self._tail.due_ns:
            going = list(self._sessions.values())
            self._tail.keep(going, now_ns=now_ns, heard_ns=self._source.heard_until_ns)

    def _sync_begun(self, going: Sequence[Recording]) -> None:
        """Let the journals of sessions that have just begun last with the tail that tells of them."""
        if self._has_begun:
            self._has_begun = False
            self._disk.put(partial(self._sync, [recording.files for recording in going], ()))

    def handle(self, message: RecordMessage | _Question) -> None:
        """Take one message."""
        if isinstance(message, _Question):
            message.reply.put(self.rows())
            return
        self._watch.changed()
        if isinstance(message, SessionStarted):
            self._start(message)
            return
        if isinstance(message, SessionRefused):
            self._entries.refused(message)
            return
        recording = self._sessions.get(message.session)
        if recording is not None:
            recording.unsettle()
        if isinstance(message, StreamMoved):
            self._move(message)
            return
        if recording is None:
            if isinstance(message, StreamOpened):
                self._source.release_stream(message.stream)
            return
        self._guarded(recording, partial(self._apply, recording, message))

    def _wait(self, due_ns: int) -> None:
        while (wait_ns := due_ns - self._clock.mono_ns()) > 0:
            try:
                self.handle(self.messages.get(timeout=wait_ns / NS_PER_S))
            except queue.Empty:
                return
            time.sleep(max(0, min(GATHER_NS, due_ns - self._clock.mono_ns())) / NS_PER_S)
            self._take_waiting()

    def _take_waiting(self) -> None:
        for _ in range(self.messages.qsize()):
            try:
                self.handle(self.messages.get_nowait())
            except queue.Empty:
                return

    def _move(self, message: StreamMoved) -> None:
        """Hand a stream from one recording to another; where one of them is gone, nothing moves."""
        into, come_from = (self._sessions.get(name) for name in (message.session, message.from_session))
        track = come_from.tracks.get(message.opened.stream) if come_from is not None else None
        if into is None or come_from is None or track is None or track.let_go_at is not None:
            reason = f"{message.opened.stream} cannot move from {message.from_session}"
            self._log.warning(Ev.STREAM_REFUSED, subject=message.session, reason=reason)
            return
        self._has_joins = True
        self._owners[message.opened.stream] = message.session
        for recording in (into, come_from):
            recording.unsettle()
        move = partial(move_stream, message, into=into, come_from=come_from, source=self._source)
        self._guarded(into, move)

    def is_closed(self, session: SessionId, told: Sequence[RecordMessage]) -> bool:
        """Tell whether a session of an earlier process was closed: what is left of it is recovery's.

        One that is over and has no draft may have been too short to get one.
        """
        if not any(isinstance(message, SessionEnded) for message in told):
            return False
        folder = self._spool.path(Place.DRAFTS, session)
        if folder.exists():
            return is_being_sealed(folder)
        return self._has_named(session) or self._spool.path(Place.QUARANTINE, session).exists()

    def go_on(self, session: SessionId, told: Sequence[RecordMessage]) -> dict[StreamId, Needed]:
        """Go on with a session of an earlier process; say which packets are wanted of its streams.

        Before ``run``, and before the source knows the streams. What had ``told`` of changes and of the end
        is put as messages again. Errors: NotContinued.
        """
        folder, needed, now_ns = self._spool.path(Place.DRAFTS, session), {}, self._clock.mono_ns()
        started = next(message for message in told if isinstance(message, SessionStarted))
        if folder.exists() and not has_begun(folder):
            self._spool.drop_draft(session)
        if folder.exists():
            files = self._files_of(started)
            gone_on = go_on(folder, told, files=files, make=self._make, now_ns=now_ns)
            recording, needed = gone_on.recording, gone_on.needed
            self._sessions[session] = recording
        else:  # it had not come to the disk
            self._start(started)
            recording = self._sessions[session]
            for opened in opened_of(told).values():
                recording.open_stream(opened)
                behind_ns = now_ns - started.at_mono_ns
                needed[opened.stream] = Needed(needed_ticks=0, behind_ns=behind_ns)
        self._owners |= dict.fromkeys(recording.tracks, session)
        self._has_joins |= bool(recording.notes.joins)
        for message in pending(told, recording):
            self.messages.put(message)
        return needed

    def leave(self, session: SessionId) -> None:
        """Leave a session that cannot go on to recovery."""
        recording = self._sessions.pop(session, None)
        for stream in recording.tracks if recording is not None else ():
            self._owners.pop(stream, None)

    def limit_silence(self, session: SessionId, limit_ns: int) -> None:
        """Report a session as silent after another time than others, until it is given a stream more."""
        recording = self._sessions.get(session)
        if recording is not None:
            recording.silence_limit_ns = limit_ns

    def _start(self, message: SessionStarted) -> None:
        session, encrypt = message.session, message.terms.encrypt
        files = self._files_of(message)
        if encrypt and encrypt not in self._encryption:  # never in clear
            files.give_up(EncryptionFailed(subject=session, reason=f"there is no [encryption.{encrypt}]"))
        files.begin(message)
        self._has_begun = True
        self._sessions[session] = self._make(message, files)

    def _files_of(self, started: SessionStarted) -> RecordingFiles:
        terms = started.terms
        recipients = self._encryption.get(terms.encrypt)
        return RecordingFiles(
            session=started.session,
            spool=self._spool,
            disks=self._disks,
            on_problem=self._draft_failed,
            encryption=None
            if recipients is None
            else DraftEncryption(recipients, seals_metadata=terms.encrypt_metadata, keys=self._draft_keys),
        )

    def _make(self, started: SessionStarted, files: RecordingFiles) -> Recording:
        return Recording(
            started=started,
            files=files,
            skew=self._pace.skew,
            recorder_id=self._recorder_id,
            tones=self._pace.tones,
            meter=self._meter.take,
        )

    def _draft_failed(self, session: SessionId, problem: Exception) -> None:
        self._log.error(Ev.DRAFT_FAILED, subject=session, reason=problem)

    def _apply(self, recording: Recording, message: RecordMessage) -> None:
        match message:
            case CallDescribed():
                recording.describe(message)
            case OfferReceived():
                recording.keep_offer(message)
            case StreamOpened():
                recording.silence_limit_ns = None
                recording.open_stream(message)
                self._owners[message.stream] = message.session
                if recording.files.is_open and recording.files.rests_encrypted:  # in another container now
                    self._tail.keep_one(recording, heard_ns=self._source.heard_until_ns)
            case StreamHeld():
                recording.hold_stream(message)
            case StreamRecoded():
                recording.recode_stream(message)
            case StreamDescribed():
                recording.describe_stream(message)
            case RecordingChanged():
                self._change(recording, message)
            case ControlRefused():
                recording.refuse(message)
            case StreamEnded() if _was_let_go(recording, message):
                pass  # it goes on in another session, whose message counts
            case StreamEnded():
                self._source.end_stream(message.stream)
                recording.end_stream(message)
            case SessionEnded():
                recording.ended, recording.ended_seen_ns = message, self._clock.mono_ns()

    def _change(self, recording: Recording, message: RecordingChanged) -> None:
        late = recording.change(message, self._source)
        session = recording.started.session
        if recording.state is not RecordingState.ON:
            self._tail.forget(recording, at_ns=message.at_mono_ns, heard_ns=self._source.heard_until_ns)
        if late:
            self._log.error(
                Ev.PAUSE_LATE,
                subject=session,
                state=message.state.value,
                late_ms=late * 1000 // recording.rate_hz,
            )
        if recording.state is RecordingState.ERASED:
            self._log.warning(
                Ev.RECORDING_ERASED,
                subject=session,
                outcome=recording.notes.outcome,
                **recording.started.terms.told(by=message.by),
            )

    def _advance(self, recording: Recording, due_ns: int) -> None:
        if recording.ended is not None:
            if not (self._has_joins or any(track.steering.owed for track in recording.tracks.values())):
                return  # nothing more comes into its ring: ``closing`` renders what is left at one go
            due_ns = min(due_ns, recording.ended.at_mono_ns)
        if not recording.failed and recording.tracks:
            recording.render(self._source, until=recording.samples_at(due_ns))

    @property
    def _window_ns(self) -> int:
        """How long the next window is: many calls cost less in longer ones; not while power is short."""
        usual_ns = self._pace.window_ms * NS_PER_MS
        is_pressed = self.checkpoint_ns < self._pace.checkpoint_s * NS_PER_S
        return (
            usual_ns if is_pressed or len(self._sessions) < MANY_SESSIONS else max(usual_ns, MANY_WINDOW_NS)
        )

    def _close_over(self, ordered: Sequence[Recording], heard_ns: int) -> None:
        """Hand on what is over, for a while at most: the others are not rendered meanwhile, and the ring
        of a stream that goes on holds four seconds.
        """
        closing_ns = min(self._window_ns, CLOSING_NS)
        began_ns = self._clock.mono_ns()
        rendered = False
        for recording in ordered:
            if recording.ended is not None and _is_over(recording, heard_ns):
                self._render_absorbed(recording)
                self._over.append((recording, recording.ended))  # first: ``sessions_open`` is asked meanwhile
                del self._sessions[recording.started.session]
                self._guarded(recording, partial(self.closing.render, recording, recording.ended))
                rendered = True
                self._keep_tail_of_others()
                if self._clock.mono_ns() - began_ns >= closing_ns // 2:
                    break
        self._meter.settle()  # also those that go on: it costs the same for one as for all
        if rendered:
            self._watch.changed()
        while self._over:
            recording, ended = self._over[0]
            for stream in recording.tracks:
                if self._owners.get(stream) == recording.started.session:
                    del self._owners[stream]
            self._guarded(recording, partial(self.closing.close, recording, ended))
            self._disk.put(partial(self._on_closed, recording.started.session))
            self._meter.forget(recording)
            self._over.popleft()  # last: whoever ends the chain waits until all was handed on
            self._keep_tail_of_others()
            if self._clock.mono_ns() - began_ns >= closing_ns:
                return

    def _render_absorbed(self, recording: Recording) -> None:
        """Give recordings that left a stream here their part of it, before the rest is taken."""
        for join in recording.notes.joins:
            absorbed = self._sessions.get(SessionId(join.session))
            if absorbed is not None and not absorbed.failed:
                self._guarded(absorbed, partial(render_absorbed, recording, absorbed, self._source))

    def _guarded(self, recording: Recording, step: Callable[[], None]) -> None:
        try:
            step()
        except (RecorderError, OSError) as problem:
            recording.files.give_up(problem)

    def _sync(self, going: Sequence[RecordingFiles], proving: Sequence[RecordingFiles]) -> None:
        """Make everything last; where the disk refuses, of each recording by itself."""
        try:
            self._spool.sync()
            self._tail.synced()
        except OSError as problem:
            self._log.error(Ev.SPOOL_FAILED, subject=str(self._spool.root), reason=problem)
            for files in going:
                files.sync_now()
        self._proof.take(proving)

    def _take_causes(self) -> None:
        for known in self._source.gap_causes():
            recording = self._owner_of(known.stream)
            if recording is not None:
                recording.tracks[known.stream].explain(
                    start_ticks=known.start_ticks, end_ticks=known.end_ticks, cause=known.cause
                )

    def _take_keys(self) -> None:
        for pressed in self._source.key_events():
            recording = self._owner_of(pressed.stream)
            if recording is not None and not recording.started.terms.mask_dtmf:
                recording.tracks[pressed.stream].press(
                    pressed.key, start_ticks=pressed.position_ticks, length_ticks=pressed.duration_ticks
                )

    def _owner_of(self, stream: StreamId) -> Recording | None:
        session = self._owners.get(stream)
        return self._sessions.get(session) if session is not None else None

    def _end_all(self, now_ns: int) -> None:
        for session, recording in self._sessions.items():
            if recording.ended is None:
                recording.ended = SessionEnded(
                    session=session,
                    cause=StreamEnd.SHUTDOWN,
                    at_mono_ns=now_ns,
                    at_utc_ns=self._clock.utc_ns(),
                )


@dataclass(slots=True)
class _Question:
    """Somebody asks how the sessions stand."""

    reply: queue.Queue[tuple[dict[str, Any], ...]] = field(default_factory=lambda: queue.Queue(maxsize=1))


def _was_let_go(recording: Recording, message: StreamEnded) -> bool:
    track = recording.tracks.get(message.stream)
    return track is not None and track.let_go_at is not None


def _is_over(recording: Recording, heard_ns: int) -> bool:
    return recording.ended is not None and heard_ns >= recording.ended_seen_ns + LINGER_NS
