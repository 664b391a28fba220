"""What the ends tell each other, and what follows: drained, full, several archives, one of them gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recorderd.app.archive import main as archive_main
from recorderd.app.control import ask
from recorderd.core.clock import SystemClock
from recorderd.core.conditions import ArchiveState, PowerState
from recorderd.spool.layout import Place
from recorderd.spool.link_state import read_link_state
from recorderd.wire import frames as f
from tests.integration.test_power import power_toml
from tests.support.bundles import Loopback
from tests.support.free_ports import free_port
from tests.support.in_process import in_process
from tests.support.link import RawClient, archive_command, archived, assert_kept
from tests.support.programs import Programs, wait_until
from tests.support.ups import Nut

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def loopback(tmp_path: Path) -> Loopback:
    return Loopback(tmp_path / "set-up")


def flush_status(loopback: Loopback) -> dict[str, Any]:
    return ask(loopback.root / "run/flush.sock", {"command": "status"})


def archive_status(loopback: Loopback) -> dict[str, Any]:
    return ask(loopback.root / "run-archive/archive.sock", {"command": "status"})


def state_of(loopback: Loopback) -> tuple[ArchiveState, str]:
    link = read_link_state(loopback.spool.root, now_utc_ns=SystemClock().utc_ns())
    return link.state, link.reason


def wait_for_state(loopback: Loopback, state: ArchiveState) -> str:
    wait_until(lambda: state_of(loopback)[0] is state, what=f"the recorder sees {state.name}")
    return state_of(loopback)[1]


def test_a_drained_archive_takes_nothing_new_and_nobody_errs(loopback: Loopback, programs: Programs) -> None:
    archive = programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    wait_for_state(loopback, ArchiveState.UP)
    archive_command(loopback, "drain", "--reason", "new disks")
    flush.wait_for("archive_refuses", "new disks")
    assert "new disks" in wait_for_state(loopback, ArchiveState.REFUSING)
    assert "new disks" in archive_command(loopback, "status")
    ids = loopback.record(3)
    archive.stop()
    archive = programs.archive(loopback.archive_toml, name="second")  # the operator's word outlives it
    wait_for_state(loopback, ArchiveState.REFUSING)
    assert not archived(loopback) and sum(loopback.left_in_spool().values()) == 3
    assert flush_status(loopback)["archive"]["takes"] is False
    old = RawClient(loopback)  # of a release that knows no allowances
    old.offer(
        loopback.spool.path(Place.CLAIMED if loopback.spool.ids(Place.CLAIMED) else Place.READY, ids[0])
    )
    answer = old.receive()
    assert isinstance(answer, f.Refused) and answer.retryable and "new disks" in answer.reason
    old.close()
    archive_command(loopback, "drain", "--off")
    flush.wait_for("archive_takes")
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, ids)
    assert "offer_refused" not in flush.text() and "ERROR" not in flush.text() + archive.text()


def test_an_archive_with_a_full_disk_withdraws_credit(loopback: Loopback, programs: Programs) -> None:
    text = loopback.archive_toml.read_text()
    full = text.replace('data_dir = "archive"', f'data_dir = "archive"\nkeep_free_bytes = {1 << 50}')
    loopback.archive_toml.write_text(full)
    archive = programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    ids = loopback.record(2)
    archive.wait_for("intake_withdrawn", "MiB free")
    assert "disk" in wait_for_state(loopback, ArchiveState.REFUSING)
    assert not archived(loopback)
    archive.stop()
    loopback.archive_toml.write_text(text)
    programs.archive(loopback.archive_toml, name="second")
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, ids)
    assert "offer_refused" not in flush.text()


def test_both_ends_know_each_other(loopback: Loopback, programs: Programs) -> None:
    archive = programs.archive(loopback.archive_toml)
    programs.flush(loopback.recorder_toml).wait_for("link_up")
    wait_until(lambda: "used_permille" in flush_status(loopback)["archive"], what="the archive has told")
    wait_until(
        lambda: "told_at" in archive_status(loopback)["recorders"]["rec-1"], what="so has the recorder"
    )
    assert abs(flush_status(loopback)["archive"]["clock_ahead_ms"]) < 1000
    assert archive_status(loopback)["recorders"]["rec-1"]["protocol"] == f.PROTOCOL_VERSION
    assert "recorder rec-1" in archive_command(loopback, "status")
    archive.stop()
    assert wait_for_state(loopback, ArchiveState.GONE)


def further(loopback: Loopback, folder: Path, *, receipts: str) -> Loopback:
    """Set up a second archive for the same recorder."""
    second = Loopback(folder, port=free_port())
    second.recorder_public = loopback.recorder_public
    second.write()
    certificate = (loopback.root / "recorder.cert.pem").read_text()
    (folder / "recorder.cert.pem").write_text(certificate)
    text = loopback.recorder_toml.read_text().replace("[archive]\n", f'[archive]\nreceipts = "{receipts}"\n')
    text += f"""
[[archives]]
name = "second"
endpoint = "tcp://127.0.0.1:{second.port}"
server_public_key = '{second.archive_public}'
secret_key_file = "recorder.curve"
receipt_certificate_file = "{folder}/archive.cert.pem"
heartbeat_s = 1
retry_s = 1
"""
    loopback.recorder_toml.write_text(text)
    return second


def test_a_local_copy_waits_for_every_archive_but_none_waits_for_another(
    loopback: Loopback, programs: Programs, tmp_path: Path
) -> None:
    second = further(loopback, tmp_path / "second", receipts="all")
    programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    ids = loopback.record(3)
    wait_until(lambda: len(archived(loopback)) == 3, what="the first archive has all")
    for name in ids:
        flush.wait_for("receipt_verified", name)
    assert loopback.left_in_spool() == {"claimed": 3}
    assert wait_for_state(loopback, ArchiveState.GONE)
    flush.kill()
    programs.flush(loopback.recorder_toml, name="again")
    programs.archive(second.archive_toml, name="archive-2")
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, ids)
    assert archived(second) == sorted(ids)


def test_any_receipt_is_enough_where_it_is_said_so(
    loopback: Loopback, programs: Programs, tmp_path: Path
) -> None:
    second = further(loopback, tmp_path / "second", receipts="any")
    programs.archive(second.archive_toml, name="archive-2")
    programs.flush(loopback.recorder_toml)
    ids = loopback.record(2)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert archived(second) == sorted(ids) and not archived(loopback)
    wait_for_state(loopback, ArchiveState.UP)


def test_a_limit_is_kept_and_what_shrinks_is_packed(loopback: Loopback, programs: Programs) -> None:
    text = loopback.recorder_toml.read_text()
    limit = '[[archive.bandwidth]]\nbegin = "00:00"\nend = "00:00"\nbytes_per_s = 20000\n'
    loopback.recorder_toml.write_text(text + limit)
    programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    flush.wait_for("link_up")
    wait_until(lambda: flush_status(loopback).get("limit_bytes_per_s") == 20_000, what="it is told")
    begun_ns = SystemClock().mono_ns()
    ids = loopback.record(1, duration_s=2)  # 64 kB of noise, which does not shrink
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert SystemClock().mono_ns() - begun_ns > 2_000_000_000
    wait_until(lambda: flush_status(loopback)["figures"].get("packed_bytes", 0) > 0, what="manifests shrink")
    figures = flush_status(loopback)["figures"]
    assert figures["wire_bytes"] < figures["bytes_sent"]
    assert_kept(loopback, ids)


def test_a_recorder_that_is_shut_down_by_its_ups_says_so_to_the_archive(
    tmp_path: Path, programs: Programs
) -> None:
    with Nut(tmp_path / "nut") as nut:
        loopback = Loopback(tmp_path / "set-up", extra=power_toml(nut))
        archive = programs.archive(loopback.archive_toml)
        flush = programs.flush(loopback.recorder_toml)
        flush.wait_for("link_up")
        wait_until(lambda: "told_at" in archive_status(loopback)["recorders"]["rec-1"], what="they have met")
        nut.say("OB DISCHRG LB", runtime_s=60, charge_percent=4)
        nut.force_shutdown()
        archive.wait_for("recorder_leaves", "power", timeout_s=40)
        assert "has left: power" in archive_command(loopback, "status")
        told = in_process(archive_main, "recorder", "list", "--config", loopback.archive_toml, "--json")
        (row,) = json.loads(told.partition("\n")[2])
        assert not row["connected"]
        assert flush.process.poll() is None  # it waits for the machine


def told_power(loopback: Loopback) -> PowerState | None:
    """Read how the archive is fed, as the recorder knows it."""
    link = read_link_state(loopback.spool.root, now_utc_ns=SystemClock().utc_ns())
    return link.power.state if link.power is not None else None


def test_an_archive_on_a_low_battery_withdraws_credit_until_power_is_back(
    tmp_path: Path, programs: Programs
) -> None:
    with Nut(tmp_path / "nut") as nut:
        loopback = Loopback(tmp_path / "set-up")
        loopback.archive_toml.write_text(loopback.archive_toml.read_text() + power_toml(nut))
        programs.archive(loopback.archive_toml)
        flush = programs.flush(loopback.recorder_toml)
        wait_for_state(loopback, ArchiveState.UP)
        nut.say("OB DISCHRG LB", runtime_s=60, charge_percent=4)
        assert "power" in wait_for_state(loopback, ArchiveState.REFUSING)
        flush.wait_for("archive_power", "low_battery")
        ids = loopback.record(1)
        wait_until(lambda: told_power(loopback) is PowerState.LOW_BATTERY, what="the recorder is told of it")
        assert not archived(loopback)
        nut.say("OL CHRG")
        wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty", timeout_s=40)
        assert_kept(loopback, ids)
