"""Rules: which call follows which rule, row by row."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from recorderd.core.messages import CallDescription, Origin
from recorderd.core.terms import Consent, Mode, RecordingTerms
from recorderd.policy.numbers import Numbering
from recorderd.policy.rules import (
    CallFacts,
    Direction,
    Prompts,
    Rule,
    Ruling,
    decide,
    explain,
    facts_of,
)

UK = Numbering(country_code="44", trunk_prefix="0", international_prefix="00")
ALWAYS = RecordingTerms(mode=Mode.ALWAYS)
MON, WED, FRI, SAT, SUN = 0, 2, 4, 5, 6
NEVER = RecordingTerms(mode=Mode.NEVER)


def _rule(name: str, terms: RecordingTerms = ALWAYS, **matchers: Any) -> Rule:
    return Rule(name=name, terms=terms, **matchers)


def _at(hour: int, minute: int = 0, *, day: int = WED) -> dict[str, int]:
    return {"minute_of_day": hour * 60 + minute, "weekday": day}


# One list for the whole table, as a house would have it: order, queues, conferences, every matcher.
HOUSE = (
    _rule("secret", NEVER, numbers=("+442079460190", "1700")),
    _rule("queue-agent", extensions=("1005",), queues=("support",)),
    _rule("queue", queues=("support",)),
    _rule("queue-vip", queues=("vip*",), callers=("+4420*",)),
    _rule("room-hours", conferences=("700?",), from_minute=8 * 60, to_minute=18 * 60),
    _rule("both", queues=("sales",), conferences=("7100",)),
    _rule("trader", extensions=("12??",), directions=(Direction.INBOUND, Direction.OUTBOUND)),
    _rule("trunk", trunks=("carrier-a", "sbc*")),
    _rule("from-london", callers=("020*",)),
    _rule("to-berlin", callees=("004930*",)),
    _rule("french", numbers=("+33*",)),
    _rule("night", extensions=("1950",), from_minute=22 * 60, to_minute=6 * 60, weekdays=(FRI,)),
    _rule("weekend", extensions=("1960",), weekdays=(SAT, SUN)),
    _rule("lunch", extensions=("1970",), from_minute=12 * 60, to_minute=13 * 60),
    _rule("evening", extensions=("1980",), from_minute=18 * 60),
    _rule("name", callers=("alice", "anonymous")),
    _rule("extension", extensions=("1001", "1005")),
    _rule("extension-again", NEVER, extensions=("1001",)),
)

ROWS: list[tuple[dict[str, Any], str]] = [
    # a queue's call follows only rules that name its queue
    ({"queue": "support"}, "queue"),
    ({"queue": "support", "extension": "1001"}, "queue"),
    ({"queue": "support", "extension": "1005"}, "queue-agent"),
    ({"queue": "support", "extension": "1201", "direction": "inbound"}, "queue"),
    ({"queue": "support", "caller": "02079460190"}, "queue"),
    ({"queue": "Support"}, "queue"),
    ({"queue": "support2"}, ""),
    ({"queue": "other", "extension": "1001"}, ""),
    ({"queue": "other", "extension": "1005"}, ""),
    ({"queue": "other", "trunk": "carrier-a"}, ""),
    ({"queue": "other", "caller": "02079460123"}, ""),
    ({"queue": "other", "callee": "+33123456789"}, ""),
    ({"queue": "vip-gold", "caller": "02079460123"}, "queue-vip"),
    ({"queue": "vip-gold", "caller": "01612345678"}, ""),
    ({"queue": "vip", "caller": "+442079460123"}, "queue-vip"),
    # so does a conference's
    ({"conference": "7001", **_at(9)}, "room-hours"),
    ({"conference": "7001", "extension": "1001", **_at(9)}, "room-hours"),
    ({"conference": "7001", "extension": "1001", **_at(19)}, ""),
    ({"conference": "7010", "extension": "1001", **_at(9)}, ""),
    ({"conference": "7100"}, ""),
    ({"conference": "7100", "queue": "sales"}, "both"),
    ({"queue": "sales"}, ""),
    ({"conference": "7001", "queue": "other", **_at(9)}, "room-hours"),
    # rules of queues and conferences reach no other call
    ({"extension": "1005"}, "extension"),
    ({"caller": "+442079460123"}, "from-london"),
    ({}, ""),
    # never, whatever the rules say
    ({"kind": "paging", "extension": "1001"}, "!paging"),
    ({"kind": "intercom", "extension": "1001"}, "!intercom"),
    ({"kind": "voicemail", "extension": "1001"}, "!voicemail"),
    ({"kind": "feature", "extension": "1001"}, "!feature"),
    ({"kind": "voicemail", "queue": "support"}, "!voicemail"),
    ({"kind": "Paging", "trunk": "carrier-a"}, "!paging"),
    ({"kind": "feature", "conference": "7001", **_at(9)}, "!feature"),
    ({"kind": "emergency", "extension": "1001"}, "extension"),
    # order
    ({"extension": "1001", "caller": "1700"}, "secret"),
    ({"extension": "1001", "callee": "1700"}, "secret"),
    ({"extension": "1001", "trunk": "carrier-a"}, "trunk"),
    ({"extension": "1001"}, "extension"),
    ({"extension": "1201", "direction": "outbound", "trunk": "carrier-a"}, "trader"),
    # every matcher by itself
    ({"extension": "1201", "direction": "inbound"}, "trader"),
    ({"extension": "1201", "direction": "Outbound"}, "trader"),
    ({"extension": "1201", "direction": "internal"}, ""),
    ({"extension": "1201"}, ""),
    ({"extension": "12010", "direction": "inbound"}, ""),
    ({"trunk": "carrier-b"}, ""),
    ({"trunk": "sbc-2"}, "trunk"),
    ({"caller": "sip:Alice@example.com"}, "name"),
    ({"callee": "alice"}, ""),
    ({"caller": "anonymous"}, "name"),
    ({"caller": "sip:1001@192.0.2.1"}, ""),
    ({"extension": "sip:1001@192.0.2.1"}, "extension"),
    ({"extension": "10011"}, ""),
    # numbers with and without country code
    ({"caller": "00442079460190"}, "secret"),
    ({"callee": "02079460190"}, "secret"),
    ({"callee": "442079460190"}, "secret"),
    ({"callee": "sip:+44-20-7946-0190@h;user=phone"}, "secret"),
    ({"caller": "+442079460191"}, "from-london"),
    ({"caller": "00442079460123"}, "from-london"),
    ({"caller": "442079460123"}, "from-london"),
    ({"callee": "02079460123"}, ""),
    ({"callee": "+493012345"}, "to-berlin"),
    ({"callee": "00493012345"}, "to-berlin"),
    ({"caller": "+493012345"}, ""),
    ({"caller": "0033123456789"}, "french"),
    ({"callee": "+33123456789"}, "french"),
    # time of day: from is inclusive, to exclusive; a night belongs to the day on which it begins
    ({"extension": "1950", **_at(21, 59, day=FRI)}, ""),
    ({"extension": "1950", **_at(22, day=FRI)}, "night"),
    ({"extension": "1950", **_at(23, 59, day=FRI)}, "night"),
    ({"extension": "1950", **_at(0, day=SAT)}, "night"),
    ({"extension": "1950", **_at(5, 59, day=SAT)}, "night"),
    ({"extension": "1950", **_at(6, day=SAT)}, ""),
    ({"extension": "1950", **_at(2, day=FRI)}, ""),
    ({"extension": "1950", **_at(22, day=SAT)}, ""),
    ({"extension": "1960", **_at(0, day=SAT)}, "weekend"),
    ({"extension": "1960", **_at(23, 59, day=SUN)}, "weekend"),
    ({"extension": "1960", **_at(0, day=MON)}, ""),
    ({"extension": "1960", **_at(23, 59, day=FRI)}, ""),
    ({"extension": "1970", **_at(11, 59)}, ""),
    ({"extension": "1970", **_at(12)}, "lunch"),
    ({"extension": "1970", **_at(12, 59)}, "lunch"),
    ({"extension": "1970", **_at(13)}, ""),
    ({"extension": "1980", **_at(23, 59)}, "evening"),
    ({"extension": "1980", **_at(0)}, ""),
]


def _decided(ruling: Ruling) -> str:
    return f"!{ruling.excluded}" if ruling.excluded else ruling.terms.rule


def test_the_table_is_as_long_as_promised() -> None:
    assert len(ROWS) >= 60
    assert {name for _, name in ROWS} >= {rule.name for rule in HOUSE} - {"extension-again"}


@pytest.mark.parametrize(("facts", "rule"), ROWS, ids=[f"{n}-{row[1]}" for n, row in enumerate(ROWS)])
def test_each_call_follows_its_rule_and_no_other(facts: dict[str, Any], rule: str) -> None:
    call = CallFacts(**facts)
    ruling = decide(HOUSE, call, numbering=UK)
    assert _decided(ruling) == rule
    assert (ruling.terms.mode is Mode.NEVER) is (rule in ("", "secret") or rule.startswith("!"))
    explained = explain(HOUSE, call, numbering=UK)
    assert explained.ruling == ruling
    assert [report.name for report in explained.reports if report.decides] == (
        [rule] if rule and not ruling.excluded else []
    )


def test_a_call_that_no_rule_matches_is_not_recorded_and_says_so() -> None:
    ruling = decide(HOUSE, CallFacts(extension="1999"), numbering=UK)
    assert ruling.terms == RecordingTerms(mode=Mode.NEVER)
    assert ruling.why == ("no rule matched",)


def test_a_queues_call_without_a_rule_says_whose_rule_it_lacks() -> None:
    why = decide(HOUSE, CallFacts(queue="other", extension="1001"), numbering=UK).why
    assert why[0] == "no rule matched"
    assert "queue other" in why[1]


@pytest.mark.parametrize("facts", [{}, {"queue": "q"}, {"conference": "c"}, {"extension": "1"}])
def test_without_rules_every_call_is_recorded_on_default_terms(facts: dict[str, Any]) -> None:
    assert decide((), CallFacts(**facts), numbering=UK).terms == RecordingTerms()


@pytest.mark.parametrize("kind", ["paging", "intercom", "voicemail", "feature"])
def test_without_rules_excluded_calls_are_still_not_recorded(kind: str) -> None:
    ruling = decide((), CallFacts(kind=kind), numbering=UK)
    assert ruling.terms.mode is Mode.NEVER
    assert ruling.excluded == kind
    assert "never recorded" in ruling.why[0]


def test_any_queue_is_named_by_a_star_but_a_call_of_none_is_not() -> None:
    rules = (_rule("all-queues", queues=("*",)),)
    assert decide(rules, CallFacts(queue="x"), numbering=UK).terms.rule == "all-queues"
    assert decide(rules, CallFacts(), numbering=UK).terms.mode is Mode.NEVER
    assert decide(rules, CallFacts(conference="x"), numbering=UK).terms.mode is Mode.NEVER


@pytest.mark.parametrize(
    ("direction", "prompt"),
    [("internal", "p-int"), ("inbound", "p-in"), ("outbound", ""), ("INBOUND", "p-in"), ("", "p-in")],
)
def test_the_prompt_is_that_of_the_direction(direction: str, prompt: str) -> None:
    rules = (_rule("r", prompts=Prompts(internal="p-int", inbound="p-in")),)
    ruling = decide(rules, CallFacts(direction=direction), numbering=UK)
    assert ruling.terms.prompt == prompt
    assert ("direction is not known" in " ".join(ruling.why)) is (direction == "")


def test_the_terms_are_those_of_the_rule_with_its_name() -> None:
    terms = RecordingTerms(
        mode=Mode.ALWAYS_PAUSABLE, retention_class="mifid", consent=Consent.OBJECTION, priority=3
    )
    ruled = decide((_rule("r", terms),), CallFacts(), numbering=UK).terms
    assert ruled == RecordingTerms(
        rule="r", mode=Mode.ALWAYS_PAUSABLE, retention_class="mifid", consent=Consent.OBJECTION, priority=3
    )


def test_explain_names_the_first_matcher_that_failed_and_what_it_saw() -> None:
    call = CallFacts(extension="1005", caller="02079460123", **_at(14, 30))
    reports = {report.name: report for report in explain(HOUSE, call, numbering=UK).reports}
    assert str(reports["queue"].miss) == "queues: wants support, saw none"
    assert str(reports["trader"].miss) == "directions: wants inbound or outbound, saw none"
    assert str(reports["french"].miss) == "numbers: wants +33*, saw 02079460123 (+442079460123)"
    assert str(reports["lunch"].miss) == "extensions: wants 1970, saw 1005"
    assert reports["from-london"].decides
    assert reports["extension"].matched
    assert not reports["extension"].decides


def test_explain_says_when_time_or_day_or_the_queue_is_the_reason() -> None:
    lunch = explain(HOUSE, CallFacts(extension="1970", **_at(14, 30)), numbering=UK).reports
    assert "time: wants 12:00 to 13:00, saw 14:30" in [str(report.miss) for report in lunch]
    weekend = explain(HOUSE, CallFacts(extension="1960", **_at(1)), numbering=UK).reports
    assert "weekdays: wants saturday or sunday, saw wednesday" in [str(report.miss) for report in weekend]
    queue = explain(HOUSE, CallFacts(extension="1001", queue="other"), numbering=UK).reports
    assert str(queue[-1].miss) == "scope: wants a call of no queue or conference, saw queue other"


def test_facts_come_from_the_description_and_the_local_time() -> None:
    description = CallDescription(
        call_id="c", origin=Origin.LEG, caller="1", callee="2", direction="inbound", extension="2", trunk="t",
        queue="q", conference="c", kind="paging",
    )  # fmt: skip
    assert facts_of(description, at=datetime(2026, 11, 25, 10, 30)) == CallFacts(
        caller="1", callee="2", direction="inbound", extension="2", trunk="t", queue="q", conference="c",
        kind="paging", weekday=WED, minute_of_day=630,
    )  # fmt: skip
