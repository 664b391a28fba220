"""The part of recorderd.toml that says who is recorded and who may change it: rules, numbers, codes, consent.

``rules_of`` turns it into what ``policy`` decides by; ``rule_problems`` finds what is wrong between keys.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from recorderd.app.checks import header_name, safe_id
from recorderd.app.schema import Problem, option
from recorderd.core.terms import AudioFormat, Consent, Layout, Mode, RecordingTerms
from recorderd.policy.codes import FeatureCodes
from recorderd.policy.numbers import Numbering
from recorderd.policy.rules import MINUTES_PER_DAY, WEEKDAYS, Direction, Prompts, Rule

if TYPE_CHECKING:
    from recorderd.app.recorder_configuration import RecorderConfiguration

_TIME: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
CONSENT_HEADER: Final = "X-Recording-Consent"  # by default
_PREROLL_MAX_S: Final = 60


def _number_patterns(value: Any) -> str | None:
    good = all(isinstance(row, str) and row.strip() and "@" not in row for row in value)
    return (
        None if good else "give numbers or user parts without a host; * stands for any run, ? for one digit"
    )


def _name_patterns(value: Any) -> str | None:
    good = all(isinstance(row, str) and row.strip() for row in value)
    return None if good else "give names; * stands for any run of characters"


def _weekdays(value: Any) -> str | None:
    good = all(isinstance(row, str) and _weekday(row) is not None for row in value)
    return None if good else f"choose from {', '.join(day[:3] for day in WEEKDAYS)}, or write days out"


def _weekday(word: str) -> int | None:
    word = word.casefold()
    return next((number for number, day in enumerate(WEEKDAYS) if word in (day, day[:3])), None)


def _time(value: Any) -> str | None:
    return None if _TIME.fullmatch(value) else "give HH:MM from 00:00 to 24:00"


def _minute(value: str) -> int:
    return int(value[:2]) * 60 + int(value[3:])


def _digits(value: Any) -> str | None:
    return None if re.fullmatch(r"[0-9]*", value) else "give digits only, without a plus"


def _name(value: Any) -> str | None:
    return None if not value else safe_id(value)


def _language(value: Any) -> str | None:
    return None if re.fullmatch(r"[a-z]{2}", value) else "give a language's two letters, for example en"


def _rule_language(value: Any) -> str | None:
    return None if not value else _language(value)


def _code(value: Any) -> str | None:
    good = re.fullmatch(r"[*#0-9]{2,16}", value) or not value
    return None if good else "give 2 to 16 of the keys 0 to 9, * and #; empty = no code"


def _dtmf(value: Any) -> str | None:
    return None if re.fullmatch(r"[0-9*#]?", value) else "give one key of a phone; empty = none"


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberingSection:
    """[numbering]"""

    country_code: str = option("Own country's code, digits; empty = unknown.", default="", check=_digits)
    trunk_prefix: str = option("Dialled before national numbers.", default="", check=_digits)
    international_prefix: str = option("Dialled before a country code.", default="", check=_digits)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSection:
    """[[rules]]"""

    name: str = option("Name of the rule in manifests.", check=safe_id)
    mode: Mode = option("never, always, always-pausable or on-demand.")
    queues: tuple[str, ...] = option("Queues by name.", default=(), check=_name_patterns)
    conferences: tuple[str, ...] = option("Conferences by name.", default=(), check=_name_patterns)
    trunks: tuple[str, ...] = option("Trunks by name.", default=(), check=_name_patterns)
    directions: tuple[Direction, ...] = option("internal, inbound, outbound.", default=())
    extensions: tuple[str, ...] = option("Recorded extensions.", default=(), check=_number_patterns)
    callers: tuple[str, ...] = option("Who calls.", default=(), check=_number_patterns)
    callees: tuple[str, ...] = option("Who is called.", default=(), check=_number_patterns)
    numbers: tuple[str, ...] = option("Either side.", default=(), check=_number_patterns)
    weekdays: tuple[str, ...] = option(
        "mon to sun; a span over midnight belongs to the day on which it begins.",
        default=(),
        check=_weekdays,
    )
    from_time: str = option("Local time, HH:MM, inclusive.", default="00:00", check=_time)
    to_time: str = option("Exclusive; below from_time = the next day's.", default="24:00", check=_time)
    retention_class: str = option("How long the archive keeps it, by name.", default="default", check=safe_id)
    layout: Layout = option(
        "split (a channel per party), sides (the recorded side, the others) or mix.", default=Layout.SPLIT
    )
    format: AudioFormat = option(
        "pcm16, or native: the wire's own G.711 octets at half the size, if all streams have one law.",
        default=AudioFormat.PCM16,
    )
    encrypt: str = option(
        "To whom, by the name of an [encryption.NAME]; empty = to nobody.", default="", check=_name
    )
    mask_dtmf: bool = option(
        "Silence the keys that are pressed, and tell of them nowhere; false = list them in the manifest.",
        default=False,
    )
    prompt_internal: str = option("Prompt before internal calls; empty = none.", default="", check=_name)
    prompt_inbound: str = option("Prompt before inbound calls.", default="", check=_name)
    prompt_outbound: str = option("Prompt before outbound calls.", default="", check=_name)
    language: str = option("Of prompts; empty = control.language.", default="", check=_rule_language)
    consent: Consent = option("none, required or objection.", default=Consent.NONE)
    consent_wait_s: int = option("Nothing is recorded if none comes.", default=30, minimum=1, maximum=600)
    beep_every_s: int = option("0 = no beep.", default=0, minimum=0, maximum=3600)
    preroll_s: int = option(
        "On demand: how much of the past is held in memory.", default=0, minimum=0, maximum=_PREROLL_MAX_S
    )
    keep_preroll: bool = option("The held past becomes part of the recording.", default=True)
    pause_limit_s: int = option(
        "Warn of a pause that lasts longer; it goes on. 0 = never.", default=0, minimum=0, maximum=86_400
    )
    priority: int = option("Below 0 = refused while the spool is high.", default=0, minimum=-10, maximum=10)
    mandatory: bool = option(
        "Refuse the session and raise an alarm when it cannot be recorded.", default=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSection:
    """[control]"""

    start_code: str = option("Starts a recording on demand; empty = no code.", default="*44", check=_code)
    stop_code: str = option("Stops it.", default="*47", check=_code)
    pause_code: str = option("Pauses.", default="*48", check=_code)
    resume_code: str = option("Resumes.", default="*49", check=_code)
    object_code: str = option("Objects to the recording.", default="*46", check=_code)
    consent_code: str = option("Agrees to the recording.", default="*45", check=_code)
    supervisors: tuple[str, ...] = option(
        "Extensions that may control other people's calls; the parties of a call always may.",
        default=(),
        check=_number_patterns,
    )
    announce: bool = option("Answer a code with a spoken message.", default=True)
    language: str = option("Of spoken messages.", default="en", check=_language)
    prompts_dir: Path | None = option(
        "Folder with own LANGUAGE/NAME.wav; they replace the built-in ones.", default=None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentSection:
    """[consent]"""

    header: str = option("Header with the answer.", default=CONSENT_HEADER, check=header_name)
    yes: str = option("Its value that agrees.", default="yes")
    no: str = option("Its value that objects.", default="no")
    dtmf_consent: str = option("Key that agrees; empty = none.", default="1", check=_dtmf)
    dtmf_objection: str = option("Key that objects.", default="2", check=_dtmf)


# --- into the words of policy -----------------------------------------------------------------------


def numbering_of(configuration: RecorderConfiguration) -> Numbering:
    """Give the numbering plan."""
    plan = configuration.numbering
    return Numbering(
        country_code=plan.country_code,
        trunk_prefix=plan.trunk_prefix,
        international_prefix=plan.international_prefix,
    )


def codes_of(configuration: RecorderConfiguration) -> FeatureCodes:
    """Give the feature codes."""
    control = configuration.control
    return FeatureCodes(
        start=control.start_code,
        stop=control.stop_code,
        pause=control.pause_code,
        resume=control.resume_code,
        object=control.object_code,
        consent=control.consent_code,
    )


def rules_of(configuration: RecorderConfiguration) -> tuple[Rule, ...]:
    """Give the rules in their order."""
    sealed = {name for name, row in configuration.encryption.items() if row.metadata}
    language = configuration.control.language
    return tuple(_rule(row, language=language, sealed=row.encrypt in sealed) for row in configuration.rules)


def _rule(row: RuleSection, *, language: str, sealed: bool) -> Rule:
    days = (_weekday(word) for word in row.weekdays)
    return Rule(
        name=row.name,
        terms=RecordingTerms(
            mode=row.mode,
            retention_class=row.retention_class,
            layout=row.layout,
            audio_format=row.format,
            mask_dtmf=row.mask_dtmf,
            encrypt=row.encrypt,
            encrypt_metadata=sealed,
            priority=row.priority,
            mandatory=row.mandatory,
            consent=row.consent,
            consent_wait_s=row.consent_wait_s,
            language=row.language or language,
            beep_every_s=row.beep_every_s,
            preroll_ms=row.preroll_s * 1000,
            keep_preroll=row.keep_preroll,
            pause_limit_s=row.pause_limit_s,
        ),
        prompts=Prompts(
            internal=row.prompt_internal, inbound=row.prompt_inbound, outbound=row.prompt_outbound
        ),
        queues=row.queues,
        conferences=row.conferences,
        trunks=row.trunks,
        directions=row.directions,
        extensions=row.extensions,
        callers=row.callers,
        callees=row.callees,
        numbers=row.numbers,
        weekdays=tuple(day for day in days if day is not None),
        from_minute=_minute(row.from_time) % MINUTES_PER_DAY,
        to_minute=_minute(row.to_time) or MINUTES_PER_DAY,
    )


def consent_header_of(configuration: RecorderConfiguration) -> str:
    """Give the header with the parties' answer, by whichever of its two keys it was named."""
    named = configuration.consent.header
    return configuration.sip.leg_headers.consent if named == CONSENT_HEADER else named


# --- problems between keys --------------------------------------------------------------------------


def rule_problems(configuration: RecorderConfiguration) -> Iterator[Problem]:
    """Find what is wrong between keys that are right by themselves."""
    counts = Counter(row.name for row in configuration.rules)
    for number, row in enumerate(configuration.rules):
        key = f"rules[{number}]"
        if counts[row.name] > 1:
            yield Problem(
                key=f"{key}.name", reason=f"{row.name} is taken", remedy="give each rule its own name"
            )
        if row.to_time == row.from_time:
            yield Problem(
                key=f"{key}.to_time", reason="the span is empty", remedy="leave out both for always"
            )
        for name, reason, remedy in _contradictions(row):
            yield Problem(key=f"{key}.{name}", reason=reason, remedy=remedy)
    control, consent = configuration.control, configuration.consent
    codes = {
        f"control.{name}_code": getattr(control, f"{name}_code")
        for name in ("start", "stop", "pause", "resume", "object", "consent")
    }
    yield from _same(codes, "give each action its own code")
    keys = {
        "consent.dtmf_consent": consent.dtmf_consent,
        "consent.dtmf_objection": consent.dtmf_objection,
    }
    yield from _same(keys, "give agreement and objection different keys")
    values = {"consent.yes": consent.yes.casefold(), "consent.no": consent.no.casefold()}
    yield from _same(values, "give agreement and objection different values")
    named = {CONSENT_HEADER, consent.header, configuration.sip.leg_headers.consent}
    if len(named) > 2:
        yield Problem(
            key="consent.header",
            reason="sip.leg_headers.consent names another",
            remedy="name the header in one of the two",
        )
    plan = configuration.numbering
    if plan.trunk_prefix and not plan.country_code:
        yield Problem(
            key="numbering.country_code", reason="missing", remedy="a trunk prefix needs the country's code"
        )


def _contradictions(row: RuleSection) -> Iterator[tuple[str, str, str]]:
    never, on_demand = row.mode is Mode.NEVER, row.mode is Mode.ON_DEMAND
    consent = row.consent is not Consent.NONE
    if row.preroll_s and not on_demand:
        yield "preroll_s", f"means nothing with mode {row.mode}", "set mode to on-demand, or leave it out"
    if never:
        prompts = ("prompt_internal", "prompt_inbound", "prompt_outbound")
        for name in (prompt for prompt in prompts if getattr(row, prompt)):
            yield name, "on a rule that never records", "leave it out"
        if consent:
            yield "consent", "on a rule that never records", "leave it out"
        if row.beep_every_s:
            yield "beep_every_s", "on a rule that never records", "leave it out"
        if row.encrypt:
            yield "encrypt", "on a rule that never records", "leave it out"
        if row.mask_dtmf:
            yield "mask_dtmf", "on a rule that never records", "leave it out"
    if row.mandatory and (never or on_demand):
        yield "mandatory", f"contradicts mode {row.mode}", "set mode to always or always-pausable"
    if row.mandatory and consent:
        yield "mandatory", f"contradicts consent {row.consent}", "leave out one of the two"
    if row.mandatory and row.priority < 0:
        yield "mandatory", f"contradicts priority {row.priority}", "give priority 0 or more"
    if row.pause_limit_s and (never or row.mode is Mode.ALWAYS):
        yield "pause_limit_s", f"nobody can pause in mode {row.mode}", "leave it out"


def _same(values: Mapping[str, str], remedy: str) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for key, value in values.items():
        if value and value in seen:
            yield Problem(key=key, reason=f"{value} is that of {seen[value]} too", remedy=remedy)
        seen.setdefault(value, key)
