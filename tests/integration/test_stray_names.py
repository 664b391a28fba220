"""A file in the store whose name is no UTF-8, left there by somebody: it is named, and ends nothing."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from recorderd.app import scrub_duty
from recorderd.app.archive_configuration import load_archive_configuration
from recorderd.app.retention_parts import retention_parts
from recorderd.app.scrub_configuration import ScrubSection
from recorderd.app.scrub_duty import ScrubDuty
from recorderd.archive.catalogue import Entry
from recorderd.archive.web.application import PREFIX
from recorderd.core.conditions import Power, PowerState
from tests.support.house import run_program
from tests.support.programs import wait_until
from tests.support.web_archive import WebArchive, at, quick_folder

STRAY: Final = os.fsdecode(b"caf\xe9.txt")


@pytest.fixture
def archive() -> Iterator[WebArchive]:
    with quick_folder() as folder:
        yield WebArchive(folder)


@pytest.fixture
def entry(archive: WebArchive) -> Entry:
    entry = archive.record()
    (archive.desk.store.root / entry.path / STRAY).write_bytes(b"a note")
    return entry


@pytest.mark.usefixtures("entry")
def test_fsck_and_scrub_over_http_name_it(archive: WebArchive) -> None:
    with archive.at_work():
        job = archive.ended(archive.chief().post(f"{PREFIX}/fsck"))
        assert (job["state"], job["result"]["verdict"]) == ("done", "bad")
        assert any("caf?.txt" in row["reason"] for row in job["result"]["troubles"])
        job = archive.ended(archive.chief().post(f"{PREFIX}/scrub"))
        assert job["state"] == "done"
        (found,) = job["result"]["found"]
        assert "caf?.txt is there, and was not signed for" in found["reason"]


@pytest.mark.usefixtures("entry")
def test_the_daemons_scrub_reads_its_round_to_the_end(
    archive: WebArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub_duty, "_LOOK_S", 0.01)
    parts = retention_parts(load_archive_configuration(archive.loopback.archive_toml), log=archive.log)
    power = Power(state=PowerState.ON_LINE, reason="the mains are there")
    duty = ScrubDuty(ScrubSection(every_days=7), parts, power=lambda: power, log=archive.log)
    stop, died = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            duty.loops()["scrub"](stop)
        except UnicodeError as problem:  # a daemon whose thread dies ends
            died.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(
            lambda: bool(died) or bool((duty.picture()["scrub"]["round"] or {}).get("ended_utc_s")),
            what="the round has ended",
        )
    finally:
        stop.set()
        thread.join(20)
    assert died == []
    assert duty.picture()["scrub"]["differences"] == 1


@pytest.mark.usefixtures("entry")
def test_fsck_prints_it(archive: WebArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    told = run_program("archive", "fsck", "--config", archive.loopback.archive_toml, check=False)
    assert "caf\\udce9.txt is not in the manifest" in told.stdout


def test_files_are_listed_and_a_bundle_about_somebody_is_whole(
    archive: WebArchive, entry: Entry, tmp_path: Path
) -> None:
    listed = archive.chief().get(at(entry, "/files"))
    assert listed.status_code == 200
    assert "caf?.txt" in {row["name"] for row in listed.json()}
    body = {"number": entry.caller}
    bundle = archive.chief().post(f"{PREFIX}/subject-access/bundle?reason=letter", json=body)
    assert archive.newest().detail == "whole"
    subprocess.run(["tar", "-xf", "-", "-C", str(tmp_path)], input=bundle.content, check=True)
    (top,) = tmp_path.iterdir()
    checked = subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=top, check=False)
    assert checked.returncode == 0
    assert b"caf\xe9.txt" in (top / "SHA256SUMS").read_bytes()
