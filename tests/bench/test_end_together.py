"""Five hundred real calls that end in the same second, while twenty go on; prints what it cost those."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.end_together import check, end_together

CALLS = 500


@pytest.mark.bench
@pytest.mark.timeout(0)
@pytest.mark.parametrize("encrypted", [False, True])
def test_five_hundred_calls_that_end_at_once_take_no_packet_from_those_that_go_on(
    tmp_path: Path, encrypted: bool
) -> None:
    found = end_together(tmp_path / "r", calls=CALLS, seconds=10, per_second=20.0, encrypted=encrypted)
    check(found, calls=CALLS)
