"""Keys that were pressed on a stream, for the manifest: told by events (RFC 4733), or heard as tones (Q.24).

Contract: what is noted is where a key began and how long it lasted, once; later news of the same key replaces
earlier ones. Of a span that was not to be recorded no key is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from dsp.dtmf import Detector, Tone
from dsp.dtmf_fit import RATE_HZ
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
        if rate_hz % RATE_HZ:
            return  # no rate of the detector: an odd L16, which no telephone sends
        if self._detector is None or self._heard_to != piece.start:
            self.finish()
            self._detector, self._base = Detector(rate_hz), piece.start
        self._heard_to = piece.end
        self._hear(self._detector.feed(piece.samples))

    def finish(self) -> None:
        """Say the last of what was listened to: a key may sound to its end."""
        if self._detector is not None:
            self._hear(self._detector.finish(total_samples=self._heard_to - self._base))
            self._detector = None

    def forget(self) -> None:
        """Forget all."""
        self._lengths.clear()
        self._detector = None

    def _hear(self, tones: Sequence[Tone]) -> None:
        for tone in tones:
            start = self._base + tone.start_sample
            self.note(tone.key, via=BY_TONE, start=start, length=tone.end_sample - tone.start_sample)

    def entries(self, *, origin: int, end: int, gaps: Sequence[Gap]) -> tuple[KeyEntry, ...]:
        """Tell the keys of a recording that begins at ``origin``."""
        rows = [
            KeyEntry(key=key, via=via, start_samples=start, length_samples=length)
            for (start, key, via), length in sorted(self._lengths.items())
            if start >= origin
        ]
        return tuple(
            replace(row, start_samples=row.start_samples - origin) for row in told(rows, end=end, gaps=gaps)
        )


def told(keys: Sequence[KeyEntry], *, end: int, gaps: Sequence[Gap]) -> tuple[KeyEntry, ...]:
    """Leave out the keys that lie in spans that were not to be recorded, or behind the end."""
    untold = [
        (gap.start_samples, gap.start_samples + gap.length_samples) for gap in gaps if gap.cause in _UNTOLD
    ]
    return tuple(
        replace(key, length_samples=min(key.length_samples, end - key.start_samples))
        for key in keys
        if key.start_samples < end
        and not any(
            low < key.start_samples + key.length_samples and key.start_samples < high for low, high in untold
        )
    )
