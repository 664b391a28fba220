"""The desk: takes, changes and ends sessions, and tells the recording what it needs.

Contract: every INVITE gets an answer at once: ours with our own ports, or a refusal with an event. What was
accepted is told to the recording in order; admission keeps room in its queue. A dialog that ends takes its
streams with it; a session ends with its last dialog. Thread: the SIP thread.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import pjsua2

from recorderd.core.clock import Clock
from recorderd.core.errors import FormatError, RecorderError, SdpFormatError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import DialogId, SessionId, StreamId
from recorderd.core.messages import (
    CallDescribed,
    OfferReceived,
    Origin,
    RecordMessage,
    SessionEnded,
    SessionStarted,
    StreamEnd,
    StreamEnded,
    StreamOpened,
)
from recorderd.policy.admission import Admission
from recorderd.policy.peers import is_allowed
from recorderd.sip.library import RecorderCall
from recorderd.sip.sessions import Session, SessionBook
from recorderd.sip.settings import SipSettings
from recorderd.sip.streams import Change, DialogStreams
from recorderd.tap.drain import Tap
from recorderd.tap.ports import PortPool
from recorderd.wire.offer import Offer, OfferedLine, describe_offer
from recorderd.wire.sdp import SessionDescription, parse_sdp
from recorderd.wire.sip_message import parse_sip

FEATURE_PREFIX: Final = "*"  # *48 and the like: calls that control a recording are never recorded


@dataclass(slots=True, kw_only=True)
class _Dialog:
    call: RecorderCall
    dialog: DialogId
    streams: DialogStreams
    session: Session
    session_number: int  # of the SDP origin line
    answer: str | None = None
    ending: StreamEnd | None = None  # set when we hang up


class SessionDesk:
    """All sessions of the recorder."""

    def __init__(
        self,
        *,
        settings: SipSettings,
        ports: PortPool,
        tap: Tap,
        messages: queue.Queue[RecordMessage],
        admit: Callable[[int], Admission],
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._settings = settings
        self._ports = ports
        self._tap = tap
        self._messages = messages
        self._admit = admit
        self._clock = clock
        self._log = log
        self._book = SessionBook()
        self._dialogs: dict[int, _Dialog] = {}  # by the library's call id
        self._refused: list[RecorderCall] = []  # kept until their end: a call that is dropped answers 603
        self._calls_taken = 0

    @property
    def dialogs(self) -> int:
        """Dialogs that are open."""
        return len(self._dialogs)

    @property
    def sessions(self) -> int:
        """Sessions that are open."""
        return len(self._book)

    def admission(self) -> Admission:
        """Say whether the next session would be taken."""
        return self._admit(len(self._dialogs))

    def incoming(self, call: RecorderCall, call_id: int, raw: str, source: str) -> None:
        """Take or refuse an INVITE."""
        at_mono_ns, at_utc_ns = self._clock.mono_ns(), self._clock.utc_ns()
        peer = source.rpartition(":")[0].strip("[]")
        if not is_allowed(peer, self._settings.allowed):
            self._refuse(call, 403, f"{peer} is not in sip.allow_from")
            return
        admission = self.admission()
        if not admission.accept:
            self._refuse(call, 503, admission.reason, retry_after_s=admission.retry_after_s)
            return
        wire = raw.encode(errors="surrogateescape")
        try:
            message = parse_sip(wire)
            offer = describe_offer(message, leg_headers=self._settings.leg_headers)
        except FormatError as problem:
            event = Ev.MALFORMED_SDP if isinstance(problem, SdpFormatError) else Ev.MALFORMED_SIP
            self._log.warning(event, subject=peer, reason=problem)
            self._refuse(call, 400, str(problem))
            return
        if message.request_uri.partition(":")[2].startswith(FEATURE_PREFIX):
            self._refuse(call, 404, f"{message.request_uri} is a feature code, not a call to record")
            return
        if offer.sdp is None:
            self._refuse(call, 488, "no SDP in the INVITE")
            return
        if offer.metadata_problem is not None:
            self._log.warning(Ev.MALFORMED_METADATA, subject=peer, reason=offer.metadata_problem)
        self._accept(call, call_id, offer, offer.sdp, wire, at_mono_ns=at_mono_ns, at_utc_ns=at_utc_ns)

    def _accept(
        self,
        call: RecorderCall,
        call_id: int,
        offer: Offer,
        sdp: SessionDescription,
        wire: bytes,
        *,
        at_mono_ns: int,
        at_utc_ns: int,
    ) -> None:
        dialog = DialogId(f"{offer.sip_call_id}#{call_id}")
        is_leg = offer.description.origin is Origin.LEG and offer.has_call_id
        key = f"leg:{offer.description.call_id}" if is_leg else f"dialog:{dialog}"
        session, is_new = self._book.join(dialog, key=key, description=offer.description, at_utc_ns=at_utc_ns)
        streams = DialogStreams(
            ports=self._ports,
            tap=self._tap,
            address=self._settings.rtp_address,
            srtp=self._settings.srtp,
            log=self._log,
            name_stream=lambda: session.name_stream(dialog),
        )
        self._calls_taken += 1
        entry = _Dialog(
            call=call,
            dialog=dialog,
            streams=streams,
            session=session,
            session_number=self._calls_taken,
        )
        try:
            change = streams.answer(sdp, session_id=entry.session_number, rate_hz=self._rate_of(session))
            if change.opened:
                self._dialogs[call_id] = entry
                self._send_answer(entry, change, lines=len(sdp.media))
        except (pjsua2.Error, RecorderError, ValueError) as problem:
            reason = getattr(problem, "reason", str(problem))
            self._log.error(Ev.SESSION_FAILED, subject=session.session, reason=reason)
            self._take_back(call_id, entry)
            self._refuse(call, 500, reason)
            return
        if not change.opened:
            self._take_back(call_id, entry)
            self._refuse(call, 488, "no audio line that can be recorded")
            return
        if is_new:
            self._log.info(
                Ev.SESSION_STARTED,
                subject=session.session,
                call_id=offer.description.call_id,
                origin=offer.description.origin.value,
                caller=offer.description.caller,
                callee=offer.description.callee,
            )
            self._tell(
                SessionStarted(
                    session=session.session,
                    description=offer.description,
                    at_mono_ns=at_mono_ns,
                    at_utc_ns=at_utc_ns,
                )
            )
        self._tell_offer(entry, wire, at_utc_ns)
        self._tell_change(entry, offer, change, at_mono_ns)

    def local_sdp(self, call: RecorderCall, offer: str) -> str | None:
        """Give our answer to the offer that the library is about to answer."""
        entry = next((entry for entry in self._dialogs.values() if entry.call is call), None)
        return entry.answer if entry is not None else None

    def reinvited(self, call: RecorderCall, raw: str, offer: str) -> int:
        """Take a re-INVITE: same ports for the same lines, new lines opened, removed ones closed."""
        entry = next((entry for entry in self._dialogs.values() if entry.call is call), None)
        wire = raw.encode(errors="surrogateescape")
        if entry is None:
            return 0
        try:
            described = describe_offer(parse_sip(wire), leg_headers=self._settings.leg_headers)
            sdp = described.sdp or parse_sdp(offer.encode(errors="surrogateescape"))
        except FormatError as problem:
            self._log.warning(Ev.MALFORMED_SDP, subject=entry.session.session, reason=problem)
            return len(entry.streams.lines)
        change = entry.streams.answer(
            sdp, session_id=entry.session_number, rate_hz=self._rate_of(entry.session)
        )
        entry.answer = change.answer.decode()
        at_mono_ns = self._clock.mono_ns()
        for stream in change.closed:
            entry.session.drop_stream(entry.dialog, stream)
            self._tell_stream_end(entry.session.session, stream, StreamEnd.REPLACED, at_mono_ns)
        self._tell_offer(entry, wire, self._clock.utc_ns())
        self._tell_change(entry, described, change, at_mono_ns)
        if described.metadata is not None and described.metadata.datamode == "complete":
            known = entry.session.description  # a part of the metadata says nothing of what it leaves out
            entry.session.description = replace(described.description, call_id=known.call_id)
            self._tell(CallDescribed(session=entry.session.session, description=entry.session.description))
        return len(sdp.media)

    def disconnected(self, call: RecorderCall, code: int, reason: str) -> None:
        """A dialog is over, by the peer or by us."""
        self._refused = [entry for entry in self._refused if entry is not call]
        for call_id, entry in list(self._dialogs.items()):
            if entry.call is call:
                del self._dialogs[call_id]
                cause = entry.ending
                if cause is None:
                    cause = StreamEnd.BYE if 200 <= code < 300 else StreamEnd.SIGNALLING_LOST
                self._leave(entry, cause)

    def end_session(self, wanted: SessionId, cause: StreamEnd) -> None:
        """Hang up every dialog of a session."""
        for entry in list(self._dialogs.values()):
            if entry.session.session == wanted:
                self._end(entry, cause)

    def end_all(self, cause: StreamEnd) -> None:
        """Hang up every dialog."""
        for entry in list(self._dialogs.values()):
            self._end(entry, cause)

    def abandon_all(self, cause: StreamEnd) -> None:
        """End the sessions whose peers did not answer our BYE."""
        for entry in list(self._dialogs.values()):
            self._leave(entry, cause)
        self._dialogs.clear()

    def _end(self, entry: _Dialog, cause: StreamEnd) -> None:
        if entry.ending is None:
            entry.ending = cause
            with contextlib.suppress(pjsua2.Error):
                entry.call.hangup(pjsua2.CallOpParam())

    def _leave(self, entry: _Dialog, cause: StreamEnd) -> None:
        at_mono_ns = self._clock.mono_ns()
        left = self._book.leave(entry.dialog, at_mono_ns=at_mono_ns)
        if left is None:
            return
        session = left.session.session
        for stream in left.streams:
            self._tell_stream_end(session, stream, cause, at_mono_ns)
        if left.is_over:
            self._log.info(Ev.SESSION_ENDED, subject=session, cause=cause.value)
            self._tell(
                SessionEnded(
                    session=session,
                    cause=cause,
                    at_mono_ns=left.ended_mono_ns,
                    at_utc_ns=self._clock.utc_ns(),
                )
            )

    def _send_answer(self, entry: _Dialog, change: Change, *, lines: int) -> None:
        entry.answer = change.answer.decode()
        answer = pjsua2.CallOpParam(True)
        answer.statusCode = 200
        answer.opt.audioCount = lines
        answer.opt.videoCount = answer.opt.textCount = 0
        entry.call.answer(answer)

    def _take_back(self, call_id: int, entry: _Dialog) -> None:
        """Undo what was opened for a dialog that nobody was told of."""
        self._dialogs.pop(call_id, None)
        self._book.leave(entry.dialog, at_mono_ns=self._clock.mono_ns())
        for line in entry.streams.lines.values():
            self._tap.release_stream(line.stream)

    def _refuse(self, call: RecorderCall, code: int, reason: str, *, retry_after_s: int = 0) -> None:
        self._log.warning(Ev.SESSION_REFUSED, subject=str(code), reason=reason)
        self._refused.append(call)
        answer = pjsua2.CallOpParam()
        answer.statusCode = code
        if retry_after_s:
            header = pjsua2.SipHeader()
            header.hName, header.hValue = "Retry-After", str(retry_after_s)
            answer.txOption.headers.append(header)
        with contextlib.suppress(pjsua2.Error):  # the dialog may be over already
            call.answer(answer)

    def _rate_of(self, session: Session) -> int | None:
        for entry in self._dialogs.values():
            if entry.session is session:
                for line in entry.streams.lines.values():
                    return line.codecs[0].clock_rate_hz
        return None

    # --- what the recording is told -------------------------------------------------------------

    def _tell_change(self, entry: _Dialog, offer: Offer, change: Change, at_mono_ns: int) -> None:
        for number, line in change.opened:
            described = (
                offer.lines[number]
                if number < len(offer.lines)
                else OfferedLine(label=str(number), side_rank=number)
            )
            self._log.info(Ev.STREAM_OPENED, subject=line.stream, port=line.port, label=described.label)
            self._tell(
                StreamOpened(
                    session=entry.session.session,
                    stream=line.stream,
                    dialog=entry.dialog,
                    label=described.label,
                    side_rank=described.side_rank,
                    codecs=line.codecs,
                    local_port=line.port,
                    at_mono_ns=at_mono_ns,
                    participant_ids=described.participant_ids,
                )
            )

    def _tell_offer(self, entry: _Dialog, wire: bytes, at_utc_ns: int) -> None:
        session = entry.session.session
        self._tell(OfferReceived(session=session, dialog=entry.dialog, raw=wire, at_utc_ns=at_utc_ns))

    def _tell_stream_end(
        self, session: SessionId, stream: StreamId, cause: StreamEnd, at_mono_ns: int
    ) -> None:
        self._tap.end_stream(stream)
        self._log.info(Ev.STREAM_ENDED, subject=stream, cause=cause.value)
        self._tell(StreamEnded(session=session, stream=stream, cause=cause, at_mono_ns=at_mono_ns))

    def _tell(self, message: RecordMessage) -> None:
        try:
            self._messages.put(message, timeout=1.0)  # admission keeps QUEUE_RESERVE free: never waits
        except queue.Full:
            self._log.error(Ev.QUEUE_FULL, subject=message.session, message=type(message).__name__)
