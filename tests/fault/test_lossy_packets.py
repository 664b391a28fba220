"""A network that loses three packets of ten, is two seconds late, doubles and disorders: all arrives once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.test_bad_lines import sealed
from tests.fault.test_kill_flush_archive import assert_exactly_once
from tests.support.bundles import Loopback
from tests.support.lossy_line import FAR, LossyLine
from tests.support.programs import Programs, wait_until

pytestmark = pytest.mark.timeout(300)
LINES = {
    "three of ten are lost": {"loss": 0.3},
    "two seconds late": {"delay_s": 2.0},
    "doubled and out of order": {"duplicates": 0.3, "jitter_s": 0.3},
    "all of it": {"loss": 0.05, "delay_s": 0.2, "duplicates": 0.1, "jitter_s": 0.2},
}


@pytest.mark.parametrize("name", LINES)
def test_what_the_network_does_to_packets_is_nothing_to_a_recording(
    tmp_path: Path, programs: Programs, name: str
) -> None:
    loopback = Loopback(tmp_path / "set-up", heartbeat_s=5)
    digests = sealed(loopback, 2, duration_s=0.5)
    for path in (loopback.recorder_toml, loopback.archive_toml):
        path.write_text(path.read_text().replace("127.0.0.1", FAR))
    with LossyLine(**LINES[name]) as line:
        with line.far():
            programs.archive(loopback.archive_toml)
        with line.near():
            flush = programs.flush(loopback.recorder_toml)
        wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty", timeout_s=240)
        programs.end()
    print(f"{name}: {line.carried} carried, {line.lost} lost, {line.doubled} doubled")
    assert_exactly_once(loopback, digests)
    for trouble in ("Traceback", "internal_error", "recording_rejected", "recording_quarantined"):
        assert trouble not in flush.text()
