"""Profiles of hypothesis: `make fuzz` looks long for what `make test` looks for briefly. Networks of workers.

With ``--own-network`` each worker of xdist is started in a network namespace of its own: tests that listen on
ports then run beside each other. Where the machine does not permit that, they run one at a time.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import Scheduling

from recorderd.archive.folders import Folders
from recorderd.archive.published import Published
from tests.support import own_network
from tests.support.housing import (
    FOLDERS_POSTGRESQL,
    FOLDERS_SQLITE,
    OBJECTS_POSTGRESQL,
    OBJECTS_SQLITE,
    Housing,
    housing,
)
from tests.support.postgres import PostgresServer
from tests.support.programs import Programs
from tests.support.workers import BySharing, turn

if TYPE_CHECKING:
    from tests.support.ceph import ObjectServer
    from tests.support.simulated_s3 import SimulatedServer

settings.register_profile("fuzz", max_examples=20_000, deadline=None)
settings.register_profile("test", deadline=None)
settings.load_profile("test")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--own-network",
        action="store_true",
        help="with -n: each worker has a network of its own; one worker where that is not permitted",
    )
    parser.addoption(
        "--object-store",
        action="store_true",
        help="what holds of every store is tried on a real S3 server too",
    )


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Start our programs, and end those that still run after the test."""
    started = Programs(tmp_path)
    yield started
    started.end()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try what holds of every store on folders, and where it was asked for on objects."""
    if "store_kind" in metafunc.fixturenames:
        kinds = ["folders", "objects"] if metafunc.config.option.object_store else ["folders"]
        if metafunc.module.__name__.endswith("test_published"):
            kinds.append("simulated")
        metafunc.parametrize("store_kind", kinds, scope="session")
    if "housing_kind" in metafunc.fixturenames:
        kinds = _OBJECTS if metafunc.config.option.object_store else _FOLDERS
        name = metafunc.module.__name__.rpartition(".")[2]
        metafunc.parametrize("housing_kind", kinds.get(name, kinds[""]), scope="session")


# What an archive is tried in, by module; beside a real S3 server the folders had their turn before.
_FOLDERS = {
    "": [FOLDERS_SQLITE],
    "test_retention": [FOLDERS_SQLITE, FOLDERS_POSTGRESQL],
    "test_erasers_at_once": [FOLDERS_SQLITE, FOLDERS_POSTGRESQL],
}
_OBJECTS = {
    "": [OBJECTS_SQLITE, OBJECTS_POSTGRESQL],
    "test_whole_life": [OBJECTS_POSTGRESQL],
    "test_mirror": [FOLDERS_SQLITE, OBJECTS_POSTGRESQL],  # each with a copy in folders and one in objects
}


@pytest.hookimpl(tryfirst=True)  # before xdist makes workers of -n
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Hand tests out our way, and start the workers of ``-n`` each in its network."""
    workers = config.option.numprocesses
    if workers:
        config.option.dist = "loadscope"
        config.option.loadscopereorder = False  # our order is of seconds, not of tests
    if not config.option.own_network or not workers:
        return
    if not own_network.permitted():
        print("==> no right to make network namespaces: one test at a time, which takes three times as long")
        config.option.numprocesses = 0
        return
    config.option.numprocesses = None
    config.option.tx = [f"popen//python={shlex.join(own_network.command(sys.executable))}"] * workers


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: turn(item.path))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return BySharing(config, log)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests of this process; each takes a database of its own."""
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectServer]:
    """One server for all tests of this process; each takes a bucket of its own."""
    from tests.support.ceph import ObjectServer  # slow, and needed by few

    server = ObjectServer()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def simulated_server() -> Iterator[SimulatedServer]:
    """One simulator for all tests of this process."""
    from tests.support.simulated_s3 import SimulatedServer  # slow, and needed by few

    server = SimulatedServer()
    yield server
    server.stop()


@pytest.fixture
def published(store_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Published:
    """An empty place for published recordings, of each kind."""
    if store_kind == "folders":
        place: Published = Folders(tmp_path / "house" / "archive")
    elif store_kind == "simulated":
        place = request.getfixturevalue("simulated_server").objects()
    else:
        server: ObjectServer = request.getfixturevalue("object_server")
        place = server.objects(server.new_bucket())
    return place


@pytest.fixture
def housed(housing_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Housing:
    """An empty catalogue with an empty store, of each kind of both."""

    def new_database() -> str:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        return server.new_database()

    def new_objects() -> Published:
        server: ObjectServer = request.getfixturevalue("object_server")
        return server.objects(server.new_bucket())

    return housing(housing_kind, tmp_path / "house", new_database=new_database, new_objects=new_objects)


@pytest.fixture(params=["sqlite", "postgresql"])
def catalogue_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty catalogue's place in each kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'catalogue.sqlite3'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.new_database()
