"""A retention plan over a million recordings: its time, and the memory that it takes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import insert

from recorderd.archive.catalogue import CATALOGUE_NAME, Catalogue
from recorderd.archive.retention_tables import RECORDING_TERMS
from recorderd.archive.tables import RECORDINGS
from recorderd.core.clock import NS_PER_S, utc_text
from recorderd.policy.retention import RetentionClass
from tests.support.programs import ROOT
from tests.support.retention_house import RetentionHouse

RECORDINGS_COUNT: Final = int(os.environ.get("BENCH_ROWS", "1000000"))
LIMIT_S: Final = 30.0
LIMIT_BYTES: Final = 500_000_000
HOLDS: Final = 50
BEGUN_UTC_S: Final = 1_748_000_000
GROUP: Final = 20_000
TERMS: Final = """[retention.classes.default]
maximum_days = 180
[retention.classes.mifid]
minimum_days = 1825
maximum_days = 2555
"""


def _fill(folder: Path) -> None:
    """Write rows as they would be after a year and a half of calls."""
    catalogue = Catalogue(folder / CATALOGUE_NAME)
    for first in range(4, RECORDINGS_COUNT + 1, GROUP):
        numbers = range(first, min(first + GROUP, RECORDINGS_COUNT + 1))
        rows, terms = [], []
        for number in numbers:
            started = BEGUN_UTC_S + number * 47
            caller, callee = f"+4420{number * 7919 % 10**8:08d}", str(1000 + number % 500)
            rows.append(
                {
                    "row_id": number,
                    "id": f"x-{number:08d}",
                    "recorder_id": f"rec-{number % 4}",
                    "sequence": number,
                    "previous_manifest_sha256": f"{number - 1:064x}",
                    "manifest_sha256": f"{number:064x}",
                    "call_id": f"call-{number}",
                    "caller": caller,
                    "callee": callee,
                    "direction": "inbound",
                    "extension": callee,
                    "trunk": "bt",
                    "queue": f"q{number % 9}",
                    "started_at": utc_text(started * NS_PER_S),
                    "duration_s": 180.0,
                    "channels": 2,
                    "sample_rate_hz": 8000,
                    "size_bytes": 5_760_000,
                    "state": "archived",
                    "chain": "linked",
                    "path": f"store/2026/01/01/x-{number:08d}",
                    "archived_at": utc_text(started * NS_PER_S),
                    "receipt": b"x" * 1500,
                }
            )
            terms.append(
                {
                    "row_id": number,
                    "retention_class": "mifid" if number % 10 == 0 else "default",
                    "ended_utc_s": started + 180,
                    "has_audio": True,
                    "parties": f"{caller[1:]}\n{callee}",
                }
            )
        with catalogue.database.write() as connection:
            connection.execute(insert(RECORDINGS), rows)
            connection.execute(insert(RECORDING_TERMS), terms)
    catalogue.close()


@pytest.mark.timeout(1200)
def test_a_plan_of_a_million_recordings_takes_less_than_30_s_and_500_mb(tmp_path: Path) -> None:
    house = RetentionHouse(tmp_path, TERMS, RetentionClass(name="default"))
    for number in range(HOLDS):
        house.archive.hold(number=f"0044 20 {number * 7919 * 4 % 10**8:08d}")
    house.archive.hold(queue="q3")
    begun = time.monotonic()
    _fill(house.root)
    print(f"{RECORDINGS_COUNT} rows written in {time.monotonic() - begun:.0f} s")
    code = "import sys; from recorderd.app.archive import main; sys.exit(main())"
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, "retention", "plan", "--config", str(house.toml), "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    seconds = time.monotonic() - begun
    peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    told = json.loads(done.stdout)["classes"]
    print(f"plan: {seconds:.1f} s, {peak_bytes / 1e6:.0f} MB: {told}")
    assert sum(row["recordings"] for row in told.values()) == RECORDINGS_COUNT
    assert told["default"]["due"] > RECORDINGS_COUNT // 4
    assert told["default"]["held"] > RECORDINGS_COUNT // 20
    assert seconds < LIMIT_S
    assert peak_bytes < LIMIT_BYTES
