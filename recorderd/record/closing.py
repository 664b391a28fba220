"""The end of a recording: rendered to its end, its files closed, sealed by a thread of its own.

Contract: ``close`` returns at once; the recording's streams are free then. What goes wrong afterwards is
reported and leaves the draft for recovery. What only wants the key, which may be away, waits for it here.
Thread: ``close`` the recording's; the rest is done on the sealing thread, where one slow signature keeps
nobody's audio from the disk.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from recorderd.core.errors import KeyUnusable, RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.core.messages import SessionEnded, StreamEnd
from recorderd.record.ending import finish
from recorderd.record.seal import Finished, Sealer
from recorderd.record.session import Recording
from recorderd.record.source import Source


class Closing:
    """Closes and seals recordings."""

    def __init__(self, *, source: Source, sealer: Sealer, log: EventLog) -> None:
        self._source = source
        self._sealer = sealer
        self._log = log
        self.sealed = 0
        self._waiting: deque[Finished] = deque()

    @property
    def waiting(self) -> int:
        """Recordings that are whole but for the signature."""
        return len(self._waiting)

    def close(self, recording: Recording, ended: SessionEnded) -> None:
        """Take a recording that is over; what other recordings left in it was rendered."""
        session = recording.started.session
        cause = StreamEnd.JOINED if recording.notes.joined_into else ended.cause
        try:
            if recording.failed:
                return
            finished = finish(recording, self._source, cause=cause, at_mono_ns=ended.at_mono_ns)
            if finished is None:
                recording.files.drop()
                self._log.info(Ev.SESSION_NOT_RECORDED, subject=session, cause=cause.value)
                return

            def then(digest: str, size_bytes: int) -> None:
                self._seal(replace(finished, audio_sha256=digest, audio_bytes=size_bytes))

            recording.files.close(then)
        finally:
            for stream, track in recording.tracks.items():
                if track.let_go_at is None:
                    self._source.release_stream(stream)

    def seal_waiting(self) -> None:
        """Seal what waits for the key, the oldest first.

        Thread: sealing.
        Errors: KeyUnusable when the key is away again; the rest waits on.
        """
        while self._waiting:
            try:
                self._seal_now(self._waiting[0])
            except KeyUnusable:
                raise
            except (RecorderError, OSError) as problem:
                session = self._waiting[0].started.session
                self._log.error(Ev.DRAFT_FAILED, subject=session, reason=problem)
            self._waiting.popleft()

    def _seal(self, finished: Finished) -> None:
        try:
            self._seal_now(finished)
        except KeyUnusable as problem:
            self._waiting.append(finished)
            self._log.error(Ev.SEAL_POSTPONED, subject=finished.started.session, reason=problem)

    def _seal_now(self, finished: Finished) -> None:
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
            cause=finished.end_cause,
            outcome=manifest.outcome,
        )
