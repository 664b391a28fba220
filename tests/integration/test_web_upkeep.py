"""Upkeep over HTTP: each work does what its command does, and what keeps one from it is said beforehand."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from recorderd.app.archive import main
from recorderd.archive import sweeping
from recorderd.archive.audit_log import AuditFilter
from recorderd.archive.jobs import Telling
from recorderd.archive.web.application import PREFIX
from recorderd.policy.access import Role
from tests.support.bundles import folder_digests
from tests.support.link import flip
from tests.support.programs import wait_until
from tests.support.sftp_server import SftpServer
from tests.support.web_archive import WebArchive, at, problem, quick_folder

WHY = {"X-Reason": "request 17"}
RECORDED = 3
EXTRA = """
[mirror]
url = "file://{folder}/copy"
[[deliveries]]
name = "customer"
host = "127.0.0.1"
port = {port}
user = "{user}"
folder = "{there}"
key_file = "{key}"
host_key = "{host_key}"
[retention]
[retention.classes.default]
minimum_days = 0
maximum_days = 1
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    started = SftpServer(tmp_path_factory.mktemp("customer"))
    yield started
    started.stop()


@pytest.fixture
def archive(server: SftpServer) -> Iterator[WebArchive]:
    settings = server.settings()
    with quick_folder() as folder:
        (folder / "copy").mkdir()
        extra = EXTRA.format(
            folder=folder,
            port=settings.port,
            user=settings.user,
            there=f"{settings.folder}/{folder.name}",
            key=server.folder / "client",
            host_key=settings.host_key,
        )
        archive = WebArchive(folder, extra=extra)
        archive.add_accounts()
        with archive.at_work():
            yield archive


def begin(archive: WebArchive, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Have the chief begin a job; give it as it ended."""
    return archive.ended(archive.chief().post(f"{PREFIX}{path}", json=body, headers=WHY))


def shown(archive: WebArchive, path: str) -> Any:
    response = archive.chief().get(f"{PREFIX}{path}")
    assert response.status_code == 200, response.text
    return response.json()


def command(archive: WebArchive, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """Give what a command prints for programs."""
    capsys.readouterr()
    main([*words, "--json", "--config", str(archive.loopback.archive_toml)])
    return json.loads(capsys.readouterr().out)


def test_an_auditor_finds_by_fsck_and_scrub_what_was_altered_as_the_command_does(
    archive: WebArchive, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = archive.record(), archive.record()
    flip(next((archive.desk.store.root / bad.path).glob("*.wav")), -1)
    auditor = archive.known(Role.AUDITOR)
    job = archive.ended(auditor.post(f"{PREFIX}/fsck"))
    assert (job["state"], job["work"], job["who"]) == ("done", "fsck", "token:auditor/test")
    codes = {name: set[str]() for name in (good.id, bad.id)}
    for row in job["result"]["troubles"]:
        codes.setdefault(row["subject"], set()).add(row["code"])
    assert codes[bad.id] - codes[good.id], codes  # both have their manifests from the test
    by_command = command(archive, capsys, "fsck")
    assert {name: job["result"][name] for name in by_command} == by_command
    assert job["result"]["verdict"] == "bad"
    job = archive.ended(auditor.post(f"{PREFIX}/scrub"))
    assert [row["recording_id"] for row in job["result"]["found"]] == [bad.id]
    assert job["result"]["round"]["recordings"] == 2
    assert shown(archive, "/scrub") == command(archive, capsys, "scrub")
    (found,) = auditor.get(f"{PREFIX}/jobs?limit=1").json()
    assert (found["number"], found["state"]) == (job["number"], "done")
    assert good.id not in json.dumps(job["result"])


def test_the_copy_and_the_delivery_are_brought_up_to_date(
    archive: WebArchive, server: SftpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = archive.record()
    assert shown(archive, "/mirror")["rows_behind"] == 1
    assert shown(archive, "/deliveries")[0]["behind"] == 1
    assert begin(archive, "/mirror")["state"] == "done"
    assert begin(archive, "/deliveries", {"route": "customer"})["state"] == "done"
    assert shown(archive, "/mirror") == command(archive, capsys, "mirror")
    assert shown(archive, "/mirror")["rows_behind"] == 0
    (route,) = shown(archive, "/deliveries")
    assert (route["behind"], route["log"][0]["recording_id"]) == (0, entry.id)
    source = archive.desk.store.root / entry.path
    (delivered,) = server.there.rglob(entry.id)
    (copied,) = (archive.loopback.root / "copy").rglob(entry.id)
    assert folder_digests(delivered) == folder_digests(copied) == folder_digests(source)
    (row,) = archive.desk.audit_log.rows(AuditFilter(what="recording_delivered"))
    assert (row.who, row.address) == ("token:chief/test", "192.0.2.7")
    refused = archive.chief().post(f"{PREFIX}/deliveries", json={"route": "nobody"})
    assert (refused.status_code, problem(refused)) == (409, "not-configured")
    assert archive.newest().outcome == "refused"


def test_a_sweep_erases_what_the_plan_named_and_nothing_that_is_held(archive: WebArchive) -> None:
    due, held = archive.record(), archive.record()
    chief = archive.chief()
    assert chief.post(at(held, "/holds"), headers=WHY, json={"until": ""}).status_code == 201
    wanting = chief.post(f"{PREFIX}/retention/sweep")
    assert (wanting.status_code, problem(wanting)) == (403, "reason-wanted")
    job = begin(archive, "/retention/sweep")
    assert job["state"] == "done"
    assert (job["result"]["due"], job["result"]["erased"], job["result"]["left"]) == (1, 1, 0)
    states = {name: archive.desk.catalogue.by_id(name)[0].state for name in (due.id, held.id)}
    assert states[held.id] != "erased" == states[due.id]
    (row,) = archive.desk.audit_log.rows(AuditFilter(what="recording_erased"))
    assert (row.who, row.outcome) == ("token:chief/test", "done")
    told = begin(archive, "/fsck", {"mirror": False})["result"]["troubles"]
    assert [row for row in told if row["subject"] == due.id] == []  # its tombstone stands for it


def test_a_lost_row_is_made_anew_and_only_without_a_daemon(archive: WebArchive) -> None:
    entry = archive.record()
    with archive.desk.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM recordings")
    assert archive.desk.catalogue.count() == 0
    job = begin(archive, "/reindex")
    assert (job["state"], job["result"]["rows"]) == ("done", 1), job
    assert archive.desk.catalogue.by_id(entry.id)[0].row_id >= 1
    assert archive.known(Role.ADMINISTRATOR).get(at(entry)).status_code == 200


def test_a_reindex_is_stopped_although_it_holds_the_database(
    archive: WebArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [archive.record() for _ in range(RECORDED)]
    at_work, advance = Queue[Telling](), Telling.advance

    def held(telling: Telling, size_bytes: int, /) -> None:
        at_work.put(telling)
        wait_until(telling.stopped, what="the word that stops it")
        advance(telling, size_bytes)

    monkeypatch.setattr(Telling, "advance", held)
    chief = archive.chief()
    job = chief.post(f"{PREFIX}/reindex", headers=WHY)
    at_work.get(timeout=60)
    stopped = chief.delete(job.headers["location"], headers=WHY)
    assert (stopped.status_code, stopped.json()["stop_by"]) == (202, "token:chief/test")
    told = archive.ended(job)
    assert (told["state"], told["stop_by"], told["result"]) == ("stopped", "token:chief/test", None)
    assert archive.desk.catalogue.all() == before
    (row,) = archive.desk.audit_log.rows(AuditFilter(what="job_stopped"))
    assert (row.subject, row.reason) == (f"job {told['number']}", "request 17")


def test_a_rebuilt_catalogue_says_of_each_place_in_a_chain_what_was_said_on_arrival(
    archive: WebArchive,
) -> None:
    chain, arrived = archive.chain, []
    for skipped, is_exchanged in ((0, False), (0, False), (0, True), (1, False), (-1, False)):
        chain.sequence += skipped  # one was removed; or one has the number of another
        chain.manifest_sha256 = "f" * 64 if is_exchanged else chain.manifest_sha256
        arrived.append(archive.record())
        chain.manifest_sha256 = arrived[-1].manifest_sha256
    said = {entry.sequence: set[str]() for entry in arrived}
    for entry in archive.desk.catalogue.all():
        said[entry.sequence].add(entry.chain)
    assert said == {1: {"linked"}, 2: {"linked"}, 3: {"broken"}, 5: {"pending", "broken"}}
    before = archive.desk.catalogue.all()
    assert begin(archive, "/reindex")["state"] == "done"
    assert [(row.id, row.chain) for row in archive.desk.catalogue.all()] == [
        (row.id, row.chain) for row in before
    ]


def test_what_a_work_needs_and_has_not_is_said_and_no_job_begins(tmp_path: Path) -> None:
    archive = WebArchive(tmp_path)  # no copy, no delivery, no daemon, no job thread
    chief = archive.chief()
    for path in ("/mirror", "/deliveries"):
        refused = chief.post(f"{PREFIX}{path}", json={} if path == "/deliveries" else None)
        assert (refused.status_code, problem(refused)) == (409, "not-configured"), path
    for method in ("GET", "PUT"):
        refused = chief.request(method, f"{PREFIX}/intake", json={"drained": True})
        assert (refused.status_code, problem(refused)) == (503, "not-running")
    assert (archive.newest().what, archive.newest().outcome) == ("intake_set", "refused")
    assert shown(archive, "/jobs") == []
    assert shown(archive, "/deliveries") == []
    begun = chief.post(f"{PREFIX}/fsck").json()["number"]
    refused = chief.post(f"{PREFIX}/fsck")
    assert (refused.status_code, problem(refused)) == (409, "under-way")
    assert f"Job {begun} " in refused.json()["detail"]
    assert chief.delete(f"{PREFIX}/jobs/{begun}").json()["stop_by"] == "token:chief/test"


@pytest.mark.parametrize("path", ["/scrub", "/mirror", "/deliveries", "/retention/sweep", "/fsck"])
def test_a_job_that_is_stopped_ends_and_leaves_the_rest(
    archive: WebArchive, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(sweeping, "AT_ONCE", 1)
    for _ in range(RECORDED):
        archive.record()
    begun, go_on, advance = threading.Event(), threading.Event(), Telling.advance

    def held(telling: Telling, size_bytes: int, /) -> None:
        begun.set()
        assert go_on.wait(60)
        advance(telling, size_bytes)

    monkeypatch.setattr(Telling, "advance", held)
    chief = archive.chief()
    job = chief.post(f"{PREFIX}{path}", json={} if path == "/deliveries" else None, headers=WHY)
    assert begun.wait(60)
    stopped = chief.delete(job.headers["location"], headers=WHY)
    assert (stopped.status_code, stopped.json()["state"]) == (202, "running")
    assert (archive.newest().what, archive.newest().reason) == ("job_stopped", "request 17")
    go_on.set()
    told = archive.ended(job)
    assert (told["state"], told["stop_by"]) == ("stopped", "token:chief/test")
    done = {
        "/scrub": lambda: shown(archive, "/scrub")["round"]["recordings"],
        "/mirror": lambda: RECORDED - shown(archive, "/mirror")["rows_behind"],
        "/deliveries": lambda: RECORDED - shown(archive, "/deliveries")[0]["behind"],
        "/retention/sweep": lambda: told["result"]["erased"],
        "/fsck": lambda: 1 if told["result"] is None else RECORDED,  # half a judgement is none
    }
    assert done[path]() <= 1
    again = chief.delete(job.headers["location"], headers=WHY)
    assert (again.status_code, problem(again)) == (409, "ended")
    unknown = chief.delete(f"{PREFIX}/jobs/4711", headers=WHY)
    assert unknown.status_code == 404


def test_the_intake_is_drained_and_opened_again(archive: WebArchive) -> None:
    chief = archive.chief()
    assert shown(archive, "/intake")["takes"] is True
    done = chief.put(f"{PREFIX}/intake", json={"drained": True, "reason": "a new disk"}, headers=WHY)
    assert done.json() == {"drained": True}
    row = archive.newest()
    assert (row.what, row.reason, row.detail) == ("intake_set", "request 17", "drained: a new disk")
    told = shown(archive, "/intake")
    assert (told["takes"], told["drained"]) == (False, True)
    assert "a new disk" in told["reason"]
    assert chief.put(f"{PREFIX}/intake", json={"drained": False}).status_code == 200
    assert shown(archive, "/intake")["drained"] is False
