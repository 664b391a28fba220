"""Feature codes, and who may use them.

Rule: a call to a user part that begins with ``*`` is a request to the recorder, never a call to be recorded.
Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from recorderd.core.messages import ControlAction
from recorderd.policy.numbers import Numbering, matches, normalise


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureCodes:
    """The code of each action; empty = none."""

    start: str = "*44"
    stop: str = "*47"
    pause: str = "*48"
    resume: str = "*49"
    object: str = "*46"
    consent: str = "*45"

    def actions(self) -> dict[str, ControlAction]:
        """Give code to action, without the empty ones."""
        pairs = {
            self.start: ControlAction.START,
            self.stop: ControlAction.STOP,
            self.pause: ControlAction.PAUSE,
            self.resume: ControlAction.RESUME,
            self.object: ControlAction.OBJECT,
            self.consent: ControlAction.CONSENT,
        }
        return {code: action for code, action in pairs.items() if code}


def code_of(user: str) -> str:
    """Give the code as dialled: decoded, without parameters of the user part."""
    return unquote(user.partition(";")[0]).strip()


def is_feature_code(user: str, codes: Mapping[str, ControlAction]) -> bool:
    """Tell whether a user part asks for something, be it known (see ``action_of``) or not."""
    code = code_of(user)
    return code in codes or code.startswith("*")


def action_of(user: str, codes: Mapping[str, ControlAction]) -> ControlAction | None:
    """Give what a feature code asks for; None = the code is unknown."""
    return codes.get(code_of(user))


def may_control(
    user: str, *, parties: Iterable[str], supervisors: Iterable[str], numbering: Numbering
) -> bool:
    """Tell whether ``user`` may control a session: a party of the call, or a listed supervisor (patterns)."""
    who = normalise(user, numbering)
    if not who:
        return False
    if any(normalise(party, numbering) == who for party in parties):
        return True
    return any(matches(pattern, user, numbering) for pattern in supervisors)
