"""PostgreSQL is killed in the midst of commits: its front ends go on by themselves, all is archived once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.front_ends import FrontHouse, assert_archived_once
from tests.support.postgres import PostgresServer
from tests.support.programs import Programs, wait_until

RECORDERS = 2
EACH = 40
KILLS = 2  # alone, and with its children


@pytest.fixture
def server() -> Iterator[PostgresServer]:  # of its own, as it is killed
    started = PostgresServer()
    yield started
    started.remove()


@pytest.mark.timeout(180)
def test_a_database_that_is_killed_in_the_midst_of_commits_loses_and_doubles_nothing(
    tmp_path: Path, programs: Programs, server: PostgresServer
) -> None:
    house = FrontHouse(
        tmp_path / "house",
        server.new_database(),
        fronts=("left", "right"),
        recorders=RECORDERS,
        chunk_bytes=16 << 10,
    )
    fronts = [programs.archive(house.toml(name), name=name) for name in house.ports]
    digests: dict[str, dict[str, str]] = {}
    for outpost in house.outposts:
        digests |= outpost.record(EACH, duration_s=0.3)
    for outpost in house.outposts:
        programs.flush(outpost.toml, name=outpost.name)
    in_midst = 0
    for number in range(KILLS):
        before = house.count()
        wait_until(lambda before=before: house.count() > before, what="more to be archived", timeout_s=60)
        wait_until(lambda: bool(server.writers()), what="a transaction")
        in_midst += house.count() < len(digests)
        server.kill(with_children=bool(number % 2))
        with pytest.raises(psycopg.OperationalError):
            server.connect()
        server.start()
    assert in_midst == KILLS, "the kills came too late"
    wait_until(lambda: all(row.is_empty() for row in house.outposts), what="all spools empty", timeout_s=90)
    assert_archived_once(house, digests)

    def leaders() -> list[str]:
        told = {name: house.status(name)["front_end"] for name in house.ports}
        return [name for name, row in told.items() if isinstance(row, dict) and row["leads"]]

    wait_until(lambda: len(leaders()) == 1, what="one of them to lead")
    assert all(program.process.poll() is None for program in fronts), "none was started again"
    late = house.outposts[1].record(2)
    wait_until(house.outposts[1].is_empty, what="what comes later is taken", timeout_s=60)
    assert_archived_once(house, digests | late)
    for log in tmp_path.glob("*.log"):
        for trouble in ("Traceback", "recording_rejected", "quarantined", "receipt_refused"):
            assert trouble not in log.read_text(), log.name
        for line in log.read_text().splitlines():  # what failed is told, as that and nothing else
            assert " internal_error " not in line or "cannot be read or written" in line, line
