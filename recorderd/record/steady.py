"""Windows of recordings that just go on, rendered together: columns for all streams, no branch per packet.

Contract: gives exactly what ``Recording.render`` would give for the same span, at a fraction of its cost. A
recording is steady when nothing is to be decided in its window: it is on, every stream is placed and by
octet, and has a channel of its own. Windows in which something is missing take the recording's own way from
the octets on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from dsp import g711, l16, levels
from dsp.activity import frame_energy
from dsp.shapes import I16, U8
from recorderd.core.messages import Encoding, RecordingState
from recorderd.core.terms import Layout
from recorderd.record.disk import Disk
from recorderd.record.files import RecordingFiles, write_together
from recorderd.record.meter import Meter
from recorderd.record.native import LAWS
from recorderd.record.preroll import Window
from recorderd.record.session import Recording
from recorderd.record.source import Source
from recorderd.record.timeline import sample_at
from recorderd.record.track import FRAME_MS, Track
from recorderd.wire.wav import WavEncoding

GRAINS_PER_S: Final = 50  # windows are whole fiftieths of a second: many have one length, and no frame is cut
_JOB_BYTES: Final = 8 << 20  # audio that one job of the disk writes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What windows must share to be rendered together."""

    frames: int
    rate_hz: int
    channels: int
    linear_bytes: int  # of a sample of L16 with all its channels; 0 = G.711
    encoding: WavEncoding


@dataclass(slots=True)
class _Group:
    """Recordings whose windows are of one kind."""

    recordings: list[Recording] = field(default_factory=list)
    tracks: list[Track] = field(default_factory=list)


@dataclass(slots=True)
class SteadyRound:
    """One round over the recordings that are steady.

    Thread: the recording's.
    """

    source: Source
    disk: Disk
    meter: Meter
    guarded: Callable[[Recording, Callable[[], None]], None]
    _groups: dict[_Kind, _Group] = field(default_factory=dict)

    def take(self, recording: Recording, *, until: int) -> bool:
        """Take a recording's next window if it is steady; say whether it was."""
        tracks = recording.steady_tracks
        if not tracks:  # it may have become steady without a word: its draft was opened, its streams placed
            recording.steady_tracks = tracks = steady_tracks(recording, self.source)
        if not tracks:
            return False
        rate_hz = recording.rate_hz
        grain = rate_hz // GRAINS_PER_S
        frames = (until - recording.rendered) // grain * grain
        if frames <= 0:
            return True
        codec = tracks[0].opened.codecs[0]
        kind = _Kind(
            frames=frames,
            rate_hz=rate_hz,
            channels=len(tracks),
            linear_bytes=codec.octets_per_tick if codec.encoding is Encoding.L16 else 0,
            encoding=recording.files.encoding,
        )
        group = self._groups.setdefault(kind, _Group())
        group.recordings.append(recording)
        group.tracks.extend(tracks)
        return True

    def render(self) -> None:
        """Render everything that was taken."""
        for kind, group in self._groups.items():
            per_turn = max(1, _JOB_BYTES // (2 * kind.frames * kind.channels))
            for first in range(0, len(group.recordings), per_turn):
                recordings = group.recordings[first : first + per_turn]
                tracks = group.tracks[first * kind.channels : (first + per_turn) * kind.channels]
                self._render(kind, recordings, tracks)
        self._groups.clear()

    def _render(self, kind: _Kind, recordings: Sequence[Recording], tracks: Sequence[Track]) -> None:
        channels = kind.channels
        slots = np.fromiter((track.slot for track in tracks), dtype=np.int64, count=len(tracks))
        placed = np.fromiter((track.placement or 0 for track in tracks), dtype=np.int64, count=len(tracks))
        rendered = np.fromiter((one.rendered for one in recordings), dtype=np.int64, count=len(recordings))
        starts = np.repeat(rendered, channels) - placed
        octets, marks = self.source.take_spans(slots, starts, length_ticks=kind.frames)
        lowest = marks.min(axis=1)
        whole = (lowest == marks.max(axis=1)) & (lowest != 0)
        if kind.encoding in LAWS:
            whole &= lowest == LAWS[kind.encoding]
        every = whole.reshape(-1, channels).all(axis=1)
        chosen = np.flatnonzero(every)
        if chosen.size == len(recordings):
            self._write_whole(kind, recordings, tracks, octets, lowest)
        elif chosen.size:
            rows = np.repeat(every, channels)
            self._write_whole(
                kind,
                [recordings[number] for number in chosen.tolist()],
                [tracks[row] for row in np.flatnonzero(rows).tolist()],
                octets[rows],
                lowest[rows],
            )
        for number in np.flatnonzero(~every).tolist():
            mine = slice(number * channels, (number + 1) * channels)
            step = partial(
                self._render_broken,
                recordings[number],
                tracks[mine],
                octets[mine],
                marks[mine],
                kind.frames,
            )
            self.guarded(recordings[number], step)

    def _write_whole(
        self,
        kind: _Kind,
        recordings: Sequence[Recording],
        tracks: Sequence[Track],
        octets: U8,
        laws: U8,
    ) -> None:
        """Write windows in which nothing is missing.

        Shapes: octets (len(tracks), n), laws (len(tracks),), the channels of a recording behind each other.
        """
        frames, channels, rate_hz = kind.frames, kind.channels, kind.rate_hz
        samples = _decode(octets, laws, linear_bytes=kind.linear_bytes)
        written: I16 | U8 = samples if kind.encoding is WavEncoding.PCM16 else octets
        block = np.empty((len(recordings), frames, channels), dtype=written.dtype)
        for channel in range(channels):
            block[:, :, channel] = written[channel::channels]
        energies = frame_energy(samples, frame_samples=rate_hz * FRAME_MS // 1000)
        found = levels.gather_many(samples, rail=tracks[0].rail, frames=energies)
        self.meter.take_energies(
            [(recording, channels) for recording in recordings], tracks, energies, rate_hz=rate_hz
        )
        peaks, powers, clipped = found.peak.tolist(), found.energy.tolist(), found.clipped.tolist()
        rows: list[tuple[RecordingFiles, I16 | U8]] = []
        for number, recording in enumerate(recordings):
            recording.rendered += frames
            if recording.gaps_grow:  # until here; noted before the audio
                recording.note_gaps(self.source, end=recording.rendered)
            for row in range(number * channels, (number + 1) * channels):
                known = tracks[row].account.level
                tracks[row].account.note_level(
                    levels.Level(
                        peak=max(known.peak, peaks[row]),
                        energy=known.energy + powers[row],
                        samples=known.samples + frames,
                        clipped=known.clipped + clipped[row],
                    ),
                    end=recording.rendered,
                )
            recording.files.note_appended(frames)
            rows.append((recording.files, block[number]))
        self.disk.put(partial(write_together, rows), size_bytes=block.nbytes)

    def _render_broken(
        self, recording: Recording, tracks: Sequence[Track], octets: U8, marks: U8, frames: int
    ) -> None:
        start, end = recording.rendered, recording.rendered + frames
        pieces = {
            track.opened.stream: track.piece_of(row, mark, start=start, end=end)
            for track, row, mark in zip(tracks, octets, marks, strict=True)
        }
        recording.write(self.source, Window(start=start, end=end, pieces=pieces))
        recording.rendered = end


def steady_tracks(recording: Recording, source: Source) -> tuple[Track, ...]:
    """List a recording's tracks by channel if it is steady, else none."""
    tracks = sorted(recording.tracks.values(), key=lambda track: track.channel)
    if not tracks or not _goes_on(recording) or not _plain(recording, tracks):
        return ()
    if any(not track.is_steady(recording.rendered) for track in tracks):
        return ()
    for track in tracks:
        track.slot = source.slot_of(track.opened.stream)
    return tuple(tracks)


def _goes_on(recording: Recording) -> bool:
    """Tell whether the recording is on, written as far as it is rendered, and not about to end."""
    change = recording.notes.timeline.changes[-1]
    return (
        recording.files.is_open
        and not recording.failed
        and recording.ended is None
        and recording.written == recording.rendered
        and change.state is RecordingState.ON
        and sample_at(change.at_ns, rate_hz=recording.rate_hz) <= recording.rendered
    )


def _plain(recording: Recording, tracks: Sequence[Track]) -> bool:
    """Tell whether every channel is one stream's, and every stream another party's."""
    terms = recording.started.terms
    parties = [track.opened.party for track in tracks if track.opened.party]
    paces = {track.opened.codecs[0].octets_per_tick for track in tracks}
    linear = {track.opened.codecs[0].encoding is Encoding.L16 for track in tracks}
    return (
        [track.channel for track in tracks] == list(range(recording.files.channels))
        and terms.layout in (Layout.SPLIT, Layout.SIDES)
        and not (terms.mask_dtmf or recording.tones)
        and len(set(parties)) == len(parties)
        and len(paces) == len(linear) == 1
    )


def _decode(octets: U8, laws: U8, *, linear_bytes: int) -> I16:
    """Decode rows in which nothing is missing.

    Shapes: octets (k, n), laws (k,) -> (k, frames) int16.
    """
    if linear_bytes:
        return l16.decode(octets.reshape(-1), channels=linear_bytes // 2).reshape(octets.shape[0], -1)
    return g711.decode_rows(octets, laws=laws)
