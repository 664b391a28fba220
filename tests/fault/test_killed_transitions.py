"""SIGKILL of recorderd-flush and of recorder-archive before and after each edge of the tables they run by.

Scenes bring about the edges of ``flush/delivery.EDGES`` and ``archive/intake.EDGES``; a run of each without a
cut shows which. Before: the message has come and nothing was done about it. After: the table has moved, and
nothing of what it asks for was done. Whoever is killed, the recording arrives once; one that was broken in
the spool is set aside there, with the reason.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.support import faults
from tests.support.fault_scenes import SCENES, TABLES, UNREACHED, Edges
from tests.support.faults import Edge, Nursery
from tests.support.faulty_delivery import Delivery

ALL: Final = bool(os.environ.get("FAULT_ALL"))
AT_A_TIME: Final = 10  # they wait for one another most of the time


@pytest.fixture(scope="module")
def ward() -> Iterator[tuple[Nursery, Path]]:
    """Have a nursery, and a disk that is fast."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, faults.nursery(Path(memory)) as nursery:
        yield nursery, Path(memory)


def _taken(ward: tuple[Nursery, Path], scene: str, *, turn: int = 0) -> dict[str, set[Edges]]:
    """Play a scene without a cut; returns which edges each program took."""
    root = ward[1] / f"{scene.replace(' ', '-')}-{turn}"
    delivery = Delivery(ward[0], root, prepare=SCENES[scene].prepare, aside=SCENES[scene].aside)
    delivery.run(**SCENES[scene].arms(root))
    delivery.judge()
    taken: dict[str, set[Edges]] = {}
    for program in TABLES:
        log = root.with_name(f"{root.name}.{program}.edges")
        lines = log.read_text().splitlines() if log.exists() else []
        taken[program] = {(line.split()[0], line.split()[1]) for line in lines}
    return taken


def _left(taken: dict[str, dict[str, set[Edges]]]) -> dict[str, set[Edges]]:
    """Say which edges no scene took, though one could have."""
    left: dict[str, set[Edges]] = {}
    for program, table in TABLES.items():
        edges = {(state.name, event.__name__) for state, event in table.EDGES}
        left[program] = edges - UNREACHED[program] - set().union(*(rows[program] for rows in taken.values()))
    return left


def _cut(ward: tuple[Nursery, Path], number: int, scene: str, program: str, edge: Edge) -> str:
    root = ward[1] / f"cut-{number}"
    played = SCENES[scene]
    delivery = Delivery(ward[0], root, prepare=played.prepare, aside=played.aside)
    try:
        delivery.run(**played.arms(root, cut=(program, edge)))
        delivery.judge()
    except AssertionError as problem:
        return f"WRONG {scene}, {program} killed {edge}: {problem}"
    return "killed" if delivery.killed > len(played.kills) else "missed"


def _cuts(taken: dict[str, dict[str, set[Edges]]], memory: Path) -> Sequence[tuple[str, str, Edge]]:
    """List scene, program and edge of every cut; an edge in one scene, with ``FAULT_ALL`` in all."""
    cuts, seen = [], set[tuple[str, Edges]]()
    for scene, programs in taken.items():
        for program, edges in programs.items():
            for state, event in sorted(edges):
                if not ALL and (program, (state, event)) in seen:
                    continue
                seen.add((program, (state, event)))
                for how in ("before", "after"):
                    edge = Edge(
                        module=TABLES[program].__name__,
                        log=str(memory / "edges"),
                        state=state,
                        event=event,
                        how=how,
                    )
                    cuts.append((scene, program, edge))
    return cuts


@pytest.mark.timeout(3600 if ALL else 240)
def test_a_kill_at_any_edge_of_a_delivery_loses_and_doubles_nothing(ward: tuple[Nursery, Path]) -> None:
    with ThreadPoolExecutor(AT_A_TIME) as several:
        taken = dict(zip(SCENES, several.map(lambda scene: _taken(ward, scene), SCENES), strict=True))
        if any(_left(taken).values()):  # who notices a loss first, the link or the program, is luck
            for scene, programs in zip(
                SCENES, several.map(lambda scene: _taken(ward, scene, turn=1), SCENES), strict=True
            ):
                for program, edges in programs.items():
                    taken[scene][program] |= edges
        assert not any(_left(taken).values()), f"no scene takes {_left(taken)}"
        cuts = _cuts(taken, ward[1])
        ended = list(several.map(lambda row: _cut(ward, row[0], *row[1]), enumerate(cuts)))
    wrong = [row for row in ended if row.startswith("WRONG")]
    print(len(cuts), "cuts:", faults.tally([row[:20] for row in ended]))
    assert not wrong, "\n".join(wrong[:5])
    missed = [
        f"{row[0]}, {row[1]}: {row[2]}" for row, how in zip(cuts, ended, strict=True) if how == "missed"
    ]
    assert len(missed) <= len(cuts) // 10, missed
