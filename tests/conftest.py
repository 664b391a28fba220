"""Profiles of hypothesis: `make fuzz` looks long for what `make test` looks for briefly. Networks of workers.

With ``--own-network`` each worker of xdist is started in a network namespace of its own: tests that listen on
ports then run beside each other. Where the machine does not permit that, they run one at a time.
With ``--dist loadgroup`` a test that shares a fixture with others of its file runs in their worker, and the
others run where there is room.
"""

from __future__ import annotations

import shlex
import sys

import pytest
from hypothesis import settings

from tests.support import own_network

settings.register_profile("fuzz", max_examples=20_000, deadline=None)
settings.register_profile("test", deadline=None)
settings.load_profile("test")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--own-network",
        action="store_true",
        help="with -n: each worker has a network of its own; one worker where that is not permitted",
    )


@pytest.hookimpl(tryfirst=True)  # before xdist makes workers of -n
def pytest_cmdline_main(config: pytest.Config) -> None:
    workers = config.option.numprocesses
    if not config.option.own_network or not workers:
        return
    if not own_network.permitted():
        print("==> no right to make network namespaces: one test at a time, which takes three times as long")
        config.option.numprocesses = 0
        return
    config.option.numprocesses = None
    config.option.tx = [f"popen//python={shlex.join(own_network.command(sys.executable))}"] * workers


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and not item.get_closest_marker("xdist_group") and _shares(item):
            item.add_marker(pytest.mark.xdist_group(item.path.name))


def _shares(item: pytest.Function) -> bool:
    """Does the test use a fixture of ours that outlives it?"""
    known = item._fixtureinfo.name2fixturedefs
    return any(
        definition.scope != "function" and definition.baseid.startswith("tests")
        for name in item.fixturenames
        for definition in known.get(name, ())
    )
