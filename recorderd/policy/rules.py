"""Rules: is this call recorded, and on what terms?

Rule: ordered, the first match wins. A queue's or conference's call follows only rules that name the queue or
conference, and those follow no other call. Paging, intercom, voicemail and feature calls are never recorded.
Without any rule every other call is recorded. Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from recorderd.core.messages import CallDescription
from recorderd.core.terms import Mode, RecordingTerms
from recorderd.policy.numbers import Numbering, matches, normalise, wild_match

EXCLUDED: Final = {
    "paging": "paging is never recorded",
    "intercom": "intercom calls are never recorded",
    "voicemail": "voicemail calls are never recorded",
    "feature": "calls to feature codes are never recorded",
}
WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MINUTES_PER_DAY: Final = 1440
NO_RULES = "there are no rules: every call is recorded"
NO_MATCH = "no rule matched"


class Direction(StrEnum):
    """Where a call goes, as the exchange sees it."""

    INTERNAL = "internal"
    INBOUND = "inbound"
    OUTBOUND = "outbound"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """What rules look at; absent facts are empty. Weekday and minute are local time."""

    caller: str = ""
    callee: str = ""
    direction: str = ""
    extension: str = ""
    trunk: str = ""
    queue: str = ""
    conference: str = ""
    kind: str = ""
    weekday: int = 0  # 0 = Monday
    minute_of_day: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """Name of the prompt before recording begins, by direction; empty = none."""

    internal: str = ""
    inbound: str = ""
    outbound: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the list: every matcher that is given must match; an absent fact matches none."""

    name: str
    terms: RecordingTerms  # ``rule`` and ``prompt`` are filled in when the rule decides
    prompts: Prompts = Prompts()
    queues: tuple[str, ...] = ()
    conferences: tuple[str, ...] = ()
    trunks: tuple[str, ...] = ()
    directions: tuple[Direction, ...] = ()
    extensions: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    callees: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()  # either side
    weekdays: tuple[int, ...] = ()  # a span over midnight belongs to the day on which it begins
    from_minute: int = 0  # inclusive
    to_minute: int = MINUTES_PER_DAY  # exclusive; below from_minute = on the next day


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What was decided, and why, in sentences for people."""

    terms: RecordingTerms
    why: tuple[str, ...]
    excluded: str = ""  # the kind of call that is never recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """The first matcher of a rule that did not match."""

    matcher: str
    wanted: str
    saw: str

    def __str__(self) -> str:
        return f"{self.matcher}: wants {self.wanted}, saw {self.saw}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleReport:
    """One rule against one call."""

    name: str
    decides: bool
    miss: Miss | None  # None = it matches

    @property
    def matched(self) -> bool:
        """Tell whether the rule by itself matches the call."""
        return self.miss is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A ruling with the account of every rule, in their order."""

    ruling: Ruling
    reports: tuple[RuleReport, ...]


def facts_of(description: CallDescription, *, at: datetime) -> CallFacts:
    """Take from a call's description what rules look at; ``at`` is local time."""
    return CallFacts(
        caller=description.caller,
        callee=description.callee,
        direction=description.direction,
        extension=description.extension,
        trunk=description.trunk,
        queue=description.queue,
        conference=description.conference,
        kind=description.kind,
        weekday=at.weekday(),
        minute_of_day=at.hour * 60 + at.minute,
    )


def decide(rules: Sequence[Rule], facts: CallFacts, *, numbering: Numbering) -> Ruling:
    """Say whether and on what terms a call is recorded."""
    if (settled := _settled_without_rules(rules, facts)) is not None:
        return settled
    found = next((rule for rule in rules if first_miss(rule, facts, numbering=numbering) is None), None)
    return _no_match(facts) if found is None else _by_rule(found, facts)


def explain(rules: Sequence[Rule], facts: CallFacts, *, numbering: Numbering) -> Explanation:
    """Decide, and say of each rule whether it matches and, if not, what it stumbled over first."""
    ruling = decide(rules, facts, numbering=numbering)
    reports, open_ = [], _settled_without_rules(rules, facts) is None
    for rule in rules:
        miss = first_miss(rule, facts, numbering=numbering)
        reports.append(RuleReport(name=rule.name, decides=open_ and miss is None, miss=miss))
        open_ = open_ and miss is not None
    return Explanation(ruling=ruling, reports=tuple(reports))


def first_miss(rule: Rule, facts: CallFacts, *, numbering: Numbering) -> Miss | None:
    """Give the first matcher of a rule that does not match; None = the rule matches."""
    return next(_misses(rule, facts, numbering), None)


# --- the parts of a decision ------------------------------------------------------------------------


def _settled_without_rules(rules: Sequence[Rule], facts: CallFacts) -> Ruling | None:
    kind = facts.kind.strip().casefold()
    if kind in EXCLUDED:
        never = RecordingTerms(mode=Mode.NEVER)
        return Ruling(terms=never, why=(EXCLUDED[kind],), excluded=kind)
    return None if rules else Ruling(terms=RecordingTerms(), why=(NO_RULES,))


def _no_match(facts: CallFacts) -> Ruling:
    why = [NO_MATCH]
    for what, name in (("queue", facts.queue), ("conference", facts.conference)):
        if name:
            why.append(f"a call of {what} {name} follows only rules that name the {what}")
    return Ruling(terms=RecordingTerms(mode=Mode.NEVER), why=tuple(why))


def _by_rule(rule: Rule, facts: CallFacts) -> Ruling:
    why = [f"rule {rule.name} is the first that matches"]
    prompt = ""
    if rule.terms.mode is not Mode.NEVER:
        prompt, remark = _prompt(rule.prompts, facts.direction.strip().casefold())
        why += [remark] if remark else []
    return Ruling(terms=replace(rule.terms, rule=rule.name, prompt=prompt), why=tuple(why))


def _prompt(prompts: Prompts, direction: str) -> tuple[str, str]:
    by_direction = {
        Direction.INBOUND.value: prompts.inbound,
        Direction.OUTBOUND.value: prompts.outbound,
        Direction.INTERNAL.value: prompts.internal,
    }
    if direction in by_direction:
        return by_direction[direction], ""
    # Recording somebody untold is worse than telling them in the words for another direction.
    prompt = next((name for name in by_direction.values() if name), "")
    return prompt, "the direction is not known: the first prompt that is set is used" if prompt else ""


# --- matchers ---------------------------------------------------------------------------------------


def _misses(rule: Rule, facts: CallFacts, numbering: Numbering) -> Iterator[Miss]:
    yield from _scope_misses(rule, facts)

    def number_fits(pattern: str, text: str) -> bool:
        return matches(pattern, text, numbering)

    def seen_number(text: str) -> str:
        canonical = normalise(text, numbering)
        return text if canonical == text else f"{text} ({canonical})"

    sides = (facts.caller, facts.callee)
    rows: tuple[tuple[str, tuple[str, ...], tuple[str, ...], Callable[[str, str], bool]], ...] = (
        ("queues", rule.queues, (facts.queue,), _name_fits),
        ("conferences", rule.conferences, (facts.conference,), _name_fits),
        ("trunks", rule.trunks, (facts.trunk,), _name_fits),
        ("directions", rule.directions, (facts.direction,), _name_fits),
        ("extensions", rule.extensions, (facts.extension,), number_fits),
        ("callers", rule.callers, (facts.caller,), number_fits),
        ("callees", rule.callees, (facts.callee,), number_fits),
        ("numbers", rule.numbers, sides, number_fits),
    )
    for matcher, patterns, seen, fits in rows:
        if patterns and not any(fits(pattern, text) for pattern in patterns for text in seen):
            show = seen_number if fits is number_fits else str
            saw = ", ".join(show(text) for text in seen if text) or "none"
            yield Miss(matcher=matcher, wanted=" or ".join(patterns), saw=saw)
    yield from _time_misses(rule, facts)


def _scope_misses(rule: Rule, facts: CallFacts) -> Iterator[Miss]:
    """Keep rules that name neither away from the calls of queues and conferences."""
    if rule.queues or rule.conferences:
        return
    for what, name in (("queue", facts.queue), ("conference", facts.conference)):
        if name:
            yield Miss(matcher="scope", wanted="a call of no queue or conference", saw=f"{what} {name}")


def _name_fits(pattern: str, name: str) -> bool:
    name = name.strip().casefold()
    return bool(name) and wild_match(pattern.casefold(), name)


def _time_misses(rule: Rule, facts: CallFacts) -> Iterator[Miss]:
    begin, end, now = rule.from_minute, rule.to_minute, facts.minute_of_day
    over_midnight = end < begin
    if not (now >= begin or now < end if over_midnight else begin <= now < end):
        yield Miss(matcher="time", wanted=f"{clock(begin)} to {clock(end)}", saw=clock(now))
    began = (facts.weekday - 1) % 7 if over_midnight and now < end else facts.weekday
    if rule.weekdays and began not in rule.weekdays:
        wanted = " or ".join(WEEKDAYS[day] for day in rule.weekdays)
        yield Miss(matcher="weekdays", wanted=wanted, saw=WEEKDAYS[began])


def clock(minute_of_day: int) -> str:
    """Write a minute of the day as people do."""
    return f"{minute_of_day // 60:02}:{minute_of_day % 60:02}"
