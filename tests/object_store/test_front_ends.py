"""Front ends over one PostgreSQL and one object store: one may die in the midst of everything."""

from __future__ import annotations

from pathlib import Path

from tests.support.ceph import ObjectServer
from tests.support.dying_front_end import let_one_die_midway
from tests.support.postgres import PostgresServer
from tests.support.programs import Programs

RECORDINGS = 24


def test_a_front_end_dies_midway_and_everything_is_archived_once(
    object_server: ObjectServer, postgres_server: PostgresServer, tmp_path: Path, programs: Programs
) -> None:
    url = postgres_server.new_database()
    let_one_die_midway(
        tmp_path / "house", url, programs, recordings=RECORDINGS, duration_s=0.1, objects=object_server
    )
