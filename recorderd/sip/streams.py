"""From an SDP offer to our answer: which lines we take, with which codecs, on which ports.

Contract: ``answer`` opens what an offer asks for and keeps what it had, so that it may be called for every
re-INVITE of a dialog and gives the same ports for the same lines. A line that cannot be taken is refused
with port 0 and an event; the others are recorded. ``close`` ends everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import StreamId
from recorderd.core.messages import Codec, Encoding
from recorderd.tap.drain import Tap
from recorderd.tap.ports import PortPool
from recorderd.wire.sdp import MediaChoice, MediaLine, SessionDescription, answer_for, supported_codecs

EVENT_ENCODINGS = ("TELEPHONE-EVENT", "CN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An ``m=audio`` that we took."""

    stream: StreamId
    port: int
    codecs: tuple[Codec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an offer did to a dialog's streams; ``opened`` pairs the line's number with what was opened."""

    answer: bytes
    opened: tuple[tuple[int, Line], ...]
    closed: tuple[StreamId, ...]


class DialogStreams:
    """The streams of one dialog.

    Thread: the SIP thread.
    """

    def __init__(
        self, *, ports: PortPool, tap: Tap, address: str, log: EventLog, name_stream: Callable[[], StreamId]
    ) -> None:
        self._ports = ports
        self._tap = tap
        self._address = address
        self._log = log
        self._name_stream = name_stream
        self._lines: dict[int, Line] = {}
        self._version = 0

    @property
    def lines(self) -> dict[int, Line]:
        """The lines that are open, by their number in the SDP."""
        return self._lines

    def answer(self, offer: SessionDescription, *, session_id: int, rate_hz: int | None) -> Change:
        """Open, keep and close lines as the offer asks, and write the answer.

        ``rate_hz`` is the sampling rate that the session has already, if it has one: all its streams
        must share it.
        """
        opened: list[tuple[int, Line]] = []
        closed: list[StreamId] = []
        choices: list[MediaChoice | None] = []
        for number, media in enumerate(offer.media):
            codecs = choose_codecs(media, rate_hz=rate_hz) if media.port else ()
            line = self._lines.get(number)
            if not codecs:
                if line is not None:
                    closed.append(self._lines.pop(number).stream)
                if media.port:
                    reason = f"no codec of ours in {media.kind} {' '.join(media.formats)}"
                    self._log.warning(Ev.STREAM_REFUSED, subject=str(number), reason=reason)
                choices.append(None)
                continue
            if line is None:
                line = self._open(codecs, media)
                if line is not None:
                    opened.append((number, line))
            else:
                line = self._keep(line, codecs, media)
            if line is None:
                choices.append(None)
                continue
            rate_hz = rate_hz or line.codecs[0].clock_rate_hz
            self._lines[number] = line
            types = tuple(codec.payload_type for codec in line.codecs)
            choices.append(MediaChoice(port=line.port, payload_types=types))
        self._version += 1
        answer = answer_for(
            offer, choices=choices, address=self._address, session_id=session_id, version=self._version
        )
        return Change(answer=answer, opened=tuple(opened), closed=tuple(closed))

    def _open(self, codecs: Sequence[Codec], media: MediaLine) -> Line | None:
        try:
            sockets = self._ports.acquire()
        except RecorderError as problem:
            self._log.error(Ev.STREAM_REFUSED, reason=problem)
            return None
        stream = self._name_stream()
        try:
            self._tap.open_stream(
                stream, sockets=sockets, codecs=codecs, event_payload_types=event_payload_types(media)
            )
        except RecorderError as problem:
            sockets.close()
            self._ports.give_back(sockets.rtp_port)
            self._log.error(Ev.STREAM_REFUSED, subject=stream, reason=problem)
            return None
        return Line(stream=stream, port=sockets.rtp_port, codecs=tuple(codecs))

    def _keep(self, line: Line, codecs: Sequence[Codec], media: MediaLine) -> Line:
        same_clock = [codec for codec in codecs if _pace(codec) == _pace(line.codecs[0])]
        if not same_clock or tuple(same_clock) == line.codecs:
            return line
        self._tap.set_codecs(line.stream, codecs=same_clock, event_payload_types=event_payload_types(media))
        return Line(stream=line.stream, port=line.port, codecs=tuple(same_clock))


def choose_codecs(media: MediaLine, *, rate_hz: int | None) -> tuple[Codec, ...]:
    """Pick the codecs of a line that one ring row can take: all those with the pace of the first fit.

    Lines other than unencrypted audio have none.
    """
    if media.kind != "audio" or media.protocol.upper() not in ("RTP/AVP", "RTP/AVPF"):
        return ()
    fit = [codec for codec in supported_codecs(media) if rate_hz is None or codec.clock_rate_hz == rate_hz]
    return tuple(codec for codec in fit if _pace(codec) == _pace(fit[0]))


def event_payload_types(media: MediaLine) -> tuple[int, ...]:
    """List the payload types that are expected and carry no samples."""
    named = [number for number, entry in media.rtpmap.items() if entry.name.upper() in EVENT_ENCODINGS]
    return tuple(number for number in {13, *named} if 0 <= number < 128)


def _pace(codec: Codec) -> tuple[int, int, bool]:
    return codec.clock_rate_hz, codec.octets_per_tick, codec.encoding is Encoding.L16
