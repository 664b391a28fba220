"""Work that can wait is put off while the archive's host is on battery."""

from __future__ import annotations

from recorderd.app.archive_configuration import CONTROL_NAME, ArchiveConfiguration
from recorderd.app.control import ask
from recorderd.core.conditions import PowerState
from recorderd.core.errors import ControlUnavailable, PutOff


def look_at_power(configuration: ArchiveConfiguration, *, work: str) -> None:
    """Ask the daemon whether this host is on line; when it does not run, nobody knows.

    Errors: PutOff.
    """
    if configuration.power is None:
        return
    try:
        power = ask(configuration.archive.run_dir / CONTROL_NAME, {"command": "status"})["power"]
    except ControlUnavailable:
        return
    if power["state"] != PowerState.ON_LINE.name.lower():
        raise PutOff(work=work, reason=power["reason"])
