"""Which calls become one recording when the exchange makes them one."""

from __future__ import annotations

import pytest

from recorderd.core.messages import ControlAction
from recorderd.core.terms import Consent, Mode, RecordingTerms
from recorderd.policy.joining import is_recorded, may_absorb, may_enter
from recorderd.policy.modes import Conduct, begin, step

PLAIN = RecordingTerms()
PAUSABLE = RecordingTerms(mode=Mode.ALWAYS_PAUSABLE)
ON_DEMAND = RecordingTerms(mode=Mode.ON_DEMAND)
NOT_RECORDED = RecordingTerms(mode=Mode.NEVER)
MANDATORY = RecordingTerms(mandatory=True)
ASKED = RecordingTerms(consent=Consent.REQUIRED)
OBJECTABLE = RecordingTerms(consent=Consent.OBJECTION)
PROMPTED = RecordingTerms(prompt="this_call_is_recorded")
MASKED = RecordingTerms(mask_dtmf=True)
ENCRYPTED = RecordingTerms(encrypt="bank")
VEILED = RecordingTerms(encrypt="bank", encrypt_metadata=True)
A = ControlAction


def _after(terms: RecordingTerms, *actions: ControlAction) -> Conduct:
    conduct = begin(terms)
    for action in actions:
        after = step(conduct, action, terms=terms)
        assert isinstance(after, Conduct)
        conduct = after
    return conduct


@pytest.mark.parametrize(
    ("terms", "actions", "taken_terms", "taken_actions", "joins"),
    [
        (PLAIN, (), PLAIN, (), True),
        (PLAIN, (), ON_DEMAND, (), True),  # the other party of what is recorded
        (ON_DEMAND, (), ON_DEMAND, (), True),
        (ON_DEMAND, (), PLAIN, (), False),  # it would be recorded no more
        (ON_DEMAND, (A.START,), PLAIN, (), False),  # a stop would end what must be recorded
        (ON_DEMAND, (A.START,), PAUSABLE, (), False),
        (ON_DEMAND, (A.START,), NOT_RECORDED, (), True),
        (PAUSABLE, (), PLAIN, (), False),  # and a pause interrupt it
        (PAUSABLE, (), NOT_RECORDED, (), True),
        (PAUSABLE, (), ON_DEMAND, (A.START,), True),
        (PLAIN, (), PAUSABLE, (), True),
        (OBJECTABLE, (), MANDATORY, (), False),  # and an objection erase it
        (ASKED, (A.CONSENT,), MANDATORY, (), False),
        (PLAIN, (), MANDATORY, (), True),
        (PLAIN, (), ASKED, (), False),
        (PLAIN, (), ASKED, (A.CONSENT,), True),
        (PLAIN, (), OBJECTABLE, (A.OBJECT,), False),
        (OBJECTABLE, (A.OBJECT,), PLAIN, (), False),
        (PLAIN, (), OBJECTABLE, (), False),  # nobody could object any more
        (OBJECTABLE, (), PLAIN, (), True),
        (PLAIN, (), PROMPTED, (), False),
        (PLAIN, (), PROMPTED, (A.PROMPT_ENDED,), True),
        (PAUSABLE, (), PAUSABLE, (A.PAUSE,), True),
        (PLAIN, (), PAUSABLE, (A.PAUSE,), False),
        (PAUSABLE, (A.PAUSE,), PLAIN, (), False),
        (PLAIN, (), MASKED, (), False),
        (MASKED, (), PLAIN, (), True),
        (PLAIN, (), ENCRYPTED, (), False),
        (ENCRYPTED, (), VEILED, (), False),
        (VEILED, (), PLAIN, (), True),
    ],
)
def test_who_may_go_on_in_whose_recording(
    terms: RecordingTerms,
    actions: tuple[ControlAction, ...],
    taken_terms: RecordingTerms,
    taken_actions: tuple[ControlAction, ...],
    joins: bool,
) -> None:
    kept, taken = _after(terms, *actions), _after(taken_terms, *taken_actions)
    assert may_absorb(kept, taken, terms=terms, taken_terms=taken_terms) is joins


@pytest.mark.parametrize(
    ("terms", "own_terms", "enters"),
    [
        (PLAIN, PLAIN, True),
        (PLAIN, PROMPTED, True),
        (PLAIN, ASKED, False),
        (ON_DEMAND, PLAIN, False),
        (PAUSABLE, PLAIN, False),
        (ON_DEMAND, RecordingTerms(mode=Mode.NEVER), True),
        (ASKED, PLAIN, False),
        (PLAIN, ENCRYPTED, False),
    ],
)
def test_who_may_begin_as_a_part_of_whose_call(
    terms: RecordingTerms, own_terms: RecordingTerms, enters: bool
) -> None:
    assert may_enter(begin(terms), terms=terms, own_terms=own_terms) is enters


def test_what_is_paused_is_recorded_all_the_same() -> None:
    assert is_recorded(_after(PAUSABLE, A.PAUSE))
    assert not is_recorded(begin(ON_DEMAND))
