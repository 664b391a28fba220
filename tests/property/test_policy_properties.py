"""What no list of rules, no sequence of requests and no load can break."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.core.messages import ControlAction, RecordingState
from recorderd.core.terms import Consent, Mode, RecordingTerms
from recorderd.policy.admission import SpoolLevel
from recorderd.policy.admission import decide as admit
from recorderd.policy.modes import Conduct, begin, step
from recorderd.policy.numbers import Numbering, matches, normalise, wild_match
from recorderd.policy.rules import CallFacts, Direction, Prompts, Rule, decide, explain

THOROUGH = settings(max_examples=400)
UK = Numbering(country_code="44", trunk_prefix="0", international_prefix="00")
EXTENSIONS = ["1001", "1002", "1201", ""]
NUMBERS = ["+442079460123", "02079460123", "0049301234567", "1001", "alice", ""]

terms = st.builds(
    RecordingTerms,
    mode=st.sampled_from(Mode),
    consent=st.sampled_from(Consent),
    mandatory=st.booleans(),
    prompt=st.sampled_from(["", "p"]),
)


MATCHERS: dict[str, tuple[Any, ...]] = {
    "queues": ("support", "*", "sales"),
    "conferences": ("7001", "*"),
    "trunks": ("a", "b*"),
    "directions": tuple(Direction),
    "extensions": ("1001", "10??", "*"),
    "callers": ("+44*", "alice", "1001"),
    "callees": ("0*", "1002"),
    "numbers": ("00*", "100?"),
    "weekdays": (0, 3, 6),
}


@st.composite
def _rules(draw: st.DrawFn) -> Rule:
    """Draw a rule of few matchers, so that lists decide something; half of them are for queues."""
    names = draw(st.sets(st.sampled_from(sorted(MATCHERS)), max_size=2))
    names |= {"queues"} if draw(st.booleans()) else set()
    some = {
        name: tuple(draw(st.lists(st.sampled_from(MATCHERS[name]), min_size=1, max_size=2)))
        for name in sorted(names)
    }
    return Rule(
        name=draw(st.text("abc", min_size=1, max_size=3)),
        terms=draw(terms),
        prompts=Prompts(inbound=draw(st.sampled_from(["", "in"])), internal="int"),
        from_minute=draw(st.sampled_from([0, 0, 480, 1320])),
        to_minute=draw(st.sampled_from([1440, 1440, 360, 1080])),
        **some,
    )


rules = _rules()
rule_lists = st.lists(rules, max_size=6)
facts = st.builds(
    CallFacts,
    caller=st.sampled_from(NUMBERS),
    callee=st.sampled_from(NUMBERS),
    direction=st.sampled_from(["internal", "inbound", "outbound", ""]),
    extension=st.sampled_from(EXTENSIONS),
    trunk=st.sampled_from(["", "a", "bb"]),
    queue=st.sampled_from(["", "support", "sales", "x"]),
    conference=st.sampled_from(["", "", "7001", "x"]),
    kind=st.sampled_from(["", "", "", "paging", "intercom", "voicemail", "feature"]),
    weekday=st.integers(0, 6),
    minute_of_day=st.integers(0, 1439),
)


@THOROUGH
@given(rule_lists, rule_lists, facts)
def test_adding_rules_below_never_changes_a_decision_above(
    above: list[Rule], below: list[Rule], call: CallFacts
) -> None:
    before = decide(above, call, numbering=UK)
    decided = before.excluded or any(report.decides for report in explain(above, call, numbering=UK).reports)
    if decided:
        assert decide([*above, *below], call, numbering=UK) == before


@THOROUGH
@given(rule_lists, facts, st.sampled_from(["paging", "intercom", "voicemail", "feature", "Paging "]))
def test_an_excluded_kind_is_never_recorded(listed: list[Rule], call: CallFacts, kind: str) -> None:
    assert decide(listed, replace(call, kind=kind), numbering=UK).terms.mode is Mode.NEVER


def _decider(listed: list[Rule], call: CallFacts) -> Rule | None:
    reports = explain(listed, call, numbering=UK).reports
    return next((rule for rule, report in zip(listed, reports, strict=True) if report.decides), None)


@THOROUGH
@given(rule_lists, facts, st.sampled_from(EXTENSIONS))
def test_a_queues_call_depends_on_its_extension_only_by_a_queue_rule_that_asks_for_it(
    listed: list[Rule], call: CallFacts, extension: str
) -> None:
    call = replace(call, queue=call.queue or "support", kind="")
    other = replace(call, extension=extension)
    if decide(listed, call, numbering=UK) != decide(listed, other, numbering=UK):
        deciders = [rule for rule in (_decider(listed, call), _decider(listed, other)) if rule is not None]
        assert any(rule.extensions and (rule.queues or rule.conferences) for rule in deciders)


@THOROUGH
@given(rule_lists, facts)
def test_only_rules_that_name_queues_or_conferences_decide_their_calls_and_no_others(
    listed: list[Rule], call: CallFacts
) -> None:
    decider = _decider(listed, call)
    if decider is not None:
        assert bool(decider.queues or decider.conferences) is bool(call.queue or call.conference)


@THOROUGH
@given(rule_lists, facts)
def test_every_rule_is_accounted_for_and_the_first_that_matches_decides(
    listed: list[Rule], call: CallFacts
) -> None:
    reports = explain(listed, call, numbering=UK).reports
    assert [report.name for report in reports] == [rule.name for rule in listed]
    matched = [report.matched for report in reports]
    decides = [report.decides for report in reports]
    expected = [False] * len(reports)
    if True in matched and not call.kind:
        expected[matched.index(True)] = True
    assert decides == expected


@given(
    st.text("0123456789", min_size=9, max_size=10).filter(lambda digits: digits[0] != "0"),
    st.text("0123456789*?+", max_size=8),
)
def test_a_pattern_treats_every_writing_of_a_number_alike(national: str, pattern: str) -> None:
    writings = (
        f"+44{national}",
        f"0044{national}",
        f"0{national}",
        f"44{national}",
        f"sip:+44{national}@h",
        f"+44 (0){national}",
    )
    assert {normalise(text, UK) for text in writings} == {f"+44{national}"}
    assert len({matches(pattern, text, UK) for text in writings}) == 1
    assert all(matches(text, f"0{national}", UK) for text in writings)


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_wildcards_mean_what_their_definition_says(pattern: str, text: str) -> None:
    def defined(p: str, t: str) -> bool:
        if not p:
            return not t
        if p[0] == "*":
            return defined(p[1:], t) or (bool(t) and defined(p, t[1:]))
        return bool(t) and p[0] in ("?", t[0]) and defined(p[1:], t[1:])

    assert wild_match(pattern, text) is defined(pattern, text)


@THOROUGH
@given(
    st.text() | st.text("0123456789+*#()- <>@;:%sip", max_size=20) | st.text("0123456789", max_size=14),
    st.text("0123456789+*?", max_size=9),
)
def test_any_text_has_a_form_and_its_form_is_final(text: str, pattern: str) -> None:
    form = normalise(text, UK)
    assert isinstance(matches(pattern, text, UK), bool)
    if form.lstrip("+").isascii() and form.lstrip("+").isdigit():
        assert normalise(form, UK) == form


# --- modes ------------------------------------------------------------------------------------------

actions = st.lists(st.sampled_from(ControlAction), max_size=12)
OBJECTIONS = {ControlAction.OBJECT, ControlAction.CONSENT_TIMED_OUT}


def _course(rule: RecordingTerms, asked: list[ControlAction]) -> list[tuple[ControlAction, Conduct, Conduct]]:
    steps, conduct = [], begin(rule)
    for action in asked:
        after = step(conduct, action, terms=rule)
        after = after if isinstance(after, Conduct) else conduct
        steps.append((action, conduct, after))
        conduct = after
    return steps


@THOROUGH
@given(terms, actions)
def test_nothing_leaves_erased(rule: RecordingTerms, asked: list[ControlAction]) -> None:
    for _, before, after in _course(rule, asked):
        if before.state is RecordingState.ERASED:
            assert after.state is RecordingState.ERASED


@THOROUGH
@given(terms, actions)
def test_in_mode_always_only_an_objection_that_the_rule_allows_ends_recording(
    rule: RecordingTerms, asked: list[ControlAction]
) -> None:
    rule = replace(rule, mode=Mode.ALWAYS)
    for action, before, after in _course(rule, asked):
        if before.state is RecordingState.ON and after.state is not RecordingState.ON:
            assert action is ControlAction.OBJECT
            assert rule.consent is not Consent.NONE
            assert not rule.mandatory


@THOROUGH
@given(terms, st.sampled_from([Mode.ALWAYS_PAUSABLE, Mode.ON_DEMAND]), actions)
def test_a_pause_is_left_by_a_persons_word_only(
    rule: RecordingTerms, mode: Mode, asked: list[ControlAction]
) -> None:
    rule = replace(rule, mode=mode)
    leaving = {ControlAction.RESUME, ControlAction.START, ControlAction.STOP, ControlAction.OBJECT}
    for action, before, after in _course(rule, asked):
        if before.state is RecordingState.PAUSED and after.state is not RecordingState.PAUSED:
            assert action in leaving


@THOROUGH
@given(terms, actions)
def test_nothing_is_kept_before_the_prompt_ended_and_consent_was_given(
    rule: RecordingTerms, asked: list[ControlAction]
) -> None:
    done: set[ControlAction] = set()
    for action, _, after in _course(rule, asked):
        done.add(action)
        if after.state in (RecordingState.ON, RecordingState.PAUSED):
            assert not rule.prompt or ControlAction.PROMPT_ENDED in done
            assert rule.consent is not Consent.REQUIRED or ControlAction.CONSENT in done
            assert rule.mode is not Mode.NEVER


@THOROUGH
@given(terms, actions, st.sampled_from(ControlAction))
def test_a_request_that_comes_twice_changes_nothing_the_second_time(
    rule: RecordingTerms, asked: list[ControlAction], action: ControlAction
) -> None:
    course = _course(rule, [*asked, action])
    _, before, first = course[-1]
    if step(before, action, terms=rule) == first:  # it was not refused
        second = step(first, action, terms=rule)
        assert isinstance(second, Conduct)
        assert (second.state, second.wish, second.changed) == (first.state, first.wish, False)


# --- admission --------------------------------------------------------------------------------------


@given(
    st.sampled_from(SpoolLevel),
    st.sampled_from(SpoolLevel),
    st.integers(0, 20),
    st.integers(0, 20),
    st.booleans(),
    st.booleans(),
    st.integers(-3, 3),
    st.booleans(),
)
def test_a_fuller_spool_or_more_calls_never_loosen_admission(
    a: SpoolLevel,
    b: SpoolLevel,
    calls_a: int,
    calls_b: int,
    busy: bool,
    stop: bool,
    priority: int,
    must: bool,
) -> None:
    (empty, full), (few, many) = sorted((a, b)), sorted((calls_a, calls_b))

    def accepts(spool: SpoolLevel, calls: int) -> bool:
        return admit(
            spool=spool, calls=calls, max_calls=10, queue_full=busy, stopping=stop, mandatory=must,
            priority=priority,
        ).accept  # fmt: skip

    assert accepts(empty, few) or not accepts(full, many)
