"""SIGKILL of the off-site copy at each call that it makes on the disk, while it copies and while it erases.

Started again it goes on: afterwards the copy has exactly what the store has, octet by octet, and the store is
as it was. Which calls there are a run without a cut shows; `make test` takes some of them, `make soak`
all.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from recorderd.archive.mirror_checks import mirror_flaws
from recorderd.policy.retention import RetentionClass
from tests.fault.test_kill_erasure import ALL, AT_A_TIME, KILLS, _parts, _troubles
from tests.support import faults
from tests.support.faults import KILLED, Fault, Nursery
from tests.support.golden import FIRST, SECOND
from tests.support.retention_house import RetentionHouse

EVERY: Final = 1 if ALL else 16  # of all calls
EVERY_THERE: Final = 1 if ALL else 5  # of those at the place of the copy
TERMS: Final = "[retention.classes.default]\nmaximum_days = 0\n"


@dataclass
class Ward:
    """The nursery, and an archive to begin with in each state of its copy."""

    nursery: Nursery
    folder: Path
    begun: dict[str, Path]

    def run(self, name: str, state: str, fault: Fault) -> tuple[Path, int]:
        """Let an archive of its own be copied; returns its folder and how the program ended."""
        root = self.folder / name
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.begun[state], root)
        _configure(root)
        arguments = "mirror", "--config", str(root / "archive.toml"), "--now"
        child = self.nursery.start("operator", *arguments, log=self.folder / f"{name}.log", fault=fault)
        return root, child.wait()

    def calls(self, state: str) -> list[tuple[str, int, str]]:
        """List the calls of a run without a cut: kind, which of that kind, on what."""
        log, under = self.folder / f"{state}.calls", self.folder / f"whole-{state}"
        _, code = self.run(under.name, state, Fault(under=str(under), log=str(log)))
        assert code == 0, (self.folder / f"{under.name}.log").read_text()
        return faults.disk_calls(log, under)


@pytest.fixture(scope="module")
def ward() -> Iterator[Ward]:
    """Have a nursery, an archive that was never copied, and one that has erased since it was."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, faults.nursery(Path(memory)) as nursery:
        begun = {}
        for state in ("fresh", "erased"):
            begun[state] = Path(memory) / state
            begun[state].mkdir()
            house = RetentionHouse(begun[state], TERMS, RetentionClass(name="default", maximum_days=0))
            house.archive.database.close()
        _configure(begun["erased"])
        parts = _parts(begun["erased"])
        assert parts.mirror is not None
        # the copy's place is part of its name: at each place of the test it begins with what lies there
        parts.mirror.run()
        house = RetentionHouse.__new__(RetentionHouse)
        house.toml = begun["erased"] / "archive.toml"
        for words in (("anonymise", FIRST), ("erase", SECOND)):
            house.run(words[0], "--recording", words[1], "--reason", "asked for", "--yes")
        parts.database.close()
        yield Ward(nursery, Path(memory), begun)


def _configure(root: Path) -> None:
    text = (root / "archive.toml").read_text().partition("[mirror]")[0]
    (root / "archive.toml").write_text(f'{text}\n[mirror]\nurl = "file://{root}/elsewhere"\n')


def _judge(root: Path) -> str:
    """Start again where the copy was cut, and look."""
    parts = _parts(root)
    mirror = parts.mirror
    assert mirror is not None
    before = mirror.progress().last_row
    assert mirror.run(again=True).is_whole
    flaws = mirror_flaws(mirror, parts.store.published, parts.database, is_deep=True)
    assert [f"{row.subject}: {row.reason}" for row in flaws] == []
    here, there = root / "archive" / "store", root / "elsewhere" / "store"
    assert _files(there) == _files(here)
    assert not list((root / "elsewhere").glob("arriving/*"))
    assert _troubles(root, parts) == []
    parts.database.close()
    return f"from row {before}"


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def _cut(ward: Ward, number: int, state: str, call: tuple[str, int, str], how: str) -> str:
    name, (kind, at, path) = f"cut-{state}-{number}", call
    fault = Fault(under=str(ward.folder / name), kind=kind, at=at, how=how)
    root, code = ward.run(name, state, fault)
    if code != KILLED:
        return "missed"  # a thread of SQLite's was a call ahead
    try:
        ended = _judge(root)
    except AssertionError as problem:
        return f"WRONG {state} killed {how} {kind} {at} of {path}: {problem}"
    shutil.rmtree(root)
    return ended


@pytest.mark.timeout(3600 if ALL else 240)
@pytest.mark.parametrize("state", ["fresh", "erased"])
def test_a_kill_at_any_call_leaves_a_copy_that_goes_on(ward: Ward, state: str) -> None:
    calls = ward.calls(state)
    at_place = [call for call in enumerate(calls) if "/elsewhere" in call[1][2]]
    assert at_place
    chosen = at_place[::EVERY_THERE] + [call for call in enumerate(calls) if call[0] % EVERY == 0]
    rows = [(number, call, how) for number, call in chosen for how in KILLS]
    with ThreadPoolExecutor(AT_A_TIME) as several:
        ended = list(several.map(lambda row: _cut(ward, row[0], state, row[1], row[2]), rows))
    print(state, len(calls), "calls,", len(rows), "cuts:", faults.tally(ended))
    wrong = [row for row in ended if row.startswith("WRONG")]
    assert not wrong, "\n".join(wrong)
    assert ended.count("missed") <= len(ended) // 10
