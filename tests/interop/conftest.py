"""One house for all scenarios of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.stage import OPEN, RULED, Stage, Troupe

RULES = """
[[rules]]
name = "nobody"
mode = "never"
callees = ["9*"]

[[rules]]
name = "must"
mode = "always"
mandatory = true
callees = ["8*"]

[[rules]]
name = "fixed"
mode = "always"
callees = ["7*"]

[[rules]]
name = "pausable"
mode = "always-pausable"
"""


def ruled(folder: Path) -> Stage:
    """A house with rules: callees 9.. never, 8.. mandatory, 7.. always, everybody else may pause."""
    return Stage(folder, extra=RULES)


@pytest.fixture(scope="session")
def troupe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Troupe]:
    """All selected scenarios, already being played."""
    chosen = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    plays = [(params["entry"], params["transport"]) for params in chosen if "entry" in params]
    with Troupe(tmp_path_factory.mktemp("interop"), {OPEN: Stage, RULED: ruled}) as troupe:
        troupe.begin(plays)
        yield troupe
