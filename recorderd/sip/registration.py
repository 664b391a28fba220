"""When to register: at start, again after a failure with growing waits, at once when a connection broke.

Rule: this table decides; the SIP thread performs. Sans-IO, ``now_ns`` is passed in. Refreshes before expiry
are the library's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from recorderd.core.clock import NS_PER_S

BACKOFF_MAX: Final = 16  # times the first wait


class RegistrationState(StrEnum):
    """Where the registration stands."""

    NONE = "none"  # not configured
    TRYING = "trying"
    REGISTERED = "registered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationPlan:
    """State and the next attempt."""

    state: RegistrationState
    retry_s: int
    failures: int = 0
    attempt_at_ns: int | None = None
    status: str = ""


def begin(*, retry_s: int, now_ns: int) -> RegistrationPlan:
    """Plan the first attempt at once."""
    return RegistrationPlan(state=RegistrationState.TRYING, retry_s=retry_s, attempt_at_ns=now_ns)


def answered(
    plan: RegistrationPlan, *, code: int, reason: str, expires_s: int, now_ns: int
) -> RegistrationPlan:
    """Take the registrar's answer, or the library's report that none came.

    A 200 by which nothing is registered (``expires_s`` of 0) is a failure like another.
    """
    status = f"{code} {reason}".strip()
    if 200 <= code < 300 and expires_s > 0:
        return replace(
            plan, state=RegistrationState.REGISTERED, failures=0, attempt_at_ns=None, status=status
        )
    wait_s = plan.retry_s * min(BACKOFF_MAX, 2**plan.failures)
    return replace(
        plan,
        state=RegistrationState.FAILED,
        failures=min(plan.failures + 1, 30),
        attempt_at_ns=now_ns + wait_s * NS_PER_S,
        status=status,
    )


def connection_lost(plan: RegistrationPlan, *, now_ns: int) -> RegistrationPlan:
    """The connection to the exchange broke: its binding of us is worth nothing now."""
    if plan.state is not RegistrationState.REGISTERED:
        return plan
    return replace(
        plan, state=RegistrationState.TRYING, attempt_at_ns=now_ns + NS_PER_S // 2, status="connection lost"
    )


def attempted(plan: RegistrationPlan) -> RegistrationPlan:
    """A REGISTER is on its way."""
    return replace(plan, attempt_at_ns=None)


def is_due(plan: RegistrationPlan, *, now_ns: int) -> bool:
    """Tell whether a REGISTER should be sent now."""
    return plan.attempt_at_ns is not None and now_ns >= plan.attempt_at_ns
