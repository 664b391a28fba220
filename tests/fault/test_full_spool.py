"""A spool that fills while calls run: they end whole, the exchange is told, and it all goes on afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.house import House, Recorded
from tests.support.load_run import Judge, LoadRun, judge, roomy, sealed_by_call, wait_all_sealed
from tests.support.programs import Program, wait_until
from tests.support.sip_client import SipClient, siprec_call
from tests.support.small_disk import FILLER, fill, small_disk

pytestmark = pytest.mark.timeout(240)
MB = 1 << 20
CALLS, SECONDS = 6, 8
MUST = '\n[[rules]]\nname = "trade"\nmode = "always"\nmandatory = true\n'
MALIGN = ("draft_failed", "stream_late", "stream_overrun", "stream_kernel_drop", "queue_full", "disk_full")


def answer(house: House) -> int:
    """Ask for a session and end it again; how it was answered."""
    with SipClient(server=house.server) as client:
        call = siprec_call(client)
        assert call.response is not None
        if call.response.code == 200:
            call.bye()
        else:
            assert int(call.response.header("Retry-After")) > 0
        return call.response.code


def answers(house: House, code: int) -> Callable[[], bool]:
    return lambda: answer(house) == code


def test_calls_that_run_while_somebody_fills_the_disk_end_whole(tmp_path: Path) -> None:
    changes = {"[spool]\n": f"[spool]\nreserve_bytes = {4 * MB}\nreserve_minutes = 0\n"}
    with (
        roomy(House(tmp_path / "house", changes=changes, extra=MUST)) as house,
        small_disk(house.folder / "spool", size_bytes=16 * MB) as disk,
    ):
        recorder = house.recorder()
        with LoadRun(house.server, calls=CALLS, seconds=SECONDS, per_second=CALLS) as run:
            run.wait_full()
            fill(disk)
            recorder.wait_for("spool_level subject=full")
            assert answer(house) == 503
            recorder.wait_for("ERROR mandatory_refused", "subject=trade")
            status = house.status()["recorder"]
            assert status["spool"]["level"] == "full"
            assert any("new calls are refused: spool full" in row for row in status["stance"]["held_back"])
            run.report()
        wait_all_sealed(house, CALLS + 1)  # and the entry of the one that was refused
        status = house.status()["recorder"]
        assert {name: status["events"][name] for name in MALIGN if name in status["events"]} == {}
        assert status["spool"]["reserve_missing_bytes"] > 0
        verdict = judge(run, recorder, house.sealed)
        assert (verdict.recordings, verdict.problems) == (CALLS, [])
        (disk / FILLER).unlink()
        recorder.wait_for("reserve_full")
        wait_until(answers(house, 200), what="sessions are taken again")
        house.programs.end()


def test_keep_recording_lets_copies_go_and_refuses_nobody(tmp_path: Path) -> None:
    changes = {
        "[spool]\n": f'[spool]\nquota_bytes = {MB}\nreserve_bytes = 0\npolicy = "keep-recording"\n',
        "local_grace_s = 0": "local_grace_s = 3600",
    }
    with roomy(House(tmp_path, changes=changes)) as house:
        archive, recorder, flush = house.all()
        for seed in (1, 2):  # two thirds of the quota each
            with LoadRun(house.server, calls=4, seconds=5, per_second=8, seed=seed) as run:
                run.report()
            check_archived(house, run, recorder, archive)
        wait_until(lambda: "local_copy_deleted" in flush.text(), what="a copy goes early")
        for name in re.findall(r"local_copy_deleted subject=(\S+)", flush.text()):
            assert f"receipt_verified subject={name}" in flush.text()
        wait_until(lambda: used(house) < 0.8 * MB, what="there is room")
        assert "session_refused" not in recorder.text()


def test_when_the_archive_comes_back_everything_arrives_once(tmp_path: Path) -> None:
    changes = {"[spool]\n": f"[spool]\nquota_bytes = {MB}\nreserve_bytes = 0\n"}
    with roomy(House(tmp_path, changes=changes)) as house:
        recorder, flush = house.recorder(), house.flush()
        with LoadRun(house.server, calls=6, seconds=6, per_second=8) as run:
            run.report()
        wait_all_sealed(house, 6)
        recorder.wait_for("spool_level subject=full")
        assert answer(house) == 503
        status = house.status()["recorder"]
        assert status["stance"]["archive"] == "gone"
        assert any(row.startswith("recordings wait here") for row in status["stance"]["held_back"])
        archive = house.archive()
        for name in check_archived(house, run, recorder, archive):
            flush.wait_for(f"receipt_verified subject={name}")
            assert flush.text().count(f"receipt_verified subject={name}") == 1
        recorder.wait_for("spool_level subject=low")
        wait_until(answers(house, 200), what="sessions are taken again")


def used(house: House) -> int:
    return int(house.status()["recorder"]["spool"]["used_bytes"])


def check_archived(house: House, run: LoadRun, recorder: Program, archive: Program) -> list[str]:
    """Wait until a load's calls are in the archive; each once, and to the sample."""
    report = run.report()
    calls = {call["name"] for call in report["calls"]}
    wait_until(lambda: calls <= set(sealed_by_call(recorder)), what="all calls are sealed")
    names = sealed_by_call(recorder)
    judging = Judge(run, packets=report["packets_of_a_stream"])
    wanted = [names[call["name"]] for call in report["calls"]]
    for name, call in zip(wanted, report["calls"], strict=True):
        archive.wait_for(f"recording_archived subject={name}", timeout_s=60)
        (manifest,) = (house.folder / "archive").rglob(f"{name}.manifest.json")
        judging.take(Recorded(manifest.parent), number=call["number"])
    assert (judging.verdict.recordings, judging.verdict.problems) == (len(wanted), [])
    return wanted
