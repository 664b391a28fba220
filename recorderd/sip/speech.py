"""Speech: names of prompts become utterances on a stream's own socket.

Contract: ``say`` puts a message behind what is being said on the line and returns at once; False when it
cannot be said there. What is being said goes where the line goes (``follow``), and ends where nobody hears it
any more: the line is held. The end of each utterance is reported through the speaker's callback.
Thread: the SIP thread; packets leave on the speaker's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from dsp.shapes import I16
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import StreamId
from recorderd.sip.streams import Line
from recorderd.tap.drain import Tap
from recorderd.tap.speaker import Speaker
from recorderd.tap.srtp import Protector
from recorderd.tap.voice import Utterance


class Prompts(Protocol):
    """Where spoken messages come from (see ``app.prompts``)."""

    def sequence(self, names: Sequence[str], *, language: str, rate_hz: int) -> I16:
        """Give messages one after the other, at a sampling rate."""
        ...


class Speech:
    """Says things on lines."""

    def __init__(self, *, prompts: Prompts, speaker: Speaker, tap: Tap, log: EventLog) -> None:
        self._prompts = prompts
        self._speaker = speaker
        self._tap = tap
        self._log = log
        self._protectors: dict[StreamId, tuple[object, Protector]] = {}  # by the key they were made of
        self._peers: dict[StreamId, tuple[str, int]] = {}  # where what is said goes

    def say(self, line: Line, names: Sequence[str], *, language: str) -> bool:
        """Say messages on a line."""
        if not line.carries_audio_back or line.peer is None:
            return False
        codec, stream = line.send_codec, line.stream
        self._peers[stream] = line.peer

        def send(datagram: bytes) -> None:  # thread: speaker
            peer = self._peers.get(stream)
            if peer is None or not self._tap.send(stream, datagram, peer):
                raise OSError("the network did not take it")

        try:
            samples = self._prompts.sequence(names, language=language, rate_hz=codec.clock_rate_hz)
            protect = self._protect(line)
            utterance = Utterance(stream=stream, samples=samples, codec=codec, send=send, protect=protect)
            self._speaker.play(utterance)
        except (RecorderError, KeyError) as problem:
            self._log.warning(Ev.PROMPT_FAILED, subject=stream, reason=problem)
            return False
        return True

    def follow(self, line: Line) -> None:
        """A line has changed: go on there, or fall silent where it is held."""
        if line.stream not in self._peers:
            return
        if line.carries_audio_back and line.peer is not None:
            self._peers[line.stream] = line.peer
        else:
            self._speaker.stop(line.stream)

    def release(self, stream: StreamId) -> None:
        """Fall silent on a stream whose call is over."""
        self._protectors.pop(stream, None)
        self._speaker.release(stream)
        self._peers.pop(stream, None)

    def _protect(self, line: Line) -> Callable[[bytes], bytes] | None:
        if line.srtp_send is None:
            return None
        known = self._protectors.get(line.stream)
        if known is None or known[0] != line.srtp_send:  # one context per key: it counts the roll-overs
            known = (line.srtp_send, Protector(line.srtp_send))
            self._protectors[line.stream] = known
        return known[1].rtp
