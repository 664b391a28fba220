"""Offers within a dialog of an earlier process, which the library does not know: refreshes, holds, codecs.

Contract: ``follow`` answers a re-INVITE, or an UPDATE with an SDP, as the process would have whose dialog it
was: same lines keep their ports, what refreshes gets the SDP that it had, one without SDP gets it as our
offer, whose answer ``acknowledged`` reads from the ACK. What asks for more (a line that was not there,
another pace of samples, encryption where there was none) is left to the library, whose 481 lets the exchange
begin a new dialog for the same call, which joins its session. Metadata is kept as it came and not read.
Thread: the SIP thread.
Source: RFC 3261 section 14.2; RFC 3264 section 8; RFC 4028 section 9.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from recorderd.core.clock import Clock
from recorderd.core.errors import FormatError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import DialogId, StreamId
from recorderd.core.messages import StreamEnd
from recorderd.sip.changes import Changes, wants_audio_back
from recorderd.sip.conductor import Conductor
from recorderd.sip.dialogs import as_sent, record_word, taking_up
from recorderd.sip.library import LEFT, Reply
from recorderd.sip.report import Report
from recorderd.sip.sessions import Session
from recorderd.sip.settings import SipSettings
from recorderd.sip.streams import Change, DialogStreams, Line
from recorderd.wire.offer import describe_offer
from recorderd.wire.sdp import SessionDescription, parse_sdp
from recorderd.wire.sip_message import SipMessage, parse_sip

SDP_TYPE: Final = "application/sdp"
_SESSION: Final = re.compile(r"(?m)^o=\S+ (\d+)")
_WE_REFRESH: Final = re.compile(r"refresher[ \t]*=[ \t]*uas", re.IGNORECASE)  # which we never do


class Following:
    """Follows what such dialogs agree on."""

    def __init__(
        self,
        *,
        streams_of: Callable[[DialogId], DialogStreams],
        changes: Changes,
        conductor: Conductor,
        report: Report,
        settings: SipSettings,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._streams_of = streams_of
        self._changes = changes
        self._conductor = conductor
        self._report = report
        self._settings = settings
        self._clock = clock
        self._log = log
        self._streams: dict[DialogId, DialogStreams] = {}
        self._sdp: dict[DialogId, str] = {}  # ours, as the peer had it last
        self._awaiting: set[DialogId] = set()  # those that have an offer of ours; the answer comes in the ACK
        self._offered: dict[DialogId, SessionDescription] = {}  # theirs, as far as it came to us

    def go_on(self, answers: Mapping[DialogId, str]) -> None:
        """Know our SDP of dialogs that an earlier process has left."""
        self._sdp |= answers

    def forget(self, dialog: DialogId) -> None:
        """Follow a dialog no more."""
        self._streams.pop(dialog, None)
        self._sdp.pop(dialog, None)
        self._offered.pop(dialog, None)
        self._awaiting.discard(dialog)

    def follow(
        self,
        raw: str,
        message: SipMessage,
        session: Session,
        dialog: DialogId,
        lines: dict[StreamId, Line],
        *,
        arrived_mono_ns: int,
    ) -> Reply:
        """Answer an UPDATE or re-INVITE; ``lines`` are brought up to date."""
        ours, wire = self._sdp.get(dialog), raw.encode(errors="surrogateescape")
        try:
            said = describe_offer(message, leg_headers=self._settings.leg_headers)
            session, offered = self._changes.stated(session, said, arrived_mono_ns=arrived_mono_ns), said.sdp
            if message.method == "UPDATE" and not message.body.strip():
                return Reply(code=200, headers=kept_alive(raw, message))
            if ours is None or (offered is None and message.method != "INVITE"):
                return LEFT
            streams = self._streams.get(dialog) or self._known(session, dialog, lines)
        except FormatError as problem:
            self._log.warning(Ev.MALFORMED_SDP, subject=session.session, reason=problem)
            return LEFT
        if offered is not None and not streams.can_follow(offered):
            return LEFT
        if message.body:
            self._report.offer_kept(session, dialog, wire)
        if offered is not None:
            ours = self._answer(session, dialog, offered, lines)
        else:
            ours = self._offer(session, dialog)
        return Reply(code=200, headers=kept_alive(raw, message), body=ours, content_type=SDP_TYPE)

    def acknowledged(
        self,
        raw: str,
        session: Session,
        dialog: DialogId,
        lines: dict[StreamId, Line],
        *,
        arrived_mono_ns: int,
    ) -> None:
        """Follow the answer to an offer of ours."""
        if dialog not in self._awaiting:
            return
        wire = raw.encode(errors="surrogateescape")
        try:
            answer = describe_offer(parse_sip(wire), leg_headers=self._settings.leg_headers).sdp
        except FormatError as problem:
            self._log.warning(Ev.MALFORMED_SDP, subject=session.session, reason=problem)
            return
        if answer is None:
            return
        self._awaiting.discard(dialog)
        self._report.offer_kept(session, dialog, wire)
        self._apply(session, dialog, self._streams[dialog].accept_answer(answer), lines)
        self._follow_wishes(session, dialog, answer, arrived_mono_ns=arrived_mono_ns)

    def _known(self, session: Session, dialog: DialogId, lines: Mapping[StreamId, Line]) -> DialogStreams:
        """Make of what was left the streams of a dialog. Errors: FormatError."""
        ours = parse_sdp(self._sdp[dialog].encode())
        streams = self._streams[dialog] = self._streams_of(dialog)
        streams.go_on([lines[stream] for stream in session.dialogs[dialog] if stream in lines], ours)
        return streams

    def _answer(
        self,
        session: Session,
        dialog: DialogId,
        offered: SessionDescription,
        lines: dict[StreamId, Line],
    ) -> str:
        """Do what an offer asks; returns our SDP."""
        streams, ours = self._streams[dialog], self._sdp[dialog]
        found = _SESSION.search(ours)
        change = streams.answer(
            offered,
            session_id=int(found[1]) if found is not None else 1,
            want_audio_back=wants_audio_back(session),
            record_state=record_word(session) if "\na=record:" in ours else "",
        )
        answer = as_sent(change.answer.decode(), before=ours)
        self._apply(session, dialog, change, lines)
        self._sdp[dialog] = answer
        self._report.answered(session, dialog, answer)
        self._awaiting.discard(dialog)
        self._follow_wishes(session, dialog, offered, arrived_mono_ns=self._clock.mono_ns())
        return answer

    def _offer(self, session: Session, dialog: DialogId) -> str:
        """Offer what the peer had of us; lines that rest may be taken up."""
        ours = self._sdp[dialog]
        direction = "sendrecv" if wants_audio_back(session) else "recvonly"
        offer = self._sdp[dialog] = as_sent(taking_up(ours, direction=direction), before=ours)
        self._report.answered(session, dialog, offer)
        self._awaiting.add(dialog)
        return offer

    def _follow_wishes(
        self, session: Session, dialog: DialogId, theirs: SessionDescription, *, arrived_mono_ns: int
    ) -> None:
        before = self._offered.get(dialog) or _wanted_all(theirs)
        self._offered[dialog] = theirs
        self._changes.wishes(session, theirs, before=before, arrived_mono_ns=arrived_mono_ns)

    def _apply(
        self,
        session: Session,
        dialog: DialogId,
        change: Change,
        lines: dict[StreamId, Line],
    ) -> None:
        at_mono_ns = self._clock.mono_ns()
        for stream in change.closed:
            session.drop_stream(dialog, stream)
            lines.pop(stream, None)
            self._conductor.line_closed(session, stream)
            self._report.stream_ended(session, stream, StreamEnd.REPLACED, at_mono_ns=at_mono_ns)
        for line in self._streams[dialog].lines.values():
            lines[line.stream] = line
            self._conductor.line_changed(session, line)
            self._report.stream_held(session, line, at_mono_ns=at_mono_ns)
            self._report.stream_recoded(session, line)


def _wanted_all(offered: SessionDescription) -> SessionDescription:
    """Take it that the client had wanted every line recorded: what it had sent is not known any more.

    So a preference that is only repeated ends no pause, and one for a pause counts.
    """
    return replace(offered, media=tuple(replace(line, recordpref="on") for line in offered.media))


def kept_alive(raw: str, message: SipMessage) -> tuple[tuple[str, str], ...]:
    """Give the headers of an answer that refreshes a dialog: it was sent to what we had named."""
    expires = [row for row in message.headers("session-expires") if _WE_REFRESH.search(row) is None]
    return (
        ("Contact", f"<{raw.split(' ', 2)[1]}>"),
        *(("Session-Expires", row) for row in expires),
        *(("Require", "timer") for _ in expires),
    )
