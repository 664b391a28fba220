"""Coming in by an OpenID provider: there and back, and every way to cheat on it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from recorderd.archive import oidc
from recorderd.archive.oidc import Oidc, ProviderSettings
from recorderd.archive.web.application import PREFIX, put_desk
from recorderd.core.errors import ProviderFailed
from tests.support.free_ports import free_port
from tests.support.oidc_provider import SECRET
from tests.support.programs import ROOT as FOLDER
from tests.support.programs import wait_until
from tests.support.web_archive import ROOT, WebArchive, problem, quick_folder

RETURN = f"https://archive{PREFIX}/session/oidc/return"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "tests.support.oidc_provider", str(port)]
    with subprocess.Popen(command, cwd=FOLDER, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield f"http://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture
def archive(issuer: str) -> Iterator[WebArchive]:
    with quick_folder() as folder:
        yield arranged(WebArchive(folder), issuer)


def arranged(archive: WebArchive, issuer: str) -> WebArchive:
    """Let an archive know the provider."""
    archive.add_accounts()
    settings = ProviderSettings(issuer=issuer, client_id="recorder", client_secret=SECRET, return_url=RETURN)
    provider = Oidc(archive.desk.database, settings, clock=archive.desk.clock)
    archive.desk = replace(archive.desk, oidc=provider)
    put_desk(archive.app, archive.desk)
    archive.desk.accounts.set_oidc_subject(ROOT, "user", "alice-at-work")
    return archive


def go(client: Any, **more: str) -> httpx.Response:
    """Go to the provider and be sent back; ``more`` is asked of it."""
    there = client.get(f"{PREFIX}/session/oidc")
    assert there.status_code == 303, there.text
    return httpx.get(httpx.URL(there.headers["location"]).copy_merge_params(more))


def back_in(client: Any, answer: httpx.Response) -> Any:
    return client.get(answer.headers["location"].removeprefix("https://archive"))


def test_the_providers_person_comes_in_as_the_account_that_is_theirs(archive: WebArchive) -> None:
    client = archive.client()
    told = back_in(client, go(client))
    assert told.status_code == 200, told.text
    assert told.json()["account"] == "user"
    assert client.get(f"{PREFIX}/session").json()["account"] == "user"
    (row,) = [row for row in archive.desk.audit_log.rows() if row.what == "signed_in"]
    assert (row.who, row.outcome, row.detail) == ("account:user", "done", "OpenID")


@pytest.mark.parametrize("wrong", ["iss", "aud", "many", "nonce", "exp", "key", "secret", "none"])
def test_a_token_that_is_not_for_us_now_opens_nothing(archive: WebArchive, wrong: str) -> None:
    client = archive.client()
    told = back_in(client, go(client, wrong=wrong))
    assert (told.status_code, problem(told)) == (401, "not-let-in")
    assert client.get(f"{PREFIX}/session").status_code == 401
    assert (archive.newest().what, archive.newest().outcome) == ("signed_in", "refused")


def test_who_has_no_account_here_does_not_come_in(archive: WebArchive) -> None:
    client = archive.client()
    assert back_in(client, go(client, login="mallory")).status_code == 401
    archive.desk.accounts.set_disabled(ROOT, "user", disabled=True)
    assert back_in(client, go(client)).status_code == 401


def test_an_answer_counts_once_and_only_in_the_browser_that_asked(archive: WebArchive) -> None:
    client, victim = archive.client(), archive.client()
    answer = go(client)
    assert back_in(victim, answer).status_code == 401  # somebody was sent the attacker's link
    assert back_in(client, answer).status_code == 200
    again = archive.client()
    again.cookies = client.cookies
    assert back_in(again, answer).status_code == 401


def test_the_provider_says_no_or_is_away(archive: WebArchive) -> None:
    client = archive.client()
    go(client)
    refused = client.get(f"{PREFIX}/session/oidc/return", params={"error": "access_denied", "state": "x"})
    assert (refused.status_code, problem(refused)) == (401, "not-let-in")
    settings = ProviderSettings(
        issuer=f"http://127.0.0.1:{free_port()}", client_id="x", client_secret="", return_url=RETURN
    )
    provider = Oidc(archive.desk.database, settings, clock=archive.desk.clock)
    put_desk(archive.app, replace(archive.desk, oidc=provider))
    away = client.get(f"{PREFIX}/session/oidc")
    assert (away.status_code, problem(away)) == (503, "provider")


def test_a_provider_that_hangs_is_asked_once_for_all_who_come_meanwhile(
    archive: WebArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = list[str](), threading.Event()

    def hang(_: Oidc, url: str, form: dict[str, str] | None = None) -> dict[str, Any]:
        asked.append(url)
        answered.wait(30)
        raise ProviderFailed(issuer=url, reason="TimeoutError")

    monkeypatch.setattr(Oidc, "_ask", hang)
    codes: list[int] = []

    def knock() -> None:
        codes.append(archive.client().get(f"{PREFIX}/session/oidc").status_code)

    threads = [threading.Thread(target=knock) for _ in range(5)]
    for thread in threads:
        thread.start()
    wait_until(lambda: bool(asked), what="the provider is asked")
    answered.set()
    for thread in threads:
        thread.join(30)
    assert codes == [503] * 5
    assert len(asked) == 1
    monkeypatch.setattr(oidc, "_AGAIN_S", 0)
    knock()
    assert len(asked) == 2


def test_without_a_provider_there_is_no_such_door(archive: WebArchive) -> None:
    put_desk(archive.app, replace(archive.desk, oidc=None))
    assert archive.client().get(f"{PREFIX}/session/oidc").status_code == 404
