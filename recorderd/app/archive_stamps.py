"""recorder-archive stamps and renew: time stamps that are to be renewed, and their renewal.

Contract: published folders are read, never changed; renewals go into a folder of their own. A renewal is kept
only when it is better than what it renews: so a run that was cut, or is made twice, costs questions only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Column, Table

from recorderd import durable
from recorderd.app.archive_configuration import CONTROL_NAME, ArchiveConfiguration
from recorderd.app.control import ask
from recorderd.app.service import FolderLock
from recorderd.app.stamp_authorities import authorities
from recorderd.archive.renewals import RENEWALS_NAME, StampState, renewal_path, stamp_states
from recorderd.core.clock import NS_PER_S, SystemClock, utc_text
from recorderd.core.conditions import PowerState
from recorderd.core.errors import AuthorityRefused, ControlUnavailable, EvidenceError, PutOff
from recorderd.evidence.digest import sha256_file
from recorderd.evidence.renewal import RENEW_BEFORE_S
from recorderd.evidence.timestamp import Stamp
from recorderd.flush.authority import Authority, fetch_stamp

DAY_S: Final = 86_400
EXIT_DATA: Final = 65  # sysexits(3)
EXIT_AGAIN: Final = 75
_PLAIN_WIDTH: Final = 200  # for pipes and files: a name that is cut off helps nobody
_LOCK_NAME: Final = ".renew.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What became of one stamp that was due."""

    path: str
    stamp: Stamp | None  # the new one
    problem: str = ""


def add_days(command: argparse.ArgumentParser) -> None:
    """Declare how long before its end a stamp is due."""
    command.add_argument(
        "--days", type=int, default=RENEW_BEFORE_S // DAY_S, metavar="N", help="that end within N days"
    )


def list_stamps(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    """List stamps with what is to be done; 65 when one does not hold, else 0."""
    rows, broken = [], False
    for state in _states(arguments, configuration):
        broken = broken or state.stamp is None
        if state.reasons or arguments.all:
            rows.append(_row(state))
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return EXIT_DATA if broken else 0
    table = Table(
        Column("stamp", overflow="fold"), "authority", "made", "good until", "to be renewed because"
    )
    for row in rows:
        reasons = "; ".join(row["reasons"])
        table.add_row(*(str(row[name]) for name in ("path", "authority", "made", "ends")), reasons)
    Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)
    return EXIT_DATA if broken else 0


def renew_stamps(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    """Renew what is due; 75 when something is left to do, else 0.

    Errors: PutOff while the daemon says that this host is on battery.
    """
    _look_at_power(configuration)
    root = configuration.archive.data_dir
    durable.make_dir(root / RENEWALS_NAME)
    lock = FolderLock(root / RENEWALS_NAME / _LOCK_NAME)
    left = 0
    try:
        states = _states(arguments, configuration)
        for done in renew_due(root, states, asked=authorities(configuration.timestamps)):
            left += done.stamp is None
            print(f"{done.path}: {done.problem or f'renewed by {done.stamp}'}")
    finally:
        lock.close()
    return EXIT_AGAIN if left else 0


def _look_at_power(configuration: ArchiveConfiguration) -> None:
    if configuration.power is None:
        return
    try:
        power = ask(configuration.archive.run_dir / CONTROL_NAME, {"command": "status"})["power"]
    except ControlUnavailable:  # it does not run: nobody knows
        return
    if power["state"] != PowerState.ON_LINE.name.lower():
        raise PutOff(work="the renewal of time stamps", reason=power["reason"])


def renew_due(root: Path, states: Iterator[StampState], *, asked: Sequence[Authority]) -> Iterator[Renewal]:
    """Renew each stamp that is due by the first authority that gives a better one.

    Durable: what is told as renewed survives.
    Errors: OSError.
    """
    for state in states:
        if not state.reasons:
            continue
        if state.stamp is None or state.too_late:
            yield Renewal(path=state.path, stamp=None, problem="; ".join(state.reasons))
            continue
        newest = (
            renewal_path(root, root / state.path, state.renewals) if state.renewals else root / state.path
        )
        try:
            tsr, stamp = fetch_stamp(asked, sha256_hex=sha256_file(newest)[0], subject=newest.name)
        except (AuthorityRefused, EvidenceError) as problem:
            yield Renewal(path=state.path, stamp=None, problem=str(problem))
            continue
        if stamp.certificate_ends_utc_s <= state.stamp.certificate_ends_utc_s:
            problem_text = f"{stamp} ends no later: ask an authority with a longer certificate"
            yield Renewal(path=state.path, stamp=None, problem=problem_text)
            continue
        target = renewal_path(root, root / state.path, state.renewals + 1)
        durable.make_dir(target.parent)
        durable.replace(target, tsr)
        yield Renewal(path=state.path, stamp=stamp)


def _states(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> Iterator[StampState]:
    return stamp_states(
        configuration.archive.data_dir,
        now_utc_s=SystemClock().utc_ns() // NS_PER_S,
        renew_before_s=arguments.days * DAY_S,
    )


def _row(state: StampState) -> dict[str, Any]:
    stamp = state.stamp
    return {
        "path": state.path,
        "authority": stamp.authority if stamp else "",
        "made": utc_text(stamp.gen_time_utc_ns) if stamp else "",
        "ends": utc_text(stamp.certificate_ends_utc_s * NS_PER_S) if stamp else "",
        "renewals": state.renewals,
        "reasons": list(state.reasons),
    }
