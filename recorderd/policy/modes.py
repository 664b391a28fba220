"""What a running session may do: its mode as a table, and a reducer.

Rule: only the tables here move a session between recorded and not recorded. What a table lacks is refused
with a reason that can be spoken. ERASED is final. Pure: no clock, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from recorderd.core.messages import ControlAction, RecordingState
from recorderd.core.terms import Consent, Mode, RecordingTerms

START, STOP = ControlAction.START, ControlAction.STOP
PAUSE, RESUME = ControlAction.PAUSE, ControlAction.RESUME
OFF, ON, PAUSED = RecordingState.OFF, RecordingState.ON, RecordingState.PAUSED


class Reason(StrEnum):
    """Why something was refused, or ended: the value is what is said, the name is the announcement's."""

    NOT_RECORDED = "calls like this one are not recorded"
    ALWAYS_RECORDED = "this call is recorded from beginning to end"
    NOT_ON_DEMAND = "recording of this call cannot be started or stopped, only paused and resumed"
    NOT_STARTED = "recording has not been started"
    CONSENT_NOT_ASKED = "no consent is needed for this call"
    NO_OBJECTION = "an objection is not possible on this call"
    MANDATORY = "this call must be recorded"
    ERASED = "the recording of this call was erased"
    OBJECTED = "somebody objected to the recording"
    CONSENT_MISSING = "nobody agreed to the recording in time"


# Where each action leads from each state. While a session waits for the end of a prompt or for consent, the
# table moves what it will become afterwards. A request may come twice: the second finds nothing to change.
EDGES: Final[dict[tuple[RecordingState, ControlAction], RecordingState]] = {
    (OFF, START): ON,      (OFF, STOP): OFF,
    (ON, START): ON,       (ON, STOP): OFF,      (ON, PAUSE): PAUSED,      (ON, RESUME): ON,
    (PAUSED, START): ON,   (PAUSED, STOP): OFF,  (PAUSED, PAUSE): PAUSED,  (PAUSED, RESUME): ON,
}  # fmt: skip

# Which of these a mode permits, and what is said to the others.
PERMITTED: Final[dict[Mode, frozenset[ControlAction]]] = {
    Mode.NEVER: frozenset(),
    Mode.ALWAYS: frozenset(),
    Mode.ALWAYS_PAUSABLE: frozenset({PAUSE, RESUME}),
    Mode.ON_DEMAND: frozenset({START, STOP, PAUSE, RESUME}),
}
NOT_PERMITTED: Final[dict[Mode, Reason]] = {
    Mode.NEVER: Reason.NOT_RECORDED,
    Mode.ALWAYS: Reason.ALWAYS_RECORDED,
    Mode.ALWAYS_PAUSABLE: Reason.NOT_ON_DEMAND,
}
FIRST: Final[dict[Mode, RecordingState]] = {
    Mode.NEVER: OFF,
    Mode.ALWAYS: ON,
    Mode.ALWAYS_PAUSABLE: ON,
    Mode.ON_DEMAND: OFF,
}
NOBODYS: Final = frozenset(  # what time does, not a person
    {
        ControlAction.PROMPT_ENDED,
        ControlAction.CONSENT_TIMED_OUT,
        ControlAction.PAUSE_TIMED_OUT,
        ControlAction.RESTARTED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """Where a session stands."""

    wish: RecordingState  # OFF, ON or PAUSED: what it is, or will be when nothing is pending any more
    prompt_pending: bool = False
    consent_pending: bool = False
    erased: bool = False
    changed: bool = True  # the last step changed something, if only what comes after the wait
    reason: str = ""  # of the end, when erased

    @property
    def state(self) -> RecordingState:
        """Give what becomes of the session's samples now."""
        if self.erased:
            return RecordingState.ERASED
        return RecordingState.WAITING if self.prompt_pending or self.consent_pending else self.wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """It may not be; nothing changed."""

    reason: Reason


def begin(terms: RecordingTerms) -> Conduct:
    """Give the conduct of a new session."""
    recorded = terms.mode is not Mode.NEVER
    return Conduct(
        wish=FIRST[terms.mode],
        prompt_pending=recorded and bool(terms.prompt),
        consent_pending=recorded and terms.consent is Consent.REQUIRED,
    )


def step(conduct: Conduct, action: ControlAction, *, terms: RecordingTerms) -> Conduct | Refusal:
    """Apply one request or time-out.

    A pause that timed out stays a pause: nobody said that the card number has been read out. The caller
    warns.
    """
    if conduct.erased:
        if action in NOBODYS or action is ControlAction.OBJECT:
            return replace(conduct, changed=False)
        return Refusal(reason=Reason.ERASED)
    after = _asked(conduct, action, terms=terms)
    return after if isinstance(after, Refusal) else replace(after, changed=_differs(conduct, after))


def _asked(conduct: Conduct, action: ControlAction, *, terms: RecordingTerms) -> Conduct | Refusal:
    match action:
        case ControlAction.PROMPT_ENDED:
            return replace(conduct, prompt_pending=False)
        case ControlAction.PAUSE_TIMED_OUT | ControlAction.RESTARTED:
            return conduct
        case ControlAction.CONSENT_TIMED_OUT:
            return _erase(conduct, Reason.CONSENT_MISSING) if conduct.consent_pending else conduct
        case ControlAction.CONSENT:
            refusal = _may_consent(terms)
            return replace(conduct, consent_pending=False) if refusal is None else Refusal(reason=refusal)
        case ControlAction.OBJECT:
            refusal = _may_object(terms)
            return _erase(conduct, Reason.OBJECTED) if refusal is None else Refusal(reason=refusal)
    if action not in PERMITTED[terms.mode]:
        return Refusal(reason=NOT_PERMITTED[terms.mode])
    target = EDGES.get((conduct.wish, action))
    return Refusal(reason=Reason.NOT_STARTED) if target is None else replace(conduct, wish=target)


def _may_consent(terms: RecordingTerms) -> Reason | None:
    if terms.mode is Mode.NEVER:
        return Reason.NOT_RECORDED
    return None if terms.consent is Consent.REQUIRED else Reason.CONSENT_NOT_ASKED


def _may_object(terms: RecordingTerms) -> Reason | None:
    if terms.mode is Mode.NEVER:
        return Reason.NOT_RECORDED
    if terms.mandatory:
        return Reason.MANDATORY
    return Reason.NO_OBJECTION if terms.consent is Consent.NONE else None


def _erase(conduct: Conduct, reason: Reason) -> Conduct:
    return replace(conduct, erased=True, prompt_pending=False, consent_pending=False, reason=reason)


def _differs(before: Conduct, after: Conduct) -> bool:
    return replace(after, changed=before.changed) != before
