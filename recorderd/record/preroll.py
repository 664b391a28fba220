"""The past of a recording that was not started yet: the last windows, in memory only.

Contract: holds adjoining windows, at least the last ``keep`` samples and less than a window more. What falls
out is overwritten first.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from recorderd.core.ids import StreamId
from recorderd.record.piece import Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What every stream brought for a span."""

    start: int
    end: int
    pieces: dict[StreamId, Piece]

    def since(self, start: int) -> Window:
        """Leave out what lies before ``start``, which lies within."""
        if start <= self.start:
            return self
        pieces = {stream: piece.since(start) for stream, piece in self.pieces.items()}
        return Window(start=start, end=self.end, pieces=pieces)

    def before(self, end: int) -> Window:
        """Leave out what lies from ``end`` on, which lies within."""
        if end >= self.end:
            return self
        pieces = {stream: piece.before(end) for stream, piece in self.pieces.items()}
        return Window(start=self.start, end=end, pieces=pieces)


@dataclass(slots=True)
class Preroll:
    """The windows that are held.

    Thread: one.
    """

    _windows: deque[Window] = field(default_factory=deque)

    @property
    def start(self) -> int | None:
        """The first sample that is held; None when nothing is."""
        return self._windows[0].start if self._windows else None

    def hold(self, window: Window, *, keep: int) -> None:
        """Add a window, and drop those that end ``keep`` samples or more before its end, or do not adjoin."""
        if self._windows and self._windows[-1].end != window.start:
            self.wipe()
        self._windows.append(window)
        while self._windows and self._windows[0].end <= window.end - keep:
            _overwrite(self._windows.popleft())

    def copied(self) -> Preroll:
        """Give a copy with samples of its own: what becomes of it leaves these as they are."""
        other = Preroll()
        other._windows.extend(_copied(window) for window in self._windows)
        return other

    def since(self, start: int) -> list[Window]:
        """Return what is held from ``start`` on."""
        return [window.since(start) for window in self._windows if window.end > start]

    def forget_from(self, start: int) -> None:
        """Forget what is held from ``start`` on."""
        while self._windows and self._windows[-1].end > start:
            window = self._windows.pop()
            _overwrite(window.since(start))
            if window.start < start:
                self._windows.append(window.before(start))

    def wipe(self) -> None:
        """Forget everything."""
        while self._windows:
            _overwrite(self._windows.popleft())


def _copied(window: Window) -> Window:
    pieces = {stream: replace(piece, samples=piece.samples.copy()) for stream, piece in window.pieces.items()}
    return Window(start=window.start, end=window.end, pieces=pieces)


def _overwrite(window: Window) -> None:
    for piece in window.pieces.values():
        piece.samples[:] = 0
