"""A line that is cut, breaks off again and again, is late or thin: all arrives exactly once."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorderd.spool.layout import Place
from tests.fault.test_kill_flush_archive import assert_exactly_once
from tests.support.bundles import Loopback, folder_digests
from tests.support.programs import Programs, wait_until
from tests.support.relay import Relay

pytestmark = pytest.mark.timeout(120)


def through(loopback: Loopback, relay: Relay) -> None:
    """Let the recorder reach its archive through the relay."""
    text = loopback.recorder_toml.read_text()
    loopback.recorder_toml.write_text(text.replace(f"127.0.0.1:{loopback.port}", f"127.0.0.1:{relay.port}"))


def sealed(loopback: Loopback, count: int, *, duration_s: float) -> dict[str, dict[str, str]]:
    ids = loopback.record(count, duration_s=duration_s)
    return {name: folder_digests(loopback.spool.path(Place.READY, name)) for name in ids}


def test_a_line_that_breaks_off_again_and_again(tmp_path: Path, programs: Programs) -> None:
    loopback = Loopback(tmp_path / "set-up", chunk_bytes=4 << 10)
    digests = sealed(loopback, 4, duration_s=5)  # 160 kB each
    programs.archive(loopback.archive_toml)
    with Relay(loopback.port, breaks_after_bytes=(40_000, 120_000), seed=1) as relay:
        through(loopback, relay)
        programs.flush(loopback.recorder_toml)
        wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty", timeout_s=90)
        assert relay.breaks >= 4
    assert_exactly_once(loopback, digests)


def test_a_line_that_is_cut_and_comes_back(tmp_path: Path, programs: Programs) -> None:
    loopback = Loopback(tmp_path / "set-up", chunk_bytes=4 << 10)
    digests = sealed(loopback, 3, duration_s=10)
    programs.archive(loopback.archive_toml)
    store = loopback.data_dir / "store"
    with Relay(loopback.port, bytes_per_s=400_000) as relay:
        relay.keeps_answers = lambda: any(store.glob("*/*/*/*"))  # no receipt comes before the cut
        through(loopback, relay)
        flush = programs.flush(loopback.recorder_toml)
        flush.wait_for(" offered ")
        relay.passes = False
        relay.cut()
        flush.wait_for("link_down")
        assert loopback.left_in_spool()
        relay.keeps_answers = lambda: False
        relay.passes = True
        wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty", timeout_s=60)
        assert relay.connections >= 2
    assert_exactly_once(loopback, digests)


@pytest.mark.parametrize("line", [{"delay_s": 1.0}, {"bytes_per_s": 1250.0}], ids=["late", "thin"])
def test_a_late_or_thin_line_keeps_up_one_connection(
    tmp_path: Path, programs: Programs, line: dict[str, float]
) -> None:
    loopback = Loopback(tmp_path / "set-up", heartbeat_s=5, retry_s=5)
    digests = sealed(loopback, 1, duration_s=0.1)
    programs.archive(loopback.archive_toml)
    with Relay(loopback.port, **line) as relay:
        through(loopback, relay)
        flush = programs.flush(loopback.recorder_toml)
        wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty", timeout_s=90)
        assert relay.connections == 1
        assert "link_down" not in flush.text()
    assert_exactly_once(loopback, digests)


def test_an_archive_killed_after_its_commit_gives_the_same_receipt(
    tmp_path: Path, programs: Programs
) -> None:
    loopback = Loopback(tmp_path / "set-up")
    digests = sealed(loopback, 5, duration_s=0.1)
    archive = programs.archive(loopback.archive_toml)
    store = loopback.data_dir / "store"
    with Relay(loopback.port) as relay:
        relay.keeps_answers = lambda: any(store.glob("*/*/*/*"))  # no receipt leaves the line
        through(loopback, relay)
        flush = programs.flush(loopback.recorder_toml)
        archive.wait_for("recording_archived")
        archive.kill()
        relay.cut()
        relay.keeps_answers = lambda: False
        assert any(store.glob("*/*/*/*")) and "receipt_verified" not in flush.text()
        programs.archive(loopback.archive_toml, name="second")
        wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty", timeout_s=60)
    assert_exactly_once(loopback, digests)
