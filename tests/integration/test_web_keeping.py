"""Holds and erasure over HTTP: a hold beats everything, an erased recording is gone and says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.app.archive_audit import audit_findings
from recorderd.archive.call_groups import Grouper, with_copies
from recorderd.archive.catalogue import Entry
from recorderd.archive.web.application import PREFIX
from recorderd.evidence.verify import TrustStore
from recorderd.policy.access import Role
from recorderd.policy.selection import Selection
from tests.support.web_archive import ROOT, WebArchive, at, problem, quick_folder

WHY = {"X-Reason": "request 17"}


@pytest.fixture
def archive() -> Iterator[WebArchive]:
    with quick_folder() as folder:
        archive = WebArchive(folder)
        archive.add_accounts()
        yield archive


@pytest.fixture
def own(archive: WebArchive) -> Entry:
    return archive.record("own")


def test_a_held_recording_is_not_erased_until_the_hold_is_released(archive: WebArchive, own: Entry) -> None:
    client = archive.known(Role.ADMINISTRATOR)
    number = client.post(at(own, "/holds"), headers=WHY, json={"until": "2999-01-01"}).json()["number"]
    (hold,) = client.get(at(own, "/holds")).json()
    assert (hold["number"], hold["reason"], hold["until"]) == (number, "request 17", "2999-01-01")
    refused = client.post(at(own, "/erase"), headers=WHY)
    assert (refused.status_code, problem(refused)) == (409, "kept")
    assert (archive.newest().what, archive.newest().outcome) == ("recording_erased", "refused")
    assert archive.known(Role.USER).get(at(own, "/audio")).status_code == 200
    assert client.delete(at(own, f"/holds/{number}"), headers=WHY).status_code == 204
    assert client.post(at(own, "/erase"), headers=WHY).status_code == 204


def test_an_erased_recording_is_gone_in_every_form_and_its_log_is_whole(
    archive: WebArchive, own: Entry, tmp_path: Path
) -> None:
    link = archive.known(Role.ADMINISTRATOR).post(
        at(own, "/shares"), json={"passphrase": "between us two"}, headers=WHY
    )
    archive.known(Role.USER).get(at(own, "/peaks"))
    assert archive.known(Role.ADMINISTRATOR).post(at(own, "/erase"), headers=WHY).status_code == 204
    client = archive.known(Role.USER)
    for rest in ("/audio", "/audio?format=mp3", "/peaks"):
        response = client.get(at(own, rest))
        assert response.status_code in (404, 409), rest
        problem(response)
    files = archive.known(Role.ADMINISTRATOR).get(at(own, "/files")).json()
    assert not any(row["name"].endswith(".wav") for row in files)
    body = {"secret": link.json()["secret"], "passphrase": "between us two"}
    shared = archive.client().post(f"{PREFIX}/shared/{link.json()['share']['id']}/audio", json=body)
    assert shared.status_code in (404, 409, 410)
    assert list(audit_findings(archive.desk.database, TrustStore([]))) == []


def test_a_call_is_erased_as_one_only_by_whoever_may_erase_all_of_it(archive: WebArchive, own: Entry) -> None:
    far = archive.record("foreign")
    desk = archive.desk
    Grouper(desk.store, desk.database, [("rec-1", "rec-2")]).step()
    with desk.database.read() as connection:
        assert set(with_copies(connection, [own.row_id])) == {own.row_id, far.row_id}
    refused = archive.known(Role.ADMINISTRATOR).post(at(own, "/erase"), headers=WHY)
    assert (refused.status_code, problem(refused)) == (403, "refused")
    assert (archive.newest().what, archive.newest().outcome) == ("recording_erased", "refused")
    for client, entry in ((archive.known(Role.USER), own), (archive.chief(), far)):
        assert client.get(at(entry, "/audio"), headers=WHY).status_code == 200
    assert archive.chief().post(at(own, "/erase"), headers=WHY).status_code == 204
    states = {entry.id: entry.state for entry in desk.catalogue.all()}
    assert states == {own.id: "erased", far.id: "erased"}


def test_a_hold_that_covers_others_too_is_not_released_by_one_recording(
    archive: WebArchive, own: Entry
) -> None:
    hold = archive.desk.keeping.holds.add(
        Selection(extension="1001"), reason="dispute", until="", who=ROOT, now_utc="2026-11-28T00:00:00.000Z"
    )
    client = archive.known(Role.ADMINISTRATOR)
    response = client.delete(at(own, f"/holds/{hold.number}"), headers=WHY)
    assert (response.status_code, problem(response)) == (409, "hold-is-wider")
    assert client.delete(at(own, "/holds/99"), headers=WHY).status_code == 404
    assert [row["number"] for row in client.get(at(own, "/holds")).json()] == [hold.number]


def test_a_plan_tells_of_the_recorders_that_one_reaches(archive: WebArchive, own: Entry) -> None:
    archive.record("foreign")
    classes = archive.known(Role.ADMINISTRATOR).get(f"{PREFIX}/retention/plan").json()["classes"]
    assert {name: row["recordings"] for name, row in classes.items()} == {"default": 1}
