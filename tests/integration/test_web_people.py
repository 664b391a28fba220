"""The rights of people over HTTP: shown before it is done, done to what one reaches, and told in the log."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recorderd.archive import tar_pieces
from recorderd.archive.audio_forms import Audio
from recorderd.archive.catalogue import Entry
from recorderd.archive.subject_access import Bundle, Found, Subject
from recorderd.archive.tar_pieces import FOLDER_NAME
from recorderd.archive.web.application import PREFIX
from recorderd.archive.web.playing import audio_of
from recorderd.core.clock import NS_PER_S
from recorderd.policy.access import Role
from recorderd.policy.selection import Selection
from tests.support.web_archive import ROOT, WebArchive, at, problem, quick_folder

WHY = {"X-Reason": "letter of 23 November"}
SALES = {"selection": {"queue": "sales"}}


@pytest.fixture
def archive() -> Iterator[WebArchive]:
    with quick_folder() as folder:
        archive = WebArchive(folder)
        archive.add_accounts()
        yield archive


def state(archive: WebArchive, entry: Entry) -> str:
    found = archive.desk.catalogue.find(entry.recorder_id, entry.id)
    assert found is not None
    return found.state


def rows(archive: WebArchive, what: str) -> list[tuple[str, str]]:
    return [(row.subject, row.outcome) for row in archive.desk.audit_log.rows(limit=50) if row.what == what]


def files_of(response: Any, into: Path) -> Path:
    """Unpack a bundle; give its folder."""
    into.mkdir(exist_ok=True)
    subprocess.run(["tar", "-xf", "-", "-C", str(into)], input=response.content, check=True)
    (top,) = into.iterdir()
    return top


# --- erasing, by search --------------------------------------------------------------------------------


def test_what_a_search_covers_is_shown_then_erased_but_not_what_is_held_or_of_others(
    archive: WebArchive,
) -> None:
    first, held, foreign = archive.record("queue"), archive.record("queue"), archive.record("foreign")
    apart = archive.record("queue", tags=("restricted",))
    client = archive.known(Role.ADMINISTRATOR)
    client.post(at(held, "/holds"), headers=WHY, json={})
    seen = client.post(f"{PREFIX}/erasures/preview", json=SALES).json()
    assert (seen["done"], seen["recordings"], seen["refused"]) == (False, 2, 1)
    assert {row["recording_id"]: bool(row["refused"]) for row in seen["rows"]} == {
        first.id: False,
        held.id: True,
    }
    assert {state(archive, entry) for entry in (first, held, foreign, apart)} == {"archived"}
    done = client.post(f"{PREFIX}/erasures", json={**SALES, "recordings": 2}, headers=WHY).json()
    assert (done["done"], done["recordings"], done["refused"]) == (True, 2, 1)
    assert "hold" in next(row["refused"] for row in done["rows"] if row["refused"])
    assert state(archive, first) == "erased"
    assert {state(archive, entry) for entry in (held, foreign, apart)} == {"archived"}
    assert sorted(rows(archive, "recording_erased")) == sorted([(first.id, "done"), (held.id, "refused")])
    assert rows(archive, "recordings_erased") == [("queue sales", "done")]


def test_a_selection_that_covers_others_than_were_shown_is_not_acted_on(archive: WebArchive) -> None:
    entry = archive.record("queue")
    client = archive.known(Role.ADMINISTRATOR)
    archive.record("queue")
    for path, recordings in (("erasures", 1), ("anonymisations", 3)):
        response = client.post(f"{PREFIX}/{path}", json={**SALES, "recordings": recordings}, headers=WHY)
        assert (response.status_code, problem(response)) == (409, "changed")
        assert archive.newest().outcome == "refused"
    empty = client.post(f"{PREFIX}/erasures", json={"selection": {}, "recordings": 0}, headers=WHY)
    assert (empty.status_code, problem(empty)) == (422, "search")  # nothing means nothing, never everything
    assert state(archive, entry) == "archived"


# --- anonymising ---------------------------------------------------------------------------------------


def test_an_anonymous_recording_is_heard_as_before_and_nobody_is_named(archive: WebArchive) -> None:
    entry, held = archive.record("own"), archive.record("own")
    with_numbers = Audio(audio_of(archive.desk.store, entry).open())
    before = b"".join(with_numbers.wav(44, with_numbers.wav_bytes - 1))
    client = archive.known(Role.ADMINISTRATOR)
    assert client.post(at(entry, "/anonymise"), headers=WHY, json={}).status_code == 204
    told = client.get(at(entry)).json()
    assert (told["state"], told["caller"], told["callee"], told["extension"]) == ("anonymised", "", "", "")
    heard = client.get(at(entry, "/audio"), headers=WHY)
    assert heard.content[44:] == before
    again = client.post(at(entry, "/anonymise"), headers=WHY, json={})
    assert (again.status_code, problem(again)) == (409, "kept")
    client.post(at(held, "/holds"), headers=WHY, json={})
    refused = client.post(at(held, "/anonymise"), headers=WHY, json={})
    assert (refused.status_code, problem(refused)) == (409, "kept")
    assert "hold" in refused.json()["detail"]
    assert rows(archive, "recording_anonymised")[0] == (held.id, "refused")


# --- subject access ------------------------------------------------------------------------------------


def test_a_bundle_holds_what_its_giver_reaches_and_openssl_says_that_it_is_whole(
    archive: WebArchive, tmp_path: Path
) -> None:
    entry, foreign, apart = (
        archive.record("own"),
        archive.record("foreign"),
        archive.record("site", tags=("restricted",)),
    )
    number = entry.caller
    assert {foreign.caller, apart.caller} == {number}
    client = archive.known(Role.ADMINISTRATOR)
    seen = client.post(f"{PREFIX}/subject-access/preview", json={"number": number}).json()
    assert [row["recording_id"] for row in seen["rows"]] == [entry.id]
    response = client.post(f"{PREFIX}/subject-access/bundle", json={"number": number}, headers=WHY)
    assert response.headers["content-type"] == "application/x-tar"
    folder = files_of(response, tmp_path / "one")
    index = json.loads((folder / "index.json").read_text())
    assert [row["id"] for row in index["recordings"]] == [entry.id]
    assert index["scope"] == "recordings of rec-1, without restricted ones"
    assert (index["reason"], index["by"]) == (WHY["X-Reason"], "token:administrator/test")
    check = re.search(r"<code>(openssl.*?)</code>", (folder / "index.html").read_text())
    assert check is not None
    command = ["sh", "-c", check[1].replace("&amp;", "&")]
    assert subprocess.run(command, cwd=folder, check=False, capture_output=True).returncode == 0
    wav = next(folder.glob("recordings/rec-1/*/*.wav"))
    wav.chmod(0o600)
    wav.write_bytes(wav.read_bytes()[:-1] + b"\x01")
    assert subprocess.run(command, cwd=folder, check=False, capture_output=True).returncode != 0
    assert rows(archive, "subject_access") == [(number, "done"), (entry.id, "done")]
    assert rows(archive, "subject_access_sent") == [(number, "done")]
    everything = archive.chief().post(f"{PREFIX}/subject-access/bundle", json={"number": number}, headers=WHY)
    whole = json.loads((files_of(everything, tmp_path / "two") / "index.json").read_text())
    assert {row["id"] for row in whole["recordings"]} == {entry.id, foreign.id, apart.id}
    assert list((archive.desk.store.root / FOLDER_NAME).iterdir()) == []  # no copy stays behind


def test_a_bundle_tells_who_listened_by_the_page_and_whom_it_was_refused(
    archive: WebArchive, tmp_path: Path
) -> None:
    entry = archive.record("own")
    archive.record("own")
    assert archive.known(Role.USER).get(at(entry, "/audio")).is_success
    assert not archive.known(Role.AUDITOR).get(at(entry, "/audio")).is_success
    response = archive.chief().post(
        f"{PREFIX}/subject-access/bundle", json={"number": entry.caller}, headers=WHY
    )
    index = json.loads((files_of(response, tmp_path / "bundle") / "index.json").read_text())
    (told,) = [row["accesses"] for row in index["recordings"] if row["id"] == entry.id]
    assert [(row["by"], row["what"], row["outcome"]) for row in told] == [
        ("token:chief/test", "subject_access", "done"),
        ("token:auditor/test", "recording_played", "refused"),
        ("token:user/test", "recording_played", "done"),
    ]


def test_a_bundle_that_breaks_off_has_no_seal_and_is_told_to_have_broken(archive: WebArchive) -> None:
    entry, lost = archive.record("own"), archive.record("own")
    client = archive.known(Role.ADMINISTRATOR)
    seen = client.post(f"{PREFIX}/subject-access/preview", json={"number": entry.caller}).json()
    assert seen["recordings"] == 2
    for path in sorted((archive.desk.store.root / lost.path).iterdir()):
        path.unlink()
    (archive.desk.store.root / lost.path).rmdir()
    response = client.post(f"{PREFIX}/subject-access/bundle", json={"number": entry.caller}, headers=WHY)
    assert entry.id.encode() in response.content
    assert b"SHA256SUMS" not in response.content
    assert (archive.newest().what, archive.newest().outcome) == ("subject_access_sent", "failed")
    assert archive.events()["http_failed"] == 1
    assert list((archive.desk.store.root / FOLDER_NAME).iterdir()) == []


def test_what_a_killed_bundle_left_keeps_no_other_from_being_made_and_goes(
    archive: WebArchive, tmp_path: Path
) -> None:
    entry, client = archive.record("own"), archive.known(Role.ADMINISTRATOR)
    folder = archive.desk.store.root / FOLDER_NAME
    left = folder / "tmpleft" / "recordings" / "rec-1" / entry.id
    for begins_again in (True, False):
        left.mkdir(parents=True)
        (left / "some.wav").write_bytes(b"RIFF")
        if begins_again:  # the front end
            tar_pieces.drop_left(archive.desk.store.root)
            assert list(folder.iterdir()) == []
    os.utime(folder / "tmpleft", (0, 0))
    response = client.post(f"{PREFIX}/subject-access/bundle", json={"number": entry.caller}, headers=WHY)
    assert (archive.newest().what, archive.newest().outcome) == ("subject_access_sent", "done")
    assert (files_of(response, tmp_path / "out") / "SHA256SUMS.p7s").exists()
    assert list(folder.iterdir()) == []


def test_a_bundle_that_is_read_for_days_is_not_taken_for_one_that_was_left(archive: WebArchive) -> None:
    entry, client = archive.record("own"), archive.known(Role.ADMINISTRATOR)
    desk, folder = archive.desk, archive.desk.store.root / FOLDER_NAME
    subject = Subject(
        **{"number": entry.caller, "reason": "letter", "by": "test", "scope": "all", "archive_id": "arc-1"},
        made_at="2026-11-23T06:22:33.000Z",
        made_utc_s=desk.clock.utc_ns() // NS_PER_S,
    )
    store, notes, log = desk.store, desk.annotations, desk.audit_log
    bundle = Bundle(subject, store=store, annotations=notes, audit=log, signer=desk.signer)
    found = [Found(entry=entry, retention_class="default", due="", holds=())]
    pieces = tar_pieces.tar_pieces(desk.store.root, bundle, found, top="top", made_utc_s=0)
    sent = [next(pieces)]
    (room,) = folder.iterdir()
    os.utime(room, (0, 0))  # begun long ago
    client.post(f"{PREFIX}/subject-access/bundle", json={"number": entry.caller}, headers=WHY)
    assert archive.newest().outcome == "done"
    sent += pieces
    assert b"SHA256SUMS.p7s" in b"".join(sent)
    assert list(folder.iterdir()) == []


# --- holds, by search ----------------------------------------------------------------------------------


def test_a_hold_by_search_covers_what_comes_later_and_only_who_reaches_all_of_it_releases(
    archive: WebArchive,
) -> None:
    client, chief = archive.known(Role.ADMINISTRATOR), archive.chief()
    wide = client.post(f"{PREFIX}/holds", json={"selection": {"queue": "sales"}}, headers=WHY)
    assert (wide.status_code, problem(wide)) == (403, "refused")  # it would cover other sites' calls
    wanted = {"selection": {"recorder_id": "rec-1", "queue": "sales"}, "until": "2999-01-31"}
    number = client.post(f"{PREFIX}/holds", json=wanted, headers=WHY).json()["hold"]["number"]
    later = archive.record("queue")
    assert client.get(at(later, "/retention")).json()["holds"] == [number]
    assert problem(client.post(at(later, "/erase"), headers=WHY)) == "kept"
    archive.record("queue", tags=("restricted",))
    refused = client.delete(f"{PREFIX}/holds/{number}", headers=WHY)
    assert (refused.status_code, problem(refused)) == (403, "refused")
    other = archive.desk.keeping.holds.add(
        Selection(recorder_id="rec-2"), reason="x", until="", who=ROOT, now_utc="2026-11-28T00:00:00.000Z"
    )
    assert client.delete(f"{PREFIX}/holds/{other.number}", headers=WHY).status_code == 404
    assert [row["number"] for row in client.get(f"{PREFIX}/holds").json()] == [number]
    assert chief.delete(f"{PREFIX}/holds/{number}", headers=WHY).status_code == 204
    assert [row["number"] for row in chief.get(f"{PREFIX}/holds").json()] == [other.number]
    assert len(chief.get(f"{PREFIX}/holds?ended=true").json()) == 2
    assert client.post(at(later, "/erase"), headers=WHY).status_code == 204


def test_a_hold_of_a_restricted_recording_is_as_if_there_were_none(archive: WebArchive) -> None:
    apart = archive.record("own", tags=("restricted",))
    archive.known(Role.ADMINISTRATOR, second=True).post(at(apart, "/holds"), json={}, headers=WHY)
    (hold,) = archive.known(Role.ADMINISTRATOR, second=True).get(f"{PREFIX}/holds").json()
    client = archive.known(Role.ADMINISTRATOR)
    assert client.get(f"{PREFIX}/holds").json() == []
    assert client.delete(f"{PREFIX}/holds/{hold['number']}", headers=WHY).status_code == 404
    assert archive.chief().delete(f"{PREFIX}/holds/{hold['number']}", headers=WHY).status_code == 204


@pytest.mark.parametrize("until", ["2030-02-31", "2030-13-01", "2020-01-01"])
def test_a_hold_does_not_end_on_a_day_that_never_comes(archive: WebArchive, until: str) -> None:
    entry = archive.record("own")
    response = archive.known(Role.ADMINISTRATOR).post(at(entry, "/holds"), json={"until": until}, headers=WHY)
    assert (response.status_code, problem(response)) == (409, "hold")
    assert archive.desk.keeping.holds.listed() == []
