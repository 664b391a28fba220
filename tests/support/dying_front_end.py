"""Two front ends take what four recorders have; one is killed when half is archived, and starts again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.front_ends import FrontHouse, assert_archived_once
from tests.support.programs import Programs, wait_until

if TYPE_CHECKING:
    from tests.support.ceph import ObjectServer

RECORDERS: Final = 4


def let_one_die_midway(
    folder: Path,
    url: str,
    programs: Programs,
    *,
    recordings: int,
    duration_s: float,
    objects: ObjectServer | None = None,
) -> str:
    """Play it, and see that everything is archived once; gives the figures.

    Objects are looked at once, after the return: reading them all takes a gateway its time.
    """
    house = FrontHouse(
        folder,
        url,
        fronts=("left", "right"),
        recorders=RECORDERS,
        chunk_bytes=64 << 10,
        objects=objects,
    )
    digests: dict[str, dict[str, str]] = {}
    for outpost in house.outposts:
        digests |= outpost.record(recordings // RECORDERS, duration_s=duration_s)
    left = programs.archive(house.toml("left"), name="left")
    programs.archive(house.toml("right"), name="right")
    begun_s = time.monotonic()
    for outpost in house.outposts:
        programs.flush(outpost.toml, name=outpost.name)
    wait_until(lambda: house.count() >= recordings // 2, what="half is archived", timeout_s=1800)
    left.kill()
    killed_at, killed_s = house.count(), time.monotonic() - begun_s
    wait_until(lambda: all(row.is_empty() for row in house.outposts), what="all spools empty", timeout_s=1800)
    took_s = time.monotonic() - begun_s
    told = f"{recordings} recordings in {took_s:.0f} s; killed after {killed_s:.0f} s at {killed_at}"
    print(f"\n{told}", flush=True)
    assert recordings // 2 <= killed_at < recordings
    assert house.count() == recordings
    if objects is None:
        assert_archived_once(house, digests)
    programs.archive(house.toml("left"), name="left-again")
    uploads = house.data_dir / "front-ends" / "left" / "incoming"
    wait_until(lambda: not list(uploads.glob("*/*")), what="what the kill left is tidied up", timeout_s=60)
    assert_archived_once(house, digests)
    return told
