"""Two front ends on one PostgreSQL and one store, four recorders with 2,000 recordings, one killed midway."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import pytest

from tests.support.front_ends import FrontHouse, assert_archived_once
from tests.support.postgres import PostgresServer
from tests.support.programs import Programs, wait_until

RECORDERS: Final = 4
RECORDINGS: Final = int(os.environ.get("FRONT_END_RECORDINGS", "2000"))
DURATION_S: Final = 5


@pytest.mark.soak
def test_a_front_end_dies_midway_and_everything_is_archived_once(
    tmp_path: Path, programs: Programs, postgres_server: PostgresServer
) -> None:
    house = FrontHouse(
        tmp_path / "house",
        postgres_server.new_database(),
        fronts=("left", "right"),
        recorders=RECORDERS,
        chunk_bytes=64 << 10,
    )
    digests: dict[str, dict[str, str]] = {}
    for outpost in house.outposts:
        digests |= outpost.record(RECORDINGS // RECORDERS, duration_s=DURATION_S)
    left = programs.archive(house.toml("left"), name="left")
    programs.archive(house.toml("right"), name="right")
    begun_s = time.monotonic()
    for outpost in house.outposts:
        programs.flush(outpost.toml, name=outpost.name)
    wait_until(lambda: house.count() >= RECORDINGS // 2, what="half is archived", timeout_s=1800)
    left.kill()
    killed_at, killed_s = house.count(), time.monotonic() - begun_s
    wait_until(lambda: all(row.is_empty() for row in house.outposts), what="all spools empty", timeout_s=1800)
    took_s = time.monotonic() - begun_s
    assert RECORDINGS // 2 <= killed_at < RECORDINGS
    assert_archived_once(house, digests)
    programs.archive(house.toml("left"), name="left-again")
    uploads = house.data_dir / "front-ends" / "left" / "incoming"
    wait_until(lambda: not list(uploads.glob("*/*")), what="what the kill left is tidied up", timeout_s=60)
    assert_archived_once(house, digests)
    print(f"\n{RECORDINGS} recordings in {took_s:.0f} s; killed after {killed_s:.0f} s at {killed_at}")
