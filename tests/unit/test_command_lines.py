"""What people type at the programs: a reader of the output that leaves, numbers that are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recorderd.app.archive import main as archive_main
from recorderd.app.quickstart import Ports, quickstart
from recorderd.app.recorderctl import main as recorderctl_main
from tests.support.free_ports import free_port

NOBODY = 65534


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A set-up on loopback."""
    ports = Ports(sip=free_port(), archive=free_port(), rtp_min=30000, rtp_max=30999)
    assert list(quickstart(tmp_path, ports))
    return tmp_path


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("archive", ("list", "--config", "archive.toml")),
        ("recorderctl", ("explain", "--extension", "1000", "--config", "recorderd.toml")),
    ],
)
def test_a_reader_that_leaves_a_table_is_told_apart_from_a_failure(
    desk: Path, program: str, words: tuple[str, ...]
) -> None:
    code = f"import sys; from recorderd.app.{program} import main; sys.exit(main())"
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code, *words],
            stdout=writing,
            stderr=subprocess.PIPE,
            cwd=desk,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize("words", [("list", "--limit"), ("audit", "list", "--last"), ("deliver", "--limit")])
@pytest.mark.parametrize("count", [str(1 << 64), "-1", "9" * 5000])
def test_a_number_of_rows_that_is_none_is_refused_with_the_options_name(
    desk: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], count: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        archive_main([*words, count, "--config", str(desk / "archive.toml")])
    assert ended.value.code == 2
    assert f"argument {words[-1]}" in capsys.readouterr().err


def test_as_many_rows_as_a_database_can_count_may_be_asked_for(desk: Path) -> None:
    most = str((1 << 63) - 1)
    for words in ("list", "--limit"), ("audit", "list", "--last"):
        assert archive_main([*words, most, "--config", str(desk / "archive.toml")]) == 0


def test_what_roots_commands_make_beside_the_catalogue_belongs_to_the_folders_owner(desk: Path) -> None:
    owner = NOBODY if os.geteuid() == 0 else os.geteuid()  # who is not root can only be himself
    config = ("--config", str(desk / "archive.toml"))
    archive = desk / "archive"
    archive.mkdir()
    os.chown(archive, owner, -1)
    (desk / "elsewhere").write_text("root's own")
    os.link(desk / "elsewhere", archive / "second-name")
    for words in ("reindex",), ("renew",), ("retention", "sweep"), ("list",):
        assert archive_main([*words, *config]) == 0
    made = [path for path in archive.rglob("*") if path.name != "second-name"]
    assert {path.name for path in made} >= {"catalogue.sqlite3", ".archive.lock", "renewals"}
    assert {path.name for path in made if path.stat().st_uid != owner} == set()
    assert (desk / "elsewhere").stat().st_uid == os.geteuid()


def test_an_archives_folder_that_roots_command_makes_belongs_to_whom_it_lies_with(desk: Path) -> None:
    owner = NOBODY if os.geteuid() == 0 else os.geteuid()
    os.chown(desk, owner, -1)
    assert archive_main(["reindex", "--config", str(desk / "archive.toml")]) == 0
    assert (desk / "archive").stat().st_uid == (desk / "archive" / "catalogue.sqlite3").stat().st_uid == owner


@pytest.mark.parametrize("name", ["recorderd.toml", "keys/signing-key.pem"])
def test_quickstart_leaves_what_is_there_of_a_recorder_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    theirs = tmp_path / "etc" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("of a recorder that is in use")
    assert recorderctl_main(["quickstart", str(tmp_path / "etc")]) == 78
    assert f"  {name.partition('/')[0]}: is there already" in capsys.readouterr().err
    assert [path for path in (tmp_path / "etc").rglob("*") if path.is_file()] == [theirs]
    assert theirs.read_text() == "of a recorder that is in use"
