"""The conductor: what becomes of a running session, by whose wish, and what its parties hear of it.

Contract: ``request`` applies what somebody asks (``policy.modes`` decides), tells the recording at once and
says how it went; ``tick`` does what time does: consent that does not come, pauses that last, beeps. A
prompt is said on every line that carries audio back; recording begins when the last of them has been heard,
or at once, with an event, where nobody can hear one. One that a hold cuts off is said anew afterwards. A
pause, a stop and an objection count from the earliest instant at which the request can have arrived,
everything else from now. A session for which time does nothing is looked at by no ``tick``. Thread: the SIP
thread.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import SessionId, StreamId
from recorderd.core.messages import (
    ControlAction,
    ControlRefused,
    RecordingChanged,
    RecordingState,
    RecordMessage,
)
from recorderd.core.prompts import Prompt
from recorderd.core.terms import RecordingTerms
from recorderd.policy.modes import Reason, Refusal, step
from recorderd.sip.sessions import Session
from recorderd.sip.speech import Speech
from recorderd.sip.streams import Line

FROM_ARRIVAL: Final = (ControlAction.PAUSE, ControlAction.STOP, ControlAction.OBJECT)
EVENTS: Final = {
    ControlAction.START: Ev.RECORDING_STARTED,
    ControlAction.STOP: Ev.RECORDING_STOPPED,
    ControlAction.PAUSE: Ev.RECORDING_PAUSED,
    ControlAction.RESUME: Ev.RECORDING_RESUMED,
    ControlAction.CONSENT: Ev.CONSENT_GIVEN,
    ControlAction.OBJECT: Ev.RECORDING_OBJECTED,
    ControlAction.CONSENT_TIMED_OUT: Ev.CONSENT_TIMED_OUT,
    ControlAction.PAUSE_TIMED_OUT: Ev.PAUSE_TIMED_OUT,
    ControlAction.PROMPT_ENDED: Ev.RECORDING_STARTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a request went."""

    done: bool
    state: RecordingState
    reason: Reason | None = None  # why not


@dataclass(slots=True, kw_only=True)
class _Watch:
    """What time does to one session."""

    changed_mono_ns: int  # nothing may be dated before this
    prompting: set[StreamId] = field(default_factory=set)  # lines on which the prompt is being said
    about_to_hear: dict[StreamId, tuple[Line, int]] = field(default_factory=dict)  # and from when on
    cut_off: set[StreamId] = field(default_factory=set)  # lines that a hold has taken from the prompt
    was_heard: bool = False  # the prompt, by somebody
    prompt_due_ns: int | None = None  # when the prompt is given up for want of a line
    consent_due_ns: int | None = None
    paused_mono_ns: int | None = None
    held: bool = False  # it is paused for the client holds all its lines, and by nobody's wish
    pause_warned: bool = False
    beep_due_ns: int = 0
    planned_ns: int | None = None  # when it will be looked at; None = it waits for nothing

    def next_due_ns(self, terms: RecordingTerms) -> int | None:
        """Say when time will bring something about; None = never."""
        due = [due_ns for _, due_ns in self.about_to_hear.values()]
        due += [due_ns for due_ns in (self.prompt_due_ns, self.consent_due_ns) if due_ns is not None]
        if terms.pause_limit_s and self.paused_mono_ns is not None and not self.pause_warned:
            due.append(self.paused_mono_ns + terms.pause_limit_s * NS_PER_S)
        if terms.beep_every_s:
            due.append(self.beep_due_ns)
        return min(due, default=None)


PROMPT_WAIT_NS: Final = NS_PER_S  # for a leg that carries audio back: legs of one call come one by one
LISTEN_AFTER_NS: Final = NS_PER_S // 5  # Asterisk takes up a leg's audio 0.1 s after the answer


class Conductor:
    """The conduct of all sessions."""

    def __init__(
        self,
        *,
        tell: Callable[[RecordMessage], None],
        lines_of: Callable[[Session], Sequence[Line]],
        signal: Callable[[Session], None],
        speech: Speech,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._tell = tell
        self._lines_of = lines_of
        self._signal = signal  # tells record-aware peers of the new state
        self._speech = speech
        self._clock = clock
        self._log = log
        self._watches: dict[SessionId, tuple[Session, _Watch]] = {}
        self._due: list[tuple[int, int, SessionId]] = []  # a heap; what no longer holds is passed over
        self._order = itertools.count()
        self._prompted: dict[StreamId, SessionId] = {}  # lines on which a prompt is being said
        self._cut_short: list[StreamId] = []  # of such a prompt on them the end is still to be reported

    def began(self, session: Session, *, at_mono_ns: int) -> None:
        """Take a new session."""
        watch = _Watch(changed_mono_ns=at_mono_ns)
        if session.conduct.prompt_pending:
            watch.prompt_due_ns = at_mono_ns + PROMPT_WAIT_NS
        else:
            self._await_consent(session, watch, at_mono_ns)
        watch.beep_due_ns = at_mono_ns + session.terms.beep_every_s * NS_PER_S
        self._watches[session.session] = (session, watch)
        self._plan(session, watch)

    def go_on(self, session: Session, *, held: bool, at_mono_ns: int) -> None:
        """Take a session of an earlier process as it stands; what it waited for, it waits for anew.

        ``held`` says that a pause is the client's hold.
        """
        self.began(session, at_mono_ns=at_mono_ns)
        _, watch = self._watches[session.session]
        self._note_pause(watch, session.conduct.state, at_mono_ns=at_mono_ns)
        watch.held = held and watch.paused_mono_ns is not None
        for line in self._lines_of(session):
            self.line_opened(session, line)
        self._plan(session, watch)

    def line_opened(self, session: Session, line: Line) -> None:
        """Say the prompt on a line that came while it is pending."""
        found = self._watches.get(session.session)
        if found is None or not session.conduct.prompt_pending or not line.carries_audio_back:
            return
        if line.stream not in found[1].prompting:
            found[1].about_to_hear[line.stream] = (line, self._clock.mono_ns() + LISTEN_AFTER_NS)
            self._plan(*found)

    def line_changed(self, session: Session, line: Line) -> None:
        """A line goes elsewhere, or is held: so does what is being said on it.

        A prompt that a hold has cut off is said anew when the line is taken up.
        """
        self._speech.follow(line)
        found = self._watches.get(session.session)
        if found is None:
            return
        watch, stream = found[1], line.stream
        if line.carries_audio_back and stream in watch.cut_off:
            watch.cut_off.discard(stream)
            watch.about_to_hear[stream] = (line, self._clock.mono_ns() + LISTEN_AFTER_NS)
            self._plan(*found)
        elif not line.carries_audio_back and stream in watch.prompting:
            watch.prompting.discard(stream)
            del self._prompted[stream]
            self._cut_short.append(stream)
            watch.cut_off.add(stream)
        elif not line.carries_audio_back and watch.about_to_hear.pop(stream, None) is not None:
            watch.cut_off.add(stream)
        if watch.cut_off:
            self._all_heard(*found)

    def line_closed(self, session: Session, stream: StreamId) -> None:
        """A line of a session is no more: nothing is to be said on it."""
        self._speech.release(stream)
        found = self._watches.get(session.session)
        if found is None:
            return
        was_cut_off = stream in found[1].cut_off
        found[1].cut_off.discard(stream)
        if found[1].about_to_hear.pop(stream, None) is None and not was_cut_off:
            return
        if found[1].prompt_due_ns is None:  # else another leg may still come
            self._all_heard(*found)

    def heard(self, stream: StreamId) -> None:
        """An utterance on a stream is over."""
        if stream in self._cut_short:
            self._cut_short.remove(stream)
            return
        prompted = self._prompted.pop(stream, None)
        found = self._watches.get(prompted) if prompted is not None else None
        if found is None:
            return
        found[1].prompting.discard(stream)
        found[1].was_heard = True
        self._all_heard(*found)

    def _all_heard(self, session: Session, watch: _Watch) -> None:
        """End the prompt when nobody is left who is to hear it."""
        if session.conduct.prompt_pending and not self._is_awaited(session, watch):
            self.request(session, ControlAction.PROMPT_ENDED, via="timer")

    def _is_awaited(self, session: Session, watch: _Watch) -> bool:
        """Tell whether somebody is still to hear the prompt before recording begins.

        A line that is held is waited for only where nobody has heard it and nothing comes that would be lost.
        """
        if watch.prompting or watch.about_to_hear:
            return True
        rests = all(line.is_still for line in self._lines_of(session))
        return bool(watch.cut_off) and not watch.was_heard and rests

    def _await_consent(self, session: Session, watch: _Watch, from_ns: int) -> None:
        if session.conduct.consent_pending:
            watch.consent_due_ns = from_ns + session.terms.consent_wait_s * NS_PER_S

    def forget(self, session: SessionId) -> None:
        """A session is over."""
        found = self._watches.pop(session, None)
        for stream in found[1].prompting if found is not None else ():
            self._prompted.pop(stream, None)

    def request(
        self,
        session: Session,
        action: ControlAction,
        *,
        via: str,
        by: str = "",
        reason: str = "",
        arrived_mono_ns: int | None = None,
    ) -> Outcome:
        """Do what somebody asks of a session, if its rule and its state allow it."""
        now_ns, at_utc_ns = self._clock.mono_ns(), self._clock.utc_ns()
        watch = self._watches[session.session][1]
        after = step(session.conduct, action, terms=session.terms)
        if isinstance(after, Refusal):
            self._log.warning(
                Ev.CONTROL_REFUSED, subject=session.session, action=action.value,
                **session.terms.told(by=by), via=via, reason=after.reason.value,
            )  # fmt: skip
            self._tell(
                ControlRefused(
                    session=session.session, action=action, by=by, via=via, reason=after.reason.value,
                    at_mono_ns=now_ns, at_utc_ns=at_utc_ns,
                )
            )  # fmt: skip
            return Outcome(done=False, state=session.conduct.state, reason=after.reason)
        before, session.conduct = session.conduct.state, after
        if action is ControlAction.PAUSE:
            watch.held = False  # whatever paused it before: somebody wants it paused
        if action is ControlAction.PROMPT_ENDED:
            self._await_consent(session, watch, now_ns)
        if after.changed or action is ControlAction.PAUSE_TIMED_OUT:
            at_mono_ns = now_ns
            if action in FROM_ARRIVAL and arrived_mono_ns is not None:
                at_mono_ns = min(now_ns, arrived_mono_ns)
            at_mono_ns = watch.changed_mono_ns = max(at_mono_ns, watch.changed_mono_ns)
            self._note_pause(watch, after.state, at_mono_ns=at_mono_ns)
            write = self._log.warning if action is ControlAction.PAUSE_TIMED_OUT else self._log.info
            write(
                EVENTS[action], subject=session.session, state=after.state.value,
                **session.terms.told(by=by), via=via, reason=reason or after.reason,
            )  # fmt: skip
            self._tell(
                RecordingChanged(
                    session=session.session, state=after.state, action=action, by=by, via=via,
                    at_mono_ns=at_mono_ns, at_utc_ns=at_utc_ns, reason=reason or after.reason,
                )
            )  # fmt: skip
            if before is not after.state:
                self._signal(session)
        self._plan(session, watch)
        return Outcome(done=True, state=after.state)

    def hold_source(self, session: Session, *, arrived_mono_ns: int) -> None:
        """The client holds all its lines: pause until it sends again."""
        self.request(session, ControlAction.PAUSE, via="siprec", arrived_mono_ns=arrived_mono_ns)
        watch = self._watches[session.session][1]
        watch.held = watch.paused_mono_ns is not None

    def resume_source(self, session: Session, *, arrived_mono_ns: int) -> None:
        """The client sends again: end the pause that its hold made, never one that somebody asked for."""
        watch = self._watches[session.session][1]
        if watch.held:
            self.request(session, ControlAction.RESUME, via="siprec", arrived_mono_ns=arrived_mono_ns)

    def tick(self) -> None:
        """Do what is due; with every poll that is nothing, and costs nothing."""
        if not self._due:
            return
        now_ns = self._clock.mono_ns()
        while self._due and self._due[0][0] <= now_ns:
            due_ns, _, name = heapq.heappop(self._due)
            found = self._watches.get(name)
            if found is not None and found[1].planned_ns == due_ns:
                found[1].planned_ns = None
                self._do_due(*found, now_ns)
                self._plan(*found)

    def _plan(self, session: Session, watch: _Watch) -> None:
        """See that a session is looked at when time brings something about."""
        due_ns = watch.next_due_ns(session.terms)
        if due_ns is not None and (watch.planned_ns is None or due_ns < watch.planned_ns):
            watch.planned_ns = due_ns
            heapq.heappush(self._due, (due_ns, next(self._order), session.session))

    def _do_due(self, session: Session, watch: _Watch, now_ns: int) -> None:
        self._prompt_due(session, watch, now_ns)
        if watch.consent_due_ns is not None and now_ns >= watch.consent_due_ns:
            watch.consent_due_ns = None
            if session.conduct.consent_pending:
                self.request(session, ControlAction.CONSENT_TIMED_OUT, via="timer")
        limit_ns = session.terms.pause_limit_s * NS_PER_S
        paused = watch.paused_mono_ns
        if limit_ns and paused is not None and not watch.pause_warned and now_ns - paused >= limit_ns:
            watch.pause_warned = True
            self.request(session, ControlAction.PAUSE_TIMED_OUT, via="timer")
        self._beep(session, watch, now_ns)

    def _prompt_due(self, session: Session, watch: _Watch, now_ns: int) -> None:
        for stream, (line, due_ns) in list(watch.about_to_hear.items()):
            if now_ns >= due_ns:
                del watch.about_to_hear[stream]
                if not session.conduct.prompt_pending:
                    if session.conduct.state in (RecordingState.ON, RecordingState.PAUSED):
                        self._prompt(session, line)  # the others have heard it, and are recorded
                elif self._prompt(session, line):
                    watch.prompting.add(stream)
                    self._prompted[stream] = session.session
        if watch.prompt_due_ns is not None and now_ns < watch.prompt_due_ns:
            return
        watch.prompt_due_ns = None
        if session.conduct.prompt_pending and not self._is_awaited(session, watch):
            reason = "no line of the session carries audio back"
            self._log.warning(Ev.PROMPT_FAILED, subject=session.session, reason=reason)
            self.request(session, ControlAction.PROMPT_ENDED, via="timer", reason=reason)

    def _prompt(self, session: Session, line: Line) -> bool:
        """Say the prompt on a line, as it is now: its peer may have moved since it was opened."""
        now = next((known for known in self._lines_of(session) if known.stream == line.stream), line)
        return self._speech.say(now, [session.terms.prompt], language=session.terms.language)

    def _beep(self, session: Session, watch: _Watch, now_ns: int) -> None:
        every_s = session.terms.beep_every_s
        if not every_s or now_ns < watch.beep_due_ns:
            return
        watch.beep_due_ns = now_ns + every_s * NS_PER_S
        if session.conduct.state is RecordingState.ON:
            for line in self._lines_of(session):
                if line.carries_audio_back:
                    self._speech.say(line, [Prompt.BEEP], language=session.terms.language)

    @staticmethod
    def _note_pause(watch: _Watch, state: RecordingState, *, at_mono_ns: int) -> None:
        if state is not RecordingState.PAUSED:
            watch.paused_mono_ns, watch.held, watch.pause_warned = None, False, False
        elif watch.paused_mono_ns is None:
            watch.paused_mono_ns = at_mono_ns
