"""Who is kept how long: classes, holds, WORM, whatever order they come in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recorderd.policy.holds import Hold, HoldIndex
from recorderd.policy.retention import (
    DAY_S,
    Erase,
    KeptRecording,
    PlanTally,
    RetentionClass,
    Ruling,
    Terms,
    Verdict,
    decide,
    plan,
    refusal,
)
from recorderd.policy.selection import RecordingFacts, Selection, covers, party_key, same_party, time_flaw

ENDED_UTC_S = 1_795_415_456
NOW = "2027-01-01T00:00:00.000Z"
FACTS = RecordingFacts(
    recording_id="20261123T062231-000000000001",
    recorder_id="rec-1",
    parties=("442077456456", "1001"),
    extension="1001",
    queue="sales",
    trunk="bt",
    direction="inbound",
    started_at="2026-11-23T06:30:56.000Z",
    retention_class="default",
)
RECORDING = KeptRecording(row_id=5, ended_utc_s=ENDED_UTC_S, size_bytes=1000, has_audio=True, facts=FACTS)
DEFAULT = RetentionClass(name="default")


def hold(at: int = 1, *, until: str = "", **selection: str) -> Hold:
    return Hold(
        number=at,
        selection=Selection(**selection),
        reason="case 7",
        by="cli:x",
        added_at="2026-12-01T00:00:00.000Z",
        until=until,
    )


def index(*holds: Hold, now: str = NOW) -> HoldIndex:
    return HoldIndex(holds, now_utc=now)


def after(days: float) -> int:
    return ENDED_UTC_S + int(days * DAY_S)


@pytest.mark.parametrize(
    ("from_time", "perhaps"),
    [
        ("2026-11-23T06:30:00Z", True),
        ("2026-11-23", True),
        ("2026-11-22T23:59:59Z", True),
        ("2026-11-24", False),
    ],
)
def test_whoever_knows_no_more_than_the_day_holds_too_much_and_erases_too_little(
    from_time: str, perhaps: bool
) -> None:
    sealed = replace(FACTS, parties=(), started_at="2026-11-23T00:00:00.000Z")
    assert bool(index(hold(from_time=from_time)).of(sealed)) is perhaps
    is_certain = perhaps and from_time <= "2026-11-23"
    assert covers(Selection(from_time=from_time), sealed) is is_certain


def test_a_hold_from_a_time_on_leaves_out_what_began_before_it() -> None:
    assert not index(hold(from_time="2026-11-23T06:31:00Z")).of(FACTS)
    assert index(hold(from_time="2026-11-23T06:30:00Z")).of(FACTS)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("+44 20 7745 6456", "02077456456", True),
        ("0044 (20) 7745-6456", "sip:+442077456456@pbx;user=phone", True),
        ("442077456456", "7745456", False),
        ("1001", "1001", True),
        ("1001", "442077451001", False),  # an extension is no end of a number
        ("Anna", "anna", True),
        ("", "", False),
    ],
)
def test_a_number_is_the_same_however_it_is_written(one: str, other: str, same: bool) -> None:
    assert same_party(one, other) is same
    assert same_party(party_key(one), other) is same


@pytest.mark.parametrize(
    ("selection", "covered"),
    [
        ({}, False),
        ({"number": "02077456456"}, True),
        ({"number": "02077456457"}, False),
        ({"extension": "1001"}, True),
        ({"extension": "1002"}, False),
        ({"queue": "sales", "direction": "inbound", "recorder_id": "rec-1", "trunk": "bt"}, True),
        ({"queue": "sales", "direction": "outbound"}, False),
        ({"from_time": "2026-11-23", "to_time": "2026-11-23"}, True),
        ({"to_time": "2026-11-22"}, False),
        ({"to_time": "2026-11-23T06:30:56.000Z"}, False),
        ({"to_time": "2026-11-23T06:30:56Z"}, False),
        ({"to_time": "2026-11-23T06:30:56.001Z"}, True),
        ({"to_time": "2026-11-23T06:30:57Z"}, True),
        ({"from_time": "2026-11-23T06:30:56Z"}, True),
        ({"from_time": "2026-11-23T06:30:56.000000Z"}, True),
        ({"from_time": "2026-11-23T06:30:56.001Z"}, False),
        ({"number": "+44 20\u20117745\u20136456"}, True),
        ({"number": "\uff0b\uff14\uff14 (0)20 7745 6456"}, True),
        ({"number": "\u0661\u0660\u0660\u0661"}, True),
        ({"from_time": "2026-11-24"}, False),
        ({"recording_id": FACTS.recording_id, "retention_class": "default"}, True),
        ({"recording_id": "20261123T062231-000000000002"}, False),
    ],
)
def test_all_conditions_of_a_selection_must_hold_and_none_means_nothing(
    selection: dict[str, str], covered: bool
) -> None:
    assert covers(Selection(**selection), FACTS) is covered
    assert bool(index(hold(**selection)).of(FACTS)) is covered


@pytest.mark.parametrize(
    "text",
    [
        "31.12.2026",
        "2026-1-5",
        "2026-02-30",
        "2026-11-23T06:30:56+01:00",
        "2026-11-23T06:30Z",
        "\uff12026-11-23",
    ],
)
def test_a_time_that_is_none_is_named(text: str) -> None:
    assert text in time_flaw(Selection(from_time=text)) and text in time_flaw(Selection(to_time=text))
    assert time_flaw(Selection(from_time="2026-11-23", to_time="2026-11-24T00:00:00.5Z", number=text)) == ""


def test_a_hold_ends_with_the_second_that_it_was_told() -> None:
    until = "2026-12-31T10:00:00Z"
    assert hold(until=until).in_force("2026-12-31T09:59:59.999Z")
    assert not hold(until=until).in_force("2026-12-31T10:00:00.000Z")


def test_a_class_that_is_not_configured_is_never_due() -> None:
    unknown = replace(RECORDING, facts=replace(FACTS, retention_class="mifid"))
    decision = decide(unknown, Ruling([Terms(classes=(DEFAULT,))]), index(), now_utc_s=after(100_000))
    assert decision.verdict is Verdict.UNKNOWN_CLASS
    assert "does not know" in refusal(
        unknown, Ruling([]), index(), now_utc_s=after(100_000), claims_right=True
    )


def test_the_default_class_lasts_180_days_without_any_configuration() -> None:
    for days, verdict in ((179.9, Verdict.KEEP), (180, Verdict.DUE)):
        assert decide(RECORDING, Ruling([]), index(), now_utc_s=after(days)).verdict is verdict


def test_a_hold_beats_the_class_until_it_is_released_or_its_time_is_over() -> None:
    ruling, number = Ruling([]), hold(7, extension="1001", until="2027-06-01T00:00:00.000Z")
    assert decide(RECORDING, ruling, index(number), now_utc_s=after(400)).verdict is Verdict.HELD
    text = refusal(RECORDING, ruling, index(number), now_utc_s=after(400), claims_right=True)
    assert text == "is on legal hold 7"
    for ended in (
        index(number, now="2027-06-01T00:00:00.000Z"),
        index(replace(number, released_at="2026-12-02T00:00:00.000Z")),
    ):
        assert decide(RECORDING, ruling, ended, now_utc_s=after(400)).verdict is Verdict.DUE


def test_worm_once_told_is_not_shortened_by_later_terms() -> None:
    long = Terms(classes=(replace(DEFAULT, maximum_days=2500),), worm=True, from_row=3)
    short = Terms(classes=(replace(DEFAULT, maximum_days=1, right_to_erasure=True),), from_row=6)
    ruling = Ruling([Terms(classes=(DEFAULT,)), long, short])
    assert decide(RECORDING, ruling, index(), now_utc_s=after(2499)).verdict is Verdict.KEEP
    for claims_right in (True, False):
        text = refusal(RECORDING, ruling, index(), now_utc_s=after(2499), claims_right=claims_right)
        assert "WORM" in text
    assert decide(RECORDING, ruling, index(), now_utc_s=after(2500)).verdict is Verdict.DUE
    later = replace(RECORDING, row_id=6)  # came when WORM was over
    assert decide(later, ruling, index(), now_utc_s=after(2)).verdict is Verdict.DUE


def test_worm_that_comes_later_holds_what_is_there_already() -> None:
    long = Terms(classes=(replace(DEFAULT, maximum_days=2500),), worm=True, from_row=100)
    gone = Terms(classes=(), from_row=100)
    assert Ruling([Terms(classes=()), long, gone]).due(row_id=5, ended_utc_s=0, name="default").due_utc_s == (
        2500 * DAY_S
    )


def test_before_its_minimum_only_a_right_that_the_class_knows_erases() -> None:
    mifid = RetentionClass(name="default", minimum_days=1825, maximum_days=2555)
    for permits, claims, days, word in (
        (False, False, 1, "at least 1825 days"),
        (False, True, 1, "does not let the right"),
        (True, True, 1, ""),
        (True, False, 1, "at least 1825 days"),
        (False, False, 1825, ""),
    ):
        ruling = Ruling([Terms(classes=(replace(mifid, right_to_erasure=permits),))])
        text = refusal(RECORDING, ruling, index(), now_utc_s=after(days), claims_right=claims)
        assert (word in text) if word else text == ""


def test_an_entry_without_audio_is_not_due_where_only_audio_goes() -> None:
    ruling = Ruling([Terms(classes=(replace(DEFAULT, erase=Erase.AUDIO),))])
    entry = replace(RECORDING, has_audio=False)
    assert decide(entry, ruling, index(), now_utc_s=after(400)).verdict is Verdict.KEEP
    assert decide(RECORDING, ruling, index(), now_utc_s=after(400)).verdict is Verdict.DUE


def test_a_plan_adds_up_by_class() -> None:
    rows = [replace(RECORDING, row_id=at, ended_utc_s=after(at)) for at in range(10)]
    rows.append(replace(RECORDING, facts=replace(FACTS, retention_class="mifid")))
    tally = PlanTally()
    for decision in plan(rows, Ruling([]), index(), now_utc_s=after(184.5)):
        tally.count(decision)
    row = tally.classes["default"]
    assert (row.recordings, row.due, row.due_bytes, row.held) == (10, 5, 5000, 0)
    assert row.next_due_utc_s == after(185)
    assert tally.unknown == {"mifid"}


UNHURRIED = settings(suppress_health_check=[HealthCheck.too_slow])  # the machine may have other work
STEPS = st.lists(
    st.builds(
        lambda days, minimum, worm, from_row: Terms(
            classes=(
                RetentionClass(
                    name="default", minimum_days=minimum, maximum_days=days, right_to_erasure=True
                ),
            ),
            worm=worm,
            from_row=from_row,
        ),
        st.integers(0, 3000),
        st.integers(0, 3000),
        st.booleans(),
        st.integers(1, 20),
    ),
    min_size=1,
    max_size=6,
).map(lambda steps: sorted(steps, key=lambda step: step.from_row))


@UNHURRIED
@given(STEPS, st.integers(0, 3000), st.booleans())
def test_under_worm_no_further_step_brings_a_time_forward(steps: list[Terms], days: int, worm: bool) -> None:
    """Whatever comes after, a recording that was here goes no sooner than it was told under WORM."""
    row_id = steps[-1].from_row
    before = Ruling([*steps[:-1], replace(steps[-1], worm=True)])
    more = Terms(classes=(RetentionClass(name="default", maximum_days=days),), worm=worm, from_row=row_id + 1)
    after_it = Ruling([*steps[:-1], replace(steps[-1], worm=True), more])
    told = before.due(row_id=row_id, ended_utc_s=0, name="default")
    later = after_it.due(row_id=row_id, ended_utc_s=0, name="default")
    assert told.due_utc_s is not None
    assert later.due_utc_s is not None
    assert later.floor_utc_s is not None
    assert later.due_utc_s >= told.due_utc_s
    assert later.earliest_utc_s == later.floor_utc_s >= told.due_utc_s
    assert later.floor_utc_s >= (told.floor_utc_s or 0)


@UNHURRIED
@given(STEPS, st.integers(1, 20), st.integers(0, 4000), st.booleans())
def test_what_is_held_is_never_due_and_nobody_may_erase_it(
    steps: list[Terms], row_id: int, days: int, claims_right: bool
) -> None:
    row, held = replace(RECORDING, row_id=row_id), index(hold(3, queue="sales"))
    assert decide(row, Ruling(steps), held, now_utc_s=after(days)).verdict is not Verdict.DUE
    assert refusal(row, Ruling(steps), held, now_utc_s=after(days), claims_right=claims_right)
    if decide(row, Ruling(steps), index(), now_utc_s=after(days)).verdict is Verdict.DUE:
        assert not refusal(row, Ruling(steps), index(), now_utc_s=after(days), claims_right=claims_right)
