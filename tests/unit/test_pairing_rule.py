"""When two recorders of a pair have recorded one call, and when not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recorderd.policy.pairing import Side, is_same_call

ONE = Side(
    recorder_id="rec-1",
    call_id="call-7",
    caller="+442079460000",
    callee="1002",
    started_utc_ms=1_000_000,
    duration_ms=60_000,
)
OTHER = replace(ONE, recorder_id="rec-2")


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"started_utc_ms": 1_030_000, "duration_ms": 30_000}, True),  # it came up in the midst of the call
        ({"started_utc_ms": 1_062_000}, True),  # the first one's time is over, clocks differ
        ({"started_utc_ms": 1_070_000}, False),  # a name that is used again
        ({"call_id": "other", "started_utc_ms": 1_002_000}, True),  # each leg has a name of its own
        ({"call_id": "", "caller": "02079460000"}, True),
        ({"call_id": "other", "started_utc_ms": 1_004_000}, False),
        ({"call_id": "other", "callee": "1003"}, False),
        ({"call_id": "other", "caller": ""}, False),
        ({"recorder_id": "rec-1"}, False),
    ],
)
def test_recordings_are_of_one_call_or_not(changes: dict[str, object], same: bool) -> None:
    other = replace(OTHER, **changes)  # type: ignore[arg-type]
    assert is_same_call(ONE, other) is same
    assert is_same_call(other, ONE) is same


@pytest.mark.parametrize("withheld", ["anonymous", "sip:Anonymous@anonymous.invalid", "unknown"])
def test_two_who_withhold_their_numbers_and_call_a_hotline_at_one_time_are_two_calls(withheld: str) -> None:
    one, other = replace(ONE, caller=withheld), replace(OTHER, caller=withheld)
    assert not is_same_call(one, replace(other, call_id="other"))
    assert not is_same_call(replace(one, call_id=""), replace(other, call_id=""))
    assert is_same_call(one, other)  # the exchange names it
