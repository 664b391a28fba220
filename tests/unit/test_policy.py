"""Admission and peers: every decision, and that a fuller house never opens a door."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.policy.admission import SpoolLevel, decide, spool_level
from recorderd.policy.peers import is_allowed, networks


@pytest.mark.parametrize(
    ("used_bytes", "level"),
    [
        (0, SpoolLevel.LOW),
        (79, SpoolLevel.LOW),
        (80, SpoolLevel.HIGH),
        (99, SpoolLevel.HIGH),
        (100, SpoolLevel.FULL),
    ],
)
def test_the_spool_is_rated_by_its_quota(used_bytes: int, level: SpoolLevel) -> None:
    assert spool_level(used_bytes=used_bytes, quota_bytes=100) is level


@pytest.mark.parametrize(
    ("spool", "calls", "queue_full", "stopping", "reason"),
    [
        (SpoolLevel.LOW, 0, False, False, ""),
        (SpoolLevel.HIGH, 9, False, False, ""),
        (SpoolLevel.FULL, 0, False, False, "spool full"),
        (SpoolLevel.LOW, 10, False, False, "too many calls"),
        (SpoolLevel.LOW, 0, True, False, "recording cannot keep up"),
        (SpoolLevel.FULL, 10, True, True, "stopping"),
    ],
)
def test_each_reason_refuses_by_itself(
    spool: SpoolLevel, calls: int, queue_full: bool, stopping: bool, reason: str
) -> None:
    admission = decide(spool=spool, calls=calls, max_calls=10, queue_full=queue_full, stopping=stopping)
    assert admission.reason == reason
    assert admission.accept is (not reason)
    assert (admission.retry_after_s > 0) is bool(reason)


@pytest.mark.parametrize(
    ("spool", "priority", "mandatory", "reason"),
    [
        (SpoolLevel.LOW, -1, False, ""),
        (SpoolLevel.HIGH, -1, False, "spool high, low priority"),
        (SpoolLevel.HIGH, 0, False, ""),
        (SpoolLevel.HIGH, 5, False, ""),
        (SpoolLevel.HIGH, -1, True, ""),
        (SpoolLevel.FULL, -1, False, "spool full"),
        (SpoolLevel.FULL, 10, True, "spool full"),
    ],
)
def test_a_high_spool_refuses_what_matters_least(
    spool: SpoolLevel, priority: int, mandatory: bool, reason: str
) -> None:
    admission = decide(
        spool=spool,
        calls=0,
        max_calls=10,
        queue_full=False,
        stopping=False,
        mandatory=mandatory,
        priority=priority,
    )
    assert admission.reason == reason
    assert admission.accept is (not reason)
    assert admission.mandatory_refused is (mandatory and bool(reason))


@given(st.sampled_from(SpoolLevel), st.sampled_from(SpoolLevel), st.integers(0, 20), st.booleans())
def test_a_fuller_spool_never_opens_the_door(a: SpoolLevel, b: SpoolLevel, calls: int, busy: bool) -> None:
    emptier, fuller = sorted((a, b))

    def accepts(level: SpoolLevel) -> bool:
        return decide(spool=level, calls=calls, max_calls=10, queue_full=busy, stopping=False).accept

    assert accepts(emptier) or not accepts(fuller)


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::5", True),
        ("2001:db9::5", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_only_listed_peers_may_send_sessions(peer: str, allowed: bool) -> None:
    assert is_allowed(peer, networks(["192.0.2.7", "10.0.0.0/8", "2001:db8::/32"])) is allowed
