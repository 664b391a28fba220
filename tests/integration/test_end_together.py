"""Real calls that end in the same second, and are sealed encrypted, take nothing from those that go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.end_together import check, end_together

CALLS = 60


@pytest.mark.timeout(180)
def test_sixty_encrypted_calls_that_end_at_once_take_no_packet_from_those_that_go_on(tmp_path: Path) -> None:
    found = end_together(tmp_path / "r", calls=CALLS, seconds=2, per_second=60.0, encrypted=True, after_s=3)
    check(found, calls=CALLS)
