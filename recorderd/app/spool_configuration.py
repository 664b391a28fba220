"""[spool] in recorderd.toml: how much the appliance may hold back, and what gives way when it is used up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorderd.app.schema import Problem, option
from recorderd.policy.admission import SpoolPolicy


def _hours(value: Any) -> str | None:
    return None if all(hour > 0 for hour in value) else "give hours above 0, for example [24, 8, 2]"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolSection:
    """[spool]"""

    dir: Path = option("Folder of the spool.")
    quota_bytes: int = option("Full above this, or when the disk is.", default=20 << 30, minimum=1 << 20)
    policy: SpoolPolicy = option(
        "When it is full: keep-recordings refuses new sessions, keep-recording deletes the oldest copies "
        "that the archive has confirmed.",
        default=SpoolPolicy.KEEP_RECORDINGS,
    )
    shed_unreceipted: bool = option(
        "Let keep-recording also delete what the archive has not confirmed, when nothing else is left; each "
        "leaves a signed entry. Never mandatory ones.",
        default=False,
    )
    high_percent: int = option(
        "High from here on: sessions of a priority below 0 are refused.", default=80, minimum=10, maximum=99
    )
    high_hours: int = option(
        "High as well when it would be full within so many hours at the present rate; 0 = never for that.",
        default=2,
        minimum=0,
        maximum=1000,
    )
    alarm_hours: tuple[int, ...] = option(
        "An event at each of these hours left until it is full.", default=(24, 8, 2), check=_hours
    )
    reserve_bytes: int = option(
        "Space set aside on the disk for running calls, for when somebody else has filled it; 0 = none.",
        default=64 << 20,
        minimum=0,
    )
    reserve_minutes: int = option(
        "Full when the disk has no room for so many more minutes of the calls that are up.",
        default=5,
        minimum=0,
        maximum=1440,
    )
    local_grace_s: int = option("Keep a copy so long after the receipt.", default=3600, minimum=0)


def spool_problems(spool: SpoolSection) -> Iterator[Problem]:
    """Find what is wrong between keys that are right by themselves."""
    if spool.shed_unreceipted and spool.policy is not SpoolPolicy.KEEP_RECORDING:
        yield Problem(
            key="spool.shed_unreceipted",
            reason="goes with policy keep-recording",
            remedy='set spool.policy = "keep-recording", or leave it out',
        )
