"""The end of a recording: rendered to its end, its files closed, sealed by a thread of its own.

Contract: first ``render``, then ``close``, which returns at once; the recording's streams are free then.
What goes wrong afterwards is reported and leaves the draft to recovery, of which ``on_left`` hears.
Recordings that wait to be sealed are sealed together. What only wants the key, which may be away, room on a
full disk, or the move into ``ready`` that the disk has refused, waits for it here.
Thread: ``render`` and ``close`` the recording's; the rest is done on the sealing thread, where one slow
signature keeps nobody's audio from the disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from recorderd.core.clock import Clock
from recorderd.core.errors import KeyUnusable, NotPublished, RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import SessionId
from recorderd.core.messages import SessionEnded, StreamEnd
from recorderd.core.outcomes import CHOSEN, NOT_STARTED
from recorderd.record.disk import Disk
from recorderd.record.ending import finish, render_to_end
from recorderd.record.entries import Entries
from recorderd.record.files import RecordingFiles
from recorderd.record.haste import Haste
from recorderd.record.seal import Finished, Sealer
from recorderd.record.session import Recording
from recorderd.record.source import Source
from recorderd.record.space import is_no_space
from recorderd.wire.manifest import Manifest


class Closing:
    """Closes and seals recordings."""

    def __init__(
        self,
        *,
        source: Source,
        sealer: Sealer,
        entries: Entries,
        disk: Disk,
        clock: Clock,
        log: EventLog,
        on_left: Callable[[SessionId], None],
    ) -> None:
        """Begin; ``disk`` is the sealing thread's, on which ``on_left`` hears of what was given up."""
        self._on_left = on_left
        self.haste = Haste(sealer=sealer, clock=clock, log=log)
        self._disk = disk
        self._source = source
        self._sealer = sealer
        self._entries = entries
        self._log = log
        self.sealed = 0
        self._waiting: deque[Finished] = deque()
        self._no_room: list[tuple[RecordingFiles, Finished]] = []

    @property
    def waiting(self) -> int:
        """Recordings that are whole but for the signature."""
        return len(self._waiting)

    @property
    def waiting_for_room(self) -> int:
        """Recordings that are whole and find no room on the disk: for their manifests, or to be published."""
        return len(self._no_room) + self._sealer.publisher.waiting

    def render(self, recording: Recording, ended: SessionEnded) -> None:
        """Render what is left of a recording that is over; what others left in it was rendered."""
        if not recording.failed:
            render_to_end(recording, self._source, at_mono_ns=ended.at_mono_ns)

    def close(self, recording: Recording, ended: SessionEnded) -> None:
        """Take a recording that is rendered to its end, and measured."""
        session = recording.started.session
        cause = StreamEnd.JOINED if recording.notes.joined_into else ended.cause
        try:
            if recording.failed:
                recording.files.leave_over(self._on_left)
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

            recording.files.close(self._seal_all, finished)
        finally:
            for stream, track in recording.tracks.items():
                if track.let_go_at is None:
                    self._source.release_stream(stream)

    def _seal_all(self, group: Sequence[tuple[RecordingFiles, Finished]]) -> None:
        going: list[tuple[RecordingFiles, Finished]] = []
        group, too_long = self.haste.choose(group)
        if too_long:
            self.haste.lay_down(too_long)
        for files, finished in group:
            try:
                proved = self.haste.measured(files.prove, files.audio_bytes)
            except (RecorderError, OSError) as problem:
                self._wait_for_room(files, finished, problem)
                continue
            if proved is None:
                files.leave()
                self._on_left(finished.started.session)
                continue
            digest, size_bytes, descriptor = proved
            known = replace(
                finished,
                audio_sha256=digest,
                audio_bytes=size_bytes,
                audio_descriptor=descriptor,
                proof=files.audio_proof(),
                enclosure=files.enclosure(),
                kept=files.kept(),
            )
            going.append((files, known))
        sealed = self._sealer.seal_all([finished for _, finished in going])
        for (files, finished), first in zip(going, sealed, strict=True):
            result = self._seal_by_itself(finished) if is_no_space(first) else first
            if is_no_space(result):
                self._wait_for_room(files, finished, result)
                continue
            if isinstance(result, KeyUnusable):
                _note_end(files, finished)
            files.leave()
            if isinstance(result, Manifest):
                self._tell(result)
            elif isinstance(result, NotPublished):
                self._log.error(Ev.SEAL_POSTPONED, subject=finished.started.session, reason=result)
            elif isinstance(result, KeyUnusable):
                self._waiting.append(replace(finished, audio_descriptor=-1))
                self._log.error(Ev.SEAL_POSTPONED, subject=finished.started.session, reason=result)
            else:
                files.give_up(result)
                self._on_left(finished.started.session)

    def seal_where_room_is(self) -> None:
        """Seal and publish what waits for room, as far as there is some.

        Thread: sealing.
        """
        for known in self._sealer.publisher.publish_left():
            if isinstance(known, Manifest):
                self._tell(known)
            else:  # an earlier process has sealed it, and its manifest is encrypted
                self._log.warning(Ev.RECORDING_RECOVERED, subject=known.recording_id, how="published")
        group, self._no_room = self._no_room, []
        if group:
            self._seal_all(group)

    def _seal_by_itself(self, finished: Finished) -> Manifest | RecorderError | OSError:
        """Seal with what room can be made for it."""
        try:
            return self._disk.patiently(lambda: self._sealer.seal(finished))
        except (RecorderError, OSError) as problem:
            return problem

    def _wait_for_room(self, files: RecordingFiles, finished: Finished, problem: object) -> None:
        _note_end(files, finished)
        self._no_room.append((files, replace(finished, audio_descriptor=-1)))
        self._log.error(Ev.SEAL_POSTPONED, subject=finished.started.session, reason=problem)

    def seal_waiting(self) -> None:
        """Seal what waits for the key, the oldest first; when there is no room the rest waits on.

        Thread: sealing.
        Errors: KeyUnusable when the key is away again; the rest waits on.
        """
        while self._waiting:
            finished = self._waiting[0]
            result = self._seal_by_itself(finished)
            if isinstance(result, KeyUnusable):
                raise result
            if is_no_space(result):
                self._log.error(Ev.SEAL_POSTPONED, subject=finished.started.session, reason=result)
                return
            self._waiting.popleft()
            if isinstance(result, Manifest):
                self._tell(result)
            elif isinstance(result, NotPublished):
                self._log.error(Ev.SEAL_POSTPONED, subject=finished.started.session, reason=result)
            else:
                self._log.error(Ev.DRAFT_FAILED, subject=finished.started.session, reason=result)
                self._on_left(finished.started.session)

    def _tell(self, manifest: Manifest) -> None:
        if manifest.outcome in CHOSEN:
            self._entries.tell(manifest)
            return
        self.sealed += 1
        self._log.info(
            Ev.RECORDING_SEALED,
            subject=manifest.recording_id,
            sequence=manifest.sequence,
            **({} if manifest.metadata_encrypted else {"call_id": manifest.call.call_id}),
            duration_s=f"{manifest.duration_samples / manifest.sample_rate_hz:.3f}",
            channels=manifest.channels,
            packets_lost=sum(stream.packets_lost for stream in manifest.streams),
            cause=manifest.end_cause,
            outcome=manifest.outcome,
        )


def _note_end(files: RecordingFiles, finished: Finished) -> None:
    """Let the next process know how it ended, if it is to seal it; a disk that is full need not take that."""
    with suppress(RecorderError, OSError):
        files.note_end(cause=finished.end_cause)
