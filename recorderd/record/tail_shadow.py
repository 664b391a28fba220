"""What a recording would write next, if what has come so far were all: for recordings that are not steady.

Contract: ``look_ahead`` renders a copy of the recording, by the recording's own code, from what is written up
to an instant, and copies from the source in place of taking. The recording itself, its source and its files
do not know of it. Where keys are masked the end that is not sure yet is left out. A decoder begins afresh.
Thread: the recording's.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from dsp.shapes import BOOL, I16, I64, U8
from recorderd.core.ids import StreamId
from recorderd.record.channels import Channels
from recorderd.record.ending import render_to_end
from recorderd.record.files import RecordingFiles
from recorderd.record.frames import WholePacket
from recorderd.record.gaps import within
from recorderd.record.session import Recording
from recorderd.record.source import Clocked, Counted, Source
from recorderd.record.steadiness import Steadiness
from recorderd.record.steady import find_steadiness
from recorderd.record.tail_begin import Begins
from recorderd.wire.manifest import Gap
from recorderd.wire.wav import WavEncoding
from recorderd.wire.wav_notes import WavNotes

TOLD_BACK_S: Final = 8  # the journal may have lost what it noted since the last sync


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """Frames that a draft may get next, and what is missing in them, by stream.

    Shapes: frames (n, channels), as the draft is to hold them; gaps are counted from the first of them.
    """

    start: int  # of the session
    frames: I16 | U8
    gaps: tuple[tuple[Gap, ...], ...]
    back: int  # so many frames before the first ``told`` begins to say what is missing in them
    told: tuple[tuple[Gap, ...], ...]
    begins: Begins | None = None  # of a draft whose audio is not open yet, or not known to be on disk
    encoding: WavEncoding
    steady: Steadiness | None  # what it is when nothing is to be decided any more
    parts: tuple[int, ...]  # frames of each append: none has both what is audible and what must be silent


def look_ahead(recording: Recording, source: Source, *, until: int | None) -> Ahead | None:
    """Render ahead up to a sample of the session, or (None) all of one that is over; None when that gives
    nothing.

    Errors: RecorderError, as the rendering does.
    """
    files = _Collected(recording.files)
    shadow = _Shadow(
        started=recording.started,
        files=files,
        tracks={stream: track.forked() for stream, track in recording.tracks.items()},
        origin=recording.origin,
        rendered=recording.rendered,
        left_out=recording.left_out,
        doubles=deepcopy(recording.doubles),
        masker=deepcopy(recording.masker),
        preroll=recording.preroll.copied(),
        _rate_hz=recording.rate_hz,
    )
    shadow.notes = recording.notes
    shadow.channels = _forked(recording.channels)
    begins, peeking = None, cast(Source, _Peeking(source))
    if until is not None:
        shadow.render(peeking, until=until)
    elif recording.ended is not None:
        render_to_end(shadow, peeking, at_mono_ns=recording.ended.at_mono_ns)
    shadow.preroll.wipe()
    if not files.blocks or (files.notes is not None and not _is_heard(shadow)):
        return None
    start = recording.written if recording.files.is_open else shadow.origin
    gaps = tuple(
        tuple(within(track.account.gaps, start=start, end=shadow.written)) for track in shadow.tracks.values()
    )
    frames: NDArray[Any] = np.concatenate(files.blocks)
    if files.notes is not None or recording.files.tells_beginning:
        streams = shadow.entries(peeking, end=shadow.written)
        begins = Begins(
            origin_samples=shadow.origin,
            notes=files.notes,
            streams=streams,
            placements={stream: track.placement for stream, track in shadow.tracks.items()},
        )
    back = min(start - shadow.origin, TOLD_BACK_S * recording.rate_hz)
    told = tuple(
        tuple(within(track.account.gaps, start=start - back, end=start))
        for track in recording.tracks.values()
    )
    return Ahead(
        start=start,
        frames=frames,
        gaps=gaps,
        back=back,
        told=told,
        begins=begins,
        encoding=files.encoding,
        steady=find_steadiness(shadow, source) if begins is not None else None,
        parts=tuple(block.shape[0] for block in files.blocks),
    )


def _is_heard(recording: Recording) -> bool:
    return any(track.placement is not None for track in recording.tracks.values())


def _forked(channels: Channels) -> Channels:
    """Copy who has which channel; a limiter begins as it stands."""
    other = copy(channels)
    other._of_party, other._limiters = dict(channels._of_party), dict(channels._limiters)
    return other


class _Shadow(Recording):
    """A recording that nobody hears of."""

    def note_gaps(self, source: Source, *, end: int) -> None:
        """Tell nobody: the account is read in the end."""


class _Collected(RecordingFiles):
    """The frames that a draft would get."""

    def __init__(self, files: RecordingFiles) -> None:
        self.blocks: list[I16 | U8] = []
        self.is_open, self.frames, self.channels = files.is_open, files.frames, files.channels
        self.sample_rate_hz, self.encoding = files.sample_rate_hz, files.encoding
        self.problem = files.problem
        self.notes: WavNotes | None = None

    @property
    def is_choked(self) -> bool:
        """Nothing waits for a disk here."""
        return False

    def open_audio(
        self,
        *,
        sample_rate_hz: int,
        channels: int,
        origin_samples: int,
        encoding: WavEncoding,
        notes: WavNotes,
    ) -> None:
        """Keep how the audio begins."""
        self.is_open, self.sample_rate_hz, self.channels = True, sample_rate_hz, channels
        self.encoding, self.notes = encoding, notes

    def append(self, block: I16 | U8) -> None:
        """Keep frames."""
        self.frames += block.shape[0]
        self.blocks.append(block)

    def append_silence(self, frames: int) -> None:
        """Keep silence."""
        kind = np.int16 if self.encoding.sample_bytes == 2 else np.uint8
        silence: NDArray[Any] = np.full((frames, self.channels), self.encoding.silence, dtype=kind)
        self.append(silence)


class _Peeking:
    """What rendering asks of a source, of which nothing is taken."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def take(self, stream: StreamId, *, start_ticks: int, end_ticks: int) -> tuple[U8, U8]:
        return self._source.peek(stream, start_ticks=start_ticks, end_ticks=end_ticks)

    def take_frames(self, stream: StreamId, *, start_ticks: int, end_ticks: int) -> Sequence[WholePacket]:
        return self._source.peek_frames(stream, start_ticks=start_ticks, end_ticks=end_ticks)

    def slot_of(self, stream: StreamId) -> int:
        return self._source.slot_of(stream)

    def clock_of(self, stream: StreamId) -> Clocked:
        return self._source.clock_of(stream)

    def stats(self, stream: StreamId) -> Counted:
        return self._source.stats(stream)

    def recent_delay_ns(self, slots: I64) -> tuple[I64, BOOL]:
        return self._source.recent_delay_ns(slots)
