"""From SDP to streams: which lines we take, with which codecs and keys, on which ports.

Contract: ``answer`` opens what an offer asks for and keeps what it had, so that it may be called for every
re-INVITE of a dialog and gives the same ports for the same lines. A line that goes on in a form that its
stream cannot take (another pace of samples, from plain to encrypted or back) gets a new stream and a new
port. A line that cannot be taken is refused with port 0 and an event; the others are recorded. A held line
keeps its stream. ``offer`` and ``accept_answer`` do the same when the peer leaves the offer to us. Streams
that a ``Change`` names as closed are ended by the caller.
Source: RFC 3264 (offer and answer), RFC 4568 section 7 (keys), RFC 7866 section 7.1.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from recorderd.core.errors import RecorderError, SrtpFailed
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import StreamId
from recorderd.core.messages import Codec
from recorderd.sip.choosing import (
    ENCRYPTED,
    Pace,
    choose_codecs,
    choose_crypto,
    event_payload_types,
    pace_of,
    refusal,
)
from recorderd.tap.drain import Tap
from recorderd.tap.ports import PortPool
from recorderd.wire.sdes import CryptoLine, SrtpKeys, SrtpPolicy, Suite, write_crypto
from recorderd.wire.sdp import (
    OFFERED_CODECS,
    OFFERED_EVENTS,
    MediaChoice,
    MediaLine,
    OfferedMedia,
    SessionDescription,
    answer_for,
    answered_direction,
    is_held,
    offer_for,
    sends_nothing,
)

OFFERED_SUITE: Final = Suite.AES_CM_128_HMAC_SHA1_80  # the one that everybody who knows SRTP must know


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An ``m=audio`` that we took."""

    stream: StreamId
    port: int
    codecs: tuple[Codec, ...]
    pace: Pace  # as it was opened
    event_payload_types: tuple[int, ...] = ()
    peer: tuple[str, int] | None = None  # where RTP goes that we send; None while it names no address
    direction: str = "recvonly"  # ours
    held: bool = False
    is_still: bool = False  # held, or the peer has said that it sends nothing
    srtp_receive: SrtpKeys | None = None  # the peer's keys; None = plain RTP
    srtp_send: SrtpKeys | None = None  # ours

    @property
    def carries_audio_back(self) -> bool:
        """Tell whether what we say on it is heard."""
        return self.direction == "sendrecv" and self.peer is not None and not self.held

    @property
    def send_codec(self) -> Codec:
        """What we send with, if we send: the first that we encode."""
        return next((codec for codec in self.codecs if not codec.is_framed), self.codecs[0])

    @property
    def send_payload_type(self) -> int:
        """Its payload type."""
        return self.send_codec.payload_type


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an offer did to a dialog's streams; ``opened`` pairs the line's number with what was opened.

    ``answer`` is our SDP for the peer: the answer, or our offer; empty when none is due.
    """

    answer: bytes = field(repr=False)  # holds our keys
    opened: tuple[tuple[int, Line], ...]
    closed: tuple[StreamId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """What a peer's line says, as far as we can follow it."""

    codecs: tuple[Codec, ...]
    event_payload_types: tuple[int, ...]
    peer: tuple[str, int] | None
    direction: str
    held: bool
    crypto: CryptoLine | None
    is_still: bool = False


class DialogStreams:
    """The streams of one dialog.

    Thread: the SIP thread.
    """

    def __init__(
        self,
        *,
        ports: PortPool,
        tap: Tap,
        address: str,
        log: EventLog,
        name_stream: Callable[[], StreamId],
        srtp: str = SrtpPolicy.OFFER,
    ) -> None:
        self._ports = ports
        self._tap = tap
        self._address = address
        self._log = log
        self._name_stream = name_stream
        self._srtp = SrtpPolicy(srtp)
        self._lines: dict[int, Line] = {}
        self._version = self._agreed = 0

    def go_on(self, lines: Sequence[Line], ours: SessionDescription) -> None:
        """Know the lines of a dialog of an earlier process, and its last SDP, which tells their numbers."""
        by_port = {line.port: line for line in lines}
        ports = [media.port for media in ours.media]
        self._lines = {number: by_port[port] for number, port in enumerate(ports) if port in by_port}
        self._agreed = len(ports)

    def can_follow(self, offer: SessionDescription) -> bool:
        """Tell whether ``answer`` would open nothing, and close only what the offer gives up.

        Source: RFC 3264 section 8 (an offer has as many lines as the one before, or more).
        """
        if len(offer.media) < self._agreed:
            return False
        for number, media in enumerate(offer.media):
            if not media.port:
                continue
            line, terms = self._lines.get(number), self._terms(number, media, wanted="recvonly")
            if line is None and terms is None and number < self._agreed:
                continue  # refused as ever
            if line is None or terms is None or not _goes_on(line, terms):
                return False
        return True

    @property
    def lines(self) -> dict[int, Line]:
        """The lines that are open, by their number in the SDP."""
        return self._lines

    def answer(
        self,
        offer: SessionDescription,
        *,
        session_id: int,
        want_audio_back: bool = False,
        record_state: str = "",
    ) -> Change:
        """Open, keep and close lines as the offer asks, and write the answer.

        ``want_audio_back`` asks for lines that carry a prompt to the peer; ``record_state``
        (on, off, paused) tells the peer what we do.
        """
        opened: list[tuple[int, Line]] = []
        closed: list[StreamId] = []
        choices: list[MediaChoice | None] = []
        wanted = "sendrecv" if want_audio_back else "recvonly"
        for number, media in enumerate(offer.media):
            terms = self._terms(number, media, wanted=wanted)
            line = self._take(number, terms, opened=opened, closed=closed)
            if line is None or terms is None:
                choices.append(None)
                continue
            choices.append(
                MediaChoice(
                    port=line.port,
                    payload_types=tuple(codec.payload_type for codec in line.codecs),
                    direction=line.direction,
                    crypto=_our_crypto(line, terms.crypto),
                    record=record_state,
                )
            )
        self._version += 1
        answer = answer_for(
            offer, choices=choices, address=self._address, session_id=session_id, version=self._version
        )
        return Change(answer=answer, opened=tuple(opened), closed=tuple(closed))

    def offer(
        self,
        labels: Sequence[str],
        *,
        session_id: int,
        want_audio_back: bool = False,
        record_state: str = "",
    ) -> Change:
        """Open a line per label and write our offer, for a peer that sent none; ``accept_answer`` follows.

        Streams hear nothing that is encrypted before the answer has brought the peer's keys. A line for which
        there is no port is left out; a change without lines is no offer.
        """
        opened: list[tuple[int, Line]] = []
        media: list[OfferedMedia] = []
        secure = self._srtp is SrtpPolicy.REQUIRE
        direction = "sendrecv" if want_audio_back else "recvonly"
        for label in labels:
            nobodys = CryptoLine(tag=1, suite_name=OFFERED_SUITE.value, keys=_fresh_keys(OFFERED_SUITE))
            terms = _Terms(
                codecs=OFFERED_CODECS,
                event_payload_types=(13, OFFERED_EVENTS),
                peer=None,
                direction=direction,
                held=False,
                crypto=nobodys if secure else None,
            )
            line = self._open(terms)
            if line is None:
                continue
            self._lines[len(media)] = line
            opened.append((len(media), line))
            crypto = _our_crypto(line, terms.crypto)
            media.append(
                OfferedMedia(
                    port=line.port,
                    label=label,
                    direction=direction,
                    crypto=(crypto,) if crypto else (),
                    record=record_state,
                )
            )
        self._version += 1
        ours = offer_for(media, address=self._address, session_id=session_id, version=self._version)
        return Change(answer=ours, opened=tuple(opened), closed=())

    def accept_answer(self, answer: SessionDescription) -> Change:
        """Follow the peer's answer to our offer: lines that it refuses or leaves out are closed."""
        closed: list[StreamId] = []
        opened: list[tuple[int, Line]] = []
        for number, line in list(self._lines.items()):
            terms = None
            if number < len(answer.media):
                terms = self._answered(number, line, answer.media[number])
            self._take(number, terms, opened=opened, closed=closed)
        return Change(answer=b"", opened=tuple(opened), closed=tuple(closed))

    # --- one line -------------------------------------------------------------------------------

    def _terms(self, number: int, media: MediaLine, *, wanted: str) -> _Terms | None:
        """Say how a line can be taken; None, with an event, when it cannot or is gone."""
        if not media.port:
            return None
        line = self._lines.get(number)
        problem = refusal(media, policy=self._srtp) or _family_problem(media, self._address)
        codecs = () if problem else choose_codecs(media, pace=line.pace if line is not None else None)
        if not codecs:
            self._refused(
                str(number), problem or f"no codec of ours in {media.kind} {' '.join(media.formats)}"
            )
            return None
        if all(codec.is_framed for codec in codecs):
            wanted = "recvonly"  # we encode none of these
        known = line.srtp_receive if line is not None else None
        return _Terms(
            codecs=codecs,
            event_payload_types=event_payload_types(media),
            peer=None if media.address in ("", "0.0.0.0", "::") else (media.address, media.port),
            direction=answered_direction(media, wanted=wanted),
            held=is_held(media),
            crypto=choose_crypto(media, policy=self._srtp, known=known),
            is_still=sends_nothing(media),
        )

    def _answered(self, number: int, line: Line, media: MediaLine) -> _Terms | None:
        """Say how a line of our offer can go on; None, with an event, when it cannot."""
        rested = line.direction == "inactive"  # what the answer takes up is what our offer allowed
        terms = self._terms(number, media, wanted="sendrecv" if rested else line.direction)
        if terms is None:
            return None
        if not line.pace.takes(terms.codecs) and _names_of(terms.codecs) <= _names_of(line.codecs):
            terms = replace(terms, codecs=line.codecs)  # fewer of those that its stream takes anyway
        if not line.pace.takes(terms.codecs):
            self._refused(str(number), f"no codec that we offered in {' '.join(media.formats)}")
            return None
        encrypted = media.protocol.upper() in ENCRYPTED
        if line.srtp_send is None and not encrypted:
            return replace(terms, crypto=None)
        keys = terms.crypto.keys if terms.crypto is not None else None
        if line.srtp_send is None or keys is None or keys.suite is not line.srtp_send.suite:
            self._refused(str(number), f"{media.protocol}: the encryption is not what we offered")
            return None
        return terms

    def _take(
        self,
        number: int,
        terms: _Terms | None,
        *,
        opened: list[tuple[int, Line]],
        closed: list[StreamId],
    ) -> Line | None:
        """Open, keep, replace or close a line; None when it is not there afterwards."""
        line = self._lines.pop(number, None)
        if terms is not None and line is not None and _goes_on(line, terms):
            kept = self._keep(line, terms)
            if kept is not None:
                self._lines[number] = kept
                return kept
            terms = None
        if line is not None:
            closed.append(line.stream)
        fresh = self._open(terms) if terms is not None else None
        if fresh is not None:
            self._lines[number] = fresh
            opened.append((number, fresh))
        return fresh

    def _open(self, terms: _Terms) -> Line | None:
        try:
            sockets = self._ports.acquire()
        except RecorderError as problem:
            self._log.error(Ev.STREAM_REFUSED, reason=problem)
            return None
        stream = self._name_stream()
        receive = terms.crypto.keys if terms.crypto is not None else None
        try:
            self._tap.open_stream(
                stream,
                sockets=sockets,
                codecs=terms.codecs,
                event_payload_types=terms.event_payload_types,
                srtp=receive,
                remote_address=terms.peer[0] if terms.peer is not None else "",
            )
        except RecorderError as problem:
            sockets.close()
            self._ports.give_back(sockets.rtp_port)
            self._log.error(Ev.STREAM_REFUSED, subject=stream, reason=problem)
            return None
        return Line(
            stream=stream, port=sockets.rtp_port, codecs=terms.codecs, pace=pace_of(terms.codecs),
            event_payload_types=terms.event_payload_types, peer=terms.peer, direction=terms.direction,
            held=terms.held, is_still=terms.is_still, srtp_receive=receive,
            srtp_send=_fresh_keys(receive.suite) if receive is not None else None,
        )  # fmt: skip

    def _keep(self, line: Line, terms: _Terms) -> Line | None:
        keys = terms.crypto.keys if terms.crypto is not None else None
        if keys is not None and keys != line.srtp_receive:
            try:
                self._tap.set_srtp(line.stream, keys)
            except SrtpFailed as problem:
                self._refused(line.stream, str(problem))
                return None
        if (line.codecs, line.event_payload_types) != (terms.codecs, terms.event_payload_types):
            self._tap.set_codecs(
                line.stream, codecs=terms.codecs, event_payload_types=terms.event_payload_types
            )
        if line.peer != terms.peer and terms.peer is not None:
            self._tap.set_remote_address(line.stream, terms.peer[0])
        return _updated(line, terms)

    def _refused(self, subject: str, reason: str) -> None:
        self._log.warning(Ev.STREAM_REFUSED, subject=subject, reason=reason)


def _family_problem(media: MediaLine, ours: str) -> str:
    """Say why RTP cannot come from where a line says: IPv6 to IPv4 or the other way; empty when it can."""
    if media.address in ("", "0.0.0.0", "::") or (":" in media.address) == (":" in ours):
        return ""
    return f"{media.address} and {ours} are of different families"


def _names_of(codecs: Sequence[Codec]) -> set[tuple[int, str]]:
    return {(codec.payload_type, codec.encoding.value) for codec in codecs}


def _goes_on(line: Line, terms: _Terms) -> bool:
    """Say whether a stream can go on as its line now is.

    From plain to encrypted and back it cannot: what is still on its way would be taken for the other.
    """
    return line.pace.takes(terms.codecs) and (line.srtp_receive is None) == (terms.crypto is None)


def _updated(line: Line, terms: _Terms) -> Line:
    receive = terms.crypto.keys if terms.crypto is not None else None
    send = line.srtp_send
    if receive is None:
        send = None
    elif send is None or send.suite is not receive.suite:
        send = _fresh_keys(receive.suite)
    return replace(
        line,
        codecs=terms.codecs,
        event_payload_types=terms.event_payload_types,
        peer=terms.peer,
        direction=terms.direction,
        held=terms.held,
        is_still=terms.is_still,
        srtp_receive=receive,
        srtp_send=send,
    )


def _our_crypto(line: Line, crypto: CryptoLine | None) -> str:
    if crypto is None or line.srtp_send is None:
        return ""
    return write_crypto(tag=crypto.tag, suite_name=crypto.suite_name, keys=line.srtp_send)


def _fresh_keys(suite: Suite) -> SrtpKeys:
    return SrtpKeys(suite=suite, master=secrets.token_bytes(suite.key_bytes + suite.salt_bytes))
