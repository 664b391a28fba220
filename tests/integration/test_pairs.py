"""Two recorders record the same calls: kept, found, exported, held and erased as one, with both proofs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recorderd.app.archive import main as archive_main
from recorderd.archive.call_group_tables import CALL_GROUPS
from recorderd.archive.catalogue import Catalogue
from recorderd.archive.database import Database
from tests.support.bundles import make_recording
from tests.support.front_ends import FrontHouse, Outpost
from tests.support.in_process import in_process
from tests.support.postgres import PostgresServer
from tests.support.programs import Programs, wait_until

pytestmark = pytest.mark.timeout(120)
PAIRS = '[[pairs]]\nrecorders = ["rec-1", "rec-2"]\n[retention.classes.default]\nmaximum_days = 10000\n'


def record(outpost: Outpost, *, duration_s: float, lost_samples: int = 0, seed: int = 0) -> str:
    return make_recording(
        outpost.spool,
        outpost.signer,
        recorder_id=outpost.name,
        chain=outpost.chain,
        duration_s=duration_s,
        lost_samples=lost_samples,
        seed=seed,
    )


class PairHouse(FrontHouse):
    """Two recorders that are a pair, and a third one."""

    def operate(self, *arguments: str | Path) -> str:
        """Run one of recorder-archive's commands in this process."""
        at = 2 if arguments[0] in ("hold", "recorder") else 1
        return in_process(archive_main, *arguments[:at], "--config", self.toml("left"), *arguments[at:])

    def found(self, *criteria: str) -> list[dict[str, object]]:
        """What `search --json` finds."""
        told = self.operate("search", "--json", *criteria)
        rows: list[dict[str, object]] = json.loads(told.partition("\n")[2])["recordings"]
        return rows

    def grouped(self) -> int:
        """Count the recordings that are not alone."""
        database = Database(self.url)
        with database.read() as connection:
            count = len(connection.execute(CALL_GROUPS.select()).all())
        database.close()
        return count


@pytest.fixture
def house(tmp_path: Path, postgres_server: PostgresServer) -> PairHouse:
    made = PairHouse(
        tmp_path / "house", postgres_server.new_database(), fronts=("left",), recorders=3, chunk_bytes=1 << 20
    )
    made.toml("left").write_text(made.toml("left").read_text() + PAIRS)
    return made


def deliver(house: PairHouse, programs: Programs) -> None:
    """Run archive and senders until everything is there and looked at."""
    archive = programs.archive(house.toml("left"), name="left")
    flushes = [programs.flush(outpost.toml, name=outpost.name) for outpost in house.outposts]
    wait_until(lambda: all(row.is_empty() for row in house.outposts), what="everything is archived")
    wait_until(lambda: house.grouped() == 2, what="the pair is found")
    for program in (*flushes, archive):
        program.stop()


def test_a_call_of_a_pair_is_one_with_both_proofs(
    house: PairHouse, programs: Programs, tmp_path: Path
) -> None:
    first, second, third = house.outposts
    worse = record(first, duration_s=1.0, lost_samples=4000)  # as long, with a gap of half a second
    better = record(second, duration_s=1.0, seed=1)
    alone = record(third, duration_s=1.0, seed=2)  # the same parties at the same time, but of no pair
    deliver(house, programs)

    rows = house.found("--number", "1001")
    assert {row["id"] for row in rows} == {better, alone}
    (row,) = (row for row in rows if row["id"] == better)
    assert row["copies"] == [
        {"recording_id": better, "recorder_id": "rec-2", "heard_ms": 1000, "is_best": True},
        {"recording_id": worse, "recorder_id": "rec-1", "heard_ms": 500, "is_best": False},
    ]
    assert [row["id"] for row in house.found("--recorder", "rec-1")] == [worse]  # who asks for it finds it
    assert f"also {worse} of rec-1" in " ".join(house.operate("search").split())

    out = tmp_path / "out"
    told = house.operate("export", worse, "--out", out)
    assert told.index(better) < told.index(worse)
    for recording_id in (better, worse):
        assert (out / f"{recording_id}.manifest.json.p7s").exists()
    house.operate("export", worse, "--alone", "--out", tmp_path / "alone")
    assert not (tmp_path / "alone" / f"{better}.manifest.json").exists()

    held = house.operate("hold", "add", "--recording", worse, "--reason", "case 7")
    assert held.startswith("exit 0"), held
    refused = house.operate("erase", "--recording", better, "--reason", "asked for", "--yes")
    assert not refused.startswith("exit 0") and "hold" in refused
    house.operate("hold", "release", "1", "--reason", "closed")
    erased = house.operate("erase", "--recording", better, "--reason", "asked for", "--yes")
    assert erased.startswith("exit 0"), erased
    database = Database(house.url)
    states = {row.id: row.state for row in Catalogue(database, read_only=True).all()}
    database.close()
    assert states == {worse: "erased", better: "erased", alone: "archived"}
    assert house.grouped() == 0
    assert house.operate("fsck").startswith("exit 0")


def test_what_is_left_of_a_pair_is_found_again(house: PairHouse, programs: Programs) -> None:
    first, second, _ = house.outposts
    better = record(first, duration_s=1.0)
    worse = record(second, duration_s=0.5, seed=1)
    deliver(house, programs)
    assert [row["id"] for row in house.found()] == [better]
    erased = house.operate("erase", "--recording", better, "--recorder", "rec-1", "--reason", "sold", "--yes")
    assert erased.startswith("exit 0"), erased
    assert worse in {row["id"] for row in house.found()}
    assert house.found("--recorder", "rec-2")[0]["state"] == "archived"
