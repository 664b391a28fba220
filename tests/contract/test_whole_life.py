"""Recordings' whole life by our programs: offered, receipted, found, copied, held, swept, and found again.

The same on one machine (folder and SQLite) and beyond it (object store and PostgreSQL).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from recorderd.app.archive import main as archive_main
from recorderd.archive.objects import Objects
from tests.support.front_ends import FrontHouse
from tests.support.housing import Housing
from tests.support.in_process import in_process
from tests.support.programs import Programs, wait_until

pytestmark = pytest.mark.timeout(180)
RECORDED = 6
MORE = """
[mirror]
url = "file://{copy}"
[retention]
sweep_at = ""
[retention.classes.default]
maximum_days = 3
"""  # the recordings are older


class LifeHouse(FrontHouse):
    """One recorder and one archive, which an operator works with."""

    def move(self, url: str) -> None:
        """Write archive.toml with another catalogue."""
        self.url, name = url, "left"
        text = self.archive_text(name) + MORE.format(copy=self.root / "copy")
        if self.objects is None:
            text = re.sub(r'(?m)^(front_end = .*|\[catalogue\]|url = "sqlite.*)\n', "", text)
        self.toml(name).write_text(text)

    def operate(self, *arguments: str | Path) -> str:
        """Run one of recorder-archive's commands in this process; what it says, in one line."""
        at = 2 if arguments[0] in ("hold", "retention") else 1
        words = (*arguments[:at], "--config", self.toml("left"), *arguments[at:])
        code, told = in_process(archive_main, *words).split("\n", 1)
        assert code == "exit 0", told
        return " ".join(told.split())

    def found(self, *criteria: str) -> list[str]:
        """Search; the ids in their order."""
        rows: list[dict[str, Any]] = json.loads(self.operate("search", "--json", *criteria))["recordings"]
        return [row["id"] for row in rows]

    def copied(self) -> dict[str, set[str]]:
        """Name the files of each recording in the copy."""
        folders = (self.root / "copy" / "store").glob("*/*/*/*")
        return {folder.name: {path.name for path in folder.iterdir()} for folder in folders}

    def holds(self, recording_id: str) -> set[str]:
        """Ask the object store for the legal holds of a recording's objects."""
        assert self.objects is not None
        client = self.objects.client
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix="calls/store/")
        keys = [row["Key"] for page in pages for row in page["Contents"] if recording_id in row["Key"]]
        try:
            told = [client.get_object_legal_hold(Bucket=self.bucket, Key=key) for key in keys]
        except client.exceptions.ClientError:  # there never was a hold
            return set()
        return {row["LegalHold"]["Status"] for row in told}


@pytest.fixture
def house(housed: Housing, request: pytest.FixtureRequest) -> LifeHouse:
    made = LifeHouse(
        housed.folder,
        housed.url,
        fronts=("left",),
        recorders=1,
        chunk_bytes=1 << 20,
        objects=request.getfixturevalue("object_server") if isinstance(housed.published, Objects) else None,
    )
    made.move(housed.url)
    return made


def tombstones(names: Iterable[str]) -> dict[str, set[str]]:
    return {name: {f"{name}.tombstone.json"} for name in names}


def test_from_the_offer_to_the_catalogue_that_is_made_anew(
    house: LifeHouse, housed: Housing, programs: Programs
) -> None:
    (outpost,) = house.outposts
    digests = outpost.record(RECORDED)
    held, asked, *due = digests
    archive = programs.archive(house.toml("left"), name="archive")
    flush = programs.flush(outpost.toml)
    wait_until(outpost.is_empty, what="every recording has its receipt", timeout_s=60)
    assert house.stored() == digests

    assert sorted(house.found("--number", "1001", "--since", "2026-11-23")) == sorted(digests)
    assert house.found("--number", "1003") == []
    house.operate("tag", held, "case 7")
    assert house.found("--tag", "CASE 7", "--part", "100") == [held]

    house.operate("mirror", "--now")
    whole = {name: set(files) for name, files in digests.items()}
    wait_until(lambda: house.copied() == whole, what="the archive, which copies beside, to be done with it")

    house.operate("hold", "add", "--recording", held, "--reason", "case 7")
    if house.objects is not None:
        wait_until(lambda: house.holds(held) == {"ON"}, what="its objects are on hold", timeout_s=60)
    assert "1 erased" in house.operate("erase", "--recording", asked, "--reason", "asked for", "--yes")
    assert f"{len(due)} due: {len(due)} erased" in house.operate("retention", "sweep")
    gone = tombstones((asked, *due))
    assert {name: set(files) for name, files in house.stored().items() if name != held} == gone
    assert house.stored()[held] == digests[held]
    house.operate("mirror", "--now")
    kept = {**gone, held: set(digests[held])}
    wait_until(lambda: house.copied() == kept, what="the archive to be done with it")
    assert "0 findings" in house.operate("fsck")
    flush.stop()
    archive.stop()

    house.move(housed.lose_catalogue())
    assert f"{RECORDED} recordings, of which {RECORDED - 1} were erased" in house.operate("reindex")
    assert sorted(house.found("--number", "1001", "--state", "archived")) == [held]
    assert "0 findings" in house.operate("fsck")
    programs.archive(house.toml("left"), name="archive-again")
    late = outpost.record(1)
    programs.flush(outpost.toml, name="flush-again")
    wait_until(outpost.is_empty, what="the chain goes on", timeout_s=60)
    assert [row.row_id for row in house.rows()] == list(range(1, RECORDED + 2))
    assert {row.chain for row in house.rows()} == {"linked"}
    assert house.stored()[next(iter(late))] == late[next(iter(late))]
    assert "0 findings" in house.operate("fsck")
