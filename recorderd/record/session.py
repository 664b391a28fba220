"""One session's recording: its tracks, its draft, its states, and how far it has been rendered.

Contract: messages of the session change it, ``render`` deals with the windows that are due (``ending`` with
the last). The draft is opened when the first window that is to be kept is due, so that streams which came
together get their channels together; one that comes later gets a channel of its own. Samples that are not to
be kept are taken from the ring and thrown away. Samples are counted from the session's start; the recording
begins at ``origin``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from dsp import levels
from dsp.shapes import I16
from recorderd.core.gap_causes import BEFORE_FIRST, DISK_FULL, NOT_RECEIVED
from recorderd.core.ids import StreamId
from recorderd.core.messages import (
    CallDescribed,
    ControlRefused,
    OfferReceived,
    RecordingChanged,
    RecordingState,
    SessionEnded,
    SessionStarted,
    StreamDescribed,
    StreamEnded,
    StreamHeld,
    StreamOpened,
    StreamRecoded,
)
from recorderd.record.channels import Channels, Doubles
from recorderd.record.files import RecordingFiles
from recorderd.record.gaps import append_gap
from recorderd.record.masking import Masker
from recorderd.record.naming import wav_notes
from recorderd.record.native import native, wav_encoding
from recorderd.record.notes import Notes
from recorderd.record.piece import blank_piece
from recorderd.record.preroll import Preroll, Window
from recorderd.record.reading import FOREVER
from recorderd.record.source import Source
from recorderd.record.steadiness import Foreseen, Steadiness
from recorderd.record.steering import SkewPolicy, Steering
from recorderd.record.timeline import CAUSE_OF, Segment, Timeline, instant_of, sample_at
from recorderd.record.track import DEFAULT_RATE_HZ, Track
from recorderd.wire.manifest import StreamEntry
from recorderd.wire.manifest_rows import ClockEntry
from recorderd.wire.wav import WavEncoding
from recorderd.wire.wav_notes import WavNotes

HEARD_AGAIN_MS: Final = 200  # three of the shortest keys
PREROLL_LIMIT_MS: Final = 60_000
OFFERS_MAX: Final = 9_000  # of the 10,000 files that a manifest may list; one every ten seconds of a day
MASKED_RATE_HZ: Final = 48_000  # of a recording in which keys are masked and that would have an odd rate


Metering = Callable[["Recording", Sequence[Track], I16], None]


@dataclass(slots=True, kw_only=True)
class Recording:
    """A session that is being recorded.

    Thread: one.
    """

    started: SessionStarted
    files: RecordingFiles
    recorder_id: str = ""
    tracks: dict[StreamId, Track] = field(default_factory=dict)
    origin: int = 0
    rendered: int = 0
    ended: SessionEnded | None = None
    ended_seen_ns: int = 0  # when we heard of it; what was under way then still arrives
    noted_mono_ns: int = field(init=False)
    # By track: how many, whether the last one grew on, and where the stream lies.
    gaps_noted: tuple[tuple[int, bool, int | None], ...] = ()
    gaps_grow: bool = False  # one of them did
    steadiness: Steadiness | None = None  # see ``steady``; None = to be found out
    foreseen: Foreseen | None = None  # see ``tail``; None = to be found out
    left_out: bool = False  # audio, for want of room, that is not written as silence yet
    silence_limit_ns: int | None = None  # its own; None = everybody's
    silence_reported: bool = False
    one_way_reported: bool = False
    talk_over_frames: int = 0
    preroll: Preroll = field(default_factory=Preroll)
    doubles: Doubles = field(default_factory=Doubles)
    skew: SkewPolicy = field(default_factory=SkewPolicy)
    meter: Metering | None = None
    masker: Masker | None = None  # where keys must not be heard
    tones: bool = False  # whether keys are listened for, to be told
    _rate_hz: int = 0  # 0 = nothing was rendered yet
    notes: Notes = field(init=False)
    channels: Channels = field(init=False)

    def __post_init__(self) -> None:
        """Begin in the state that the session began in."""
        self.noted_mono_ns = self.started.at_mono_ns  # the first window notes how its streams stand
        self.notes = Notes(timeline=Timeline.begin(self.started.state))
        self.channels = Channels(self.started.terms.layout)

    @property
    def rate_hz(self) -> int:
        """Samples per second of the WAV: the highest among the streams that were there at the beginning."""
        if self._rate_hz:
            return self._rate_hz
        rates = [track.opened.codecs[0].sample_rate_hz for track in self.tracks.values()]
        rate_hz = max(rates, default=DEFAULT_RATE_HZ)
        odd = (
            self.started.terms.mask_dtmf and rate_hz % DEFAULT_RATE_HZ
        )  # the detector takes multiples of 8 kHz
        return MASKED_RATE_HZ if odd else rate_hz

    @property
    def state(self) -> RecordingState:
        """The state that holds until further notice."""
        return self.notes.timeline.state

    @property
    def written(self) -> int:
        """The sample up to which the draft is written."""
        return self.origin + self.files.frames

    @property
    def failed(self) -> bool:
        """Tell whether the disk has refused something; the draft is left to recovery then."""
        return self.files.problem is not None

    def unsettle(self) -> None:
        """Find out anew what was taken as settled: something has changed."""
        self.steadiness = self.foreseen = None

    def paused_samples(self) -> int:
        """Count the samples that were paused so far."""
        rows = self.notes.timeline.segments(self.origin, self.written, rate_hz=self.rate_hz)
        return sum(row.end - row.start for row in rows if row.state is RecordingState.PAUSED)

    def samples_at(self, mono_ns: int) -> int:
        """Convert an instant to a sample of the session; never before its beginning."""
        return sample_at(mono_ns - self.started.at_mono_ns, rate_hz=self.rate_hz)

    def mono_ns_at(self, sample: int) -> int:
        """Convert a sample to an instant that converts back to it."""
        return self.started.at_mono_ns + instant_of(sample, rate_hz=self.rate_hz)

    # --- messages -------------------------------------------------------------------------------

    def describe(self, message: CallDescribed) -> None:
        """Take over what later signalling told of the call."""
        self.started = replace(self.started, description=message.description)
        self.files.session(self.started)

    def keep_offer(self, message: OfferReceived) -> bool:
        """Store the raw text of an offer as an attachment, unless the call is not to be kept.

        False for one too many: what a manifest lists is bounded, and no archive takes one that lists more.
        """
        if self.files.offers >= OFFERS_MAX:
            return False
        if self.state is not RecordingState.ERASED:
            self.files.keep_offer(message.raw)
        return True

    def open_stream(self, message: StreamOpened) -> None:
        """Add a stream."""
        self.add(self.make_track(message))

    def make_track(self, message: StreamOpened) -> Track:
        """Make what keeps a stream."""
        return Track(opened=message, rate_hz=self.rate_hz, steering=Steering(policy=self.skew))

    def describe_stream(self, message: StreamDescribed) -> None:
        """Take over whose voices a stream carries."""
        track = self.tracks.get(message.stream)
        if track is not None:
            track.opened = replace(track.opened, participant_ids=message.participant_ids)

    def hold_stream(self, message: StreamHeld) -> None:
        """Note that a stream stands still by the word of signalling, or goes on."""
        track = self.tracks.get(message.stream)
        if track is not None:
            track.hold(held=message.held, at=self.samples_at(message.at_mono_ns))
            self.gaps_noted = ()  # a recovery is to know

    def recode_stream(self, message: StreamRecoded) -> None:
        """Go on with other codecs."""
        track = self.tracks.get(message.stream)
        if track is not None:
            track.set_codecs(message.codecs)

    def end_stream(self, message: StreamEnded) -> None:
        """Note why a stream ended."""
        track = self.tracks.get(message.stream)
        if track is not None and track.end_cause is None:
            track.end_cause = message.cause

    def change(self, message: RecordingChanged, source: Source) -> int:
        """Enter a state; return how many samples were rendered already that should not have been.

        The disk puts silence over those, and erases what is to be erased, as the next things it does.
        """
        at_ns = max(0, message.at_mono_ns - self.started.at_mono_ns)
        before = self.notes.timeline
        effective_ns = self._effective_ns(message.state, at_ns)
        self.notes.changed(message, at_ns=at_ns, effective_ns=effective_ns)
        self.files.changed(message, at_ns=at_ns, effective_ns=effective_ns)
        if self.state is RecordingState.ERASED:
            self.erase()
        elif self.notes.timeline is not before and self.state is not RecordingState.ON:
            return self._silence_late(source, before)
        return 0

    def refuse(self, message: ControlRefused) -> None:
        """Note what was asked for in vain."""
        at_ns = max(0, message.at_mono_ns - self.started.at_mono_ns)
        self.notes.refused(message, at_ns=at_ns)
        self.files.refused(message, at_ns=at_ns)

    def add(self, track: Track) -> None:
        """Add a stream; what was written before it came, was before its first packet."""
        self.tracks[track.opened.stream] = track
        if not self._rate_hz:
            for known in self.tracks.values():
                known.set_rate(self.rate_hz)
        if not self.files.is_open:
            return
        append_gap(track.account.gaps, self.origin, self.written, BEFORE_FIRST)
        self._explain(track, self.origin, self.written)
        wanted = self.channels.assign(self.tracks)
        if wanted > self.files.channels:
            self.files.widen(wanted, origin_samples=self.origin)

    # --- rendering ------------------------------------------------------------------------------

    def render(self, source: Source, *, until: int) -> None:
        """Deal with everything before sample ``until``, by state."""
        if until > self.rendered:
            self._rate_hz = self.rate_hz
        for segment in self.notes.timeline.segments(self.rendered, until, rate_hz=self.rate_hz):
            self._render(source, segment)
            self.rendered = segment.end

    def go_on_at(self, sample: int, *, rate_hz: int) -> None:
        """Take it as rendered up to a sample: another process has done so.

        Where keys are masked the end of it is listened to once more: one may sound on.
        """
        listened_samples = HEARD_AGAIN_MS * rate_hz // 1000 if self.started.terms.mask_dtmf else 0
        self.rendered, self._rate_hz = max(self.origin, sample - listened_samples), rate_hz
        for track in self.tracks.values():
            track.set_rate(rate_hz)
        self._begin_masking()
        self.gaps_grow = True  # what the last window ended with is noted anew

    def note_progress(self, source: Source, *, now_ns: int) -> None:
        """Note the streams as they stand, for a recovery."""
        if self.files.is_open:
            self._note_streams(source, end=self.written, measured=True)
            self.noted_mono_ns = now_ns

    def entries(self, source: Source, *, end: int | None = None, measured: bool = False) -> list[StreamEntry]:
        """Describe the streams as they stand; ``measured``, with their senders' clocks."""
        end = self.written if end is None else end
        return [
            track.entry(
                source,
                origin=self.origin,
                end=end,
                clock=self.clock_of(track, source, afresh=False) if measured else None,
            )
            for track in self.tracks.values()
        ]

    def clock_of(self, track: Track, source: Source, *, afresh: bool = True) -> ClockEntry:
        """Measure a sender's clock over all that came; unless ``afresh``, as it was not long ago."""
        started = self.started
        return track.clock(
            source,
            origin=self.origin,
            start_mono_ns=started.at_mono_ns,
            start_utc_ns=started.at_utc_ns,
            afresh=afresh,
        )

    def _render(self, source: Source, segment: Segment) -> None:
        start, end = segment.start, segment.end
        erased = self.state is RecordingState.ERASED  # also what came before it, and is not rendered yet
        if segment.state is RecordingState.ON and not erased:
            if not self.files.is_open:
                self.begin(source)
            if self.files.is_choked:
                self._leave_out(source, start, end)
                return
            if self.masker is None or self.masker.held_until != start:
                self.release_held(source)
                self.fill(start)
            self.write(source, self._read(source, start, end))
            return
        if segment.state is RecordingState.OFF and not self.files.is_open and self._preroll_samples():
            self.preroll.hold(self._read(source, start, end), keep=self._preroll_samples())
            return
        for track in self.tracks.values():
            track.skip(source, start=start, end=end, start_mono_ns=self.started.at_mono_ns)
        if not self.files.is_open:
            self.preroll.wipe()  # what is held is the time just before a start
        elif segment.state is RecordingState.PAUSED:
            self.release_held(source)
            self.fill(end)
            self.note_gaps(source, end=self.written)

    def _leave_out(self, source: Source, start: int, end: int) -> None:
        """Throw audio away for which there is neither disk nor memory; ``fill`` writes silence for it."""
        self.release_held(source)
        self.left_out = True
        for track in self.tracks.values():
            track.skip(source, start=start, end=end, start_mono_ns=self.started.at_mono_ns)
            track.account.silence(start, end, DISK_FULL)
        self.note_gaps(source, end=end)

    def _read(self, source: Source, start: int, end: int) -> Window:
        start_mono_ns, kept_until = self.started.at_mono_ns, self._kept_until(end)
        pieces = {
            stream: track.read(
                source, start=start, end=end, start_mono_ns=start_mono_ns, kept_until=kept_until
            )
            for stream, track in self.tracks.items()
        }
        self.doubles.silence(self.tracks, pieces, source, start=start, end=end)
        return Window(start=start, end=end, pieces=pieces)

    def write(self, source: Source, window: Window) -> None:
        """Append a window behind what was rendered."""
        if self.masker is not None:
            self._append_unwritten(source, self.masker.take(window))
        else:
            self._append(source, window)

    def release_held(self, source: Source) -> None:
        """Append what a masker holds back."""
        self._append_unwritten(source, self.masker.flush() if self.masker is not None else None)

    def _append_unwritten(self, source: Source, window: Window | None) -> None:
        """Append what a masker gives, but for what another process has written."""
        if window is not None and window.end > self.written:
            self._append(source, window.since(self.written))

    def _append(self, source: Source, window: Window) -> None:
        frames = window.end - window.start
        heard = [self.tracks[stream] for stream in window.pieces]
        if heard:
            rows = np.stack([piece.samples for piece in window.pieces.values()])
            found = levels.gather_many(rows, rail=np.array([track.rail for track in heard])).each(
                samples=frames
            )
            for track, piece, level in zip(heard, window.pieces.values(), found, strict=True):
                if self.tones:
                    track.keys.listen(piece, rate_hz=self.rate_hz)
                track.keep(piece, level=level)
        for stream in self.tracks.keys() - window.pieces.keys():
            self.tracks[stream].keep(
                blank_piece(window.start, window.end), level=levels.Level(samples=frames)
            )
        # Before the audio: a cut must not leave silence that nobody explains.
        self.note_gaps(source, end=window.end)
        if self.meter is not None and heard:
            self.meter(self, heard, rows)
        block = self.channels.mix(
            self.tracks, window.pieces, frames=frames, channels=self.files.channels, rate_hz=self.rate_hz
        )
        if self.files.encoding is WavEncoding.PCM16:
            self.files.append(block)
        else:
            self.files.append(native(block, self.tracks, window.pieces, encoding=self.files.encoding))

    def fill(self, until: int) -> None:
        """Write the silence that somebody wanted, or had to be, up to where the recording goes on."""
        if not self.files.is_open or self.written >= until:
            return
        unwanted = DISK_FULL if self.left_out else NOT_RECEIVED
        self.left_out = False
        for row in self.notes.timeline.segments(self.written, until, rate_hz=self.rate_hz):
            for track in self.tracks.values():
                track.account.silence(row.start, row.end, CAUSE_OF.get(row.state, unwanted))
            self.files.append_silence(row.end - row.start)

    def note_gaps(self, source: Source, *, end: int) -> None:
        """Note the gaps up to ``end`` if there is a new one, or one that grew has ended."""
        gaps = tuple((*track.account.outline(end), track.placement) for track in self.tracks.values())
        if gaps != self.gaps_noted:
            self.gaps_noted = gaps
            self.gaps_grow = any(grows for _, grows, _ in gaps)
            self._note_streams(source, end=end)

    def audio_notes(self, channels: int) -> WavNotes:
        """Describe the audio for whoever opens the WAV."""
        return wav_notes(
            self.started,
            list(self.tracks.values()),
            recorder_id=self.recorder_id,
            channels=channels,
            origin_samples=self.origin,
            rate_hz=self.rate_hz,
        )

    def _note_streams(self, source: Source, *, end: int, measured: bool = False) -> None:
        accounts = [track.account for track in self.tracks.values()]
        afresh = any(account.is_dirty for account in accounts)
        standing = [track.standing(until=end) for track in self.tracks.values()]
        self.files.progress(
            self.entries(source, end=end, measured=measured),
            afresh=afresh,
            until=end - self.origin,
            standing=standing,
        )
        for account in accounts:
            account.is_dirty = False

    def begin(self, source: Source) -> None:
        """Open the draft, with the past that is to be kept."""
        first = self.notes.timeline.first_on(rate_hz=self.rate_hz) or 0
        held = self.preroll.start
        past = self._preroll_samples() if self.started.terms.keep_preroll else 0
        self.origin = first if held is None else max(first - past, held)
        count = self.channels.assign(self.tracks)
        self.files.open_audio(
            sample_rate_hz=self.rate_hz,
            channels=count,
            origin_samples=self.origin,
            encoding=wav_encoding(self.started.terms, list(self.tracks.values())),
            notes=self.audio_notes(count),
        )
        self._begin_masking()
        for window in self.preroll.since(self.origin):
            self.write(source, window)
        self.preroll.wipe()

    def _begin_masking(self) -> None:
        if self.started.terms.mask_dtmf:
            self.masker, self.tones = Masker(rate_hz=self.rate_hz), False

    def _kept_until(self, end: int) -> int:
        """Say up to where may be listened ahead: no further than the next silence that is known."""
        ahead = self.notes.timeline.segments(end, end + self.rate_hz, rate_hz=self.rate_hz)
        return next((row.start for row in ahead if row.state is not RecordingState.ON), FOREVER)

    def _explain(self, track: Track, start: int, end: int) -> None:
        start = max(start, self.notes.timeline.first_on(rate_hz=self.rate_hz) or 0)
        for row in self.notes.timeline.segments(start, end, rate_hz=self.rate_hz):
            if row.state in CAUSE_OF:
                track.account.silence(row.start, row.end, CAUSE_OF[row.state])

    def _preroll_samples(self) -> int:
        return min(self.started.terms.preroll_ms, PREROLL_LIMIT_MS) * self.rate_hz // 1000

    def _effective_ns(self, state: RecordingState, at_ns: int) -> int:
        """Say from when a state can hold: what was thrown away does not come back."""
        if state is not RecordingState.ON:
            return at_ns
        held = self.preroll.start if not self.files.is_open else None
        if held is not None and held <= sample_at(at_ns, rate_hz=self.rate_hz):
            return at_ns
        return max(at_ns, instant_of(self.rendered, rate_hz=self.rate_hz))

    def _silence_late(self, source: Source, before: Timeline) -> int:
        """Put silence over what was rendered although it must not be kept; say how much."""
        at = sample_at(self.notes.timeline.changes[-1].at_ns, rate_hz=self.rate_hz)
        if at < self.rendered and self.preroll.start is not None:
            first = self.notes.timeline.first_on(rate_hz=self.rate_hz)
            if first is not None and first < at:  # of a start we heard late, too: what it wanted is held
                self.preroll.forget_from(at)
                self.begin(source)
            self.preroll.wipe()
        if self.masker is not None:
            self.masker.forget_from(at)
        start, end = max(self.origin, at), self.written
        if not self.files.is_open or start >= end:
            return 0
        rows = before.segments(start, end, rate_hz=self.rate_hz)
        audible = sum(row.end - row.start for row in rows if row.state is RecordingState.ON)
        if audible:
            self.files.wipe(start - self.origin, end - self.origin)
        for track in self.tracks.values():
            track.account.take_back(start)
            self._explain(track, start, end)
        self.files.forget_keys()
        self.files.progress(self.entries(source), afresh=True, until=self.written - self.origin)
        self.gaps_noted, self.gaps_grow = (), True  # it may be over already: the next window says so
        self.files.sync()
        return audible

    def erase(self) -> None:
        """Keep nothing of the call."""
        self.preroll.wipe()
        self.masker = None
        self.files.erase()
        self.files.forget_keys()
        for track in self.tracks.values():
            track.forget()
