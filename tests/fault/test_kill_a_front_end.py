"""One of two front ends is killed while recorders deliver: the other goes on, all is archived once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.front_ends import FrontHouse, assert_archived_once
from tests.support.postgres import PostgresServer
from tests.support.programs import Programs, wait_until

RECORDERS = 2
EACH = 60
DURATION_S = 15  # 480 kB each, in pieces of 16 kB: the kill falls into transfers


@pytest.mark.timeout(180)
def test_when_a_front_end_is_killed_the_other_one_archives_everything_once(
    tmp_path: Path, programs: Programs, postgres_server: PostgresServer
) -> None:
    house = FrontHouse(
        tmp_path / "house",
        postgres_server.new_database(),
        fronts=("left", "right"),
        recorders=RECORDERS,
        chunk_bytes=16 << 10,
    )
    digests: dict[str, dict[str, str]] = {}
    for outpost in house.outposts:
        digests |= outpost.record(EACH, duration_s=DURATION_S)
    left = programs.archive(house.toml("left"), name="left")
    right = programs.archive(house.toml("right"), name="right")
    flushes = [programs.flush(outpost.toml, name=outpost.name) for outpost in house.outposts]
    for program in (left, right):
        program.wait_for("recording_archived")
    left.kill()
    assert house.count() < len(digests), "the kill came too late"
    wait_until(lambda: all(row.is_empty() for row in house.outposts), what="all spools empty", timeout_s=90)
    flushes[0].wait_for("link_up", str(house.ports["right"]))
    assert_archived_once(house, digests)

    again = programs.archive(house.toml("left"), name="left-again")
    uploads = house.data_dir / "front-ends" / "left" / "incoming"
    wait_until(lambda: not list(uploads.glob("*/*")), what="what the kill left is tidied up")
    assert_archived_once(house, digests)
    right.stop()
    again.wait_for("front_end_leads", timeout_s=30)
    late = house.outposts[0].record(2)
    wait_until(house.outposts[0].is_empty, what="the first front end takes over", timeout_s=60)
    assert_archived_once(house, digests | late)
    for log in tmp_path.glob("*.log"):
        for trouble in (
            "Traceback",
            "internal_error",
            "recording_rejected",
            "quarantined",
            "receipt_refused",
        ):
            assert trouble not in log.read_text(), log.name


def test_a_front_end_that_is_drained_is_left_for_another(
    tmp_path: Path, programs: Programs, postgres_server: PostgresServer
) -> None:
    house = FrontHouse(
        tmp_path / "house",
        postgres_server.new_database(),
        fronts=("left", "right"),
        recorders=1,
        chunk_bytes=1 << 20,
    )
    for name in ("left", "right"):
        programs.archive(house.toml(name), name=name)
    drained = house.run("left", "drain", "--reason", "new disks")
    assert drained.returncode == 0, drained.stderr
    outpost = house.outposts[0]
    digests = outpost.record(3)
    flush = programs.flush(outpost.toml)
    flush.wait_for("archive_refuses", "new disks")
    wait_until(outpost.is_empty, what="the other front end takes them", timeout_s=60)
    assert_archived_once(house, digests)
    begun = time.monotonic()
    while time.monotonic() - begun < 3:  # longer than a refusing one is endured
        assert house.status("right")["recorders"], "it went away from the one that takes"
        time.sleep(0.2)
