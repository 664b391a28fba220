"""What people who call have as names is shown as it came, and stops no command."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from recorderd.app.archive import main as archive
from recorderd.app.recorderctl import main as recorderctl
from recorderd.app.recorderctl import sessions_table
from recorderd.app.store_duties import store_lines
from recorderd.archive.catalogue import CATALOGUE_NAME, Catalogue
from tests.support.catalogues import add, entry

NAMES = ["[/b]", "[red]", "[link=x]", "\\[b]"]


@pytest.fixture
def archive_toml(tmp_path: Path) -> Path:
    assert recorderctl(["quickstart", str(tmp_path)]) == 0
    (tmp_path / "archive").mkdir()
    catalogue = Catalogue(tmp_path / "archive" / CATALOGUE_NAME)
    for number, name in enumerate(NAMES, start=1):
        row = entry(number, caller=name, callee="1002", call_id=name)
        add(catalogue, row)
        (tmp_path / "archive" / row.path).mkdir(parents=True)
    catalogue.close()
    return tmp_path / "archive.toml"


def test_the_list_shows_callers_whose_names_look_like_markup(
    archive_toml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert archive(["list", "--config", str(archive_toml)]) == 0
    shown = capsys.readouterr().out
    assert [name for name in NAMES if name not in shown] == []


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_one_recording_is_shown_whatever_its_caller_is_called(
    archive_toml: Path, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (archive_toml.parent / "archive" / "store" / f"id-{number + 1}" / "x").write_bytes(b"")
    assert archive(["show", "--config", str(archive_toml), f"id-{number + 1}"]) == 0
    assert NAMES[number] in capsys.readouterr().out


def test_sessions_in_progress_are_shown_whatever_their_parties_are_called() -> None:
    streams = [
        {"label": name, "encoding": "PCMU", "packets_received": 1, "packets_lost": 0, "rms_dbfs": -20.0}
        for name in NAMES
    ]
    session = {"session": "s", "call_id": "c", "caller": "[/b]", "callee": "[red]", "recorded_s": 1.0}
    console = Console(width=200)
    with console.capture() as shown:
        console.print(sessions_table([session | {"streams": streams}]))
    assert [name for name in NAMES if name not in shown.get()] == []


def test_why_a_copy_or_a_delivery_failed_is_shown_as_it_was_told() -> None:
    mirror = {
        "place": "/mnt/[b]",
        "rows_behind": 1,
        "tombstones_behind": 0,
        "left": 0,
        "problem": "[/b] is away",
    }
    deliveries = {"customer": {"behind": 1, "last": {"problem": "[/b] refuses"}}}
    console = Console(width=200)
    with console.capture() as shown:
        for _, text in store_lines({"mirror": mirror, "deliveries": deliveries}):
            console.print(text)
    assert "[b]" in shown.get()
    assert "[/b] is away" in shown.get()
    assert "[/b] refuses" in shown.get()
