"""Who speaks when, for all streams of a round together.

Contract: ``take`` gathers the windows of a round, ``settle`` finds who spoke and adds it to the accounts: how
long each stream, how long more than one of a recording at once. What is left after the last whole frame of a
window is not looked at.
Thread: the recording's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dsp.activity import Activity, detect, frame_energy, talk_over
from dsp.shapes import I16, I64
from recorderd.record.session import Recording
from recorderd.record.sound_quality import FRAME_MS
from recorderd.record.track import Track

_ROWS: Final = 64  # state is reserved for so many streams at a time


@dataclass(slots=True)
class _Windows:
    """Windows of one rate, a recording's behind each other."""

    recordings: list[tuple[Recording, int]] = field(default_factory=list)  # and how many tracks it has here
    tracks: list[Track] = field(default_factory=list)
    energies: list[I64] = field(default_factory=list)


class Meter:
    """The state of every stream's detector, and the windows of this round."""

    def __init__(self) -> None:
        self._state = Activity.of(_ROWS)
        self._free = list(range(_ROWS - 1, -1, -1))
        self._groups: dict[int, _Windows] = {}  # by rate
        self._waiting: set[int] = set()  # recordings that have a window here

    def take(self, recording: Recording, tracks: Sequence[Track], samples: I16) -> None:
        """Take the next windows of some of a recording's tracks.

        Shapes: samples (len(tracks), n), one row each.
        """
        if id(recording) in self._waiting:  # its second window of this round begins where the first one ends
            self.settle()
        frame_samples = recording.rate_hz * FRAME_MS // 1000
        energies = frame_energy(samples, frame_samples=frame_samples)
        self.take_energies([(recording, len(tracks))], tracks, energies, rate_hz=recording.rate_hz)

    def take_energies(
        self,
        recordings: Sequence[tuple[Recording, int]],
        tracks: Sequence[Track],
        energies: I64,
        *,
        rate_hz: int,
    ) -> None:
        """Take the next windows of many recordings, none of which has one here, as their frames' energies.

        Shapes: energies (len(tracks), f), the rows of a recording behind each other.
        """
        if energies.shape[1] == 0:
            return
        self._waiting.update(id(recording) for recording, _ in recordings)
        group = self._groups.setdefault(rate_hz, _Windows())
        group.recordings.extend(recordings)
        group.tracks.extend(tracks)
        group.energies.append(energies)

    def settle(self) -> None:
        """Find who spoke in the windows that were taken."""
        for rate_hz, group in self._groups.items():
            rows = np.array([self._row(track) for track in group.tracks], dtype=np.int64)
            energies, frames = _side_by_side(group.energies)
            active, after = detect(
                self._state.rows(rows),
                energies,
                frame_samples=rate_hz * FRAME_MS // 1000,
                rate_hz=rate_hz,
                frames=frames,
            )
            self._state = self._state.replaced(rows, after)
            spoke = active.sum(axis=1)
            for number in np.flatnonzero(spoke).tolist():
                group.tracks[number].account.speech_frames += int(spoke[number])
            counts = np.array([count for _, count in group.recordings], dtype=np.int64)
            over = talk_over(active, np.cumsum(counts) - counts)
            for number in np.flatnonzero(over).tolist():
                group.recordings[number][0].talk_over_frames += int(over[number])
        self._groups.clear()
        self._waiting.clear()

    def forget(self, recording: Recording) -> None:
        """Let the tracks of a recording go that is over, after its last window was settled."""
        for track in recording.tracks.values():
            if track.meter_row >= 0:
                self._free.append(track.meter_row)
                track.meter_row = -1

    def _row(self, track: Track) -> int:
        if track.meter_row < 0:
            if not self._free:
                known = self._state.floor_dbfs.shape[0]
                grown = Activity.of(2 * known)
                self._state = grown.replaced(np.arange(known), self._state)
                self._free = list(range(2 * known - 1, known - 1, -1))
            track.meter_row = self._free.pop()
            row = np.array([track.meter_row])
            self._state = self._state.replaced(row, Activity.of(1))
        return track.meter_row


def _side_by_side(energies: Sequence[I64]) -> tuple[I64, I64]:
    """Put windows of different lengths into one array.

    Shapes: each (k, f) -> (all k, largest f), and how many frames each row has.
    """
    frames = np.repeat([one.shape[1] for one in energies], [one.shape[0] for one in energies])
    if len({one.shape[1] for one in energies}) == 1:
        return np.concatenate(energies), frames
    together = np.zeros((frames.size, int(frames.max())), dtype=np.int64)
    row = 0
    for one in energies:
        together[row : row + one.shape[0], : one.shape[1]] = one
        row += one.shape[0]
    return together, frames
