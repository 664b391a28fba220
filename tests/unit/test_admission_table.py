"""The table of admission: every cell as the README tells it, and worse conditions never open a door."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.core.conditions import ArchiveState, PowerState
from recorderd.policy.admission import (
    TABLE,
    Accepts,
    Admission,
    Conditions,
    FlushOrder,
    MayShed,
    SpoolLevel,
    SpoolPolicy,
    Stance,
    decide,
    stance_of,
)

README = Path(__file__).parents[2] / "recorderd" / "policy" / "README.md"
POWER = {
    "on line": PowerState.ON_LINE,
    "on battery": PowerState.ON_BATTERY,
    "battery low": PowerState.LOW_BATTERY,
    "going down": PowerState.FORCED_SHUTDOWN,
}
ACCEPTS = {
    "all": Accepts.ALL,
    "priority from 0": Accepts.USUAL,
    "mandatory": Accepts.MANDATORY,
    "none": Accepts.NONE,
}
SYNCS = {"as configured": None, "500 ms": 500, "at once": 0}
CALLERS = {  # priority, mandatory
    "mandatory": (-5, True),
    "normal": (0, False),
    "low": (-1, False),
}
TAKEN = {
    Accepts.ALL: {"mandatory", "normal", "low"},
    Accepts.USUAL: {"mandatory", "normal"},
    Accepts.MANDATORY: {"mandatory"},
    Accepts.NONE: set(),
}
conditions = st.builds(
    Conditions,
    power=st.sampled_from(PowerState),
    spool=st.sampled_from(SpoolLevel),
    archive=st.sampled_from(ArchiveState),
)


def rows() -> dict[Conditions, Stance]:
    """Read the README's table."""
    found = {}
    for line in README.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| ") or cells[0] not in POWER:
            continue
        power, spool, archive, keeps, goes_on, flush, order, checkpoint, shed = cells
        known = Conditions(
            power=POWER[power], spool=SpoolLevel[spool.upper()], archive=ArchiveState[archive.upper()]
        )
        found[known] = Stance(
            keep_recordings=ACCEPTS[keeps],
            keep_recording=ACCEPTS[goes_on],
            flush_percent=int(flush.removesuffix(" %")),
            order=FlushOrder(order),
            checkpoint_ms=SYNCS[checkpoint],
            may_shed=MayShed[shed.upper()],
        )
    return found


def test_every_combination_is_stated_in_the_readme_as_it_is_in_the_table() -> None:
    every = list(itertools.product(PowerState, SpoolLevel, ArchiveState))
    assert sorted(TABLE) == sorted(every)
    stated = rows()
    assert len(stated) == len(every) == 48
    for power, spool, archive in every:
        known = Conditions(power=power, spool=spool, archive=archive)
        assert stance_of(known) == stated[known], known


def ask(known: Conditions, caller: str, *, policy: SpoolPolicy, can_shed: bool = True) -> Admission:
    priority, mandatory = CALLERS[caller]
    return decide(
        spool=known.spool,
        power=known.power,
        archive=known.archive,
        policy=policy,
        can_shed=can_shed,
        calls=1,
        max_calls=10,
        queue_full=False,
        stopping=False,
        priority=priority,
        mandatory=mandatory,
    )


@pytest.mark.parametrize("power", PowerState)
@pytest.mark.parametrize("policy", SpoolPolicy)
def test_each_kind_of_session_is_taken_as_the_readme_says(power: PowerState, policy: SpoolPolicy) -> None:
    for known, stance in rows().items():
        if known.power is not power:
            continue
        keeps = policy is SpoolPolicy.KEEP_RECORDINGS
        wanted = stance.keep_recordings if keeps else stance.keep_recording
        taken = {caller for caller in CALLERS if ask(known, caller, policy=policy).accept}
        assert taken == TAKEN[wanted], known
        empty = {caller for caller in CALLERS if ask(known, caller, policy=policy, can_shed=False).accept}
        assert empty == TAKEN[stance.keep_recordings], known


@given(conditions, conditions, st.sampled_from(sorted(CALLERS)), st.sampled_from(SpoolPolicy), st.booleans())
def test_worse_conditions_never_open_a_door(
    one: Conditions, other: Conditions, caller: str, policy: SpoolPolicy, can_shed: bool
) -> None:
    better, worse = (
        Conditions(
            power=PowerState(pick(one.power, other.power)),
            spool=SpoolLevel(pick(one.spool, other.spool)),
            archive=ArchiveState(pick(one.archive, other.archive)),
        )
        for pick in (min, max)
    )
    assert (
        ask(better, caller, policy=policy, can_shed=can_shed).accept
        or not ask(worse, caller, policy=policy, can_shed=can_shed).accept
    )
    assert stance_of(worse).flush_percent <= stance_of(better).flush_percent


@given(conditions, st.sampled_from(sorted(CALLERS)), st.sampled_from(SpoolPolicy), st.booleans())
def test_who_is_refused_is_told_why_and_when_to_come_again(
    known: Conditions, caller: str, policy: SpoolPolicy, can_shed: bool
) -> None:
    admission = ask(known, caller, policy=policy, can_shed=can_shed)
    assert admission.accept is (not admission.reason)
    assert (admission.retry_after_s > 0) is (not admission.accept)
    assert admission.mandatory_refused is (caller == "mandatory" and not admission.accept)


@pytest.mark.parametrize(
    ("known", "caller", "reason"),
    [
        (Conditions(power=PowerState.LOW_BATTERY), "normal", "battery low, not mandatory"),
        (Conditions(power=PowerState.FORCED_SHUTDOWN), "mandatory", "power is going down"),
        (
            Conditions(power=PowerState.ON_BATTERY, archive=ArchiveState.GONE),
            "low",
            "on battery without an archive, low priority",
        ),
        (Conditions(spool=SpoolLevel.FULL), "mandatory", "spool full"),
        (Conditions(spool=SpoolLevel.HIGH), "low", "spool high, low priority"),
    ],
)
def test_the_reason_names_what_keeps_a_session_out(known: Conditions, caller: str, reason: str) -> None:
    assert ask(known, caller, policy=SpoolPolicy.KEEP_RECORDINGS).reason == reason
