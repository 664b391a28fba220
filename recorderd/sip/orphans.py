"""Dialogs of an earlier process: the library does not know them, the exchange still does.

Contract: their sessions go on to be recorded. A BYE of such a dialog is answered with 200 and ends it, as
does a silence past the limit; a new INVITE for the same call joins its session (see ``sessions``). An UPDATE
or re-INVITE that keeps the dialog alive (session timers), or changes what ``following`` can follow, gets 200:
else an exchange would hang up within the half hour. What is asked of the recording within such a dialog, by
whatever header, body or key, is done or refused as it was before; nobody is told of a pause that is none.
What else comes of such a dialog is answered by the library: 481. Nothing can be asked of the peer.
Thread: the SIP thread.
Source: RFC 3261 sections 12.2.2 and 15.1.2; RFC 4028 section 9; RFC 3311 section 5.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from recorderd.core.clock import Clock
from recorderd.core.errors import FormatError
from recorderd.core.ids import DialogId, StreamId
from recorderd.core.messages import ControlAction, RecordingChanged, StreamEnd
from recorderd.policy.peers import is_allowed
from recorderd.sip.conductor import Conductor
from recorderd.sip.following import Following
from recorderd.sip.library import LEFT, Reply
from recorderd.sip.report import Report
from recorderd.sip.requests import Requests
from recorderd.sip.sessions import Left, Session, SessionBook
from recorderd.sip.settings import SipSettings
from recorderd.sip.standing import LeftSession
from recorderd.sip.streams import Line
from recorderd.wire.digits import DigitCollector
from recorderd.wire.offer import Offer
from recorderd.wire.offered import is_in_dialog
from recorderd.wire.sip_message import parse_sip

CONTROL: Final = ("INFO", "NOTIFY", "MESSAGE")
_CALL_ID: Final = re.compile(r"\n(?:call-id|i)[ \t]*:[ \t]*(\S+)", re.IGNORECASE)


@dataclass(slots=True, kw_only=True)
class Orphan:
    """One such dialog, as far as somebody asks something in it."""

    session: Session
    digits: DigitCollector


class Orphans:
    """All such dialogs."""

    def __init__(
        self,
        *,
        book: SessionBook,
        conductor: Conductor,
        report: Report,
        following: Following,
        requests: Requests,
        settings: SipSettings,
        clock: Clock,
    ) -> None:
        self._book = book
        self._conductor = conductor
        self._report = report
        self._following = following
        self._requests = requests
        self._settings = settings
        self._clock = clock
        self._by_call_id: dict[str, DialogId] = {}
        self._digits: dict[DialogId, DigitCollector] = {}
        self._lines: dict[StreamId, Line] = {}

    def __len__(self) -> int:
        return len(self._by_call_id)

    def go_on(self, left: LeftSession) -> None:
        """Take the dialogs of a session that an earlier process has left."""
        session = left.session
        self._book.go_on(session)
        for dialog in session.dialogs:
            call_id = left.sip_call_ids.get(dialog, dialog)
            self._by_call_id[call_id] = dialog
            self._digits[dialog] = DigitCollector(codes=self._settings.control.codes_for(session.terms))
        self._lines |= left.lines
        self._following.go_on(left.answers)
        at_mono_ns = self._clock.mono_ns()
        self._conductor.go_on(session, held=_is_held(left), at_mono_ns=at_mono_ns)
        self._report.go_on(left.told.values())
        if not session.dialogs:  # the last one had just ended
            over = Left(session=session, streams=list(left.lines), is_over=True, ended_mono_ns=at_mono_ns)
            self._book.forget(session)
            self._tell(over, StreamEnd.BYE, at_mono_ns)
        elif not left.lines:  # the recording was told of none: it would never find this one silent
            for dialog in list(session.dialogs):
                self._by_call_id.pop(left.sip_call_ids.get(dialog, dialog), None)
                self._digits.pop(dialog, None)
                self._book.leave(dialog, at_mono_ns=at_mono_ns)
            over = Left(session=session, streams=[], is_over=True, ended_mono_ns=at_mono_ns)
            self._tell(over, StreamEnd.SIGNALLING_LOST, at_mono_ns)

    def lines_of(self, session: Session) -> list[Line]:
        """List the lines of a session's dialogs."""
        streams = [stream for streams in session.dialogs.values() for stream in streams]
        return [self._lines[stream] for stream in streams if stream in self._lines]

    def session_of(self, offer: Offer) -> Session | None:
        """Find the session that a new dialog goes on with: the one of the same call."""
        for dialog in self._by_call_id.values() if offer.has_call_id else ():
            session = self._book.of_dialog(dialog)
            if session is not None and session.description.call_id == offer.description.call_id:
                return session
        return None

    def begun_anew(self, sip_call_id: str) -> None:
        """A client has begun such a dialog once more: our answer never came to it, the old one is over."""
        if sip_call_id in self._by_call_id:
            self._leave(sip_call_id, StreamEnd.SIGNALLING_LOST)

    def of_stream(self, stream: StreamId) -> Orphan | None:
        """Find the dialog of a stream."""
        return next(
            (
                Orphan(session=session, digits=self._digits[dialog])
                for dialog in self._by_call_id.values()
                if (session := self._book.of_dialog(dialog)) is not None and stream in session.dialogs[dialog]
            ),
            None,
        )

    def requested(self, raw: str, source: str, *, arrived_mono_ns: int) -> Reply:
        """Answer what comes of such a dialog: its BYE, what is asked in it, and what goes on with it."""
        call_id = self._call_id_of(raw, source)
        if call_id is None:
            return LEFT
        if raw.startswith("BYE "):
            self._leave(call_id, StreamEnd.BYE)
            return Reply(code=200)
        dialog = self._by_call_id[call_id]
        session = self._book.of_dialog(dialog)
        if session is not None and raw.startswith("ACK "):
            self._following.acknowledged(raw, session, dialog, self._lines, arrived_mono_ns=arrived_mono_ns)
            return LEFT
        try:
            message = parse_sip(raw.encode(errors="surrogateescape"))
        except FormatError:
            return LEFT
        if session is None or not is_in_dialog(message):
            return LEFT
        orphan = Orphan(session=session, digits=self._digits[dialog])
        if message.method == "OPTIONS":  # whether the dialog still stands
            return Reply(code=200)
        if message.method in CONTROL:
            return self._requests.message(orphan, message, arrived_mono_ns=arrived_mono_ns)
        refused = self._requests.beside(orphan, message, arrived_mono_ns=arrived_mono_ns)
        if refused is not LEFT:
            return refused
        return self._following.follow(
            raw, message, session, dialog, self._lines, arrived_mono_ns=arrived_mono_ns
        )

    def _call_id_of(self, raw: str, source: str) -> str | None:
        found = _CALL_ID.search(raw)
        known = found is not None and found[1] in self._by_call_id
        if found is None or not known or not is_allowed(_host(source), self._settings.allowed):
            return None
        return found[1]

    def end(self, session: Session | None, cause: StreamEnd) -> None:
        """End the dialogs of a session; of all, if it is None."""
        for call_id, dialog in list(self._by_call_id.items()):
            if session is None or self._book.of_dialog(dialog) is session:
                self._leave(call_id, cause)

    def _leave(self, call_id: str, cause: StreamEnd) -> None:
        at_mono_ns = self._clock.mono_ns()
        dialog = self._by_call_id.pop(call_id)
        self._following.forget(dialog)
        del self._digits[dialog]
        left = self._book.leave(dialog, at_mono_ns=at_mono_ns)
        if left is not None:
            for stream in left.streams:
                self._lines.pop(stream, None)
            self._tell(left, cause, at_mono_ns)

    def _tell(self, left: Left, cause: StreamEnd, at_mono_ns: int) -> None:
        tell_left(left, cause, conductor=self._conductor, report=self._report, at_mono_ns=at_mono_ns)


def _is_held(left: LeftSession) -> bool:
    """Tell whether the pause of a session is its client's hold."""
    changes = [message for message in left.told.values() if isinstance(message, RecordingChanged)]
    by_client = bool(changes) and (changes[-1].action, changes[-1].via) == (ControlAction.PAUSE, "siprec")
    return by_client and bool(left.lines) and all(line.held for line in left.lines.values())


def _host(source: str) -> str:
    return source.rpartition(":")[0].strip("[]")


def tell_left(left: Left, cause: StreamEnd, *, conductor: Conductor, report: Report, at_mono_ns: int) -> None:
    """Tell what ended with a dialog."""
    for stream in left.streams:
        conductor.line_closed(left.session, stream)
        report.stream_ended(left.session, stream, cause, at_mono_ns=at_mono_ns)
    if left.is_over:
        conductor.forget(left.session.session)
        report.session_ended(left.session, cause, at_mono_ns=left.ended_mono_ns)
