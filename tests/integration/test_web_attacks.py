"""What strangers and the curious try: refused, noted, and nothing is lost or told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recorderd.app.archive import main
from recorderd.archive.catalogue import Entry
from recorderd.archive.shares import FAILURES_MAX
from recorderd.archive.web import playing
from recorderd.archive.web.application import PREFIX
from recorderd.archive.web.gates import COOKIE
from recorderd.archive.web.limits import BODY_LIMIT_BYTES, GUESSES_PER_MINUTE
from recorderd.policy.access import Role
from tests.support.web_archive import PASSWORD, ROOT, WebArchive, at, problem, quick_folder

PASSPHRASE = "between us two"


@pytest.fixture
def archive() -> Iterator[WebArchive]:
    with quick_folder() as folder:
        archive = WebArchive(folder)
        archive.add_accounts()
        yield archive


@pytest.fixture(scope="module")
def stable() -> Iterator[WebArchive]:
    """One archive for all that is refused before it changes anything."""
    with quick_folder() as folder:
        archive = WebArchive(folder)
        archive.add_accounts()
        yield archive


def share(archive: WebArchive, entry: Entry, **body: Any) -> dict[str, str]:
    """Share a recording; give what the other side posts."""
    response = archive.known(Role.SUPERVISOR).post(
        at(entry, "/shares"), json={"passphrase": PASSPHRASE, **body}, headers={"X-Reason": "asked for"}
    )
    assert response.status_code == 201, response.text
    told = response.json()
    return {"id": told["share"]["id"], "secret": told["secret"], "passphrase": PASSPHRASE}


def use(archive: WebArchive, link: dict[str, str], **changes: str) -> Any:
    body = {"secret": link["secret"], "passphrase": link["passphrase"], "format": "wav", **changes}
    return archive.client().post(f"{PREFIX}/shared/{link['id']}/audio", json=body)


# --- share links ------------------------------------------------------------------------------------


def test_a_share_link_is_good_as_often_as_it_was_made_for_and_then_no_more(archive: WebArchive) -> None:
    entry = archive.record("group")
    link = share(archive, entry, uses=2)
    for _ in range(2):
        response = use(archive, link)
        assert response.status_code == 200
        assert response.content[:4] == b"RIFF"
        assert (archive.newest().who, archive.newest().outcome) == (f"share:{link['id']}", "done")
    replayed = use(archive, link)
    assert (replayed.status_code, problem(replayed)) == (403, "share-refused")
    assert (archive.newest().what, archive.newest().outcome) == ("share_used", "refused")


def test_a_replay_at_the_same_instant_is_no_way_around_the_count(archive: WebArchive) -> None:
    link = share(archive, archive.record("group"), uses=2)
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(use(archive, link).status_code)) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200, 200, 403, 403, 403]


def test_a_use_that_gives_no_audio_does_not_count(
    archive: WebArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = share(archive, archive.record("group"), uses=1)
    with monkeypatch.context() as all_encoders_are_busy:
        all_encoders_are_busy.setattr(playing, "_ENCODING", threading.BoundedSemaphore(1))
        with playing._ENCODING:
            busy = use(archive, link, format="mp3")
    assert (busy.status_code, problem(busy)) == (503, "busy")
    assert archive.newest().outcome == "failed"
    assert use(archive, link, format="mp3").status_code == 200
    assert use(archive, link, format="mp3").status_code == 403


def test_a_passphrase_cannot_be_guessed_for_long(archive: WebArchive) -> None:
    link = share(archive, archive.record("group"))
    for number in range(FAILURES_MAX):
        assert use(archive, link, passphrase=f"guess number {number}").status_code == 403
    assert use(archive, link).status_code == 403  # now the right one is too late
    assert archive.newest().detail == "is used up"


@pytest.mark.parametrize("change", [{"secret": "x"}, {"secret": ""}])
def test_a_link_without_its_secret_is_as_if_there_were_none(
    archive: WebArchive, change: dict[str, str]
) -> None:
    link = share(archive, archive.record("group"))
    response = use(archive, link, **change)
    nothing = use(archive, link | {"id": "f" * 16})
    assert (response.status_code, response.json()) == (404, nothing.json())
    assert use(archive, link).status_code == 200  # and strangers cannot use it up


def test_a_revoked_link_is_worthless_and_only_who_may_share_revokes(archive: WebArchive) -> None:
    link = share(archive, archive.record("group"))
    path = f"{PREFIX}/shares/{link['id']}"
    assert archive.known(Role.USER).delete(path).status_code == 404
    assert [row["id"] for row in archive.known(Role.SUPERVISOR).get(f"{PREFIX}/shares").json()] == [
        link["id"]
    ]
    assert archive.known(Role.USER).get(f"{PREFIX}/shares").json() == []
    assert archive.known(Role.SUPERVISOR).delete(path).status_code == 204
    assert use(archive, link).status_code == 404


def test_a_link_made_on_the_command_line_is_used_and_revoked(
    archive: WebArchive, capsys: pytest.CaptureFixture[str]
) -> None:
    entry, config = archive.record("group"), str(archive.loopback.archive_toml)
    file = archive.loopback.root / "passphrase"
    file.touch(mode=0o600)
    file.write_text(PASSPHRASE)
    made = ["share", "add", entry.id, "--reason", "asked for", "--uses", "2", "--file", str(file)]
    assert main([*made, "--config", config]) == 0
    path, secret = capsys.readouterr().out.splitlines()
    link = {"id": path.split("/")[4], "secret": secret.split()[1], "passphrase": PASSPHRASE}
    assert use(archive, link).status_code == 200
    assert main(["share", "list", "--config", config, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["recording_id"], row["uses_left"]) == (entry.id, 1)
    assert main(["share", "revoke", link["id"], "--config", config]) == 0
    assert use(archive, link).status_code == 404
    assert main(["share", "add", "nothing", "--reason", "x", "--config", config]) == 65


# --- sessions ----------------------------------------------------------------------------------------


def sign_in(archive: WebArchive, client: Any, password: str = PASSWORD) -> Any:
    return client.post(f"{PREFIX}/session", json={"account": "user", "password": password})


def test_a_session_is_a_cookie_that_scripts_and_other_sites_do_not_get(archive: WebArchive) -> None:
    archive.desk.accounts.set_password(ROOT, "user", PASSWORD)
    client = archive.client()
    response = sign_in(archive, client)
    assert response.status_code == 200
    cookie = response.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "Secure", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert client.get(f"{PREFIX}/session").json()["role"] == "user"
    headers = {"X-CSRF-Token": response.json()["csrf"]}
    assert client.delete(f"{PREFIX}/session", headers=headers).status_code == 204
    client.cookies.set(COOKIE, cookie.partition("=")[2].partition(";")[0])
    assert client.get(f"{PREFIX}/session").status_code == 401


def test_a_page_of_somebody_else_cannot_write_with_the_cookie(archive: WebArchive) -> None:
    archive.desk.accounts.set_password(ROOT, "user", PASSWORD)
    entry, client = archive.record("own"), archive.client()
    csrf = sign_in(archive, client).json()["csrf"]
    for headers in ({}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": csrf[:-1]}):
        response = client.post(at(entry, "/notes"), json={"text": "forged"}, headers=headers)
        assert (response.status_code, problem(response)) == (403, "csrf")
        assert archive.newest().outcome == "refused"
    assert client.get(at(entry, "/notes")).json() == []
    response = client.post(at(entry, "/notes"), json={"text": "mine"}, headers={"X-CSRF-Token": csrf})
    assert response.status_code == 201


def test_a_guesser_is_locked_out_and_hears_for_how_long(archive: WebArchive) -> None:
    archive.desk.accounts.set_password(ROOT, "user", PASSWORD)
    client = archive.client()
    answers = [sign_in(archive, client, "wrong") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert int(answers[-1].headers["retry-after"]) > 0
    assert "user" not in answers[0].text
    unknown = client.post(f"{PREFIX}/session", json={"account": "nobody", "password": "wrong"})
    assert unknown.json() == answers[0].json()


# --- paths, queries, bodies ---------------------------------------------------------------------------

TRICKS = (
    "..%2F..%2Farchive.toml",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e%2fcatalogue.sqlite3",
    "%2Fetc%2Fpasswd",
    "....%2F%2Fetc",
    "x%00.wav",
    "%2e%2e",
    "~root",
    "CON",
    "a" * 300,
)


@pytest.mark.parametrize("name", TRICKS)
def test_path_tricks_lead_nowhere(stable: WebArchive, name: str) -> None:
    entry, client = stable.record("own"), stable.known(Role.USER)
    response = client.get(at(entry, f"/files/{name}"))
    assert response.status_code in (404, 422)
    problem(response)
    assert "root:" not in response.text
    assert "curve" not in response.text
    for path in (f"/recordings/rec-1/{name}", f"/recordings/{name}/{entry.id}"):
        response = client.get(f"{PREFIX}{path}")
        assert response.status_code in (404, 405, 422), path
        problem(response)


INJECTIONS = (
    "' OR 1=1 --",
    "'; DROP TABLE recordings; --",
    '" OR ""="',
    "%",
    "_",
    "*",
    "\\",
    ") UNION SELECT password_hash FROM accounts --",
    "1001' AND (SELECT count(*) FROM accounts) > 0 --",
)


@pytest.mark.parametrize("text", INJECTIONS)
def test_sql_in_search_text_is_text(stable: WebArchive, text: str) -> None:
    stable.record("site")
    count, client = stable.desk.catalogue.count(), stable.known(Role.ADMINISTRATOR)
    nothing = client.get(f"{PREFIX}/recordings", params={"extension": "no such one"}).json()
    kinds = ("number", "part", "extension", "queue", "trunk", "tag", "note", "recorder", "sort", "after")
    for kind in kinds:
        response = client.get(f"{PREFIX}/recordings", params={kind: text})
        assert response.status_code in (200, 422), (kind, response.text)
        if response.status_code == 200:
            assert response.json() == nothing, kind
    rows = stable.known(Role.AUDITOR).get(f"{PREFIX}/audit", params={"what": "recordings_searched"}).json()
    assert any(text in row["detail"] for row in rows["rows"])
    assert stable.desk.catalogue.count() == count
    assert len(stable.desk.accounts.all()) == 8
    odd = stable.known(Role.AUDITOR).get(f"{PREFIX}/audit", params={"who": text})
    assert odd.json()["rows"] == []


def test_a_body_that_is_too_long_is_refused_before_it_is_taken(stable: WebArchive) -> None:
    entry, client = stable.record("own"), stable.known(Role.USER)
    told = client.post(at(entry, "/notes"), content=b"x" * (BODY_LIMIT_BYTES + 1))
    assert (told.status_code, problem(told)) == (413, "too-long")

    def pieces() -> Iterator[bytes]:
        for _ in range(10):
            yield b" " * 10_000

    streamed = client.post(at(entry, "/notes"), content=pieces())  # without saying how long it is
    assert "content-length" not in streamed.request.headers
    assert (streamed.status_code, problem(streamed)) == (413, "too-long")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 30_000,
        b'{"text": 1e999}',
        b'{"text": "\xff"}',
        b"\x00",
        b'{"x": 1}',
    ],
)
def test_a_malformed_body_is_a_problem_and_changes_nothing(stable: WebArchive, content: bytes) -> None:
    entry, client = stable.record("own"), stable.known(Role.USER)
    response = client.post(at(entry, "/notes"), content=content, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    problem(response)
    assert client.get(at(entry, "/notes")).json() == []


def test_who_asks_too_often_waits(tmp_path: Path) -> None:
    archive = WebArchive(tmp_path, per_minute=20)
    client = archive.client()
    codes = [client.get(f"{PREFIX}/status").status_code for _ in range(40)]
    assert codes[:10] == [401] * 10
    assert codes.count(429) >= 10
    assert archive.events()["http_limited"] == codes.count(429)
    wait = client.get(f"{PREFIX}/status").headers.get("retry-after", "1")
    assert 1 <= int(wait) <= 4


def test_a_door_that_takes_secrets_is_knocked_at_seldom(archive: WebArchive) -> None:
    link = {"id": "f" * 16, "secret": "x", "passphrase": "x"}
    codes = [use(archive, link).status_code for _ in range(2 * GUESSES_PER_MINUTE)]
    assert codes[: GUESSES_PER_MINUTE // 2] == [404] * (GUESSES_PER_MINUTE // 2)
    assert codes.count(429) >= GUESSES_PER_MINUTE // 2


def test_every_answer_tells_browsers_to_keep_and_guess_nothing(archive: WebArchive) -> None:
    for path in ("/api/v1/openapi.json", "/api/v1/status", "/nothing", "/"):
        headers = archive.client().get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["strict-transport-security"].startswith("max-age=")
        assert "server" not in headers


def test_an_error_of_ours_tells_nothing_of_our_insides(archive: WebArchive, tmp_path: Path) -> None:
    entry = archive.record("own")
    (archive.desk.store.root / entry.path / f"{entry.id}.manifest.json").write_text("{}")
    response = archive.known(Role.USER).get(at(entry, "/audio"))
    problem(response)
    assert str(tmp_path) not in response.text
    archive.desk.database.close()
    with archive.desk.database.write() as connection:
        connection.exec_driver_sql("DROP TABLE tags")
    response = archive.known(Role.USER).get(at(entry))
    assert (response.status_code, problem(response)) == (503, "catalogue")
    assert "tags" not in response.text
