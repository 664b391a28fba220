"""What somebody with an account tries: shorten WORM, erase what is held, forge the log, huge ranges."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from recorderd.app.archive_audit import audit_findings
from recorderd.archive.web.application import PREFIX
from recorderd.evidence.verify import TrustStore
from recorderd.policy.access import Role
from recorderd.policy.retention import RetentionClass, Terms
from recorderd.policy.selection import Selection
from tests.support.web_archive import ROOT, WebArchive, at, problem, quick_folder

WHY = {"X-Reason": "because"}
EVERY_WAY = ("erase", "anonymise")


@pytest.fixture
def archive() -> Iterator[WebArchive]:
    with quick_folder() as folder:
        archive = WebArchive(folder)
        archive.add_accounts()
        yield archive


def state_terms(archive: WebArchive, *, maximum_days: int, worm: bool) -> None:
    desk = archive.desk
    row = RetentionClass(name="default", maximum_days=maximum_days, right_to_erasure=not worm)
    stated = desk.keeping.book.state(
        Terms(classes=(row,), worm=worm),
        who=ROOT,
        audit=desk.audit_log,
        archive_id=desk.archive_id,
        signer=desk.signer,
        now_utc_ns=desk.clock.utc_ns(),
    )
    assert stated is not None


def test_worm_is_not_shortened_by_whoever_asks_in_whatever_way(archive: WebArchive) -> None:
    state_terms(archive, maximum_days=2555, worm=True)
    entry = archive.record("own")
    state_terms(archive, maximum_days=1, worm=False)
    client = archive.chief()
    told = client.get(at(entry, "/retention")).json()
    assert told["due"] == told["worm_until"] > "2033"
    assert [row["worm"] for row in client.get(f"{PREFIX}/retention/classes").json()] == [True, False]
    body = {"right_to_erasure": True}
    for way in EVERY_WAY:
        refused = client.post(at(entry, f"/{way}"), json=body, headers=WHY)
        assert (refused.status_code, problem(refused)) == (409, "kept")
        assert "WORM" in refused.json()["detail"]
        assert archive.newest().outcome == "refused"
    for path in ("erasures", "anonymisations"):
        wanted = {"selection": {"recording_id": entry.id}, "recordings": 1, **body}
        (row,) = client.post(f"{PREFIX}/{path}", json=wanted, headers=WHY).json()["rows"]
        assert "WORM" in row["refused"]
    assert archive.events()["erasure_refused"] == 4  # counted, each once
    assert archive.known(Role.USER).get(at(entry, "/audio")).status_code == 200


@pytest.mark.parametrize(
    "selection",
    [
        {"recorder_id": "rec-1"},
        {"retention_class": "default"},
        {"from_time": "2020-01-01"},
        {"recording_id": "' OR ''='"},
        {"number": "%"},
        {"queue": "_"},
    ],
)
def test_what_is_held_is_erased_by_no_selection(archive: WebArchive, selection: dict[str, str]) -> None:
    entry = archive.record("queue")
    archive.desk.keeping.holds.add(
        Selection(queue="sales"), reason="suit", until="", who=ROOT, now_utc="2026-11-28T00:00:00.000Z"
    )
    client = archive.chief()
    seen = client.post(f"{PREFIX}/erasures/preview", json={"selection": selection}).json()
    assert seen["recordings"] == seen["refused"] <= 1
    wanted = {"selection": selection, "recordings": seen["recordings"], "right_to_erasure": True}
    done = client.post(f"{PREFIX}/erasures", json=wanted, headers=WHY).json()
    assert done["recordings"] == done["refused"]
    assert client.get(at(entry)).json()["state"] == "archived"


def test_nothing_that_is_said_forges_a_row_of_the_log(archive: WebArchive) -> None:
    entry = archive.record("own")
    forged = '"}\n{"number":1,"who":"cli:root","what":"recording_erased","outcome":"done"}\r\n\x00\x1b[2K'
    client, before = archive.known(Role.ADMINISTRATOR), archive.desk.audit_log.last()[0]
    client.post(at(entry, "/notes"), json={"text": "x"}, params={"reason": forged})
    client.get(f"{PREFIX}/recordings", params={"note": forged})
    client.get(at(entry, "/audio"), params={"reason": forged})
    rows = archive.known(Role.AUDITOR).get(f"{PREFIX}/audit", params={"limit": 1000}).json()["rows"]
    fresh = [row for row in rows if row["number"] > before]
    assert {row["who"] for row in fresh} == {"token:administrator/test", "token:auditor/test"}
    assert "recording_erased" not in {row["what"] for row in fresh}
    assert not any("\x00" in row["reason"] for row in fresh)
    assert list(audit_findings(archive.desk.database, TrustStore([]))) == []
    for method in ("POST", "PUT", "DELETE", "PATCH"):  # nobody writes it over HTTP
        assert archive.chief().request(method, f"{PREFIX}/audit").status_code == 405


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (f"bytes=0-{'9' * 15}", 206),
        (f"bytes=0-{'9' * 400}", 200),
        (f"bytes={'9' * 15}-", 416),
        (f"bytes=-{'9' * 15}", 206),
        ("bytes=" + "0-1," * 2000, 200),
        ("bytes=-0", 416),
        ("bytes=5-1", 200),
        ("octets=0-1", 200),
    ],
)
def test_a_huge_or_odd_range_costs_no_more_than_the_file(
    archive: WebArchive, asked: str, status: int
) -> None:
    entry = archive.record("own")
    client = archive.known(Role.USER)
    whole = client.get(at(entry, "/audio")).content
    name = next(row["name"] for row in client.get(at(entry, "/files")).json() if row["name"].endswith(".wav"))
    for rest in ("/audio", f"/files/{name}"):
        response = client.get(at(entry, rest), headers={"Range": asked})
        assert response.status_code == status, rest
        if status != 416:
            assert len(response.content) <= len(whole) + 4096
