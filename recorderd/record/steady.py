"""Windows of recordings that just go on, rendered together: columns for all streams, no branch per packet.

Contract: gives exactly what ``Recording.render`` would give for the same span, at a fraction of its cost. A
recording is steady when nothing is to be decided in its window: it is on, every stream is placed and by
octet, and has a channel of its own. Windows in which something is missing take the recording's own way from
the octets on.
"""

from __future__ import annotations

import sys
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
from recorderd.record.sound_quality import FRAME_MS
from recorderd.record.source import Source
from recorderd.record.steadiness import Kind, Steadiness
from recorderd.record.timeline import sample_at
from recorderd.record.track import Track
from recorderd.wire.wav import WavEncoding

GRAINS_PER_S: Final = 50  # windows are whole fiftieths of a second: many have one length, and no frame is cut
_JOB_BYTES: Final = 1 << 20  # audio that one job of the disk writes: larger arrays are new pages each time


@dataclass(slots=True, kw_only=True)
class _Group:
    """Recordings whose windows are of one kind and length."""

    kind: Kind
    frames: int
    channels: int
    recordings: list[Recording] = field(default_factory=list)
    tracks: list[Track] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    placements: list[int] = field(default_factory=list)


@dataclass(slots=True)
class SteadyRound:
    """One round over the recordings that are steady.

    Thread: the recording's.
    """

    source: Source
    disk: Disk
    meter: Meter
    guarded: Callable[[Recording, Callable[[], None]], None]
    _groups: dict[tuple[int, tuple[int, int, int, int]], _Group] = field(default_factory=dict)

    def take(self, recording: Recording, *, due_ns: int) -> bool:
        """Take a recording's next window, up to an instant, if it is steady; say whether it was."""
        if self.disk.is_choked:
            recording.steadiness = None
            return False
        steady = recording.steadiness
        if steady is None:  # without a word: its draft was opened, its streams placed
            recording.steadiness = steady = find_steadiness(recording, self.source)
            if steady is None:
                return False
        until = sample_at(due_ns - steady.begun_ns, rate_hz=steady.kind.rate_hz)
        frames = (until - recording.rendered) // steady.grain_samples * steady.grain_samples
        if frames <= 0:
            return True
        group = self._groups.get((frames, steady.group))
        if group is None:
            group = _Group(kind=steady.kind, frames=frames, channels=len(steady.tracks))
            self._groups[frames, steady.group] = group
        group.recordings.append(recording)
        group.tracks += steady.tracks
        group.slots += steady.slots
        group.placements += steady.placements
        return True

    def render(self) -> None:
        """Render everything that was taken."""
        for group in self._groups.values():
            per_turn = max(1, _JOB_BYTES // (2 * group.frames * group.channels))
            for first in range(0, len(group.recordings), per_turn):
                self._render(group, first, first + per_turn)
        self._groups.clear()

    def _render(self, group: _Group, first: int, end: int) -> None:
        kind, channels, frames = group.kind, group.channels, group.frames
        recordings = group.recordings[first:end]
        mine = slice(first * channels, end * channels)
        tracks = group.tracks[mine]
        slots = np.array(group.slots[mine], dtype=np.int64)
        placed = np.array(group.placements[mine], dtype=np.int64)
        rendered = np.array([one.rendered for one in recordings], dtype=np.int64)
        starts = np.repeat(rendered, channels) - placed
        lifted = self.source.take_spans(slots, starts, length_ticks=frames)
        octets, laws = lifted.octets, lifted.laws
        whole = laws != 0
        if kind.encoding in LAWS:
            whole &= laws == LAWS[kind.encoding]
        every = whole.reshape(-1, channels).all(axis=1)
        chosen = np.flatnonzero(every)
        if chosen.size == len(recordings):
            self._write_whole(recordings, tracks, octets, laws, kind=kind, frames=frames)
        elif chosen.size:
            rows = np.repeat(every, channels)
            self._write_whole(
                [recordings[number] for number in chosen.tolist()],
                [tracks[row] for row in np.flatnonzero(rows).tolist()],
                octets[rows],
                laws[rows],
                kind=kind,
                frames=frames,
            )
        for number in np.flatnonzero(~every).tolist():
            mine = slice(number * channels, (number + 1) * channels)
            step = partial(
                self._render_broken,
                recordings[number],
                tracks[mine],
                octets[mine],
                [lifted.marks(row) for row in range(mine.start, mine.stop)],
                frames,
            )
            self.guarded(recordings[number], step)

    def _write_whole(
        self,
        recordings: Sequence[Recording],
        tracks: Sequence[Track],
        octets: U8,
        laws: U8,
        *,
        kind: Kind,
        frames: int,
    ) -> None:
        """Write windows in which nothing is missing.

        Shapes: octets (len(tracks), n), laws (len(tracks),), the channels of a recording behind each other.
        """
        channels, rate_hz = len(tracks) // len(recordings), kind.rate_hz
        samples = _decode(octets, laws, linear_bytes=kind.linear_bytes)
        written: I16 | U8 = samples if kind.encoding is WavEncoding.PCM16 else octets
        block = _side_by_side(written, channels=channels)
        energies = frame_energy(samples, frame_samples=rate_hz * FRAME_MS // 1000)
        found = levels.gather_many(samples, rail=tracks[0].rail, frames=energies)
        self.meter.take_energies(
            [(recording, channels) for recording in recordings], tracks, energies, rate_hz=rate_hz
        )
        peaks, powers, clipped = found.peak.tolist(), found.energy.tolist(), found.clipped.tolist()
        rows: list[tuple[RecordingFiles, I16 | U8]] = []
        row = 0
        for number, recording in enumerate(recordings):
            recording.rendered = end = recording.rendered + frames
            if recording.gaps_grow:  # until here; noted before the audio
                recording.note_gaps(self.source, end=end)
            for track in tracks[row : row + channels]:
                track.account.add_level(peaks[row], powers[row], frames, clipped[row], end=end)
                row += 1
            recording.files.note_appended(frames)
            rows.append((recording.files, block[number]))
        self.disk.put(partial(write_together, rows, self.disk.many_files), size_bytes=block.nbytes)

    def _render_broken(
        self, recording: Recording, tracks: Sequence[Track], octets: U8, marks: Sequence[U8], frames: int
    ) -> None:
        start, end = recording.rendered, recording.rendered + frames
        pieces = {
            track.opened.stream: track.piece_of(row, mark, start=start, end=end)
            for track, row, mark in zip(tracks, octets, marks, strict=True)
        }
        recording.write(self.source, Window(start=start, end=end, pieces=pieces))
        recording.rendered = end


def find_steadiness(recording: Recording, source: Source, *, has_ended: bool = False) -> Steadiness | None:
    """Look whether a recording is steady; ``has_ended``, whether it was so to its end."""
    tracks = sorted(recording.tracks.values(), key=lambda track: track.channel)
    if not tracks or not _goes_on(recording, has_ended=has_ended) or not _plain(recording, tracks):
        return None
    if any(not track.is_steady(recording.rendered) for track in tracks):
        return None
    for track in tracks:
        track.slot = source.slot_of(track.opened.stream)
    codec, rate_hz, encoding = tracks[0].opened.codecs[0], recording.rate_hz, recording.files.encoding
    linear_bytes = codec.octets_per_tick if codec.encoding is Encoding.L16 else 0
    return Steadiness(
        kind=Kind(rate_hz=rate_hz, linear_bytes=linear_bytes, encoding=encoding),
        tracks=tuple(tracks),
        slots=tuple(track.slot for track in tracks),
        placements=tuple(track.placement or 0 for track in tracks),
        begun_ns=recording.started.at_mono_ns,
        grain_samples=rate_hz // GRAINS_PER_S,
        group=(rate_hz, len(tracks), linear_bytes, encoding.value),
    )


def _goes_on(recording: Recording, *, has_ended: bool) -> bool:
    """Tell whether the recording is on, written as far as it is rendered, and not about to end."""
    change = recording.notes.timeline.changes[-1]
    return (
        recording.files.is_open
        and not recording.failed
        and (recording.ended is not None) is has_ended
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


def _side_by_side(rows: I16 | U8, *, channels: int) -> I16 | U8:
    """Put the channels of each recording side by side.

    Shapes: rows (k * channels, n), the channels of a recording behind each other -> (k, n, channels).
    """
    count = rows.shape[1]
    if channels == 2 and rows.dtype == np.int16 and sys.byteorder == "little":
        # Two samples are one number of 32 bits: to shift one half costs less than to step over every other.
        pairs = rows[1::2].view(np.uint16).astype(np.uint32)
        pairs <<= 16
        pairs |= rows[0::2].view(np.uint16)
        return pairs.view(np.int16).reshape(-1, count, 2)
    block = np.empty((rows.shape[0] // channels, count, channels), dtype=rows.dtype)
    for channel in range(channels):
        block[:, :, channel] = rows[channel::channels]
    return block
