"""What people ask of running sessions: by feature code, MESSAGE, INFO, NOTIFY, keys, or the control socket.

Contract: every request is answered with what became of it: done, or refused and why, by a spoken message or
by a SIP status. A request outside a dialog counts only from a party of the call or a supervisor; for one
within a dialog the exchange vouches. A call to a feature code is never recorded; we hang it up when the
message has been heard. Thread: the SIP thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pjsua2

from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import FormatError, RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import StreamId
from recorderd.core.messages import ControlAction, RecordingState
from recorderd.core.prompts import Prompt
from recorderd.policy.codes import may_control
from recorderd.policy.modes import Reason
from recorderd.sip.answering import Answering
from recorderd.sip.changes import Changes
from recorderd.sip.conductor import Conductor, Outcome
from recorderd.sip.dialogs import Dialog, DialogBook
from recorderd.sip.library import LEFT, RecorderCall, Reply
from recorderd.sip.sessions import Session, SessionBook
from recorderd.sip.settings import SipSettings
from recorderd.sip.speech import Speech
from recorderd.sip.streams import Change, DialogStreams
from recorderd.tap.drain import Tap
from recorderd.tap.ports import PortPool
from recorderd.wire.control_request import (
    CONTROL_HEADER,
    ControlRequest,
    ControlScope,
    Digit,
    read_control,
    read_feature_code,
)
from recorderd.wire.offer import Offer, describe_offer
from recorderd.wire.offered import read_header
from recorderd.wire.sdp import parse_sdp
from recorderd.wire.sip_message import SipMessage, parse_sip

LISTEN_NS: Final = 20 * NS_PER_S  # a feature call that nobody hangs up; the longest message takes 8 s
DONE: Final = {
    ControlAction.START: Prompt.RECORDING_STARTED,
    ControlAction.STOP: Prompt.RECORDING_STOPPED,
    ControlAction.PAUSE: Prompt.RECORDING_PAUSED,
    ControlAction.RESUME: Prompt.RECORDING_RESUMED,
    ControlAction.CONSENT: Prompt.CONSENT_NOTED,
    ControlAction.OBJECT: Prompt.OBJECTION_NOTED,
}
WHY_NOT: Final = {
    Reason.NOT_RECORDED: Prompt.NEVER_RECORDED,
    Reason.ALWAYS_RECORDED: Prompt.ALWAYS_RECORDED,
    Reason.NOT_ON_DEMAND: Prompt.ALWAYS_RECORDED,
    Reason.NOT_STARTED: Prompt.NOT_STARTED,
    Reason.NO_OBJECTION: Prompt.ALWAYS_RECORDED,
    Reason.MANDATORY: Prompt.ALWAYS_RECORDED,
    Reason.ERASED: Prompt.OBJECTED,
}
NO_CALL: Final = "no call of that user or id is being recorded"
NOT_ALLOWED: Final = "neither a party of the call nor a supervisor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a request, for whoever asked."""

    code: int
    reason: str  # empty when done
    spoken: tuple[Prompt, ...]  # names of messages
    session: Session | None = None


@dataclass(slots=True, kw_only=True)
class _FeatureCall:
    call: RecorderCall
    streams: DialogStreams
    sdp: str
    number: int  # of the SDP origin line
    spoken: tuple[Prompt, ...]
    hang_up_ns: int
    saying: bool = False
    answered_by: str = ""  # the Call-ID of the ACK that brings the answer to our offer


class Requests:
    """Everything that people ask."""

    def __init__(
        self,
        *,
        book: SessionBook,
        dialogs: DialogBook,
        conductor: Conductor,
        changes: Changes,
        answering: Answering,
        settings: SipSettings,
        ports: PortPool,
        tap: Tap,
        speech: Speech,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._book = book
        self._dialogs = dialogs
        self._conductor = conductor
        self._changes = changes
        self._answering = answering
        self._settings = settings
        self._ports = ports
        self._tap = tap
        self._speech = speech
        self._clock = clock
        self._log = log
        self._feature_calls: list[_FeatureCall] = []
        self._named = 0

    # --- deciding -----------------------------------------------------------------------------------

    def ask(self, request: ControlRequest, session: Session | None, *, arrived_mono_ns: int) -> Verdict:
        """Do what a request asks of a session, if whoever asks may."""
        if session is None:
            self._log.warning(
                Ev.CONTROL_REFUSED,
                action=request.action.value,
                by=request.by,
                via=request.via,
                reason=NO_CALL,
            )
            return Verdict(code=404, reason=NO_CALL, spoken=(Prompt.NOT_POSSIBLE, Prompt.NO_CALL))
        control = self._settings.control
        allowed = request.scope is ControlScope.DIALOG or may_control(
            request.by,
            parties=self._book.people(session),
            supervisors=control.supervisors,
            numbering=control.numbering,
        )
        if not allowed:
            self._log.warning(
                Ev.CONTROL_REFUSED,
                subject=session.session,
                action=request.action.value,
                **session.terms.told(by=request.by),
                via=request.via,
                reason=NOT_ALLOWED,
            )
            return Verdict(
                code=403,
                reason=NOT_ALLOWED,
                spoken=(Prompt.NOT_POSSIBLE, Prompt.NOT_ALLOWED),
                session=session,
            )
        outcome = self._conductor.request(
            session, request.action, by=request.by, via=request.via, arrived_mono_ns=arrived_mono_ns
        )
        return _verdict(request.action, outcome, session)

    def _find(self, request: ControlRequest) -> Session | None:
        if request.call_id:
            return self._book.find(f"call:{request.call_id}") or self._by_call_id(request.call_id)
        return self._book.of_user(request.by, numbering=self._settings.control.numbering)

    def _by_call_id(self, call_id: str) -> Session | None:
        entry = self._dialogs.of_sip_call_id(call_id)
        if entry is not None:
            return entry.session
        return next((session for session in self._book if session.description.call_id == call_id), None)

    # --- SIP requests ---------------------------------------------------------------------------------

    def message(self, entry: Dialog | None, message: SipMessage, *, arrived_mono_ns: int) -> Reply:
        """Answer an INFO, NOTIFY or MESSAGE; one outside a dialog that does not control is the library's."""
        names = self._settings.leg_headers
        linked = read_header(message, names.linked)
        if linked:
            return self._link(entry, read_header(message, names.call_id), linked)
        return self._asked(entry, message, arrived_mono_ns=arrived_mono_ns)

    def beside(self, entry: Dialog, message: SipMessage, *, arrived_mono_ns: int) -> Reply:
        """Do what the control header of an UPDATE or re-INVITE asks; LEFT when its other contents are due."""
        if not read_header(message, CONTROL_HEADER):  # consent is read with what is offered
            return LEFT
        reply = self._asked(entry, message, arrived_mono_ns=arrived_mono_ns)
        return LEFT if reply.code == 200 else reply

    def _asked(self, entry: Dialog | None, message: SipMessage, *, arrived_mono_ns: int) -> Reply:
        try:
            request = read_control(message, leg_headers=self._settings.leg_headers)
        except FormatError as problem:
            self._log.warning(Ev.MALFORMED_SIP, subject=message.method, reason=problem)
            return Reply(code=400, reason=_phrase(str(problem)))
        if isinstance(request, Digit):
            if entry is not None:
                self.digit(entry, request.digit, via="info", arrived_mono_ns=arrived_mono_ns)
            return Reply(code=200)
        if request is None:
            return Reply(code=200) if entry is not None or message.method == "MESSAGE" else Reply()
        if entry is None:  # whatever tag it bears, it came in no dialog of ours: nobody vouches for who asks
            request = replace(request, scope=ControlScope.CALL if request.call_id else ControlScope.USER)
        session = entry.session if entry is not None else self._find(request)
        verdict = self.ask(request, session, arrived_mono_ns=arrived_mono_ns)
        return Reply(code=verdict.code, reason=_phrase(verdict.reason))

    def digit(self, entry: Dialog, digit: str, *, via: str, arrived_mono_ns: int) -> None:
        """Take a key that was pressed in a dialog."""
        action = entry.digits.add(digit, now_ns=self._clock.mono_ns())
        if action is not None:
            self._conductor.request(entry.session, action, via=via, arrived_mono_ns=arrived_mono_ns)

    def _link(self, entry: Dialog | None, call_id: str, linked: str) -> Reply:
        session = entry.session if entry is not None else self._book.find(f"call:{call_id}")
        if session is None or self._book.find(f"call:{linked}") is None:
            return Reply(code=404, reason="No such call")
        if not self._changes.link(session, linked):
            return Reply(code=403, reason="These calls are recorded apart")
        return Reply(code=200)

    # --- the control socket -----------------------------------------------------------------------------

    def command(self, wish: dict[str, Any], *, arrived_mono_ns: int) -> dict[str, Any]:
        """Do what `recorderctl pause` and its kin ask."""
        action = ControlAction(wish["command"])
        wanted = {name: str(wish.get(name) or "") for name in ("session", "call", "extension", "by")}
        if wanted["session"]:
            session = self._book.get(wanted["session"])
        elif wanted["call"]:
            session = self._book.find(f"call:{wanted['call']}") or self._by_call_id(wanted["call"])
        else:
            session = self._book.of_user(wanted["extension"], numbering=self._settings.control.numbering)
        if session is None:
            return {"done": False, "reason": NO_CALL}
        outcome = self._conductor.request(
            session, action, by=wanted["by"], via="control_socket", arrived_mono_ns=arrived_mono_ns
        )
        answer = {"done": outcome.done, "session": session.session, "state": outcome.state.value}
        return answer if outcome.reason is None else {**answer, "reason": outcome.reason.value}

    # --- calls to feature codes ---------------------------------------------------------------------------

    def feature_call(
        self,
        call: RecorderCall,
        call_id: int,
        *,
        user: str,
        message: SipMessage,
        offer: Offer,
        arrived_mono_ns: int,
    ) -> None:
        """Do what a code asks, answer, say what became of it, and hang up."""
        control = self._settings.control
        request = read_feature_code(message, codes=control.actions, leg_headers=self._settings.leg_headers)
        if request is None:
            self._answering.refuse(call, 404, f"{user} is no feature code of ours")
            return
        verdict = self.ask(request, self._find(request), arrived_mono_ns=arrived_mono_ns)
        entry = self._open(call, call_id, offer, verdict.spoken if control.announce else ())
        if entry is None:
            return
        self._feature_calls.append(entry)
        lines = len(offer.sdp.media) if offer.sdp is not None else 1
        try:
            self._answering.accept(call, lines=lines)
        except pjsua2.Error as problem:
            self.over(call)
            self._log.warning(Ev.PROMPT_FAILED, subject=user, reason=problem.reason)

    def _open(
        self, call: RecorderCall, call_id: int, offer: Offer, spoken: tuple[Prompt, ...]
    ) -> _FeatureCall | None:
        streams = DialogStreams(
            ports=self._ports,
            tap=self._tap,
            address=self._settings.rtp_address,
            srtp=self._settings.srtp,
            log=self._log,
            name_stream=self._name,
        )
        try:
            if offer.sdp is not None:
                change = streams.answer(offer.sdp, session_id=call_id + 1, want_audio_back=True)
            else:
                change = streams.offer([""], session_id=call_id + 1, want_audio_back=True)
        except (RecorderError, ValueError) as problem:
            self._answering.refuse(call, 500, str(problem))
            return None
        if not change.opened:
            self._answering.refuse(call, 488, "no audio line to speak on")
            return None
        return _FeatureCall(
            call=call,
            streams=streams,
            sdp=change.answer.decode(),
            number=call_id + 1,
            spoken=spoken,
            hang_up_ns=self._clock.mono_ns() + LISTEN_NS,
            answered_by=offer.sip_call_id if offer.sdp is None else "",
        )

    def acknowledged(self, sip_call_id: str, raw: str) -> None:
        """Read from an ACK where a feature call is to hear us, if that was left to our offer."""
        entry = next((known for known in self._feature_calls if known.answered_by == sip_call_id), None)
        if entry is None:
            return
        try:
            message = parse_sip(raw.encode(errors="surrogateescape"))
            answer = describe_offer(message, leg_headers=self._settings.leg_headers).sdp
        except FormatError as problem:
            self._log.warning(Ev.MALFORMED_SDP, subject=sip_call_id, reason=problem)
            return
        if answer is not None:
            entry.answered_by = ""
            self._follow(entry, entry.streams.accept_answer(answer))

    def offered(self, call: RecorderCall, offer: str) -> int:
        """Take the SDP of a feature call's re-INVITE; return how many lines it has."""
        entry = self._of_call(call)
        if entry is None:
            return 0
        try:
            sdp = parse_sdp(offer.encode(errors="surrogateescape"))
        except FormatError as problem:
            self._log.warning(Ev.MALFORMED_SDP, reason=problem)
            return len(entry.streams.lines)
        change = entry.streams.answer(sdp, session_id=entry.number, want_audio_back=True)
        entry.sdp = change.answer.decode()
        self._follow(entry, change)
        return len(sdp.media)

    def _follow(self, entry: _FeatureCall, change: Change) -> None:
        """Go on speaking where a feature call's lines now are."""
        for stream in change.closed:
            self._speech.release(stream)
            self._tap.release_stream(stream)
        for line in entry.streams.lines.values():
            self._speech.follow(line)

    def _name(self) -> StreamId:
        self._named += 1
        return StreamId(f"feature-call/{self._named}")

    def local_sdp(self, call: RecorderCall) -> str | None:
        """Give our SDP for a feature call."""
        entry = self._of_call(call)
        return entry.sdp if entry is not None else None

    def awaits(self, call: RecorderCall) -> bool:
        """Tell whether a call is one that we speak on."""
        return self._of_call(call) is not None

    def established(self, call: RecorderCall) -> None:
        """Speak once the caller hears: its ACK has come."""
        entry = self._of_call(call)
        if entry is None or entry.saying:
            return
        entry.saying = True
        language = self._settings.control.language
        lines = list(entry.streams.lines.values())
        said = bool(entry.spoken and lines) and self._speech.say(lines[0], entry.spoken, language=language)
        if not said:
            self._hang_up(entry)

    def heard(self, stream: StreamId) -> None:
        """An utterance is over: nothing more is to be said on that call."""
        for entry in self._feature_calls:
            if any(line.stream == stream for line in entry.streams.lines.values()):
                self._hang_up(entry)

    def tick(self) -> None:
        """Hang up calls that last too long."""
        if not self._feature_calls:
            return
        now_ns = self._clock.mono_ns()
        for entry in self._feature_calls:
            if now_ns >= entry.hang_up_ns:
                entry.hang_up_ns = now_ns + LISTEN_NS
                self._hang_up(entry)

    def over(self, call: RecorderCall) -> bool:
        """Let go of a feature call; False when ``call`` is none."""
        entry = self._of_call(call)
        if entry is None:
            return False
        self._feature_calls.remove(entry)
        for line in entry.streams.lines.values():
            self._speech.release(line.stream)
            self._tap.release_stream(line.stream)
        return True

    def end_all(self) -> None:
        """Hang up every feature call."""
        for entry in self._feature_calls:
            self._hang_up(entry)

    @property
    def open_calls(self) -> Sequence[object]:
        """Feature calls that are up."""
        return tuple(self._feature_calls)

    def _of_call(self, call: RecorderCall) -> _FeatureCall | None:
        return next((entry for entry in self._feature_calls if entry.call is call), None)

    @staticmethod
    def _hang_up(entry: _FeatureCall) -> None:
        with contextlib.suppress(pjsua2.Error):
            entry.call.hangup(pjsua2.CallOpParam())


def _verdict(action: ControlAction, outcome: Outcome, session: Session) -> Verdict:
    if outcome.done:
        return Verdict(code=200, reason="", spoken=(DONE[action],), session=session)
    reason = outcome.reason
    if action is ControlAction.START and outcome.state is RecordingState.ON:
        spoken: tuple[Prompt, ...] = (Prompt.RECORDING_ACTIVE,)
    else:
        spoken = (Prompt.NOT_POSSIBLE, *([WHY_NOT[reason]] if reason in WHY_NOT else []))
    return Verdict(code=403, reason=reason.value if reason else "", spoken=spoken, session=session)


def _phrase(text: str) -> str:
    """Make a reason phrase that fits a status line."""
    return " ".join(text.split())[:80]
