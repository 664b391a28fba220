"""What recorderd reads besides its configuration file before it starts: keys, passwords, announcements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from recorderd.app.named_files import Look, check_named_files
from recorderd.app.power import ups_looks
from recorderd.app.prompts import PromptLibrary
from recorderd.app.prompts import prompt_problems as bad_prompts
from recorderd.app.recorder_configuration import RecorderConfiguration
from recorderd.app.schema import refuse
from recorderd.app.service import Service
from recorderd.app.signalling import prompt_problems, sip_looks
from recorderd.app.signing import key_source
from recorderd.core.events import EventLog


def check_configuration(path: Path, configuration: RecorderConfiguration) -> int:
    """Load what a start would load, and start nothing.

    Errors: ConfigurationError with every file that does not do; KeyUnavailable.
    """
    log, prompts_dir = Service(program="recorderd", level="warning").log, configuration.control.prompts_dir
    unspoken = bad_prompts(prompts_dir) if prompts_dir is not None else []
    if not unspoken:
        unspoken = list(prompt_problems(configuration, _prompts(configuration, log)))
    check_named_files(path, _looks(configuration, log), further=unspoken)
    print(f"{path}: good")
    return 0


def _looks(configuration: RecorderConfiguration, log: EventLog) -> Iterator[Look]:
    yield "evidence", lambda: key_source(configuration.evidence).open()
    yield from sip_looks(configuration.sip)
    yield from ups_looks(configuration.power, log=log)


def load_prompts(path: Path, configuration: RecorderConfiguration, log: EventLog) -> PromptLibrary:
    """Read what can be said, and see that it has what the rules name.

    Errors: ConfigurationError.
    """
    prompts = _prompts(configuration, log)
    refuse(path, list(prompt_problems(configuration, prompts)))
    return prompts


def _prompts(configuration: RecorderConfiguration, log: EventLog) -> PromptLibrary:
    control = configuration.control
    languages = {control.language, *(rule.language for rule in configuration.rules)}
    return PromptLibrary.load(prompts_dir=control.prompts_dir, log=log, languages=languages)
