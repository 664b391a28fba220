"""Who manages accounts over HTTP gets nowhere that their own account does not reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from recorderd.archive.accounts import Reaching
from recorderd.archive.web.application import PREFIX
from recorderd.policy.access import Action, Role
from tests.support.web_archive import ROOT, WebArchive, problem, quick_folder

ACCOUNT = {"role": "administrator", "recorders": ["rec-1"]}


@pytest.fixture(scope="module")
def archive() -> Iterator[WebArchive]:
    with quick_folder() as folder:
        archive = WebArchive(folder)
        archive.add_accounts()
        archive.chief()
        archive.desk.accounts.add(ROOT, "far", Role.USER, Reaching(extensions=("rec-2:1001",)))
        archive.desk.accounts.add(ROOT, "anywhere", Role.USER, Reaching(extensions=("1001",)))
        archive.desk.accounts.set_group(ROOT, "abroad", extensions=["rec-2:7"], queues=[])
        yield archive


@pytest.mark.parametrize(
    "wanted",
    [
        {**ACCOUNT, "recorders": ["*"]},
        {**ACCOUNT, "recorders": ["rec-1", "rec-2"]},
        {**ACCOUNT, "second_right": True},
        {"role": "user", "extensions": ["1001"]},
        {"role": "user", "extensions": ["rec-2:1001"]},
        {"role": "supervisor", "groups": ["abroad"]},
        {"role": "supervisor", "groups": ["sales", "yet-to-be-made"]},
        {"role": "auditor"},  # has everything checked, of every recorder
    ],
)
@pytest.mark.parametrize("name", ["administrator", "fresh"])
def test_nobody_gives_more_than_they_have(archive: WebArchive, wanted: dict[str, Any], name: str) -> None:
    client, before = archive.known(Role.ADMINISTRATOR), archive.desk.accounts.all()
    refused = client.put(f"{PREFIX}/accounts/{name}", json=wanted)
    assert (refused.status_code, problem(refused)) == (403, "refused")
    assert (archive.newest().what, archive.newest().outcome) == ("account_changed", "refused")
    assert archive.desk.accounts.all() == before


@pytest.mark.parametrize("name", ["chief", "administrator-cleared", "far", "anywhere"])
@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [
        ("PUT", "", ACCOUNT),
        ("PUT", "/password", {"password": "mine from now on"}),
        ("PUT", "/totp", {"wanted": False}),
        ("PUT", "/disabled", {"disabled": True}),
        ("PUT", "/oidc", {"subject": "me"}),
        ("POST", "/tokens", {"label": "mine", "scopes": ["play"]}),
    ],
)
def test_nobody_opens_an_account_that_reaches_further(
    archive: WebArchive, name: str, method: str, rest: str, body: dict[str, Any]
) -> None:
    client = archive.known(Role.ADMINISTRATOR)
    before = archive.desk.accounts.find(name), archive.desk.accounts.tokens(name)
    refused = client.request(method, f"{PREFIX}/accounts/{name}{rest}", json=body)
    assert (refused.status_code, problem(refused)) == (403, "refused")
    assert archive.newest().outcome == "refused"
    assert (archive.desk.accounts.find(name), archive.desk.accounts.tokens(name)) == before


def test_a_group_is_given_once_it_is_there(archive: WebArchive) -> None:
    client, wanted = archive.known(Role.ADMINISTRATOR), {"role": "supervisor", "groups": ["mine"]}
    assert client.put(f"{PREFIX}/accounts/sue", json=wanted).status_code == 403
    assert client.put(f"{PREFIX}/groups/mine", json={"extensions": ["rec-1:1"]}).status_code == 204
    assert client.put(f"{PREFIX}/accounts/sue", json=wanted).status_code == 200


def test_groups_and_tokens_of_others_stay_as_they_are(archive: WebArchive) -> None:
    client = archive.known(Role.ADMINISTRATOR)
    (token,) = archive.desk.accounts.tokens("chief")
    for response in (
        client.delete(f"{PREFIX}/tokens/{token.id}"),
        client.put(f"{PREFIX}/groups/abroad", json={"extensions": ["rec-1:1"]}),
        client.put(f"{PREFIX}/groups/sales", json={"queues": ["rec-2:sales"]}),
    ):
        assert (response.status_code, problem(response)) == (403, "refused")
    assert archive.chief().get(f"{PREFIX}/status").status_code == 200


def test_a_token_makes_none_that_may_more(archive: WebArchive) -> None:
    _, text = archive.desk.accounts.add_token(ROOT, "chief", name="small", scopes=[Action.ACCOUNTS], days=1)
    client = archive.client(text)
    path = f"{PREFIX}/accounts/chief/tokens"
    refused = client.post(path, json={"label": "big", "scopes": ["accounts", "play"]})
    assert (refused.status_code, problem(refused)) == (403, "refused")
    assert client.post(path, json={"label": "same", "scopes": ["accounts"]}).status_code == 201


def test_who_reaches_everything_manages_everybody(archive: WebArchive) -> None:
    client = archive.chief()
    assert (
        client.put(f"{PREFIX}/accounts/far/password", json={"password": "long enough, this"}).status_code
        == 204
    )
    assert client.put(f"{PREFIX}/accounts/second", json={**ACCOUNT, "recorders": ["*"]}).status_code == 200
