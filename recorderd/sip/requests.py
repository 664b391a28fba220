"""What people ask of running sessions: by feature code, MESSAGE, INFO, NOTIFY, keys, or the control socket.

Contract: every request is answered with what became of it: done, or refused and why, by a spoken message or
by a SIP status. A request outside a dialog counts only from a party of the call or a supervisor; for one
within a dialog the exchange vouches. Calls to feature codes are ``feature_calls``'. Thread: the SIP thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from recorderd.core.clock import Clock
from recorderd.core.errors import FormatError
from recorderd.core.events import Ev, EventLog
from recorderd.core.messages import ControlAction, RecordingState
from recorderd.core.prompts import Prompt
from recorderd.policy.codes import may_control
from recorderd.policy.modes import Reason
from recorderd.sip.changes import Changes
from recorderd.sip.conductor import Conductor, Outcome
from recorderd.sip.dialogs import DialogBook
from recorderd.sip.library import LEFT, Reply
from recorderd.sip.sessions import Session, SessionBook
from recorderd.sip.settings import SipSettings
from recorderd.wire.control_request import (
    CONTROL_HEADER,
    ControlRequest,
    ControlScope,
    Digit,
    read_control,
)
from recorderd.wire.digits import DigitCollector
from recorderd.wire.offered import read_header
from recorderd.wire.sip_message import SipMessage

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


class Within(Protocol):
    """A dialog in which something is asked, be it the library's or one of an earlier process."""

    session: Session
    digits: DigitCollector


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a request, for whoever asked."""

    code: int
    reason: str  # empty when done
    spoken: tuple[Prompt, ...]  # names of messages
    session: Session | None = None


class Requests:
    """Everything that people ask."""

    def __init__(
        self,
        *,
        book: SessionBook,
        dialogs: DialogBook,
        conductor: Conductor,
        changes: Changes,
        settings: SipSettings,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._book = book
        self._dialogs = dialogs
        self._conductor = conductor
        self._changes = changes
        self._settings = settings
        self._clock = clock
        self._log = log

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

    def find(self, request: ControlRequest) -> Session | None:
        """Find the session that a request is about."""
        if request.call_id:
            return self._book.find(f"call:{request.call_id}") or self._by_call_id(request.call_id)
        return self._book.of_user(request.by, numbering=self._settings.control.numbering)

    def _by_call_id(self, call_id: str) -> Session | None:
        entry = self._dialogs.of_sip_call_id(call_id)
        if entry is not None:
            return entry.session
        return next((session for session in self._book if session.description.call_id == call_id), None)

    # --- SIP requests ---------------------------------------------------------------------------------

    def message(self, entry: Within | None, message: SipMessage, *, arrived_mono_ns: int) -> Reply:
        """Answer an INFO, NOTIFY or MESSAGE; one outside a dialog that does not control is the library's."""
        names = self._settings.leg_headers
        linked = read_header(message, names.linked)
        if linked:
            return self._link(entry, read_header(message, names.call_id), linked)
        return self._asked(entry, message, arrived_mono_ns=arrived_mono_ns)

    def beside(self, entry: Within, message: SipMessage, *, arrived_mono_ns: int) -> Reply:
        """Do what the control header of an UPDATE or re-INVITE asks; LEFT when its other contents are due."""
        if not read_header(message, CONTROL_HEADER):  # consent is read with what is offered
            return LEFT
        reply = self._asked(entry, message, arrived_mono_ns=arrived_mono_ns)
        return LEFT if reply.code == 200 else reply

    def _asked(self, entry: Within | None, message: SipMessage, *, arrived_mono_ns: int) -> Reply:
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
        session = entry.session if entry is not None else self.find(request)
        verdict = self.ask(request, session, arrived_mono_ns=arrived_mono_ns)
        return Reply(code=verdict.code, reason=_phrase(verdict.reason))

    def digit(self, entry: Within, digit: str, *, via: str, arrived_mono_ns: int) -> None:
        """Take a key that was pressed in a dialog."""
        action = entry.digits.add(digit, now_ns=self._clock.mono_ns())
        if action is not None:
            self._conductor.request(entry.session, action, via=via, arrived_mono_ns=arrived_mono_ns)

    def _link(self, entry: Within | None, call_id: str, linked: str) -> Reply:
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
