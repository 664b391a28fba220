"""Keys that were pressed on a stream, for the manifest: told by events (RFC 4733), or heard as tones (Q.24).

Contract: what is noted is where a key began and how long it lasted, once; later news of the same key replaces
earlier ones. Of a span that was not to be recorded no key is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from dsp.dtmf import Detector
from recorderd.core.gap_causes import MASKED, PAUSED, STOPPED
from recorderd.record.piece import Piece
from recorderd.wire.manifest import Gap
from recorderd.wire.manifest_rows import KeyEntry

BY_EVENT: Final = "event"
BY_TONE: Final = "tone"
KEYS_MAX: Final = 10_000
_UNTOLD: Final = (PAUSED, STOPPED, MASKED)


@dataclass(slots=True)
class Keys:
    """The keys of one stream; samples of the session.

    Thread: one.
    """

    _lengths: dict[tuple[int, str, str], int] = field(default_factory=dict)  # by start, key and how it came
    _detector: Detector | None = None
    _base: int = 0
    _heard_to: int = -1

    def note(self, key: str, *, via: str, start: int, length: int) -> None:
        """Note a key, or more of one."""
        if len(self._lengths) < KEYS_MAX or (start, key, via) in self._lengths:
            self._lengths[start, key, via] = length

    def listen(self, piece: Piece, *, rate_hz: int) -> None:
        """Listen for tones in the next piece; one that does not adjoin begins afresh."""
        if self._detector is None or self._heard_to != piece.start:
            self._detector, self._base = Detector(rate_hz), piece.start
        self._heard_to = piece.end
        for tone in self._detector.feed(piece.samples):
            start = self._base + tone.start_sample
            self.note(tone.key, via=BY_TONE, start=start, length=tone.end_sample - tone.start_sample)

    def forget(self) -> None:
        """Forget all."""
        self._lengths.clear()
        self._detector = None

    def entries(self, *, origin: int, end: int, gaps: Sequence[Gap]) -> tuple[KeyEntry, ...]:
        """Tell the keys of a recording that begins at ``origin``."""
        untold = [
            (gap.start_samples, gap.start_samples + gap.length_samples)
            for gap in gaps
            if gap.cause in _UNTOLD
        ]
        return tuple(
            KeyEntry(key=key, via=via, start_samples=start - origin, length_samples=min(length, end - start))
            for (start, key, via), length in sorted(self._lengths.items())
            if origin <= start < end
            and not any(low < start + length and start < high for low, high in untold)
        )
