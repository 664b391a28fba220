"""`recorder-archive search`, `tag` and `note` as an operator uses them, on what came by the link."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.bundles import Loopback
from tests.support.house import run_program
from tests.support.link import archived
from tests.support.programs import Programs, wait_until


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    folder = tmp_path_factory.mktemp("search")
    loopback, programs = Loopback(folder), Programs(folder)
    try:
        ids = loopback.record(3)
        with loopback.archive_toml.open("a") as stream:
            stream.write('\n[catalogue]\nregion = "GB"\n')
        programs.archive(loopback.archive_toml)
        programs.flush(loopback.recorder_toml)
        wait_until(lambda: archived(loopback) == sorted(ids))
        yield loopback
    finally:
        programs.end()


def run(loopback: Loopback, *arguments: str, code: int = 0) -> str:
    name, *rest = arguments
    done = run_program("archive", name, *rest, "--config", loopback.archive_toml, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def found(loopback: Loopback, *arguments: str) -> dict[str, object]:
    table: dict[str, object] = json.loads(run(loopback, "search", "--json", *arguments))
    return table


def test_x(loopback: Loopback) -> None:
    print(json.dumps(found(loopback), indent=1))
    raise AssertionError
