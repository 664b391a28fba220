"""SIGKILL of a sweep, an erasure, an anonymising and a hold at each call that they make on the disk.

What is decided is gone on with at the next start; what is not, never happened. Afterwards fsck finds nothing,
every recording that was on hold is whole, and a hold stands exactly when its row in the audit log does.
Which calls there are a run without a cut shows; `make test` takes those on the store and some of the others.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from recorderd.app.archive_configuration import load_archive_configuration
from recorderd.app.retention_parts import RetentionParts, retention_parts
from recorderd.archive.audit import Auditor
from recorderd.archive.audit_log import Actor, AuditFilter
from recorderd.archive.catalogue import Catalogue
from recorderd.core.clock import NS_PER_S
from recorderd.evidence.verify import TrustStore
from recorderd.policy.retention import RetentionClass
from tests.support import faults
from tests.support.faults import KILLED, Fault, Nursery
from tests.support.golden import FIRST, GOLDEN, RECORDER, SECOND, THIRD
from tests.support.retention_house import RetentionHouse

ALL: Final = bool(os.environ.get("FAULT_ALL"))
KILLS: Final = ("before", "after") if ALL else ("before",)
EVERY: Final = 1 if ALL else 6  # of the calls on the catalogue
AT_A_TIME: Final = 2
TERMS: Final = "[retention.classes.default]\nmaximum_days = 0\n"
REASON: Final = ("--reason", "asked for")
_MIGRATING: Final = threading.Lock()
COMMANDS: Final = {
    "sweep": ("retention", "sweep"),
    "erase": ("erase", "--recording", FIRST, *REASON, "--yes"),
    "anonymise": ("anonymise", "--recording", FIRST, *REASON, "--yes"),
    "hold": ("hold", "add", "--recording", FIRST, *REASON),
}


@dataclass
class Ward:
    """The nursery, an archive to begin with, and what each command does to the disk."""

    nursery: Nursery
    folder: Path
    begun: Path

    def run(self, name: str, command: str, fault: Fault) -> tuple[Path, int]:
        """Run a command on a copy of the archive; returns the copy and how the program ended."""
        root = self.folder / name
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.begun, root)
        words = COMMANDS[command]
        at = 2 if words[0] in ("retention", "hold") else 1
        arguments = [*words[:at], "--config", str(root / "archive.toml"), *words[at:]]
        child = self.nursery.start("operator", *arguments, log=self.folder / f"{name}.log", fault=fault)
        return root, child.wait()

    def calls(self, command: str) -> list[tuple[str, int, str]]:
        """List the calls of a run without a cut: kind, which of that kind, on what."""
        log = self.folder / f"{command}.calls"
        under = self.folder / command / "archive"
        _, code = self.run(command, command, Fault(under=str(under), log=str(log)))
        assert code == 0, (self.folder / f"{command}.log").read_text()
        return faults.disk_calls(log, under)


@pytest.fixture(scope="module")
def ward() -> Iterator[Ward]:
    """Have a nursery, and an archive of three recordings in which the third is on hold."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, faults.nursery(Path(memory)) as nursery:
        begun = Path(memory) / "begun"
        begun.mkdir()
        house = RetentionHouse(begun, TERMS, RetentionClass(name="default", maximum_days=0))
        house.archive.hold(recording_id=THIRD)
        house.archive.database.close()
        yield Ward(nursery, Path(memory), begun)


def _parts(root: Path) -> RetentionParts:
    with _MIGRATING:  # Alembic keeps what it works on in its modules
        return retention_parts(load_archive_configuration(root / "archive.toml"))


def _troubles(root: Path, parts: RetentionParts) -> list[str]:
    auditor = Auditor(
        store=parts.store,
        catalogue=Catalogue(parts.database, read_only=True),
        trusts={RECORDER: TrustStore.from_files([GOLDEN / "ca.pem"])},
        receipts=TrustStore.from_files([root / "archive.cert.pem"]),
        now_utc_s=parts.clock.utc_ns() // NS_PER_S,
    )
    return [f"{row.subject}: {row.reason}" for row in auditor.run().troubles]


def _names(root: Path, recording_id: str) -> set[str]:
    return {path.name for path in next((root / "archive").glob(f"store/*/*/*/{recording_id}")).iterdir()}


def _judge(root: Path, command: str) -> str:
    """Start again where a command was cut, and look; returns how it ended."""
    parts = _parts(root)
    parts.eraser.finish()
    assert _troubles(root, parts) == []
    whole = {path.name for path in (GOLDEN / THIRD).iterdir()}
    assert _names(root, THIRD) == whole
    held = [hold for hold in parts.holds.listed() if hold.selection.recording_id == FIRST]
    noted = parts.audit.rows(AuditFilter(what="hold_added"))
    assert len(noted) == 1 + len(held)
    gone = {name for name in (FIRST, SECOND) if f"{name}.manifest.json" not in _names(root, name)}
    tombs = {name for name in (FIRST, SECOND) if f"{name}.tombstone.json" in _names(root, name)}
    assert gone == tombs
    if command == "hold":
        parts.sweeper.sweep(Actor(name="cli:test"))
        assert (f"{FIRST}.wav" in _names(root, FIRST)) == bool(held)
        assert _names(root, THIRD) == whole
        assert _troubles(root, parts) == []
    parts.database.close()
    return "held" if held else f"{len(gone)} gone"


def _cut(ward: Ward, number: int, command: str, call: tuple[str, int, str], how: str) -> str:
    name, (kind, at, path) = f"cut-{command}-{number}", call
    fault = Fault(under=str(ward.folder / name / "archive"), kind=kind, at=at, how=how)
    root, code = ward.run(name, command, fault)
    if code != KILLED:
        return "missed"  # a thread of SQLite's was a call ahead
    try:
        ended = _judge(root, command)
    except AssertionError as problem:
        return f"WRONG {command} killed {how} {kind} {at} of {path}: {problem}"
    shutil.rmtree(root)
    return ended


@pytest.mark.timeout(3600 if ALL else 240)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_kill_at_any_call_leaves_all_or_nothing_and_never_takes_what_is_held(
    ward: Ward, command: str
) -> None:
    calls = ward.calls(command)
    chosen = [
        (number, call)
        for number, call in enumerate(calls)
        if number % EVERY == 0 or "/store/" in call[2] or "/anonymous" in call[2]
    ]
    if command != "hold":
        assert any("/store/" in path for _, _, path in calls)
    rows = [(number, call, how) for number, call in chosen for how in KILLS]
    with ThreadPoolExecutor(AT_A_TIME) as several:
        ended = list(several.map(lambda row: _cut(ward, row[0], command, row[1], row[2]), rows))
    print(command, len(calls), "calls,", len(rows), "cuts:", faults.tally([row[:20] for row in ended]))
    assert not [row for row in ended if row.startswith("WRONG")], "\n".join(
        row for row in ended if row.startswith("WRONG")
    )
    assert ended.count("missed") <= len(ended) // 10
