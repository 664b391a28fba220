"""Who may do what: the table, its bounds, and that nothing loosens it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.policy.access import (
    IN_THE_HOUSE,
    ON_RECORDINGS,
    Action,
    Facts,
    Reach,
    Role,
    Ruling,
    Viewer,
    reach_of,
    rights_table,
    rule_in_the_house,
    rule_on_recording,
)
from recorderd.policy.lockout import FREE_FAILURES, LONGEST_WAIT_S, wait_after_s

README = Path(__file__).parents[2] / "recorderd" / "policy" / "README.md"
NUMBERS = st.sampled_from(["", "100", "200", "rec-1:100", "rec-2:100", "sales"])
NAMES = st.frozensets(NUMBERS, max_size=3)
VIEWERS = st.builds(
    Viewer,
    role=st.sampled_from(Role),
    extensions=NAMES,
    group_extensions=NAMES,
    group_queues=NAMES,
    recorders=st.frozensets(st.sampled_from(["rec-1", "rec-2"])),
    all_recorders=st.booleans(),
    second_right=st.booleans(),
    scopes=st.frozensets(st.sampled_from(Action)),
)
FACTS = st.builds(
    Facts,
    recorder_id=st.sampled_from(["rec-1", "rec-2"]),
    extension=NUMBERS,
    queue=NUMBERS,
    restricted=st.booleans(),
    wants_reason=st.booleans(),
)
STRICTNESS = (Ruling.ALLOWED, Ruling.REASON, Ruling.REFUSED)


def user(**values: object) -> Viewer:
    return replace(Viewer(role=Role.USER, extensions=frozenset({"100"})), **values)  # type: ignore[arg-type]


def facts(**values: object) -> Facts:
    return replace(Facts(recorder_id="rec-1", extension="100", queue=""), **values)  # type: ignore[arg-type]


def test_the_readme_shows_the_table_that_decides() -> None:
    text = README.read_text()
    assert "\n".join(rights_table()) in text


@given(VIEWERS, st.sampled_from(ON_RECORDINGS), FACTS)
def test_nobody_reaches_what_is_foreign(viewer: Viewer, action: Action, seen: Facts) -> None:
    if reach_of(viewer, seen) is Reach.FOREIGN:
        assert rule_on_recording(viewer, action, seen) is Ruling.REFUSED


@given(VIEWERS, st.sampled_from(ON_RECORDINGS), FACTS)
def test_what_is_restricted_is_never_looser(viewer: Viewer, action: Action, seen: Facts) -> None:
    plain = rule_on_recording(viewer, action, replace(seen, restricted=False, wants_reason=False))
    for stricter in (replace(seen, restricted=True), replace(seen, restricted=False, wants_reason=True)):
        assert STRICTNESS.index(rule_on_recording(viewer, action, stricter)) >= STRICTNESS.index(plain)
    if not viewer.second_right:
        assert rule_on_recording(viewer, action, replace(seen, restricted=True)) is Ruling.REFUSED


@given(VIEWERS, st.sampled_from(Action), FACTS)
def test_a_token_never_may_what_its_scopes_do_not_say(viewer: Viewer, action: Action, seen: Facts) -> None:
    bare = replace(viewer, scopes=viewer.scopes - {action})
    rule = (
        rule_in_the_house(bare, action) if action in IN_THE_HOUSE else rule_on_recording(bare, action, seen)
    )
    assert rule is Ruling.REFUSED


@given(FACTS, st.sampled_from(ON_RECORDINGS), st.booleans())
def test_an_auditor_reaches_no_recording(seen: Facts, action: Action, everything: bool) -> None:
    viewer = Viewer(
        role=Role.AUDITOR,
        extensions=frozenset({seen.extension}),
        all_recorders=everything,
        second_right=True,
    )
    assert rule_on_recording(viewer, action, seen) is Ruling.REFUSED


def test_a_recording_without_extension_is_nobodys_own() -> None:
    assert reach_of(user(extensions=frozenset({""})), facts(extension="")) is Reach.FOREIGN


def test_an_extension_may_be_meant_at_one_recorder_only() -> None:
    viewer = user(extensions=frozenset({"rec-1:100"}))
    assert reach_of(viewer, facts()) is Reach.OWN
    assert reach_of(viewer, facts(recorder_id="rec-2")) is Reach.FOREIGN


def test_groups_count_for_supervisors_only() -> None:
    viewer = user(group_extensions=frozenset({"200"}), group_queues=frozenset({"sales"}))
    queue_call = facts(extension="300", queue="sales")
    assert reach_of(viewer, queue_call) is Reach.FOREIGN
    assert reach_of(replace(viewer, role=Role.SUPERVISOR), queue_call) is Reach.GROUP
    assert reach_of(replace(viewer, role=Role.SUPERVISOR), facts(extension="200")) is Reach.GROUP


def test_an_administrator_says_why_before_hearing_anything() -> None:
    viewer = Viewer(role=Role.ADMINISTRATOR, recorders=frozenset({"rec-1"}))
    assert rule_on_recording(viewer, Action.VIEW, facts()) is Ruling.ALLOWED
    assert rule_on_recording(viewer, Action.PLAY, facts()) is Ruling.REASON
    assert rule_on_recording(viewer, Action.PLAY, facts(recorder_id="rec-2")) is Ruling.REFUSED


@pytest.mark.parametrize("failures", range(FREE_FAILURES))
def test_the_first_wrong_passwords_cost_no_wait(failures: int) -> None:
    assert wait_after_s(failures) == 0


@given(st.integers(0, 10_000))
def test_the_wait_grows_and_has_a_bound(failures: int) -> None:
    assert wait_after_s(failures) <= wait_after_s(failures + 1) <= LONGEST_WAIT_S


def test_a_guesser_gets_few_guesses_a_day() -> None:
    seconds, guesses = 0, 0
    while seconds < 86_400:
        guesses += 1
        seconds += wait_after_s(guesses)
    assert guesses < 120
