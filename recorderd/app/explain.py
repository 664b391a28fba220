"""recorderctl explain: which rule decides on a call, why, and why the others do not.

It reads the configuration and decides as the daemon would; the daemon need not run.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from recorderd.app.output import Output
from recorderd.app.recorder_configuration import load_recorder_configuration
from recorderd.app.rules_configuration import numbering_of, rules_of
from recorderd.core.terms import Consent, Mode
from recorderd.policy.rules import (
    WEEKDAYS,
    CallFacts,
    Direction,
    Explanation,
    RuleReport,
    clock,
)
from recorderd.policy.rules import explain as explain_rules


def add_command(commands: Any) -> None:
    """Add ``explain`` to the commands of ``recorderctl``."""
    parser = commands.add_parser("explain", help="which rule decides on a call, and why")
    parser.add_argument("--config", type=Path, required=True, metavar="F", help="recorderd.toml")
    parser.add_argument("--extension", default="", metavar="E", help="the recorded extension")
    parser.add_argument("--queue", default="", metavar="Q", help="the queue that the call went through")
    parser.add_argument("--conference", default="", metavar="C", help="the conference")
    parser.add_argument("--trunk", default="", metavar="T", help="the trunk")
    parser.add_argument("--caller", default="", metavar="N", help="who calls")
    parser.add_argument("--callee", default="", metavar="N", help="who is called")
    parser.add_argument("--direction", default="", choices=[way.value for way in Direction], help="which way")
    parser.add_argument("--kind", default="", metavar="K", help="paging, intercom, voicemail or feature")
    parser.add_argument(
        "--at", type=datetime.fromisoformat, metavar="T", help="local time, 2026-11-25T10:30; default now"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Explain one call.

    Errors: ConfigurationError.
    """
    configuration = load_recorder_configuration(arguments.config)
    at = (arguments.at or datetime.now()).astimezone()  # a time with a zone is told in the local one
    facts = CallFacts(
        caller=arguments.caller,
        callee=arguments.callee,
        direction=arguments.direction,
        extension=arguments.extension,
        trunk=arguments.trunk,
        queue=arguments.queue,
        conference=arguments.conference,
        kind=arguments.kind,
        weekday=at.weekday(),
        minute_of_day=at.hour * 60 + at.minute,
    )
    explanation = explain_rules(rules_of(configuration), facts, numbering=numbering_of(configuration))
    if arguments.json:
        print(json.dumps(as_json(facts, explanation), indent=2))
    else:
        _show(facts, explanation)
    return 0


def as_json(facts: CallFacts, explanation: Explanation) -> dict[str, Any]:
    """Give an explanation as plain values."""
    ruling = explanation.ruling
    return {
        "facts": asdict(facts),
        "recorded": ruling.terms.mode is not Mode.NEVER,
        "terms": asdict(ruling.terms),
        "why": list(ruling.why),
        "rules": [
            {
                "name": report.name,
                "decides": report.decides,
                "matches": report.matched,
                "miss": asdict(report.miss) if report.miss is not None else None,
            }
            for report in explanation.reports
        ],
    }


def _show(facts: CallFacts, explanation: Explanation) -> None:
    console, ruling = Output(), explanation.ruling
    head = Table.grid(padding=(0, 2))
    head.add_row("call", escape(_call(facts)))
    head.add_row("ruling", f"[bold]{_what(explanation)}")
    for number, sentence in enumerate(ruling.why):
        head.add_row("" if number else "why", escape(sentence))
    console.print(head)
    if explanation.reports:
        table = Table("rule", "result")
        for report in explanation.reports:
            table.add_row(escape(report.name), _result(report, excluded=ruling.excluded))
        console.print(table)


def _call(facts: CallFacts) -> str:
    said = [f"{name} {value}" for name, value in asdict(facts).items() if isinstance(value, str) and value]
    return ", ".join([*said, f"{WEEKDAYS[facts.weekday]} {clock(facts.minute_of_day)}"])


def _what(explanation: Explanation) -> str:
    terms = explanation.ruling.terms
    if terms.mode is Mode.NEVER:
        return "never recorded"
    parts = [f"mode {terms.mode}", f"retention {terms.retention_class}", f"layout {terms.layout}"]
    parts += ["keys masked"] if terms.mask_dtmf else []
    parts += [f"prompt {terms.prompt} ({terms.language})"] if terms.prompt else []
    parts += [f"consent {terms.consent}"] if terms.consent is not Consent.NONE else []
    parts += [f"priority {terms.priority}"] if terms.priority else []
    parts += ["mandatory"] if terms.mandatory else []
    return escape(", ".join(parts))


def _result(report: RuleReport, *, excluded: str) -> str:
    if report.miss is not None:
        return escape(str(report.miss))
    if report.decides:
        return "[green]decides"
    return "matches, but such calls are never recorded" if excluded else "matches, but a rule above decides"
