"""recorderctl verify: three states, the chain, its words for programs, and the way to do it by hand."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from recorderd.app.progress import SlowWork, counted
from recorderd.app.recorderctl import main
from tests.support.golden import FIRST, GOLDEN, SECOND, THIRD
from tests.support.golden_twins import write_twin

CA = GOLDEN / "ca.pem"


def _verify(*arguments: str | Path) -> int:
    return main(["verify", *map(str, arguments)])


def test_a_whole_chain_is_verified(capsys: pytest.CaptureFixture[str]) -> None:
    assert _verify(GOLDEN, "--chain", "--ca", CA) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:3]] == [["verified", name] for name in (FIRST, SECOND, THIRD)]
    assert lines[3:] == ["verified    chain of rec-1: 3 entries"]


@pytest.mark.parametrize(
    ("twin", "code", "words"),
    [
        ("sample-altered", 65, f"BAD         {FIRST}"),
        ("one-removed", 65, "BAD         chain of rec-1 at 2: missing: 2 is missing (before 3)"),
        ("newest-removed", 65, "chain of rec-1 at 3: missing: 3 is missing (a signed head states 3)"),
        ("one-replayed", 65, "chain of rec-1 at 1: replayed"),
        ("head-altered", 65, "chain of rec-1 at 3: head"),
        ("clock-set-back", 69, "cannot tell chain of rec-1 at 3: clock: signed"),
        ("first-removed", 69, "cannot tell chain of rec-1 at 1: beginning: 1 is not here"),
        ("signed-by-a-stranger", 69, f"cannot tell {THIRD}"),
        ("signed-after-expiry", 65, "certificate: "),
        ("size-never-written", 65, "wav: 0 and 1600 octets of samples in the header and in the file"),
    ],
)
def test_what_is_wrong_is_named_and_the_exit_code_tells_bad_from_cannot_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], twin: str, code: int, words: str
) -> None:
    write_twin(twin, tmp_path / "twin")
    assert _verify(tmp_path / "twin", "--chain", "--ca", CA) == code
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_makes_nothing_good_of_what_is_bad(tmp_path: Path, unbuffered: str) -> None:
    write_twin("sample-altered", tmp_path / "twin")
    code = "import sys; from recorderd.app.recorderctl import main; sys.exit(main())"
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code, "verify", str(tmp_path / "twin")],
            stdout=writing,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (141 if unbuffered else 65, "")


def test_without_chain_a_recording_stands_by_itself(tmp_path: Path) -> None:
    write_twin("one-removed", tmp_path / "twin")
    assert _verify(tmp_path / "twin", "--ca", CA) == 0


def test_bad_counts_more_than_cannot_tell_in_whatever_order_they_come(tmp_path: Path) -> None:
    write_twin("signed-by-a-stranger", tmp_path / "twin")  # its third; its first becomes bad
    wav = tmp_path / "twin" / FIRST / f"{FIRST}.wav"
    wav.write_bytes(wav.read_bytes()[:-1])
    assert _verify(tmp_path / "twin", "--ca", CA) == 65


def test_a_folder_without_recordings_cannot_be_told(tmp_path: Path) -> None:
    assert _verify(tmp_path) == 69


def test_a_certificate_beside_a_recording_that_cannot_be_read_stops_nobody_elses_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(GOLDEN, tmp_path / "chain")
    (tmp_path / "chain" / FIRST / f"{FIRST}.signer.pem").write_text("no certificate")
    assert _verify(tmp_path / "chain") == 65
    told = capsys.readouterr().out
    assert f"verified    {THIRD}" in told
    assert f"{FIRST}.signer.pem is not the certificate that signed" in told


def test_programs_get_each_check_with_its_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_twin("one-removed", tmp_path / "twin")
    _verify(tmp_path / "twin", "--json", "--ca", CA)
    rows = json.loads(capsys.readouterr().out)
    assert [row["verdict"] for row in rows] == ["verified", "verified"]
    assert rows[0]["checks"]["wav"] == rows[0]["checks"]["signature"] == "good"
    _verify(tmp_path / "twin", "--json", "--chain", "--ca", CA)
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [row["recording_id"] for row in report["recordings"]] == [FIRST, THIRD]
    assert [(row["sequence"], row["code"], row["verdict"]) for row in report["chain"]] == [
        (2, "missing", "bad")
    ]


# --- by hand ----------------------------------------------------------------------------------------


def _shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script where there is a shell, openssl, sha256sum and grep, and nothing else: no Python."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for name in ("openssl", "sha256sum", "grep"):
        found = shutil.which(name)
        assert found is not None
        if not (programs / name).exists():
            (programs / name).symlink_to(found)
    shell = shutil.which("sh")
    assert shell is not None
    environment = {"PATH": str(programs), "HOME": str(folder)}
    command: Sequence[str] = [shell, "-u"]
    return subprocess.run(
        command, input=script, capture_output=True, text=True, env=environment, check=False, timeout=30
    )


def _explained(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert _verify(*arguments, "--explain") == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("options", [(), ("--ca", CA)], ids=["own certificate", "given certificate"])
def test_the_commands_that_are_printed_check_a_whole_chain_with_nothing_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str | Path, ...]
) -> None:
    folder = tmp_path / "it's a folder; with $(odd) names"
    shutil.copytree(GOLDEN, folder)
    done = _shell(_explained(capsys, folder, *options), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("CAdES Verification successful") == 5
    assert done.stdout.count(": OK") == 6  # two files of each recording, two manifests that are followed


@pytest.mark.parametrize("twin", ["sample-altered", "offer-altered", "caller-altered", "wav-cut"])
def test_the_commands_that_are_printed_stop_at_what_was_altered_since(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], twin: str
) -> None:
    shutil.copytree(GOLDEN, tmp_path / "chain")
    script = _explained(capsys, tmp_path / "chain", "--ca", CA)
    write_twin(twin, tmp_path / "twin")
    shutil.copytree(tmp_path / "twin", tmp_path / "chain", dirs_exist_ok=True)
    assert _shell(script, tmp_path).returncode != 0


def test_a_file_name_cannot_smuggle_a_command_into_the_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a'; touch smuggled; '"
    shutil.copytree(GOLDEN / FIRST, folder)
    assert _shell(_explained(capsys, folder), tmp_path).returncode == 0
    assert not list(tmp_path.rglob("smuggled")) and not Path("smuggled").exists()


# --- progress ---------------------------------------------------------------------------------------


class _Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_ns = 0

    def mono_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return self.now_ns


@pytest.mark.parametrize(("seconds", "is_shown"), [(0.0, False), (1.9, False), (2.1, True)])
def test_a_bar_is_shown_only_where_work_takes_longer_than_two_seconds(seconds: float, is_shown: bool) -> None:
    clock, written = _Clock(), io.StringIO()
    console = Console(file=written, force_terminal=True, width=100)
    with SlowWork("verifying", total_bytes=2000, console=console, clock=clock) as work:
        work.advance(1000)
        clock.now_ns = int(seconds * 1e9)
        work.advance(500)
    assert ("verifying" in written.getvalue()) is is_shown
    assert ("1.5/2.0 kB" in written.getvalue()) is is_shown


def test_things_are_counted_in_the_bar_and_none_is_lost() -> None:
    clock, written = _Clock(), io.StringIO()
    console = Console(file=written, force_terminal=True, width=100)
    with SlowWork("reading", counts="lines", console=console, clock=clock) as work:
        seen = []
        for number in counted(range(2500), work):
            seen.append(number)
            clock.now_ns = number * 10**6
    assert seen == list(range(2500))
    assert "2500 lines" in written.getvalue()


def test_no_bar_is_written_into_a_pipe() -> None:
    clock, written = _Clock(), io.StringIO()
    with SlowWork("verifying", total_bytes=2000, console=Console(file=written), clock=clock) as work:
        clock.now_ns = 10**10
        work.advance(1000)
    assert written.getvalue() == ""


def test_links_and_pipes_are_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(GOLDEN / FIRST, tmp_path / FIRST)
    path = tmp_path / FIRST / f"{FIRST}.offer-1.sip"
    path.unlink()
    path.symlink_to(path)
    os.mkfifo(tmp_path / FIRST / f"{FIRST}.offer-2.sip")
    assert _verify(tmp_path, "--ca", CA) == 65
    told = capsys.readouterr().out
    assert f"{FIRST}.offer-1.sip is no regular file" in told
    assert f"{FIRST}.offer-2.sip is no regular file" in told
