"""Retention, holds and the rights of people as an operator meets them: on the command line."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from recorderd.app import progress
from recorderd.app.archive import main
from recorderd.policy.retention import RetentionClass
from tests.support.golden import FIRST, GOLDEN, SECOND, THIRD
from tests.support.house import run_program
from tests.support.programs import ROOT, Programs, wait_until
from tests.support.retention_house import RetentionHouse

README = ROOT / "recorderd" / "archive" / "README.md"
DEFAULT = "[retention.classes.default]\nright_to_erasure = true\n"
DUE = RetentionClass(name="default", maximum_days=0)
AT_ONCE = "[retention.classes.default]\nmaximum_days = 0\n"


def steps(text: str) -> list[tuple[str, str]]:
    """Read commands and what they print from the blocks of a transcript."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for step in block.split("$ ")[1:] if block.startswith("$ ") else []:
            command, _, output = step.partition("\n")
            found.append((command, output))
    return found


def plain(text: str) -> list[str]:
    """Give the words of an output, without what draws tables."""
    return re.sub(r"[\u2500-\u257f]", " ", text).split()


@pytest.mark.timeout(400)  # nine programs, which take half a minute each where fifteen others run
def test_the_transcript_in_the_readme_is_what_happens(tmp_path: Path) -> None:
    house = RetentionHouse(tmp_path, DEFAULT, RetentionClass(name="default", right_to_erasure=True))
    programs = tmp_path / "bin"
    programs.mkdir()
    code = "import sys; from recorderd.app.archive import main; sys.exit(main())"
    python = f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)}"
    start = f'#!/bin/sh\n{python} -c "{code}" "$@"\n'
    (programs / "recorder-archive").write_text(start)
    (programs / "recorder-archive").chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    environment = {**os.environ, "F": str(house.toml), "PATH": f"{programs}:{os.environ['PATH']}"}
    told = steps(README.read_text())
    assert len(told) >= 9
    for command, output in told:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=work,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert plain(done.stdout) == plain(output), f"{command}: {done.stdout}"
    index = json.loads((work / "bundle" / "index.json").read_text())
    assert [row["id"] for row in index["recordings"]] == [FIRST, SECOND, THIRD]
    noted = json.loads(house.run("audit", "list", "--json").stdout)
    words = [row["what"] for row in noted if row["outcome"] == "done"]
    assert {"subject_access", "hold_added", "hold_released", "recording_erased"} <= set(words)


def test_a_bundle_tells_notes_and_who_looked_and_shows_one_altered_octet(tmp_path: Path) -> None:
    house = RetentionHouse(tmp_path, DEFAULT)
    house.run("note", FIRST, "The caller's name is <Meyer>")
    out = tmp_path / "bundle"
    house.run("subject-access", "1002", "--out", out, "--reason", "letter")
    page = (out / "index.html").read_text()
    assert "The caller&#x27;s name is &lt;Meyer&gt;" in page
    index = json.loads((out / "index.json").read_text())
    assert index["recordings"][0]["notes"][0]["text"] == "The caller's name is <Meyer>"
    assert "subject_access" in {row["what"] for row in index["recordings"][0]["accesses"]}
    check = re.search(r"<code>(openssl.*?)</code>", page)
    assert check is not None
    command = check[1].replace("&amp;", "&")
    assert subprocess.run(["sh", "-c", command], cwd=out, check=False, capture_output=True).returncode == 0
    wav = out / "recordings" / "rec-1" / FIRST / f"{FIRST}.wav"
    content = bytearray(wav.read_bytes())
    content[-1] ^= 1
    wav.chmod(0o600)
    wav.write_bytes(content)
    assert subprocess.run(["sh", "-c", command], cwd=out, check=False, capture_output=True).returncode != 0
    again = house.run("subject-access", "1002", "--out", out, "--reason", "letter", check=False)
    assert (again.returncode, "is there already" in again.stderr) == (73, True)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("erase", "--reason", "x", "--yes"), 64, "No recording was named"),
        (("erase", "--number", "", "--from", "2020-01-01", "--reason", "x", "--yes"), 64, "--number is"),
        (("anonymise", "--extension", " ", "--to", "2030-01-01", "--reason", "x", "--yes"), 64, "and empty"),
        (("hold", "add", "--queue", "", "--number", "1001", "--reason", "x"), 64, "--queue is given"),
        (("erase", "--number", "1001", "--reason", " ", "--yes"), 64, "--reason"),
        (("hold", "add", "--reason", "x"), 64, "No recording was named"),
        (("hold", "add", "--number", "1001", "--reason", " "), 65, "needs a reason"),
        (("hold", "add", "--number", "1001", "--reason", "x", "--until", "soon"), 64, "--until"),
        (("hold", "add", "--number", "1001", "--reason", "x", "--until", "2020-01-01"), 65, "is past"),
        (("hold", "add", "--from", "31.12.2020", "--reason", "x"), 64, "is no day"),
        (("erase", "--to", "2027-1-5", "--reason", "x", "--yes"), 64, "is no day"),
        (("hold", "release", "7", "--reason", "x"), 65, "none of this number"),
        (("retention", "show", "nobody"), 65, "no recording nobody"),
        (("anonymise", "--recording", SECOND, "--reason", "x", "--yes"), 65, "has no audio"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason_and_changes_nothing(
    tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    house = RetentionHouse(tmp_path, DEFAULT, RetentionClass(name="default", right_to_erasure=True))
    done = house.run(*arguments, check=False)
    assert (done.returncode, told in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr
    assert house.archive.audit().troubles == []
    assert f"{FIRST}.wav" in house.archive.names(FIRST)
    assert house.archive.entry(SECOND).state == "refused_capacity"


def test_a_plan_foresees_what_is_only_configured_and_a_sweep_does_it(tmp_path: Path) -> None:
    house = RetentionHouse(tmp_path, DEFAULT, RetentionClass(name="default", right_to_erasure=True))
    assert json.loads(house.run("retention", "plan", "--json").stdout)["classes"]["default"]["due"] == 0
    house.configure(AT_ONCE)
    house.archive.hold(recording_id=THIRD)
    foreseen = json.loads(house.run("retention", "plan", "--json", "--list").stdout)
    assert foreseen["due"] == [FIRST, SECOND]
    assert foreseen["classes"]["default"]["held"] == 1
    assert len(json.loads(house.run("retention", "classes", "--json").stdout)) == 1  # nothing was signed
    swept = json.loads(house.run("retention", "sweep", "--json").stdout)
    assert (swept["erased"], swept["refused"], swept["left"]) == (2, 0, 0)
    assert f"{THIRD}.wav" in house.archive.names(THIRD)
    house.fsck()
    assert [row["state"] for row in json.loads(house.run("list", "--json").stdout)][:2] == ["erased"] * 2
    shown = json.loads(house.run("show", FIRST, "--json").stdout)
    assert (shown["receipt"], shown["files"]) == (None, [f"{FIRST}.tombstone.json"])


def test_worm_is_not_shortened_by_the_configuration(tmp_path: Path) -> None:
    long = "[retention]\nworm = true\n[retention.classes.default]\nmaximum_days = 2555\n"
    house = RetentionHouse(tmp_path, long)
    house.run("retention", "sweep")
    house.configure(AT_ONCE)
    swept = json.loads(house.run("retention", "sweep", "--json").stdout)
    assert swept["due"] == 0
    shown = json.loads(house.run("retention", "show", FIRST, "--json").stdout)
    assert shown[0]["due"] == shown[0]["worm_until"] == "2033-11-21"
    done = house.run(
        "erase", "--recording", FIRST, "--reason", "x", "--right-to-erasure", "--yes", check=False
    )
    assert (done.returncode, "WORM" in done.stdout) == (65, True)
    house.fsck()


def test_the_archive_signs_its_terms_at_start_and_ends_what_was_cut(tmp_path: Path) -> None:
    house = RetentionHouse(tmp_path, AT_ONCE + "[retention.classes.extra]\nmaximum_days = 7\n", DUE)
    house.archive.state(DUE)
    house.archive.cut_erasure(FIRST)
    assert f"{FIRST}.wav" in house.archive.names(FIRST)
    programs = Programs(tmp_path)
    try:
        program = programs.archive(house.toml)
        program.wait_for(" ready")
        wait_until(lambda: house.archive.names(FIRST) == {f"{FIRST}.tombstone.json"}, what="the erasure ends")
        status = json.loads(house.run("status", "--json").stdout)
        assert status["retention"] == {"sweep_at": "03:00", "sweep": {}, "quotas": [], "clock_doubt": ""}
    finally:
        programs.end()
    signed = json.loads(house.run("retention", "classes", "--json").stdout)
    assert [row["name"] for row in signed[-1]["classes"]] == ["default", "extra"]
    house.fsck()


def test_an_exported_tombstone_holds_its_place_before_whoever_trusts_the_archive(tmp_path: Path) -> None:
    house = RetentionHouse(tmp_path, AT_ONCE, DUE)
    house.archive.erase(SECOND)
    out = tmp_path / "out"
    for recording_id in (FIRST, SECOND, THIRD):
        house.run("export", recording_id, "--out", out / recording_id)
    both = tmp_path / "both.pem"
    both.write_text((tmp_path / "archive.cert.pem").read_text() + (GOLDEN / "ca.pem").read_text())
    good = run_program("recorderctl", "verify", out, "--chain", "--ca", both, check=False)
    assert (good.returncode, f"{SECOND}: tombstone" in good.stdout) == (0, True), good.stdout
    doubtful = run_program("recorderctl", "verify", out, "--chain", "--ca", GOLDEN / "ca.pem", check=False)
    assert "2 is missing" in doubtful.stdout
    stone = out / SECOND / f"{SECOND}.tombstone.json"
    stone.chmod(0o600)
    stone.write_text(stone.read_text().replace("asked for", "asked fox"))
    forged = run_program("recorderctl", "verify", out, "--ca", both, check=False)
    assert (forged.returncode, "BAD" in forged.stdout) == (65, True)


def test_holds_of_many_show_how_far_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    house = RetentionHouse(tmp_path, DEFAULT, RetentionClass(name="default"))
    monkeypatch.setattr(progress, "SHOW_AFTER_NS", 0)  # all work is slow
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal
    words = ["--config", str(house.toml)]
    for command, shown in (
        (["hold", "add", "--from", "2026-01-01", "--reason", "a case"], ("searching",)),
        (["hold", "list"], ("reading",)),
    ):
        assert main([*command, *words]) == 0
        written = capfd.readouterr().err
        assert all(word in written for word in shown), written
        assert main([*command, *words, "--json"]) == 0
        json.loads(capfd.readouterr().out)  # what is for programs stays so
