"""The end of a recording: rendered to its end, its files closed, sealed by a thread of its own.

Contract: ``close`` returns at once; the recording's streams are free then. What goes wrong afterwards is
reported and leaves the draft for recovery.
Thread: ``close`` the recording's; the rest is done on the sealing thread, where one slow signature keeps
nobody's audio from the disk.
"""

from __future__ import annotations

from dataclasses import replace

from recorderd.core.events import Ev, EventLog
from recorderd.core.messages import SessionEnded, StreamEnd
from recorderd.core.outcomes import CHOSEN, NOT_STARTED
from recorderd.record.ending import finish
from recorderd.record.entries import Entries
from recorderd.record.seal import Finished, Sealer
from recorderd.record.session import Recording
from recorderd.record.source import Source


class Closing:
    """Closes and seals recordings."""

    def __init__(self, *, source: Source, sealer: Sealer, entries: Entries, log: EventLog) -> None:
        self._source = source
        self._sealer = sealer
        self._entries = entries
        self._log = log
        self.sealed = 0

    def close(self, recording: Recording, ended: SessionEnded) -> None:
        """Take a recording that is over; what other recordings left in it was rendered."""
        session = recording.started.session
        cause = StreamEnd.JOINED if recording.notes.joined_into else ended.cause
        try:
            if recording.failed:
                return
            finished = finish(
                recording,
                self._source,
                cause=cause,
                at_mono_ns=ended.at_mono_ns,
                keeps_entry=self._entries.wants(NOT_STARTED),
            )
            if finished is None or finished.notes.outcome == NOT_STARTED:
                self._log.info(Ev.SESSION_NOT_RECORDED, subject=session, cause=cause.value)
            if finished is None:
                self._entries.keeps(NOT_STARTED)
                recording.files.drop()
                return

            def then(digest: str, size_bytes: int) -> None:
                self._seal(replace(finished, audio_sha256=digest, audio_bytes=size_bytes))

            recording.files.close(then)
        finally:
            for stream, track in recording.tracks.items():
                if track.let_go_at is None:
                    self._source.release_stream(stream)

    def _seal(self, finished: Finished) -> None:
        manifest = self._sealer.seal(finished)
        if manifest.outcome in CHOSEN:
            self._entries.tell(manifest)
            return
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
