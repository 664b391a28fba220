"""`recorder-archive search`, `tag` and `note` as an operator uses them, on what came by the link."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.bundles import Loopback
from tests.support.free_ports import free_port
from tests.support.house import run_program
from tests.support.link import archived
from tests.support.programs import Programs, wait_until


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    folder = tmp_path_factory.mktemp("search")
    loopback, programs = Loopback(folder), Programs(folder)
    try:
        ids = loopback.record(3)
        with loopback.archive_toml.open("a") as stream:
            stream.write('\n[catalogue]\nregion = "GB"\n')
        programs.archive(loopback.archive_toml)
        programs.flush(loopback.recorder_toml)
        wait_until(lambda: archived(loopback) == sorted(ids), what="recordings are archived")
        yield loopback
    finally:
        programs.end()


def run(loopback: Loopback, *arguments: str, code: int = 0) -> str:
    name, *rest = arguments
    done = run_program("archive", name, *rest, "--config", loopback.archive_toml, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def found(loopback: Loopback, *arguments: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(run(loopback, "search", "--json", *arguments))
    return table


def ids(table: dict[str, Any]) -> list[str]:
    return [row["id"] for row in table["recordings"]]


def test_recordings_that_came_by_the_link_are_found_and_what_people_add_to_them_too(
    loopback: Loopback,
) -> None:
    every = found(loopback)
    assert (len(ids(every)), every["next_after"], every["behind"]) == (3, "", 0)
    first, second, third = ids(every)
    assert ids(found(loopback, "--number", "1001", "--extension", "1001", "--direction", "internal")) == ids(
        every
    )
    assert ids(found(loopback, "--number", "1003")) == []
    assert ids(found(loopback, "--since", "2000-01-01", "--until", "2001-01-01")) == []

    assert "complaint, urgent" in run(loopback, "tag", second, "Urgent", "complaint")
    assert "cli:" in run(loopback, "note", third, "Rang again about invoice 4711")
    assert ids(found(loopback, "--tag", "URGENT")) == [second]
    assert ids(found(loopback, "--note", "invoice 47")) == [third]
    assert ids(found(loopback, "--note", "invoice", "--tag", "urgent")) == []
    assert run(loopback, "tag", "--remove", second, "urgent") == "complaint\n"
    assert ids(found(loopback, "--tag", "urgent")) == []

    page = found(loopback, "--limit", "2")
    rest = found(loopback, "--limit", "2", "--after", page["next_after"])
    assert (ids(page) + ids(rest), rest["next_after"]) == (ids(every), "")
    shown = run(loopback, "search", "--limit", "1")
    assert first in shown and f"--after {found(loopback, '--limit', '1')['next_after']}" in shown

    rows = json.loads(run(loopback, "audit", "list", "--json", "--last", "100"))
    told = {(row["what"], row["subject"], row["outcome"]) for row in rows}
    assert {
        ("tagged", second, "done"),
        ("untagged", second, "done"),
        ("note_added", third, "done"),
        ("searched", "catalogue", "done"),
    } <= told
    assert not any(
        "invoice 4711" in row["detail"] for row in rows
    )  # the log names the note, its text is there


def test_a_list_goes_on_after_the_last_one_that_was_shown(loopback: Loopback) -> None:
    every = [row["id"] for row in json.loads(run(loopback, "list", "--json"))]
    first = [row["id"] for row in json.loads(run(loopback, "list", "--json", "--limit", "2"))]
    rest = [row["id"] for row in json.loads(run(loopback, "list", "--json", "--after", first[-1]))]
    assert (first, rest, len(every)) == (every[:2], every[2:], 3)
    assert json.loads(run(loopback, "list", "--json", "--after", every[-1])) == []
    assert "holds no recording nobody" in run(loopback, "list", "--after", "nobody", code=65)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--since", "yesterday"), "'yesterday' is no day"),
        (("--until", "2026-01-01", "--since", "2026-02-01"), "until is not after since"),
        (("--limit", "0"), "no number from 1 to 1000"),
        (("--after", "1; DROP TABLE recordings"), "is not what a page ended with"),
        (("--sort", "caller"), "none of started, duration, archived"),
        (("--number", "+"), "no digit or letter"),
        (("--note", "?!"), "no letter or digit"),
        (("--min-duration", "9e9"), "no number of seconds"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name_and_audited(
    loopback: Loopback, arguments: tuple[str, ...], reason: str
) -> None:
    assert reason in run(loopback, "search", *arguments, code=65)
    (newest,) = json.loads(run(loopback, "audit", "list", "--json", "--last", "1", "--what", "searched"))
    assert newest["outcome"] == "refused" and reason in newest["reason"]


def test_an_unknown_recording_and_an_empty_note_are_refused(loopback: Loopback) -> None:
    assert "holds no recording nobody" in run(loopback, "tag", "nobody", "urgent", code=65)
    (first, *_) = ids(found(loopback))
    assert "there is nothing in it" in run(loopback, "note", first, "  ", code=65)
    assert "cannot be printed" in run(loopback, "note", first, "bell \a", code=65)


def test_a_catalogue_that_was_lost_is_not_begun_anew_but_made_from_the_store(loopback: Loopback) -> None:
    before = json.loads(run(loopback, "list", "--json"))
    assert "Another process holds" in run(loopback, "reindex", code=75)
    copy = loopback.root / "copy.toml"  # the same store, with its daemon stopped and its catalogue gone
    folder = loopback.root / "copied"
    shutil.copytree(loopback.data_dir, folder, ignore=shutil.ignore_patterns("catalogue.sqlite3*"))
    text = (
        loopback.archive_toml.read_text()
        .replace('"archive"', '"copied"')
        .replace("run-archive", "run-copied")
    )
    copy.write_text(text.replace(f":{loopback.port}", f":{free_port()}"))
    done = run_program("archive", "serve", "--config", copy, check=False)
    assert done.returncode == 78 and "recorder-archive reindex" in done.stderr
    done = run_program("archive", "reindex", "--config", copy)
    assert done.stdout == (
        "signed retention terms that came back: 1\n3 recordings, of which 0 were erased or made anonymous\n"
    )
    assert json.loads(run_program("archive", "list", "--json", "--config", copy).stdout) == before
    assert run_program("archive", "fsck", "--config", copy, check=False).returncode == 0
