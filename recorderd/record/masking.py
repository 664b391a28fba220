"""Keys that must not be heard: the end of a recording is held back until it is known whether one is in it.

Contract: ``take`` is called with adjoining windows and gives what can be written, ``LOOKAHEAD_MS`` later;
every sample that belongs to a key is silent in it. ``flush`` gives the rest. What is held is in memory only.
Where listening begins or ends in the midst of a key, or packets of one are missing, what is left of it is
silent too, though it is too short to be a key. So is what lies about the beginning of a key that an event
tells of: a gateway lets some of its tone through before it has made an event of it, and goes on with silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dsp.dtmf import LOOKAHEAD_MS, Detector, Tone, mask_spans
from dsp.dtmf_edge import EDGE_MS, cut_key_samples
from recorderd.core.ids import StreamId
from recorderd.record.piece import Piece, blank_piece
from recorderd.record.preroll import Window


@dataclass(slots=True)
class _Listener:
    """One stream's detector."""

    detector: Detector
    base: int  # the sample of the session at which it began
    fed: int = 0
    looked_to: int = 0  # edges before this sample were looked at
    spans: list[tuple[int, int]] = field(default_factory=list)


class Masker:
    """The detectors of a recording's streams, and what is held.

    Thread: one.
    """

    def __init__(self, *, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._listeners: dict[StreamId, _Listener] = {}
        self._held: Window | None = None

    @property
    def held_until(self) -> int | None:
        """The sample before which everything was taken; None when nothing is held."""
        return self._held.end if self._held is not None else None

    def take(self, window: Window) -> Window | None:
        """Take the window behind what is held; give what is sure now."""
        streams = window.pieces if self._held is None else {**self._held.pieces, **window.pieces}
        joined: dict[StreamId, Piece] = {}
        for stream in streams:
            piece = window.pieces.get(stream) or blank_piece(window.start, window.end)
            self._listen(stream, piece)
            if self._held is not None:
                held = self._held
                piece = (held.pieces.get(stream) or blank_piece(held.start, held.end)).followed_by(piece)
            self._look_at_edges(self._listeners[stream], piece)
            joined[stream] = self._masked(stream, piece)
        start = window.start if self._held is None else self._held.start
        return self._split(Window(start=start, end=window.end, pieces=joined))

    def flush(self) -> Window | None:
        """Give what is held; the next window need not adjoin."""
        window, self._held = self._held, None
        if window is not None:
            pieces = {stream: self._finished(stream, piece) for stream, piece in window.pieces.items()}
            window = Window(start=window.start, end=window.end, pieces=pieces)
        self._listeners.clear()
        return window

    def forget_from(self, start: int) -> None:
        """Forget what is held from ``start`` on: it was not to be kept."""
        window = self.flush()
        if window is not None and start > window.start:
            self._held = window.before(start)

    def _finished(self, stream: StreamId, piece: Piece) -> Piece:
        """Mask the last that was heard of a stream."""
        listener = self._listeners.get(stream)
        if listener is None:
            return piece
        self._note(listener, listener.detector.finish(total_samples=listener.fed))
        self._look_at_edges(listener, piece, last=True)
        return self._masked(stream, piece)

    def _look_at_edges(self, listener: _Listener, piece: Piece, *, last: bool = False) -> None:
        """Find what is left of a key where listening begins or ends, and beside what did not come."""
        edge = EDGE_MS * self._rate_hz // 1000
        until = piece.end + 1 if last else piece.end - edge  # nearer the end not enough was heard yet
        silent = (*piece.absent, *piece.doubled)
        begins = [listener.base, *(high for _, high in silent)]
        ends = [*(low for low, _ in silent), piece.end]
        for at in [at for at in begins if listener.looked_to <= at < until]:
            heard = piece.samples[at - piece.start :][:edge]
            cut = cut_key_samples(heard[::-1], rate_hz=self._rate_hz)
            listener.spans.append((at, at + cut))
        for at in [at for at in ends if listener.looked_to <= at < until]:
            heard = piece.samples[: at - piece.start][-edge:]
            cut = cut_key_samples(heard, rate_hz=self._rate_hz)
            listener.spans.append((at - cut, at))
        listener.looked_to = max(listener.looked_to, until)

    def _split(self, window: Window) -> Window | None:
        sure = window.end - LOOKAHEAD_MS * self._rate_hz // 1000
        if sure <= window.start:
            self._held = window
            return None
        self._held = window.since(sure)
        return window.before(sure)

    def _listen(self, stream: StreamId, piece: Piece) -> None:
        listener = self._listeners.get(stream)
        if listener is None:
            listener = self._listeners[stream] = _Listener(
                Detector(self._rate_hz), piece.start, looked_to=piece.start
            )
        listener.fed += piece.samples.shape[0]
        self._note(listener, listener.detector.feed(piece.samples))

    def _note(self, listener: _Listener, tones: tuple[Tone, ...]) -> None:
        for start, end in mask_spans(tones, rate_hz=self._rate_hz):
            listener.spans.append((listener.base + start, listener.base + end))

    def _masked(self, stream: StreamId, piece: Piece) -> Piece:
        listener = self._listeners.get(stream)
        if listener is None:
            return piece
        listener.spans = [span for span in listener.spans if span[1] > piece.start]
        for start, end in (*listener.spans, *piece.pressed):
            low, high = max(start, piece.start), min(end, piece.end)
            if low < high:
                piece = piece.silenced(low, high, masked=True)
        return piece
