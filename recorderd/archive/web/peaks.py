"""The level of a recording for drawing: the least and the greatest sample of each stretch and channel.

Contract: computed from the audio in blocks, kept in a folder of its own up to a limit; what is kept may be
removed at any time, and is made again.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from recorderd import durable
from recorderd.archive.audio_forms import Audio
from recorderd.archive.groups import FileAt
from recorderd.evidence.digest import sha256_bytes

POINTS_MAX: Final = 2000
CHANNELS_MAX: Final = 16  # that are drawn
KEPT_BYTES: Final = 64 << 20
_BLOCK_FRAMES: Final = 1 << 16
_LOUDEST: Final = 32_767


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelPeaks:
    """One channel: int16 values, a pair for each stretch."""

    lowest: list[int]
    highest: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingPeaks:
    """All that a drawing needs."""

    sample_rate_hz: int
    frames: int
    points: int
    channels: list[ChannelPeaks]


class Peaks:
    """Levels of one archive's recordings.

    Thread: any.
    Errors: AudioUnplayable; OSError.
    """

    def __init__(self, folder: Path, *, limit_bytes: int = KEPT_BYTES) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes

    def of(self, audio: FileAt, *, points: int) -> dict[str, Any]:
        """Give the peaks of a stored WAV."""
        name = sha256_bytes(f"{audio.path}/{audio.name}:{points}".encode()) + ".json"
        kept = self._folder / name
        with contextlib.suppress(OSError, ValueError):
            table: dict[str, Any] = json.loads(kept.read_bytes())
            kept.touch()
            return table
        table = _compute(audio, points)
        durable.make_dir(self._folder)
        with contextlib.suppress(OSError):  # a full run folder costs the drawing nothing
            durable.replace(kept, json.dumps(table).encode(), synced=False)
            self._make_room()
        return table

    def _make_room(self) -> None:
        """Remove what was not asked for longest."""
        rows = []
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another front end removes too
                status = path.stat()
                rows.append((status.st_mtime_ns, status.st_size, path))
        left_bytes = sum(size_bytes for _, size_bytes, _ in rows)
        for _, size_bytes, path in sorted(rows, key=lambda row: row[0]):
            if left_bytes <= self._limit_bytes:
                return
            durable.discard(path, synced=False)
            left_bytes -= size_bytes


def _compute(place: FileAt, points: int) -> dict[str, Any]:
    audio = Audio(place.open())
    try:
        channels = min(audio.channels, CHANNELS_MAX)
        points = max(1, min(points, audio.frames or 1))
        edges = [audio.frames * number // points for number in range(points + 1)]
        low = np.full((points, channels), _LOUDEST)
        high = np.full((points, channels), -_LOUDEST - 1)
        for number in range(points):
            for first in range(edges[number], edges[number + 1], _BLOCK_FRAMES):
                block = audio.read(first, min(_BLOCK_FRAMES, edges[number + 1] - first))[:, :channels]
                if block.size:
                    low[number] = np.minimum(low[number], block.min(axis=0))
                    high[number] = np.maximum(high[number], block.max(axis=0))
        empty = low > high  # no sample was there
        low[empty] = high[empty] = 0
        return {
            "sample_rate_hz": audio.sample_rate_hz,
            "frames": audio.frames,
            "points": points,
            "channels": [
                {"lowest": low[:, channel].tolist(), "highest": high[:, channel].tolist()}
                for channel in range(channels)
            ],
        }
    finally:
        audio.close()
