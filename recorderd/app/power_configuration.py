"""[power] in recorderd.toml and archive.toml: which UPSes feed this host, and where they are asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from recorderd.app.schema import Problem, option
from recorderd.core.ids import is_safe_id


class UpsProgram(StrEnum):
    """Which program knows of a UPS."""

    NUT = "nut"
    APCUPSD = "apcupsd"


def _name(value: Any) -> str | None:
    return None if is_safe_id(value) else "give 1 to 64 letters, digits, _ or -"


def _nut_name(value: Any) -> str | None:
    return None if re.fullmatch(r"[!#-\[\]-~]{0,64}", value) else "give the name as `upsc -l` shows it"


def _some(value: Any) -> str | None:
    return None if value else "name at least one UPS, or leave [power] out"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsSection:
    """[[power.ups]]"""

    name: str = option("Name of the UPS in events and status.", check=_name)
    program: UpsProgram = option("Who knows of it: nut (upsd) or apcupsd.", default=UpsProgram.NUT)
    host: str = option("Address of the machine on which that program runs.", default="127.0.0.1")
    port: int = option("Its port; 0 = the usual one, 3493 or 3551.", default=0, minimum=0, maximum=65_535)
    ups: str = option("NUT's name of the UPS; empty = the server's only one.", default="", check=_nut_name)
    user: str = option(
        "User for upsd: who shuts this machine down then waits for recorderd. Empty = no login.",
        default="",
    )
    password_file: Path | None = option("File with the user's password, mode 600.", default=None)
    tls_ca_file: Path | None = option(
        "Who may vouch for upsd, PEM: it is then asked over TLS only. Absent = in clear.", default=None
    )
    tls_name: str = option("Name in upsd's certificate where it is not `host`.", default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSection:
    """[power]"""

    ups: tuple[UpsSection, ...] = option("The UPSes that feed this machine.", check=_some)
    needed: int = option("How many of them must feed it.", default=1, minimum=1)
    poll_s: int = option("How often each is asked.", default=5, minimum=1, maximum=60)
    battery_poll_s: int = option("The same while one is on battery.", default=1, minimum=1, maximum=10)
    battery_after_s: int = option(
        "On battery for so long before it is believed; self-tests are shorter.",
        default=5,
        minimum=0,
        maximum=60,
    )
    return_after_s: int = option(
        "Better off for so long before it is believed.", default=10, minimum=0, maximum=600
    )
    lost_low_after_s: int = option(
        "A UPS on battery of which nothing is heard for so long counts as low.",
        default=15,
        minimum=2,
        maximum=300,
    )


def power_problems(power: PowerSection | None) -> Iterator[Problem]:
    """Find what is wrong between keys that are right by themselves."""
    if power is None:
        return
    if power.needed > len(power.ups):
        remedy = f"give a number from 1 to {len(power.ups)}"
        yield Problem(key="power.needed", reason="is more than there are", remedy=remedy)
    names = [entry.name for entry in power.ups]
    for number, entry in enumerate(power.ups):
        key = f"power.ups[{number}]"
        if names.index(entry.name) != number:
            yield Problem(key=f"{key}.name", reason="is that of another", remedy="give each its own")
        if bool(entry.user) != bool(entry.password_file):
            remedy = "give both of them or none"
            yield Problem(key=f"{key}.user", reason="goes with password_file", remedy=remedy)
        if entry.tls_name and not entry.tls_ca_file:
            yield Problem(key=f"{key}.tls_name", reason="goes with tls_ca_file", remedy="give it too")
        if entry.program is UpsProgram.APCUPSD:
            for name in ("ups", "user", "tls_ca_file"):
                if getattr(entry, name):
                    yield Problem(
                        key=f"{key}.{name}", reason="means nothing to apcupsd", remedy="leave it out"
                    )
