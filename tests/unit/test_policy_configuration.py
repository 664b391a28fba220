"""From recorderd.toml to a ruling: problems are named together, and explain tells people what decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recorderd.app.recorder_configuration import RecorderConfiguration, load_recorder_configuration
from recorderd.app.rules_configuration import codes_of, numbering_of, rules_of
from recorderd.app.signalling import leg_headers
from recorderd.core.errors import ConfigurationError
from recorderd.core.messages import ControlAction
from recorderd.core.terms import AudioFormat, Consent, Layout, Mode, RecordingTerms
from recorderd.policy.numbers import Numbering
from recorderd.policy.rules import CallFacts, Direction, Prompts, Rule, decide
from recorderd.wire.offered import read_consent
from tests.support.house import run_program
from tests.support.programs import ROOT
from tests.support.recipients import make_recipient
from tests.unit.test_configuration import GOOD

EXAMPLE = ROOT / "config" / "rules.toml"


def _load(folder: Path, text: str) -> RecorderConfiguration:
    path = folder / "recorderd.toml"
    path.write_text(GOOD + text)
    return load_recorder_configuration(path)


def _problems(folder: Path, text: str) -> dict[str, str]:
    with pytest.raises(ConfigurationError) as caught:
        _load(folder, text)
    lines = str(caught.value).splitlines()[1:]
    return {key.strip(): rest for key, _, rest in (line.partition(": ") for line in lines)}


def test_every_key_of_a_rule_reaches_the_decision(tmp_path: Path) -> None:
    text = """
    [control]
    language = "de"
    [[rules]]
    name = "all"
    mode = "on-demand"
    queues = ["q"]
    conferences = ["c"]
    trunks = ["t"]
    directions = ["inbound", "internal"]
    extensions = ["1"]
    callers = ["2"]
    callees = ["3"]
    numbers = ["4"]
    weekdays = ["Mon", "sunday"]
    from_time = "22:30"
    to_time = "06:05"
    retention_class = "mifid"
    layout = "sides"
    format = "native"
    mask_dtmf = true
    prompt_internal = "a"
    prompt_inbound = "b"
    prompt_outbound = "c"
    consent = "objection"
    consent_wait_s = 7
    beep_every_s = 8
    preroll_s = 60
    keep_preroll = false
    pause_limit_s = 9
    encrypt = "bank"
    priority = -3
    [[rules]]
    name = "strict"
    mode = "always"
    language = "tr"
    mandatory = true
    from_time = "24:00"
    to_time = "00:00"
    """
    make_recipient(tmp_path, "bank")
    text += """
    [encryption.bank]
    recipients = ["bank.pem"]
    """
    assert rules_of(_load(tmp_path, text)) == (
        Rule(
            name="all",
            terms=RecordingTerms(
                mode=Mode.ON_DEMAND, retention_class="mifid", layout=Layout.SIDES, priority=-3,
                audio_format=AudioFormat.NATIVE, mask_dtmf=True,
                consent=Consent.OBJECTION, consent_wait_s=7, language="de", beep_every_s=8, preroll_ms=60_000,
                keep_preroll=False, pause_limit_s=9, encrypt="bank",
            ),
            prompts=Prompts(internal="a", inbound="b", outbound="c"),
            queues=("q",), conferences=("c",), trunks=("t",),
            directions=(Direction.INBOUND, Direction.INTERNAL),
            extensions=("1",), callers=("2",), callees=("3",), numbers=("4",),
            weekdays=(0, 6), from_minute=22 * 60 + 30, to_minute=6 * 60 + 5,
        ),
        Rule(name="strict", terms=RecordingTerms(mode=Mode.ALWAYS, language="tr", mandatory=True)),
    )  # fmt: skip


def test_without_rules_and_codes_in_the_file_the_defaults_hold(tmp_path: Path) -> None:
    configuration = _load(tmp_path, "")
    assert rules_of(configuration) == ()
    assert numbering_of(configuration) == Numbering()
    assert codes_of(configuration).actions()["*48"] is ControlAction.PAUSE
    assert configuration.consent.header == "X-Recording-Consent"


@pytest.mark.parametrize("section", ["[consent]\nheader", "[sip.leg_headers]\nconsent"])
def test_the_answer_of_the_parties_is_read_from_the_header_and_in_the_words_of_the_file(
    tmp_path: Path, section: str
) -> None:
    no = "no = 'Nein'" if section.startswith("[consent]") else "[consent]\nno = 'Nein'"
    names = leg_headers(_load(tmp_path, f"{section} = 'X-Einwilligung'\n{no}"))
    assert names.consent == "X-Einwilligung"
    assert [read_consent(word, names) for word in ("nein", "NO", "yes", "ja", "")] == [
        False, False, True, None, None,
    ]  # fmt: skip


def test_numbering_codes_and_own_prompts_are_taken_from_the_file(tmp_path: Path) -> None:
    text = """
    [numbering]
    country_code = "44"
    trunk_prefix = "0"
    international_prefix = "00"
    [control]
    pause_code = "#7"
    object_code = ""
    prompts_dir = "own"
    """
    configuration = _load(tmp_path, text)
    assert numbering_of(configuration) == Numbering(
        country_code="44", trunk_prefix="0", international_prefix="00"
    )
    assert configuration.control.prompts_dir == tmp_path / "own"
    actions = codes_of(configuration).actions()
    assert actions["#7"] is ControlAction.PAUSE
    assert ControlAction.OBJECT not in actions.values()


def _rule_text(text: str) -> str:
    return f'[[rules]]\nname = "r"\n{text}\n'


@pytest.mark.parametrize(
    ("text", "key", "word"),
    [
        (_rule_text('mode = "sometimes"'), "rules[0].mode", "on-demand"),
        (_rule_text(""), "rules[0].mode", "missing"),
        (_rule_text('mode = "always"\nsurprise = 1'), "rules[0].surprise", "known here"),
        (_rule_text('mode = "always"\nweekdays = ["someday"]'), "rules[0].weekdays", "mon, tue"),
        (_rule_text('mode = "always"\nfrom_time = "24:30"'), "rules[0].from_time", "HH:MM"),
        (_rule_text('mode = "always"\nto_time = "7:00"'), "rules[0].to_time", "HH:MM"),
        (
            _rule_text('mode = "always"\nfrom_time = "07:00"\nto_time = "07:00"'),
            "rules[0].to_time",
            "span is empty",
        ),
        (_rule_text('mode = "always"\ndirections = ["up"]'), "rules[0].directions[0]", "inbound"),
        (_rule_text('mode = "always"\ncallers = ["*@example.com"]'), "rules[0].callers", "without a host"),
        (_rule_text('mode = "always"\nqueues = [""]'), "rules[0].queues", "names"),
        (_rule_text('mode = "always"\npreroll_s = 5'), "rules[0].preroll_s", "on-demand"),
        (_rule_text('mode = "on-demand"\npreroll_s = 61'), "rules[0].preroll_s", "60"),
        (_rule_text('mode = "never"\nprompt_inbound = "p"'), "rules[0].prompt_inbound", "never records"),
        (_rule_text('mode = "never"\nconsent = "required"'), "rules[0].consent", "never records"),
        (_rule_text('mode = "never"\nbeep_every_s = 5'), "rules[0].beep_every_s", "never records"),
        (_rule_text('mode = "never"\nmask_dtmf = true'), "rules[0].mask_dtmf", "never records"),
        (_rule_text('mode = "always"\nformat = "mp3"'), "rules[0].format", "native"),
        (_rule_text('mode = "never"\nmandatory = true'), "rules[0].mandatory", "always-pausable"),
        (_rule_text('mode = "on-demand"\nmandatory = true'), "rules[0].mandatory", "always-pausable"),
        (
            _rule_text('mode = "always"\nmandatory = true\nconsent = "objection"'),
            "rules[0].mandatory",
            "consent objection",
        ),
        (
            _rule_text('mode = "always"\nmandatory = true\npriority = -1'),
            "rules[0].mandatory",
            "priority -1",
        ),
        (_rule_text('mode = "always"\npause_limit_s = 60'), "rules[0].pause_limit_s", "nobody can pause"),
        ('[control]\npause_code = "*44"', "control.pause_code", "start_code"),
        ('[control]\npause_code = "pause"', "control.pause_code", "keys"),
        ('[control]\nlanguage = "english"', "control.language", "two letters"),
        ('[control]\nsupervisors = [""]', "control.supervisors", "numbers"),
        ('[consent]\ndtmf_objection = "1"', "consent.dtmf_objection", "different keys"),
        ('[consent]\nno = "Yes"', "consent.no", "different values"),
        ('[consent]\nheader = "X Y"', "consent.header", "SIP header"),
        (
            '[sip.leg_headers]\nconsent = "X-A"\n[consent]\nheader = "X-B"',
            "consent.header",
            "sip.leg_headers.consent",
        ),
        ('[numbering]\ncountry_code = "+44"', "numbering.country_code", "without a plus"),
        ('[numbering]\ntrunk_prefix = "0"', "numbering.country_code", "needs"),
    ],
)
def test_each_problem_names_its_key_and_what_would_be_right(
    tmp_path: Path, text: str, key: str, word: str
) -> None:
    problems = _problems(tmp_path, text)
    assert list(problems) == [key]
    assert word in problems[key]


def test_problems_of_several_rules_are_reported_together(tmp_path: Path) -> None:
    text = """
    [[rules]]
    name = "twice"
    mode = "always"
    preroll_s = 5
    [[rules]]
    name = "twice"
    mode = "never"
    mandatory = true
    prompt_outbound = "p"
    """
    assert set(_problems(tmp_path, text)) == {
        "rules[0].name", "rules[0].preroll_s", "rules[1].name", "rules[1].mandatory",
        "rules[1].prompt_outbound",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        ({"extension": "1201", "callee": "00442079460190"}, "confidential"),
        ({"queue": "clinic-a", "caller": "02079460190"}, "confidential-queues"),
        ({"extension": "1201"}, "traders"),
        ({"extension": "1201", "queue": "payments"}, "payments"),
        ({"queue": "clinic-a", "weekday": 1, "minute_of_day": 600}, "clinic"),
        ({"queue": "clinic-a", "weekday": 1, "minute_of_day": 1200}, "queues"),
        ({"queue": "other"}, "queues"),
        ({"conference": "7001"}, "board"),
        ({"conference": "7002"}, ""),
        ({"callee": "1950", "weekday": 5, "minute_of_day": 300}, "duty-officer"),
        ({"direction": "outbound", "extension": "1400"}, "outside"),
        ({"direction": "internal", "extension": "1400"}, ""),
    ],
)
def test_the_example_decides_as_its_comments_say(facts: dict[str, Any], rule: str) -> None:
    configuration = load_recorder_configuration(EXAMPLE)
    ruling = decide(rules_of(configuration), CallFacts(**facts), numbering=numbering_of(configuration))
    assert ruling.terms.rule == rule


def _explain(*arguments: str) -> dict[str, Any]:
    ended = run_program("recorderctl", "explain", "--config", EXAMPLE, "--json", *arguments)
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


def test_explain_for_programs_names_the_rule_the_terms_and_each_miss() -> None:
    report = _explain(
        "--extension", "1201", "--queue", "payments", "--direction", "inbound", "--at", "2026-11-25T10:30"
    )  # fmt: skip
    assert report["recorded"] is True
    assert report["terms"]["rule"] == "payments"
    assert report["terms"]["mode"] == "always-pausable"
    assert report["terms"]["prompt"] == "this_call_is_recorded"
    assert (report["facts"]["weekday"], report["facts"]["minute_of_day"]) == (2, 630)
    rows = {row["name"]: row for row in report["rules"]}
    assert [name for name, row in rows.items() if row["decides"]] == ["payments"]
    assert rows["traders"]["miss"]["matcher"] == "scope"
    assert rows["queues"]["matches"] is True


def test_explain_for_people_shows_why_and_why_not() -> None:
    ended = run_program(
        "recorderctl", "explain", "--config", EXAMPLE, "--callee", "1950", "--at", "2026-11-27T21:00"
    )  # fmt: skip
    text = " ".join(ended.stdout.split())
    assert "never recorded" in text
    assert "no rule matched" in text
    assert "friday 21:00" in text
    assert "time: wants 22:00 to 06:00, saw 21:00" in text


def test_explain_says_that_an_excluded_kind_is_never_recorded() -> None:
    report = _explain("--kind", "voicemail", "--extension", "1201")
    assert report["recorded"] is False
    assert report["why"] == ["voicemail calls are never recorded"]
    assert not any(row["decides"] for row in report["rules"])


def test_explain_refuses_a_bad_configuration_with_exit_78(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(GOOD + _rule_text('mode = "never"\nmandatory = true'))
    ended = run_program("recorderctl", "explain", "--config", path, check=False)
    assert ended.returncode == 78
    assert "rules[0].mandatory" in ended.stderr
