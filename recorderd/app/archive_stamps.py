"""recorder-archive stamps and renew: time stamps that are to be renewed, and their renewal.

Contract: published folders are read, never changed; renewals go into a folder of their own. A renewal is kept
only when it is better than what it renews: so a run that was cut, or is made twice, costs questions only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Column, Table

from recorderd import durable
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.archive_store import open_store
from recorderd.app.output import Output
from recorderd.app.progress import SlowWork
from recorderd.app.put_off import look_at_power
from recorderd.app.service import FolderLock
from recorderd.app.stamp_authorities import authorities
from recorderd.archive.jobs import Step, Working
from recorderd.archive.renewals import RENEWALS_NAME, StampState, keep_renewal, stamp_states
from recorderd.core.clock import NS_PER_S, SystemClock, utc_text
from recorderd.core.errors import AuthorityRefused, EvidenceError
from recorderd.evidence.merkle import inclusion_paths, merkle_root
from recorderd.evidence.renewal import RENEW_BEFORE_S
from recorderd.evidence.timestamp import Stamp
from recorderd.flush.authority import Authority, check_apart, fetch_stamp
from recorderd.wire.stamp_batch import LEAVES_LIMIT, RenewalProof

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
    for state in _states(configuration, days=arguments.days):
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
    Output(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)
    return EXIT_DATA if broken else 0


def renew_stamps(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    """Renew what is due; 75 when something is left to do, else 0.

    Errors: PutOff while the daemon says that this host is on battery.
    """
    look_at_power(configuration, work="the renewal of time stamps")
    count = left = 0
    for done in renew_now(configuration, days=arguments.days):
        count, left = count + 1, left + (done.stamp is None)
        print(f"{done.path}: {done.problem or f'renewed by {done.stamp}'}")
    if not count:
        print("nothing is to be renewed")
    return EXIT_AGAIN if left else 0


def renew_now(
    configuration: ArchiveConfiguration, *, days: int, working: Working = SlowWork
) -> Iterator[Renewal]:
    """Renew what ends within so many days; one at a time in an archive.

    Durable: what is told as renewed survives.
    Errors: AlreadyRunning; KeyUnusable, EvidenceError; OSError.
    """
    root, section, clock = configuration.archive.data_dir, configuration.timestamps, SystemClock()
    asked = authorities(section)
    durable.make_dir(root / RENEWALS_NAME)
    lock = FolderLock(root / RENEWALS_NAME / _LOCK_NAME)

    def judge(stamp: Stamp) -> None:
        if section is not None:
            check_apart(stamp, now_utc_ns=clock.utc_ns(), limit_ns=section.apart_limit_s * NS_PER_S)

    try:
        with working("reading stamps", counts="stamps") as work:
            states = _told(_states(configuration, days=days), work)
            yield from renew_due(root, states, asked=asked, judge=judge)
    finally:
        lock.close()


def renew_due(
    root: Path,
    states: Iterator[StampState],
    *,
    asked: Sequence[Authority],
    judge: Callable[[Stamp], None],
    at_once: int = LEAVES_LIMIT,
) -> Iterator[Renewal]:
    """Renew what is due by the first authority that gives a better stamp: one question for all.

    ``judge`` refuses a new stamp, by EvidenceError; the next authority is asked then.

    Durable: what is told as renewed survives.
    Errors: OSError.
    """
    due: dict[str, list[StampState]] = {}
    for state in states:
        if state.reasons and (state.stamp is None or state.too_late):
            yield Renewal(path=state.path, stamp=None, problem="; ".join(state.reasons))
        elif state.reasons:
            due.setdefault(state.newest_sha256, []).append(state)  # those that share a stamp stay together
    digests = sorted(due)
    for at in range(0, len(digests), at_once):
        together = {digest: due[digest] for digest in digests[at : at + at_once]}
        yield from _renew_together(root, together, asked=asked, judge=judge)


def _renew_together(
    root: Path,
    due: dict[str, list[StampState]],
    *,
    asked: Sequence[Authority],
    judge: Callable[[Stamp], None],
) -> Iterator[Renewal]:
    """Have one stamp made for stamps, by the hash of each: over the root of their tree if it is several."""
    digests = sorted(due)
    states = [state for digest in digests for state in due[digest]]
    leaves = [bytes.fromhex(digest) for digest in digests]
    stamped = merkle_root(leaves).hex() if len(leaves) > 1 else digests[0]
    subject = Path(states[0].path).name if len(leaves) == 1 else f"a tree of {len(leaves)} stamps"
    try:
        tsr, stamp = fetch_stamp(asked, sha256_hex=stamped, subject=subject, judge=judge)
    except (AuthorityRefused, EvidenceError) as problem:
        yield from (Renewal(path=state.path, stamp=None, problem=str(problem)) for state in states)
        return
    paths = inclusion_paths(leaves) if len(leaves) > 1 else [()]
    for index, (digest, path) in enumerate(zip(digests, paths, strict=True)):
        proof = None
        if len(leaves) > 1:
            proof = RenewalProof(
                stamp_sha256=digest,
                leaf_index=index,
                tree_leaves=len(leaves),
                path=tuple(node.hex() for node in path),
                root_sha256=stamped,
            )
        for state in due[digest]:
            if state.stamp is None or stamp.certificate_ends_utc_s <= state.stamp.certificate_ends_utc_s:
                problem_text = f"{stamp} ends no later: ask an authority with a longer certificate"
                yield Renewal(path=state.path, stamp=None, problem=problem_text)
                continue
            keep_renewal(root, state, tsr, proof)
            yield Renewal(path=state.path, stamp=stamp)


def _states(configuration: ArchiveConfiguration, *, days: int) -> Iterator[StampState]:
    return stamp_states(
        open_store(configuration),
        now_utc_s=SystemClock().utc_ns() // NS_PER_S,
        renew_before_s=days * DAY_S,
    )


def _told(states: Iterator[StampState], work: Step) -> Iterator[StampState]:
    for state in states:
        work.advance(1)
        yield state


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
