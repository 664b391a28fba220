"""When the recorder registers: at once, again with growing waits, and when a connection broke."""

from __future__ import annotations

from recorderd.core.clock import NS_PER_S
from recorderd.sip.registration import RegistrationState, answered, attempted, begin, connection_lost, is_due

RETRY_S = 2


def test_the_first_attempt_is_due_at_once_and_only_once() -> None:
    plan = begin(retry_s=RETRY_S, now_ns=5)
    assert is_due(plan, now_ns=5)
    assert not is_due(attempted(plan), now_ns=5)


def test_waits_double_up_to_sixteen_times_and_start_anew_after_success() -> None:
    plan = begin(retry_s=RETRY_S, now_ns=0)
    waits = []
    for _ in range(7):
        plan = answered(attempted(plan), code=503, reason="Service Unavailable", expires_s=0, now_ns=0)
        assert plan.state is RegistrationState.FAILED
        waits.append((plan.attempt_at_ns or 0) // NS_PER_S)
    assert waits == [2, 4, 8, 16, 32, 32, 32]
    plan = answered(plan, code=200, reason="OK", expires_s=60, now_ns=0)
    assert (plan.state, plan.attempt_at_ns) == (RegistrationState.REGISTERED, None)
    plan = answered(plan, code=408, reason="Timeout", expires_s=0, now_ns=0)
    assert plan.attempt_at_ns == RETRY_S * NS_PER_S
    assert plan.status == "408 Timeout"


def test_a_broken_connection_is_mended_soon_but_does_not_hurry_a_failing_one() -> None:
    plan = answered(begin(retry_s=RETRY_S, now_ns=0), code=200, reason="OK", expires_s=60, now_ns=0)
    lost = connection_lost(plan, now_ns=10 * NS_PER_S)
    assert not is_due(lost, now_ns=10 * NS_PER_S)
    assert is_due(lost, now_ns=11 * NS_PER_S)
    failed = answered(plan, code=503, reason="", expires_s=0, now_ns=0)
    assert connection_lost(failed, now_ns=0) == failed
