"""Which tests one worker of xdist takes as a whole: those of a file that share something; others are spread.

Rule: the controller knows node ids only, so a file's text tells. (xdist's groups are lost with pytest 9.2.)
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from xdist.scheduler import LoadScopeScheduling

ROOT: Final = Path(__file__).parents[2]
SHARED: Final = (
    'scope="module"',
    "troupe",  # all scenarios of the conformance suite are played at once
    "UserManager",  # one at a time, or they would wait for each other
)
LONGEST: Final = (  # handed out first, or one worker would end long after the others
    *(
        "interop/test_torture",
        "interop/test_mutations",
        "integration/test_modes",
        "integration/test_asterisk.",
    ),
    *("integration/test_srtp", "interop/test_conformance", "integration/test_systemd", "fault/"),
)


class BySharing(LoadScopeScheduling):
    """Hands out files with something shared whole, and other tests one by one, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", 1)[0]
        return path if shares(path) else nodeid


@functools.cache
def shares(path: str) -> bool:
    """Tell whether the tests of a file belong to one worker."""
    text = (ROOT / path).read_text()
    return any(word in text for word in SHARED)


def turn(path: Path) -> int:
    """Return which turn a file's tests have; smaller ones are handed out earlier."""
    name = str(path.relative_to(ROOT / "tests"))
    return next((number for number, start in enumerate(LONGEST) if name.startswith(start)), len(LONGEST))
