"""Real calls that end in the same second take nothing from those that go on, also when they are encrypted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.end_together import check, end_together

CALLS = 60


@pytest.mark.timeout(180)
@pytest.mark.parametrize("encrypted", [False, True])
def test_sixty_calls_that_end_at_once_take_no_packet_from_those_that_go_on(
    tmp_path: Path, encrypted: bool
) -> None:
    found = end_together(tmp_path / "r", calls=CALLS, seconds=2, per_second=30.0, encrypted=encrypted)
    check(found, calls=CALLS)
