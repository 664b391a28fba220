"""Whether two calls that the exchange made one may become one recording, and in which of both it goes on.

Rule: nothing is recorded that its own rule keeps out, and nothing is lost that its own rule keeps. What is
recorded takes in what nobody started to record, never the other way round; a call that waits for a prompt or
for consent, and one that was objected to, stay apart, as does what the other's rule would leave in clear,
audible, unpaused or past objecting to, and what it would let somebody pause, stop or erase that must be
recorded. Calls that stay apart are recorded each by its own rule. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from recorderd.core.messages import RecordingState
from recorderd.core.terms import Consent, Mode, RecordingTerms
from recorderd.policy.modes import PERMITTED, Conduct, begin

RECORDED: Final = (RecordingState.ON, RecordingState.PAUSED)
BY_ITSELF: Final = (RecordingState.WAITING, RecordingState.ERASED)


def is_recorded(conduct: Conduct) -> bool:
    """Tell whether a call is being recorded, be it paused."""
    return conduct.state in RECORDED


def may_absorb(kept: Conduct, taken: Conduct, *, terms: RecordingTerms, taken_terms: RecordingTerms) -> bool:
    """Tell whether the rest of a call may go on in the recording of another, under the other's terms."""
    states = {kept.state, taken.state}
    if states.intersection(BY_ITSELF) or (is_recorded(taken) and not is_recorded(kept)):
        return False
    if RecordingState.PAUSED in states and Mode.ALWAYS in (terms.mode, taken_terms.mode):
        return False  # one of both cannot be paused, the other is to stay so
    objectable = taken_terms.consent is Consent.OBJECTION and terms.consent is Consent.NONE
    in_clear = (taken_terms.encrypt and not terms.encrypt) or (
        taken_terms.encrypt_metadata and not terms.encrypt_metadata
    )
    audible = taken_terms.mask_dtmf and not terms.mask_dtmf
    return not (objectable or in_clear or audible or _may_be_lost(terms, taken_terms))


def _may_be_lost(terms: RecordingTerms, taken_terms: RecordingTerms) -> bool:
    """Tell whether a call that its own rule keeps could be paused, stopped or erased by another's."""
    if taken_terms.mode is Mode.NEVER:
        return False
    if taken_terms.mandatory and terms.consent is not Consent.NONE:
        return True
    return not PERMITTED[terms.mode] <= PERMITTED[taken_terms.mode]


def may_enter(kept: Conduct, *, terms: RecordingTerms, own_terms: RecordingTerms) -> bool:
    """Tell whether a new call may begin as a part of another; whoever is on that one has heard its prompt."""
    return may_absorb(kept, begin(replace(own_terms, prompt="")), terms=terms, taken_terms=own_terms)
