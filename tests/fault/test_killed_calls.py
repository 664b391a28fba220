"""SIGKILL of recorderd at each edge of its tables, while calls talk: every sample is in the archive, once.

The cuts come from the tables themselves (``recorder_edges``): each edge of a session's conduct, each message
when it is left to the next process and when the recording takes it, and the steps by which a recording is
closed. A new edge without something that brings it about fails the test. ``FAULT_ALL=1``: all of them.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from recorderd.archive.catalogue import CATALOGUE_NAME, Catalogue
from tests.support import faults
from tests.support.faults import Edge, Fault, Nursery
from tests.support.house import Recorded
from tests.support.killed_calls import Cut, Life, judge
from tests.support.programs import wait_until
from tests.support.recorder_edges import AFTER, BEFORE, CONDUCT, LEFT, TAKEN, all_edges

ALL: Final = bool(os.environ.get("FAULT_ALL"))
LIVES: Final = 4  # at a time; they wait for the clock most of the time
PARTS: Final = 5 if ALL else 1  # one after the other: nobody talks for more than five minutes
Act = Callable[[Life], object]


def _steered(state: str, action: str) -> Act:
    def act(life: Life) -> None:
        one = life.of("demand")
        life.bring(one, state.lower())
        life.ask(one, action.lower())

    return act


def _asked(kind: str, action: str) -> Act:
    return lambda life: life.ask(life.place(kind), action)


def _placed(kind: str) -> Act:
    return lambda life: life.place(kind)


def _changed(kind: str, *, still: bool = False, **changes: str) -> Act:
    return lambda life: life.change(life.place(kind), still=still, **changes)


def _hung_up(life: Life) -> None:
    one = life.place("always")
    life.pause_s(0.3)
    life.hang_up(one)


def _linked(life: Life) -> None:
    first, second = life.place("leg"), life.place("leg")
    life.pause_s(0.3)
    second.hung_up_early = True  # its session ends here, its dialog goes on in the first one's
    life.link(first, second)


WHAT_TIME_DOES: Final[dict[str, Act]] = {
    "PROMPT_ENDED": _placed("announced"),
    "CONSENT": _asked("asked", "consent"),
    "CONSENT_TIMED_OUT": _placed("in vain"),
    "OBJECT": _asked("objectable", "object"),
    "PAUSE_TIMED_OUT": _asked("watched", "pause"),
}
CHANGES: Final[dict[str, Act]] = {
    "START": _steered("OFF", "START"),
    "STOP": _steered("ON", "STOP"),
    "PAUSE": _steered("ON", "PAUSE"),
    "RESUME": _steered("PAUSED", "RESUME"),
    "RESTARTED": lambda _: None,  # the start itself brings it
    **WHAT_TIME_DOES,
}
MESSAGES: Final[dict[str, Act]] = {
    "SessionStarted": _placed("always"),
    "SessionRefused": _placed("refused"),
    "OfferReceived": _placed("always"),
    "StreamOpened": _placed("always"),
    "CallDescribed": _changed("always", caller="1099"),
    "StreamDescribed": _changed("always", people="other"),
    "StreamHeld": _changed("objectable", still=True, how="inactive"),
    "StreamRecoded": _changed("always", codecs="8 0"),
    "StreamMoved": _linked,
    "ControlRefused": lambda life: life.ask(life.of("always"), "consent"),
    "StreamEnded": _hung_up,
    "SessionEnded": _hung_up,
    **{f"RecordingChanged:{action}": act for action, act in CHANGES.items()},
}
CLOSING: Final = (  # what a recording is closed by, in order
    ("create", ".manifest.json", 1),
    ("write", "/chain.jsonl", 1),
    ("rename", "/drafts/", 1),
    ("unlink", "/journal.jsonl", 1),
    ("rename", "/drafts/", 2),
)


def _act_of(module: str, state: str, event: str) -> Act:
    if module != CONDUCT:
        return MESSAGES[event]
    return WHAT_TIME_DOES[event] if event in WHAT_TIME_DOES else _steered(state, event)


def _cuts(folder: Path) -> list[Cut]:
    """List the cuts, so that those of one kind do not follow each other."""
    cuts = [
        Cut(
            name=f"{how} {module} {state} {event}",
            act=_act_of(module, state, event),
            edge=Edge(module=module, log="", state=state, event=event, how=how),
        )
        for module, state, event, how in sorted(all_edges(), key=lambda edge: (edge[3], edge[0], edge[2]))
        if ALL or (module, how) in ((CONDUCT, AFTER), (TAKEN, BEFORE))
    ]
    assert {cut.edge.module for cut in cuts if cut.edge} == (
        {CONDUCT, LEFT, TAKEN} if ALL else {CONDUCT, TAKEN}
    )
    for kind, named, at in CLOSING:
        for how in (BEFORE, AFTER) if ALL else (BEFORE,):
            fault = Fault(under=str(folder), named=named, kind=kind, at=at, how=how)
            cuts.append(Cut(name=str(fault), act=_hung_up, fault=fault))
    return cuts


@pytest.fixture(scope="module")
def ward() -> Iterator[tuple[Nursery, Path]]:
    """Have a nursery, and a disk that is fast."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, faults.nursery(Path(memory)) as nursery:
        yield nursery, Path(memory)


def _archived(nursery: Nursery, life: Life) -> list[Recorded]:
    """Let everything go to the archive; the chain must be whole there."""
    house = life.house
    children = [
        nursery.start(program, config, log=house.folder / f"{program}.log")
        for program, config in (("archive", house.archive_toml), ("flush", house.recorder_toml))
    ]
    spool = house.folder / "spool"
    wait_until(
        lambda: not any(path for name in ("ready", "claimed") for path in (spool / name).iterdir()),
        what="everything in the archive",
        timeout_s=60,
    )
    for child in children:
        child.signal(signal.SIGTERM)
        assert child.wait() == 0, child.text()
    assert not any((spool / "quarantine").iterdir())
    fsck = nursery.start("fsck", house.archive_toml, log=house.folder / "fsck.log")
    assert fsck.wait() == 0, fsck.text()
    rows = Catalogue(house.folder / "archive" / CATALOGUE_NAME, read_only=True).all()
    assert {row.chain for row in rows} == {"linked"}
    assert sorted(row.sequence for row in rows) == list(range(1, len(rows) + 1))
    return [Recorded(house.folder / "archive" / row.path) for row in rows]


def _live(ward: tuple[Nursery, Path], folder: Path, cuts: list[Cut]) -> str:
    with Life(ward[0], folder) as life:
        begun_s = time.monotonic()
        for cut in sorted(cuts, key=lambda cut: "RESTARTED" in cut.name):  # which needs a call that goes on
            life.cut(cut)
        life.end()
        recordings = _archived(ward[0], life)
        judge(life.placed, recordings)
        text = (life.house.folder / "recorderd.log").read_text(errors="replace")
        for word in ("Traceback", "session_not_continued", "quarantined"):
            assert word not in text, [line for line in text.splitlines() if word in line][:3]
        took_s = time.monotonic() - begun_s
        return f"{life.killed} kills, {len(life.placed)} calls, {len(recordings)} archived, {took_s:.0f} s"


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.timeout(1800)
def test_a_kill_at_any_edge_of_a_session_costs_no_sample(ward: tuple[Nursery, Path], part: int) -> None:
    first, step = part * LIVES, PARTS * LIVES
    names = [ward[1] / f"life-{first + number}" for number in range(LIVES)]
    lives = [_cuts(name)[first + number :: step] for number, name in enumerate(names)]
    with ThreadPoolExecutor(LIVES) as several:
        told = list(several.map(lambda row: _live(ward, *row), zip(names, lives, strict=True)))
    print("\n".join(told))
    assert sum(map(len, lives)) >= (18 if ALL else 40)
