"""The recording loop: takes the sessions' messages, renders what is due, seals what has ended.

Contract: messages come in through ``messages`` (bounded; whoever puts says what happens when it is full).
Twice a second every session is rendered up to ``delay_ms`` before the tap's last drain, after all messages
that wait were taken: a pause always comes before the samples it is about, and what waits in the kernel while
the tap does not run is not late. A recording that leaves a stream to another is rendered before it. A session
that fails to be written is reported, its draft stays for recovery, and the others go on.
Thread: ``run`` is the recording thread; ``snapshot`` and ``usage`` may be read from any thread.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from recorderd.core.clock import NS_PER_MS, NS_PER_S, Clock
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import SessionId
from recorderd.core.messages import (
    CallDescribed,
    ControlRefused,
    OfferReceived,
    RecordingChanged,
    RecordingState,
    RecordMessage,
    SessionEnded,
    SessionSilent,
    SessionStarted,
    StreamDescribed,
    StreamEnd,
    StreamEnded,
    StreamMoved,
    StreamOpened,
)
from recorderd.record.joining import move_stream, render_absorbed
from recorderd.record.journal import JournalWriter
from recorderd.record.seal import Sealer
from recorderd.record.session import Recording
from recorderd.record.track import Source
from recorderd.spool.layout import Spool, SpoolUsage

QUEUE_MAX: Final = 20_000  # a thousand sessions that begin and end at once take eight thousand
LINGER_NS: Final = 300 * NS_PER_MS  # two drains: what was in the kernel when the session ended
TAP_WAIT_NS: Final = NS_PER_S  # for a tap that hangs: with window and delay, what the ring holds
USAGE_EVERY_NS: Final = 2 * NS_PER_S
STATE_WORDS: Final = {RecordingState.ON: "recording"}  # the other states are their own words
SHUTDOWN_NS: Final = 2 * NS_PER_S  # signalling ends its sessions within this, or they are ended for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often what is done."""

    window_ms: int
    delay_ms: int
    checkpoint_s: int
    silence_limit_s: int


class Recorder:
    """All sessions that are being recorded."""

    def __init__(
        self,
        *,
        source: Source,
        spool: Spool,
        sealer: Sealer,
        pace: Pace,
        clock: Clock,
        log: EventLog,
        on_silent: Callable[[SessionSilent], None],
    ) -> None:
        self.messages: queue.Queue[RecordMessage] = queue.Queue(maxsize=QUEUE_MAX)
        self.snapshot: tuple[dict[str, Any], ...] = ()
        self.usage: SpoolUsage = spool.usage()
        self.sealed = 0
        self.rounds = 0  # progress that the watchdog looks at
        self._source = source
        self._spool = spool
        self._sealer = sealer
        self._pace = pace
        self._clock = clock
        self._log = log
        self._on_silent = on_silent
        self._sessions: dict[SessionId, Recording] = {}
        self._usage_mono_ns = 0

    def run(self, stop: threading.Event) -> None:
        """Record until ``stop``, then seal everything that is open."""
        window_ns = self._pace.window_ms * NS_PER_MS
        due_ns = self._clock.mono_ns() + window_ns
        stopped_ns: int | None = None
        while True:
            self._wait(due_ns)
            now_ns = self._clock.mono_ns()
            if now_ns >= due_ns:
                self.round(now_ns)
                due_ns = max(due_ns + window_ns, now_ns)
            if stop.is_set():
                stopped_ns = stopped_ns or now_ns
                if now_ns - stopped_ns > SHUTDOWN_NS:
                    self._end_all(now_ns)
                if not self._sessions and self.messages.empty():
                    return

    def round(self, now_ns: int) -> None:
        """Take the messages that wait; render, checkpoint and seal what is due."""
        self._take_waiting()
        ordered = self._in_order()
        heard_ns = min(now_ns, max(self._source.heard_until_ns, now_ns - TAP_WAIT_NS))
        for recording in ordered:
            self._guarded(recording, self._advance, heard_ns)
        self._seal_due(ordered, heard_ns)
        if now_ns - self._usage_mono_ns > USAGE_EVERY_NS:
            self.usage = self._spool.usage()
            self._usage_mono_ns = now_ns
        self.snapshot = tuple(self._describe(recording) for recording in self._sessions.values())
        self.rounds += 1

    def handle(self, message: RecordMessage) -> None:
        """Take one message."""
        if isinstance(message, SessionStarted):
            self._start(message)
            return
        recording = self._sessions.get(message.session)
        if isinstance(message, StreamMoved):
            self._move(message)
            return
        if recording is None:
            if isinstance(message, StreamOpened):
                self._source.release_stream(message.stream)
            return
        self._guarded(recording, self._apply, message)

    def _wait(self, due_ns: int) -> None:
        while (wait_ns := due_ns - self._clock.mono_ns()) > 0:
            try:
                self.handle(self.messages.get(timeout=wait_ns / NS_PER_S))
            except queue.Empty:
                return

    def _take_waiting(self) -> None:
        for _ in range(self.messages.qsize()):
            try:
                self.handle(self.messages.get_nowait())
            except queue.Empty:
                return

    def _in_order(self) -> list[Recording]:
        """List the sessions, each behind those that have left it a stream."""
        ordered: dict[SessionId, Recording] = {}
        for recording in self._sessions.values():
            self._visit(recording, ordered, set())
        return list(ordered.values())

    def _visit(
        self, recording: Recording, ordered: dict[SessionId, Recording], visiting: set[SessionId]
    ) -> None:
        session = recording.started.session
        if session in ordered or session in visiting:
            return
        for join in recording.notes.joins:
            absorbed = self._sessions.get(SessionId(join.session))
            if absorbed is not None:
                self._visit(absorbed, ordered, visiting | {session})
        ordered[session] = recording

    def _move(self, message: StreamMoved) -> None:
        """Hand a stream from one recording to another; where one of them is gone, nothing moves."""
        into, come_from = (self._sessions.get(name) for name in (message.session, message.from_session))
        track = come_from.tracks.get(message.opened.stream) if come_from is not None else None
        if into is None or come_from is None or track is None or track.let_go_at is not None:
            reason = f"{message.opened.stream} cannot move from {message.from_session}"
            self._log.warning(Ev.STREAM_REFUSED, subject=message.session, reason=reason)
            return
        self._guarded(into, self._take_on, (message, come_from))

    def _take_on(self, into: Recording, moved: tuple[StreamMoved, Recording]) -> None:
        move_stream(moved[0], into=into, come_from=moved[1], source=self._source)

    def _start(self, message: SessionStarted) -> None:
        try:
            folder = self._spool.begin_draft(message.session)
            recording = Recording(started=message, folder=folder, journal=JournalWriter(folder))
            recording.journal.session(message)
        except OSError as problem:
            self._log.error(Ev.DRAFT_FAILED, subject=message.session, reason=problem)
            return
        self._sessions[message.session] = recording

    def _apply(self, recording: Recording, message: RecordMessage) -> None:
        match message:
            case CallDescribed():
                recording.describe(message)
            case OfferReceived():
                recording.keep_offer(message)
            case StreamOpened():
                recording.open_stream(message)
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
        if late:
            self._log.error(
                Ev.PAUSE_LATE,
                subject=session,
                state=message.state.value,
                late_ms=late * 1000 // recording.rate_hz,
            )
        if recording.state is RecordingState.ERASED:
            self._log.warning(
                Ev.RECORDING_ERASED, subject=session, outcome=recording.notes.outcome, by=message.by
            )

    def _advance(self, recording: Recording, heard_ns: int) -> None:
        ended = recording.ended
        due_ns = heard_ns - self._pace.delay_ms * NS_PER_MS
        if ended is not None:
            due_ns = min(due_ns, ended.at_mono_ns)
        if not recording.failed and recording.tracks:
            recording.render(self._source, until=recording.samples_at(due_ns))
            is_due = heard_ns - recording.synced_mono_ns >= self._pace.checkpoint_s * NS_PER_S
            if is_due and not _is_over(recording, heard_ns):  # a seal syncs by itself
                recording.checkpoint(self._source, now_ns=heard_ns)
        self._watch_silence(recording, heard_ns)

    def _seal_due(self, ordered: Sequence[Recording], heard_ns: int) -> None:
        """Seal what is over, for one window at most: the others are not rendered meanwhile, and the ring of
        a stream that goes on holds four seconds.
        """
        until_ns = self._clock.mono_ns() + self._pace.window_ms * NS_PER_MS
        for recording in ordered:
            if recording.ended is not None and _is_over(recording, heard_ns):
                self._guarded(recording, self._seal, recording.ended)
                if self._clock.mono_ns() >= until_ns:
                    return

    def _seal(self, recording: Recording, ended: SessionEnded) -> None:
        session = recording.started.session
        self._render_absorbed(recording)
        del self._sessions[session]
        cause = StreamEnd.JOINED if recording.notes.joined_into else ended.cause
        try:
            if recording.failed:
                return
            finished = recording.finish(self._source, cause=cause, at_mono_ns=ended.at_mono_ns)
            if finished is None:
                self._spool.drop_draft(session)
                self._log.info(Ev.SESSION_NOT_RECORDED, subject=session, cause=cause.value)
                return
            manifest = self._sealer.seal(finished)
            self.sealed += 1
            self._log.info(
                Ev.RECORDING_SEALED,
                subject=manifest.recording_id,
                sequence=manifest.sequence,
                call_id=manifest.call.call_id,
                duration_s=f"{manifest.duration_samples / manifest.sample_rate_hz:.3f}",
                channels=manifest.channels,
                packets_lost=sum(stream.packets_lost for stream in manifest.streams),
                cause=cause.value,
                outcome=manifest.outcome,
            )
        finally:
            for stream, track in recording.tracks.items():
                if track.let_go_at is None:
                    self._source.release_stream(stream)

    def _render_absorbed(self, recording: Recording) -> None:
        """Give recordings that left a stream here their part of it, before the rest is taken."""
        for join in recording.notes.joins:
            absorbed = self._sessions.get(SessionId(join.session))
            if absorbed is not None and not absorbed.failed:
                self._guarded(absorbed, self._render_left, recording)

    def _render_left(self, absorbed: Recording, into: Recording) -> None:
        render_absorbed(into, absorbed, self._source)

    def _guarded(self, recording: Recording, step: Callable[[Recording, Any], None], argument: Any) -> None:
        try:
            step(recording, argument)
        except (RecorderError, OSError) as problem:
            self._log.error(Ev.DRAFT_FAILED, subject=recording.started.session, reason=problem)
            recording.failed = True

    def _watch_silence(self, recording: Recording, now_ns: int) -> None:
        limit_ns = self._pace.silence_limit_s * NS_PER_S
        if not limit_ns or recording.silence_reported or recording.ended is not None:
            return
        heard_ns = recording.started.at_mono_ns
        for track in recording.tracks.values():
            arrived_ns = track.last_arrival_ns(self._source)
            heard_ns = max(heard_ns, track.opened.at_mono_ns, arrived_ns)
        if now_ns - heard_ns > limit_ns:
            recording.silence_reported = True
            silent = SessionSilent(session=recording.started.session, silent_ns=now_ns - heard_ns)
            self._log.warning(Ev.STREAM_SILENT, subject=silent.session, silent_s=silent.silent_ns // NS_PER_S)
            self._on_silent(silent)

    def _end_all(self, now_ns: int) -> None:
        for session, recording in self._sessions.items():
            if recording.ended is None:
                recording.ended = SessionEnded(
                    session=session,
                    cause=StreamEnd.SHUTDOWN,
                    at_mono_ns=now_ns,
                    at_utc_ns=self._clock.utc_ns(),
                )

    def _describe(self, recording: Recording) -> dict[str, Any]:
        started = recording.started
        return {
            "session": started.session,
            "call_id": started.description.call_id,
            "caller": started.description.caller,
            "callee": started.description.callee,
            "started_utc_ns": started.at_utc_ns,
            "recorded_s": round((recording.written - recording.origin) / recording.rate_hz, 3),
            "paused_s": round(recording.paused_samples() / recording.rate_hz, 3),
            "state": _state_word(recording),
            "rule": started.terms.rule,
            "mode": started.terms.mode.value,
            "streams": [
                {
                    "stream": entry.stream,
                    "label": entry.label,
                    "channel": entry.channel,
                    "encoding": entry.encoding,
                    "packets_received": entry.packets_received,
                    "packets_lost": entry.packets_lost,
                    "packets_late": entry.packets_late,
                    "packets_malformed": entry.packets_malformed,
                    "packets_foreign": entry.packets_foreign,
                    "rms_dbfs": entry.rms_dbfs,
                    "peak_dbfs": entry.peak_dbfs,
                }
                for entry in recording.entries(self._source)
            ],
        }


def _state_word(recording: Recording) -> str:
    if recording.failed:
        return "failed"
    if recording.ended is not None:
        return "ending"
    return STATE_WORDS.get(recording.state, recording.state.value)


def _was_let_go(recording: Recording, message: StreamEnded) -> bool:
    track = recording.tracks.get(message.stream)
    return track is not None and track.let_go_at is not None


def _is_over(recording: Recording, heard_ns: int) -> bool:
    return recording.ended is not None and heard_ns >= recording.ended_seen_ns + LINGER_NS
