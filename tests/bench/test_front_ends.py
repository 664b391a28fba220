"""Two front ends on one PostgreSQL and one store, four recorders with 2,000 recordings, one killed midway."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.support.dying_front_end import let_one_die_midway
from tests.support.postgres import PostgresServer
from tests.support.programs import Programs

RECORDINGS: Final = int(os.environ.get("FRONT_END_RECORDINGS", "2000"))
DURATION_S: Final = 5


@pytest.mark.soak
@pytest.mark.parametrize("store", ["folder", "objects"])
def test_a_front_end_dies_midway_and_everything_is_archived_once(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    programs: Programs,
    postgres_server: PostgresServer,
    store: str,
) -> None:
    told = let_one_die_midway(
        tmp_path / "house",
        postgres_server.new_database(),
        programs,
        recordings=RECORDINGS,
        duration_s=DURATION_S,
        objects=request.getfixturevalue("object_server") if store == "objects" else None,
    )
    print(f"\n{store}: {told}")
