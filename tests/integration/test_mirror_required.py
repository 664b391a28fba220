"""A recorder gets its receipt only when the off-site copy has its recording too, both run as programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bundles import Loopback, folder_digests
from tests.support.link import archive_command, archived, events
from tests.support.programs import Programs, wait_until

pytestmark = pytest.mark.timeout(90)


def test_without_the_copy_nothing_is_receipted_and_with_it_everything(
    tmp_path: Path, programs: Programs
) -> None:
    loopback, elsewhere = Loopback(tmp_path / "set-up"), tmp_path / "elsewhere"
    loopback.archive_toml.write_text(
        f'{loopback.archive_toml.read_text()}\n[mirror]\nurl = "file://{elsewhere}"\nrequired = true\n'
    )
    elsewhere.write_text("no folder: the disk is not mounted")
    programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    ids = loopback.record(2)
    flush.wait_for("refused", timeout_s=60)
    wait_until(lambda: events(loopback, "archive").get("mirror_behind", 0) > 0, what="it is told")
    assert archived(loopback) == []
    assert sum(loopback.left_in_spool().values()) == 2
    elsewhere.unlink()
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty", timeout_s=60)
    assert archived(loopback) == sorted(ids)
    for name in ids:
        (here,) = (loopback.data_dir / "store").glob(f"*/*/*/{name}")
        (there,) = (elsewhere / "store").glob(f"*/*/*/{name}")
        assert folder_digests(there) == folder_digests(here)
    wait_until(lambda: "0 recordings" in archive_command(loopback, "status"), what="the copy is whole")
    assert "0 could not be copied" in archive_command(loopback, "mirror")
    assert "0 findings" in archive_command(loopback, "fsck", "--mirror")
    (broken,) = (elsewhere / "store").glob(f"*/*/*/{ids[0]}")
    next(broken.glob("*.wav")).unlink()
    assert "is missing in the copy" in archive_command(loopback, "fsck", check=False)
