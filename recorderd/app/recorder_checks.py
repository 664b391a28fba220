"""What recorderd reads besides its configuration file before it starts: keys, passwords, announcements."""

from __future__ import annotations

from pathlib import Path

from recorderd.app.power import PowerDuty
from recorderd.app.prompts import PromptLibrary
from recorderd.app.recorder_configuration import RecorderConfiguration
from recorderd.app.schema import refuse
from recorderd.app.service import Service
from recorderd.app.signalling import prompt_problems, sip_settings
from recorderd.app.signing import key_source
from recorderd.core.clock import SystemClock
from recorderd.core.events import EventLog


def check_configuration(path: Path, configuration: RecorderConfiguration) -> int:
    """Load what a start would load, and start nothing."""
    key_source(configuration.evidence).open()
    sip_settings(configuration)
    service = Service(program="recorderd", level="warning")
    PowerDuty(configuration.power, service=service, clock=SystemClock())
    load_prompts(path, configuration, service.log)
    print(f"{path}: good")
    return 0


def load_prompts(path: Path, configuration: RecorderConfiguration, log: EventLog) -> PromptLibrary:
    """Read what can be said, and see that it has what the rules name.

    Errors: ConfigurationError.
    """
    control = configuration.control
    languages = {control.language, *(rule.language for rule in configuration.rules)}
    prompts = PromptLibrary.load(prompts_dir=control.prompts_dir, log=log, languages=languages)
    refuse(path, list(prompt_problems(configuration, prompts)))
    return prompts
