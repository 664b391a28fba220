"""The recording loop: takes the sessions' messages, renders what is due, seals what has ended.

Contract: messages come in through ``messages`` (bounded; whoever puts says what happens when it is full).
Twice a second every session is rendered up to ``delay_ms`` before now. A session that fails to be written
is reported, its draft stays for recovery, and the others go on.
Thread: ``run`` is the recording thread; ``snapshot`` and ``usage`` may be read from any thread.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from recorderd.core.clock import NS_PER_MS, NS_PER_S, Clock
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import SessionId
from recorderd.core.messages import (
    CallDescribed,
    OfferReceived,
    RecordMessage,
    SessionEnded,
    SessionSilent,
    SessionStarted,
    StreamEnd,
    StreamEnded,
    StreamOpened,
)
from recorderd.record.journal import JournalWriter
from recorderd.record.seal import Sealer
from recorderd.record.session import Recording
from recorderd.record.track import Source
from recorderd.spool.layout import Spool, SpoolUsage

QUEUE_MAX: Final = 20_000  # a thousand sessions that begin and end at once take eight thousand
LINGER_NS: Final = 300 * NS_PER_MS  # two drains: what was in the kernel when the session ended
USAGE_EVERY_NS: Final = 2 * NS_PER_S
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
        """Render, checkpoint and seal what is due."""
        for recording in list(self._sessions.values()):
            self._guarded(recording, self._advance, now_ns)
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
            case StreamEnded():
                self._source.end_stream(message.stream)
                recording.end_stream(message)
            case SessionEnded():
                recording.ended, recording.ended_seen_ns = message, self._clock.mono_ns()

    def _advance(self, recording: Recording, now_ns: int) -> None:
        ended = recording.ended
        if ended is not None and now_ns >= recording.ended_seen_ns + LINGER_NS:
            self._seal(recording, ended)
            return
        due_ns = now_ns - self._pace.delay_ms * NS_PER_MS
        if ended is not None:
            due_ns = min(due_ns, ended.at_mono_ns)
        if not recording.failed and recording.tracks:
            recording.render(self._source, until=recording.samples_at(due_ns))
            if now_ns - recording.synced_mono_ns >= self._pace.checkpoint_s * NS_PER_S:
                recording.checkpoint(self._source, now_ns=now_ns)
        self._watch_silence(recording, now_ns)

    def _seal(self, recording: Recording, ended: SessionEnded) -> None:
        del self._sessions[recording.started.session]
        try:
            if recording.failed:
                return
            finished = recording.finish(self._source, cause=ended.cause, at_mono_ns=ended.at_mono_ns)
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
                cause=ended.cause.value,
            )
        finally:
            for stream in recording.tracks:
                self._source.release_stream(stream)

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
            stats = self._source.stats(track.opened.stream)
            heard_ns = max(heard_ns, track.opened.at_mono_ns, stats.last_arrival_ns)
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
            "recorded_s": round(recording.rendered / recording.rate_hz, 3),
            "state": "failed" if recording.failed else "ending" if recording.ended else "recording",
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
