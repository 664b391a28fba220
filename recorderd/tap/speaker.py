"""The speaker: sends announcements and beeps on many streams, each packet at its absolute deadline.

Contract: ``play`` puts an utterance behind those of its stream and returns at once; each accepted utterance
is reported exactly once by ``on_ended``, when its last sample has been heard, or before, not completed.
After ``stop`` or ``release`` returns, nothing more is sent. A stream keeps its SSRC until ``release``.
A stream that cannot be sent on is ended alone; it disturbs no other.
Full: ``play`` raises SpeakerFull when ``UTTERANCES_MAX`` wait in all; nothing that was accepted is dropped.
Thread: ``run`` is the speaker thread and calls ``on_ended``, without a lock held; every other method may be
called from any thread and waits at most for one round of sending (microseconds per stream that speaks).
Out of scope: RTCP reports of what was sent, and keep-alives between utterances.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from recorderd.core.clock import NS_PER_MS, NS_PER_S, Clock
from recorderd.core.errors import SpeakerFull
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import StreamId
from recorderd.tap.voice import Due, Piece, Utterance, UtteranceId, Voice, encode

UTTERANCES_MAX: Final = 4_096  # accepted and not yet reported; two for each of as many streams as we take
FAILURES_MAX: Final = 3  # sends of one talk spurt that may fail before its stream is given up
_IDLE_NS: Final = 300 * NS_PER_MS  # how long a stop may go unnoticed


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceEnded:
    """An utterance is over."""

    stream: StreamId
    utterance: UtteranceId
    completed: bool  # said to its end
    ended_mono_ns: int  # when its last sample was heard, or when it was given up


@dataclass(slots=True, kw_only=True)
class _Stream:
    voice: Voice
    failures: int = 0


class Speaker:
    """All RTP that the recorder sends."""

    def __init__(self, *, clock: Clock, log: EventLog, on_ended: Callable[[UtteranceEnded], None]) -> None:
        self._clock = clock
        self._log = log
        self._on_ended = on_ended
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._streams: dict[StreamId, _Stream] = {}
        self._speaking: dict[StreamId, _Stream] = {}  # those with something to say or to report
        self._reports: list[UtteranceEnded] = []
        self._unreported = 0
        self._last_id = 0
        self.rounds = 0  # progress that the watchdog looks at
        self.lateness_max_ns = 0

    # --- for the signalling -----------------------------------------------------------------------

    def play(self, utterance: Utterance) -> UtteranceId:
        """Say something on a stream, after what is being said there.

        Errors: SpeakerFull.
        """
        octets = encode(utterance.samples, codec=utterance.codec)
        with self._lock:
            if self._unreported >= UTTERANCES_MAX:
                raise SpeakerFull(utterances=self._unreported)
            self._unreported += 1
            self._last_id += 1
            identity = UtteranceId(self._last_id)
            entry = self._streams.get(utterance.stream)
            if entry is None:
                entry = self._streams[utterance.stream] = _Stream(voice=_new_voice())
            self._speaking[utterance.stream] = entry
            entry.voice.say(
                Piece(
                    utterance=identity,
                    codec=utterance.codec,
                    octets=octets,
                    send=utterance.send,
                    protect=utterance.protect,
                ),
                now_ns=self._clock.mono_ns(),
            )
        self._wake.set()
        return identity

    def stop(self, stream: StreamId) -> None:
        """Fall silent on a stream at once; what it was to say is reported as not completed."""
        with self._lock:
            self._hush(stream)
        self._wake.set()

    def release(self, stream: StreamId) -> None:
        """Fall silent and forget the stream: its call is over."""
        with self._lock:
            self._hush(stream)
            spoke = self._streams.pop(stream, None)
        if spoke is not None:  # on most nothing was ever said
            self._wake.set()

    # --- the thread ---------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Send until ``stop``; what has not been said by then is reported as not completed."""
        # thread: speaker
        while not stop.is_set():
            self._wake.clear()
            wait_ns = self.round()
            if wait_ns > 0:
                self._wake.wait(wait_ns / NS_PER_S)
        with self._lock:
            for stream in list(self._speaking):
                self._hush(stream)
        self._report()

    def round(self) -> int:
        """Send all that is due now and report what has ended; say how long there is nothing to do.

        Units: the answer is in nanoseconds, at most 300 ms.
        """
        # thread: speaker
        with self._lock:
            now_ns = self._clock.mono_ns()
            for stream, entry in list(self._speaking.items()):  # per stream that speaks
                self._serve(stream, entry, now_ns)
            self.rounds += 1
            upcoming = [at for entry in self._speaking.values() if (at := entry.voice.next_ns) is not None]
        self._report()
        next_ns = min(upcoming, default=now_ns + _IDLE_NS)
        return max(0, min(next_ns - self._clock.mono_ns(), _IDLE_NS))

    def _serve(self, stream: StreamId, entry: _Stream, now_ns: int) -> None:
        voice = entry.voice
        planned_ns = voice.next_ns
        if planned_ns is None:  # it has fallen silent
            self._speaking.pop(stream, None)
            entry.failures = 0
            return
        if planned_ns > now_ns:
            return
        self.lateness_max_ns = max(self.lateness_max_ns, now_ns - planned_ns)
        if self._send(stream, entry, voice.due(now_ns)):
            self._note((stream, utterance, True, at_ns) for utterance, at_ns in voice.ended(now_ns))

    def _send(self, stream: StreamId, entry: _Stream, packets: list[Due]) -> bool:
        """Send packets of one stream; False when the stream was given up."""
        for packet in packets:
            protect = packet.piece.protect
            try:
                packet.piece.send(packet.datagram if protect is None else protect(packet.datagram))
            except Exception as problem:  # foreign code: its fault ends one stream, never the thread
                entry.failures += 1
                if entry.failures >= FAILURES_MAX:
                    self._log.warning(Ev.PROMPT_FAILED, subject=stream, stream=stream, reason=repr(problem))
                    self._hush(stream)
                    return False
        return True

    def _hush(self, stream: StreamId) -> None:
        """Drop what a stream was to say; the lock is held."""
        entry = self._speaking.pop(stream, None)
        if entry is not None:
            now_ns = self._clock.mono_ns()
            entry.failures = 0
            self._note((stream, utterance, False, now_ns) for utterance in entry.voice.hush())

    def _note(self, over: Iterable[tuple[StreamId, UtteranceId, bool, int]]) -> None:
        self._reports += [
            UtteranceEnded(stream=stream, utterance=utterance, completed=completed, ended_mono_ns=at_ns)
            for stream, utterance, completed, at_ns in over
        ]

    def _report(self) -> None:
        with self._lock:
            reports, self._reports = self._reports, []
            self._unreported -= len(reports)
        for report in reports:
            self._on_ended(report)


def _new_voice() -> Voice:
    """Start a stream's numbers where nobody can guess them."""
    return Voice(
        ssrc=secrets.randbits(32), first_sequence=secrets.randbits(15), first_timestamp=secrets.randbits(31)
    )
