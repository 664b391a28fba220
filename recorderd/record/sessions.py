"""The sessions that are being recorded: what messages make of them, and how they go on after a restart.

Contract: ``handle`` takes one message; one of a session that is not known, or about a stream that has moved
on, changes nothing. A session that cannot be written is reported, its draft stays for recovery, and the
others go on (``guarded``).
Thread: the recording's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from recorderd.core.clock import Clock
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
from recorderd.record.disk import Disks
from recorderd.record.draft_encryption import DraftEncryption
from recorderd.record.draft_keys import DraftKeys
from recorderd.record.encrypting import Recipients
from recorderd.record.entries import Entries
from recorderd.record.files import RecordingFiles
from recorderd.record.going_on import Needed, go_on, has_begun, is_being_sealed, pending
from recorderd.record.joining import move_stream
from recorderd.record.meter import Meter
from recorderd.record.seal import Sealer
from recorderd.record.session import Recording
from recorderd.record.source import Source
from recorderd.record.steering import SkewPolicy
from recorderd.record.tail_keeping import TailKeeping
from recorderd.record.watch import Watch
from recorderd.spool.layout import Place, Spool


class Sessions:
    """The sessions that are being recorded."""

    def __init__(
        self,
        *,
        source: Source,
        spool: Spool,
        disks: Disks,
        sealer: Sealer,
        entries: Entries,
        tail: TailKeeping,
        watch: Watch,
        meter: Meter,
        skew: SkewPolicy,
        tones: bool,
        encryption: Mapping[str, Recipients],
        draft_keys: DraftKeys,
        put_again: Callable[[RecordMessage], None],
        clock: Clock,
        log: EventLog,
    ) -> None:
        """Begin with none; ``put_again`` takes what a session that goes on is still to be told."""
        self.open: dict[SessionId, Recording] = {}
        self.has_joins = False
        self.has_begun = False  # a session, of which no sync has made the journal last
        self._owners: dict[StreamId, SessionId] = {}
        self._source = source
        self._spool = spool
        self._disks = disks
        self._recorder_id, self._has_named = sealer.recorder_id, sealer.has_named
        self._entries = entries
        self._tail = tail
        self._watch = watch
        self._meter = meter
        self._skew = skew
        self._tones = tones
        self._encryption = encryption
        self._draft_keys = draft_keys
        self._put_again = put_again
        self._clock = clock
        self._log = log

    def handle(self, message: RecordMessage) -> None:
        """Take one message."""
        self._watch.changed()
        if isinstance(message, SessionStarted):
            self._start(message)
            return
        if isinstance(message, SessionRefused):
            self._entries.refused(message)
            return
        recording = self.open.get(message.session)
        if recording is not None:
            recording.unsettle()
        if isinstance(message, StreamMoved):
            self._move(message)
            return
        if recording is None:
            if isinstance(message, StreamOpened):
                self._source.release_stream(message.stream)
            return
        self.guarded(recording, partial(self._apply, recording, message))

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
            self.open[session] = recording
        else:  # it had not come to the disk
            self._start(started)
            recording = self.open[session]
            for opened in opened_of(told).values():
                recording.open_stream(opened)
                behind_ns = now_ns - started.at_mono_ns
                needed[opened.stream] = Needed(needed_ticks=0, behind_ns=behind_ns)
        self._owners |= dict.fromkeys(recording.tracks, session)
        self.has_joins |= bool(recording.notes.joins)
        for message in pending(told, recording):
            self._put_again(message)
        return needed

    def release(self, recording: Recording) -> None:
        """Let go of the streams of a recording that was handed on."""
        for stream in recording.tracks:
            if self._owners.get(stream) == recording.started.session:
                del self._owners[stream]

    def leave(self, session: SessionId) -> None:
        """Leave a session that cannot go on to recovery."""
        recording = self.open.pop(session, None)
        for stream in recording.tracks if recording is not None else ():
            self._owners.pop(stream, None)

    def limit_silence(self, session: SessionId, limit_ns: int) -> None:
        """Report a session as silent after another time than others, until it is given a stream more."""
        recording = self.open.get(session)
        if recording is not None:
            recording.silence_limit_ns = limit_ns

    def end_all(self, now_ns: int) -> None:
        """End whatever signalling did not."""
        for session, recording in self.open.items():
            if recording.ended is None:
                recording.ended = SessionEnded(
                    session=session,
                    cause=StreamEnd.SHUTDOWN,
                    at_mono_ns=now_ns,
                    at_utc_ns=self._clock.utc_ns(),
                )

    def guarded(self, recording: Recording, step: Callable[[], None]) -> None:
        """Take a step of a recording; one that fails is the draft's end, not the others'."""
        try:
            step()
        except (RecorderError, OSError) as problem:
            recording.files.give_up(problem)

    def take_causes(self) -> None:
        """Take over what is known of why spans are absent."""
        for known in self._source.gap_causes():
            recording = self._owner_of(known.stream)
            if recording is not None:
                recording.tracks[known.stream].explain(
                    start_ticks=known.start_ticks, end_ticks=known.end_ticks, cause=known.cause
                )

    def take_keys(self) -> None:
        """Take over which keys were pressed; where they are masked, no more than that one was."""
        for pressed in self._source.key_events():
            recording = self._owner_of(pressed.stream)
            if recording is None:
                continue
            track = recording.tracks[pressed.stream]
            if recording.started.terms.mask_dtmf:
                track.hush(start_ticks=pressed.position_ticks)
            else:
                track.press(
                    pressed.key, start_ticks=pressed.position_ticks, length_ticks=pressed.duration_ticks
                )

    def _move(self, message: StreamMoved) -> None:
        """Hand a stream from one recording to another; where one of them is gone, nothing moves."""
        into, come_from = (self.open.get(name) for name in (message.session, message.from_session))
        track = come_from.tracks.get(message.opened.stream) if come_from is not None else None
        if into is None or come_from is None or track is None or track.let_go_at is not None:
            reason = f"{message.opened.stream} cannot move from {message.from_session}"
            self._log.warning(Ev.STREAM_REFUSED, subject=message.session, reason=reason)
            return
        self.has_joins = True
        self._owners[message.opened.stream] = message.session
        for recording in (into, come_from):
            recording.unsettle()
        move = partial(move_stream, message, into=into, come_from=come_from, source=self._source)
        self.guarded(into, move)

    def _start(self, message: SessionStarted) -> None:
        session, encrypt = message.session, message.terms.encrypt
        files = self._files_of(message)
        if encrypt and encrypt not in self._encryption:  # never in clear
            files.give_up(EncryptionFailed(subject=session, reason=f"there is no [encryption.{encrypt}]"))
        files.begin(message)
        self.has_begun = True
        self.open[session] = self._make(message, files)

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
            skew=self._skew,
            recorder_id=self._recorder_id,
            tones=self._tones,
            meter=self._meter.take,
        )

    def _draft_failed(self, session: SessionId, problem: Exception) -> None:
        self._log.error(Ev.DRAFT_FAILED, subject=session, reason=problem)

    def _apply(self, recording: Recording, message: RecordMessage) -> None:
        match message:
            case CallDescribed():
                recording.describe(message)
            case OfferReceived():
                if not recording.keep_offer(message):
                    kept = recording.files.offers
                    self._log.warning(Ev.OFFER_LEFT_OUT, subject=message.session, kept=kept)
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

    def _owner_of(self, stream: StreamId) -> Recording | None:
        session = self._owners.get(stream)
        return self.open.get(session) if session is not None else None


def _was_let_go(recording: Recording, message: StreamEnded) -> bool:
    track = recording.tracks.get(message.stream)
    return track is not None and track.let_go_at is not None
