"""Modes at work: every cell of state, action and mode, and what comes before and after recording."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from recorderd.core.messages import ControlAction, RecordingState
from recorderd.core.terms import Consent, Mode, RecordingTerms
from recorderd.policy.modes import Conduct, Reason, Refusal, begin, step

A, S = ControlAction, RecordingState
# The table as people would write it, by hand: per mode and state, what each user action leads to.
# A state's name = success; "!" = refused with that reason.
ORDER = (A.START, A.STOP, A.PAUSE, A.RESUME)
USER_CELLS: dict[tuple[Mode, S], tuple[S | Reason, ...]] = {
    (Mode.NEVER, S.OFF): (Reason.NOT_RECORDED,) * 4,
    (Mode.ALWAYS, S.ON): (Reason.ALWAYS_RECORDED,) * 4,
    (Mode.ALWAYS_PAUSABLE, S.ON): (Reason.NOT_ON_DEMAND, Reason.NOT_ON_DEMAND, S.PAUSED, S.ON),
    (Mode.ALWAYS_PAUSABLE, S.PAUSED): (Reason.NOT_ON_DEMAND, Reason.NOT_ON_DEMAND, S.PAUSED, S.ON),
    (Mode.ON_DEMAND, S.OFF): (S.ON, S.OFF, Reason.NOT_STARTED, Reason.NOT_STARTED),
    (Mode.ON_DEMAND, S.ON): (S.ON, S.OFF, S.PAUSED, S.ON),
    (Mode.ON_DEMAND, S.PAUSED): (S.ON, S.OFF, S.PAUSED, S.ON),
}
CELLS = [
    (mode, state, action, outcome)
    for (mode, state), outcomes in USER_CELLS.items()
    for action, outcome in zip(ORDER, outcomes, strict=True)
]


def _do(terms: RecordingTerms, actions: Iterable[A]) -> Conduct:
    conduct = begin(terms)
    for action in actions:
        after = step(conduct, action, terms=terms)
        assert isinstance(after, Conduct), f"{action} was refused: {after}"
        conduct = after
    return conduct


@pytest.mark.parametrize(("mode", "state", "action", "outcome"), CELLS)
def test_each_cell_of_the_table(mode: Mode, state: S, action: A, outcome: S | Reason) -> None:
    before = Conduct(wish=state)
    after = step(before, action, terms=RecordingTerms(mode=mode))
    if isinstance(outcome, Reason):
        assert after == Refusal(reason=outcome)
    else:
        assert isinstance(after, Conduct)
        assert after.state is outcome
        assert after.changed is (outcome is not state)


@pytest.mark.parametrize(("mode", "state", "action", "outcome"), CELLS)
def test_while_waiting_a_request_is_remembered_or_refused_alike(
    mode: Mode, state: S, action: A, outcome: S | Reason
) -> None:
    terms = RecordingTerms(mode=mode)
    after = step(Conduct(wish=state, prompt_pending=True), action, terms=terms)
    if isinstance(outcome, Reason):
        assert after == Refusal(reason=outcome)
        return
    assert isinstance(after, Conduct)
    assert after.state is S.WAITING
    assert after.changed is (outcome is not state)
    begun = step(after, A.PROMPT_ENDED, terms=terms)
    assert isinstance(begun, Conduct)
    assert begun.state is outcome


@pytest.mark.parametrize("action", list(A))
@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("consent", list(Consent))
def test_what_is_erased_stays_erased(mode: Mode, action: A, consent: Consent) -> None:
    erased = Conduct(wish=S.ON, erased=True, reason=Reason.OBJECTED)
    after = step(erased, action, terms=RecordingTerms(mode=mode, consent=consent))
    if action in (A.START, A.STOP, A.PAUSE, A.RESUME, A.CONSENT):
        assert after == Refusal(reason=Reason.ERASED)
    else:
        assert isinstance(after, Conduct)
        assert (after.state, after.changed, after.reason) == (S.ERASED, False, Reason.OBJECTED)


@pytest.mark.parametrize("state", [S.OFF, S.ON, S.PAUSED])
@pytest.mark.parametrize("action", [A.PROMPT_ENDED, A.CONSENT_TIMED_OUT, A.PAUSE_TIMED_OUT])
@pytest.mark.parametrize("mode", list(Mode))
def test_time_changes_nothing_that_does_not_wait_for_it(mode: Mode, action: A, state: S) -> None:
    after = step(Conduct(wish=state), action, terms=RecordingTerms(mode=mode, consent=Consent.REQUIRED))
    assert isinstance(after, Conduct)
    assert (after.state, after.changed) == (state, False)


@pytest.mark.parametrize(
    ("mode", "prompt", "consent", "state"),
    [
        (Mode.NEVER, "", Consent.NONE, S.OFF),
        (Mode.NEVER, "p", Consent.REQUIRED, S.OFF),
        (Mode.ALWAYS, "", Consent.NONE, S.ON),
        (Mode.ALWAYS, "", Consent.OBJECTION, S.ON),
        (Mode.ALWAYS, "p", Consent.NONE, S.WAITING),
        (Mode.ALWAYS, "", Consent.REQUIRED, S.WAITING),
        (Mode.ALWAYS_PAUSABLE, "", Consent.NONE, S.ON),
        (Mode.ALWAYS_PAUSABLE, "p", Consent.REQUIRED, S.WAITING),
        (Mode.ON_DEMAND, "", Consent.NONE, S.OFF),
        (Mode.ON_DEMAND, "p", Consent.NONE, S.WAITING),
        (Mode.ON_DEMAND, "", Consent.REQUIRED, S.WAITING),
    ],
)
def test_how_a_session_begins(mode: Mode, prompt: str, consent: Consent, state: S) -> None:
    assert begin(RecordingTerms(mode=mode, prompt=prompt, consent=consent)).state is state


ASKED = RecordingTerms(prompt="p", consent=Consent.REQUIRED)


@pytest.mark.parametrize(
    ("actions", "state"),
    [
        ([A.PROMPT_ENDED], S.WAITING),
        ([A.CONSENT], S.WAITING),
        ([A.PROMPT_ENDED, A.CONSENT], S.ON),
        ([A.CONSENT, A.PROMPT_ENDED], S.ON),
        ([A.CONSENT, A.CONSENT, A.PROMPT_ENDED], S.ON),
        ([A.PROMPT_ENDED, A.CONSENT_TIMED_OUT], S.ERASED),
        ([A.PROMPT_ENDED, A.CONSENT, A.CONSENT_TIMED_OUT], S.ON),
        ([A.CONSENT_TIMED_OUT, A.PROMPT_ENDED], S.ERASED),
        ([A.OBJECT, A.PROMPT_ENDED], S.ERASED),
        ([A.PROMPT_ENDED, A.CONSENT, A.OBJECT], S.ERASED),
    ],
)
def test_recording_waits_for_the_prompts_end_and_for_consent(actions: list[A], state: S) -> None:
    assert _do(ASKED, actions).state is state


def test_consent_that_never_came_is_told_from_an_objection() -> None:
    assert _do(ASKED, [A.PROMPT_ENDED, A.CONSENT_TIMED_OUT]).reason == Reason.CONSENT_MISSING
    assert _do(ASKED, [A.PROMPT_ENDED, A.OBJECT]).reason == Reason.OBJECTED


@pytest.mark.parametrize("mode", [Mode.ALWAYS, Mode.ALWAYS_PAUSABLE, Mode.ON_DEMAND])
@pytest.mark.parametrize("state", [S.OFF, S.ON, S.PAUSED])
@pytest.mark.parametrize(
    ("consent", "mandatory", "reason"),
    [
        (Consent.NONE, False, Reason.NO_OBJECTION),
        (Consent.NONE, True, Reason.MANDATORY),
        (Consent.OBJECTION, False, None),
        (Consent.REQUIRED, False, None),
        (Consent.OBJECTION, True, Reason.MANDATORY),
        (Consent.REQUIRED, True, Reason.MANDATORY),
    ],
)
def test_an_objection_counts_where_the_rule_asks_and_nothing_is_mandatory(
    mode: Mode, state: S, consent: Consent, mandatory: bool, reason: Reason | None
) -> None:
    terms = RecordingTerms(mode=mode, consent=consent, mandatory=mandatory)
    after = step(Conduct(wish=state), A.OBJECT, terms=terms)
    if reason is not None:
        assert after == Refusal(reason=reason)
    else:
        assert isinstance(after, Conduct)
        assert (after.state, after.changed) == (S.ERASED, True)


@pytest.mark.parametrize("consent", [Consent.NONE, Consent.OBJECTION])
def test_consent_that_nobody_asked_for_is_refused(consent: Consent) -> None:
    terms = RecordingTerms(consent=consent)
    assert step(begin(terms), A.CONSENT, terms=terms) == Refusal(reason=Reason.CONSENT_NOT_ASKED)


def test_a_pause_that_timed_out_lasts_until_it_is_resumed() -> None:
    terms = RecordingTerms(mode=Mode.ALWAYS_PAUSABLE)
    assert _do(terms, [A.PAUSE, A.PAUSE_TIMED_OUT]).state is S.PAUSED
    assert _do(terms, [A.PAUSE, A.PAUSE_TIMED_OUT, A.RESUME]).state is S.ON


def test_a_stop_while_paused_ends_and_a_new_start_records() -> None:
    terms = RecordingTerms(mode=Mode.ON_DEMAND)
    assert _do(terms, [A.START, A.PAUSE, A.STOP]).state is S.OFF
    assert _do(terms, [A.START, A.PAUSE, A.STOP, A.START]).state is S.ON


def test_a_pause_during_the_prompt_makes_recording_begin_paused() -> None:
    terms = RecordingTerms(mode=Mode.ALWAYS_PAUSABLE, prompt="p")
    assert _do(terms, [A.PAUSE, A.PROMPT_ENDED]).state is S.PAUSED
    assert _do(terms, [A.PAUSE, A.RESUME, A.PROMPT_ENDED]).state is S.ON


def test_every_reason_can_be_spoken() -> None:
    for reason in Reason:
        assert reason.value.replace(" ", "").replace(",", "").isalpha()
