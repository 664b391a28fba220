"""Every endpoint, for every role, on what is its own, its group's, its site's, foreign, restricted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from recorderd.archive.audit_log import AuditFilter, AuditRow
from recorderd.archive.catalogue import Entry
from recorderd.archive.web.application import PARTS, PREFIX
from recorderd.archive.web.gates import HouseGate, OpenGate, RecordingGate, identity_of
from recorderd.policy.access import Role
from recorderd.policy.selection import Selection
from tests.support.web_archive import ROOT, WebArchive, problem, quick_folder

ROLES = (Role.USER, Role.SUPERVISOR, Role.ADMINISTRATOR, Role.AUDITOR)
YES, WHY, NO = "allowed", "with a reason", "refused"
# Stated here once more, not read from the policy: role and place, in the order of PLACES.
LOOK = {
    Role.USER: {"own": YES},
    Role.SUPERVISOR: {"own": YES, "group": YES, "queue": YES},
    Role.ADMINISTRATOR: {"own": YES, "group": YES, "queue": YES, "site": YES},
}
HEAR = LOOK | {Role.ADMINISTRATOR: {"own": WHY, "group": WHY, "queue": WHY, "site": WHY}}
MARK = {
    Role.SUPERVISOR: {"group": YES, "queue": YES},
    Role.ADMINISTRATOR: {"own": YES, "group": YES, "queue": YES, "site": YES},
}
SHARE = {
    Role.SUPERVISOR: {"group": WHY, "queue": WHY},
    Role.ADMINISTRATOR: {"own": WHY, "group": WHY, "queue": WHY, "site": WHY},
}
KEEP = {Role.ADMINISTRATOR: {"own": WHY, "group": WHY, "queue": WHY, "site": WHY}}
FINDERS = {Role.USER, Role.SUPERVISOR, Role.ADMINISTRATOR}
WATCHERS = {Role.ADMINISTRATOR, Role.AUDITOR}
CHIEFS = {Role.ADMINISTRATOR}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is expected of one endpoint, and a request that is right for it."""

    what: str  # in the audit log
    places: dict[Role, dict[str, str]] | None = None  # of a recording
    roles: set[Role] | None = None  # in the house
    json: Any = None
    names: dict[str, str] = field(default_factory=dict)  # in the path
    query: str = ""
    content: bytes | None = None
    wants_reason: bool = False
    whole: bool = False  # of administrators, for those of every recorder only
    job: str = ""  # what it begins


_NAME = {"name": "user"}
_NOBODY = {"queue": "of nobody"}
_ONE = "/recordings/{recorder_id}/{recording_id}"
ROWS = {
    ("GET", "/recordings"): Row(what="recordings_searched", roles=FINDERS),
    ("GET", _ONE): Row(what="recording_viewed", places=LOOK),
    ("GET", f"{_ONE}/files"): Row(what="files_listed", places=LOOK),
    ("GET", f"{_ONE}/files/{{name}}"): Row(what="file_downloaded", places=HEAR, names={"name": "MANIFEST"}),
    ("GET", f"{_ONE}/audio"): Row(what="recording_played", places=HEAR),
    ("GET", f"{_ONE}/peaks"): Row(what="level_drawn", places=HEAR),
    ("GET", f"{_ONE}/notes"): Row(what="notes_read", places=LOOK),
    ("POST", f"{_ONE}/notes"): Row(
        what="note_added", places=LOOK, json={"text": "asked for by the customer"}
    ),
    ("PUT", f"{_ONE}/tags/{{tag}}"): Row(what="tag_added", places=MARK, names={"tag": "complaint"}),
    ("DELETE", f"{_ONE}/tags/{{tag}}"): Row(what="tag_removed", places=MARK, names={"tag": "complaint"}),
    ("POST", f"{_ONE}/shares"): Row(what="share_added", places=SHARE, json={"passphrase": "between us two"}),
    ("GET", f"{_ONE}/holds"): Row(what="holds_listed", places=LOOK),
    ("POST", f"{_ONE}/holds"): Row(what="hold_added", places=KEEP, json={"until": ""}),
    ("DELETE", f"{_ONE}/holds/{{number}}"): Row(what="hold_released", places=KEEP, names={"number": "HOLD"}),
    ("POST", f"{_ONE}/erase"): Row(what="recording_erased", places=KEEP, json={"right_to_erasure": False}),
    ("POST", f"{_ONE}/anonymise"): Row(what="recording_anonymised", places=KEEP, json={}),
    ("GET", f"{_ONE}/retention"): Row(what="retention_shown", places=LOOK),
    ("GET", "/retention/plan"): Row(what="retention_planned", roles=CHIEFS),
    ("GET", "/retention/classes"): Row(what="terms_shown", roles=CHIEFS),
    ("GET", "/holds"): Row(what="holds_listed", roles=CHIEFS),
    ("POST", "/holds"): Row(
        what="hold_added",
        roles=CHIEFS,
        json={"selection": {"recorder_id": "rec-1", **_NOBODY}},
        wants_reason=True,
    ),
    ("DELETE", "/holds/{number}"): Row(
        what="hold_released", roles=CHIEFS, names={"number": str(2**53)}, wants_reason=True
    ),
    ("POST", "/erasures/preview"): Row(what="erasure_previewed", roles=CHIEFS, json={"selection": _NOBODY}),
    ("POST", "/erasures"): Row(
        what="recordings_erased",
        roles=CHIEFS,
        json={"selection": _NOBODY, "recordings": 0},
        wants_reason=True,
    ),
    ("POST", "/anonymisations/preview"): Row(
        what="anonymisation_previewed", roles=CHIEFS, json={"selection": _NOBODY}
    ),
    ("POST", "/anonymisations"): Row(
        what="recordings_anonymised",
        roles=CHIEFS,
        json={"selection": _NOBODY, "recordings": 0},
        wants_reason=True,
    ),
    ("POST", "/subject-access/preview"): Row(
        what="subject_access_previewed", roles=CHIEFS, json={"number": "nobody"}
    ),
    ("POST", "/subject-access/bundle"): Row(
        what="subject_access", roles=CHIEFS, json={"number": "nobody"}, wants_reason=True
    ),
    ("POST", "/call-records"): Row(
        what="call_records_imported", roles=CHIEFS, query="source=Master.csv", content=b"", whole=True
    ),
    ("GET", "/reconciliation"): Row(
        what="reconciled", roles=CHIEFS, query="since=2026-11-23&until=2026-11-23", whole=True
    ),
    ("GET", "/jobs"): Row(what="jobs_listed", roles=WATCHERS, whole=True),
    ("GET", "/jobs/{number}"): Row(what="job_shown", roles=WATCHERS, whole=True, names={"number": "1"}),
    ("DELETE", "/jobs/{number}"): Row(
        what="job_stopped", roles=CHIEFS, whole=True, names={"number": str(2**53)}
    ),
    ("POST", "/fsck"): Row(what="fsck_begun", roles=WATCHERS, whole=True, json={"mirror": True}, job="fsck"),
    ("GET", "/scrub"): Row(what="scrub_shown", roles=WATCHERS, whole=True),
    ("POST", "/scrub"): Row(what="scrub_begun", roles=WATCHERS, whole=True, job="scrub"),
    ("POST", "/reindex"): Row(
        what="reindex_begun", roles=CHIEFS, whole=True, wants_reason=True, job="reindex"
    ),
    ("POST", "/retention/sweep"): Row(
        what="sweep_begun", roles=CHIEFS, whole=True, wants_reason=True, job="sweep"
    ),
    ("POST", "/stamps/renewal"): Row(
        what="renew_begun", roles=CHIEFS, whole=True, json={"days": 30}, job="renew"
    ),
    ("GET", "/mirror"): Row(what="mirror_shown", roles=WATCHERS, whole=True),
    ("POST", "/mirror"): Row(what="mirror_begun", roles=CHIEFS, whole=True, job="mirror"),
    ("GET", "/deliveries"): Row(what="deliveries_shown", roles=WATCHERS, whole=True),
    ("POST", "/deliveries"): Row(
        what="deliver_begun", roles=CHIEFS, whole=True, json={"route": "customer"}, job="deliver"
    ),
    ("GET", "/intake"): Row(what="intake_shown", roles=WATCHERS, whole=True),
    ("PUT", "/intake"): Row(
        what="intake_set", roles=CHIEFS, whole=True, json={"drained": True, "reason": "a new disk"}
    ),
    ("GET", "/shares"): Row(what="shares_listed", roles=FINDERS),
    ("DELETE", "/shares/{share_id}"): Row(what="share_revoked", roles=FINDERS, names={"share_id": "0" * 16}),
    ("GET", "/audit"): Row(what="audit_listed", roles=WATCHERS),
    ("GET", "/audit/heads"): Row(what="audit_exported", roles=WATCHERS),
    ("GET", "/status"): Row(what="status_asked", roles=WATCHERS),
    ("GET", "/accounts"): Row(what="accounts_listed", roles=CHIEFS),
    ("PUT", "/accounts/{name}"): Row(
        what="account_changed", roles=CHIEFS, json={"role": "user", "extensions": ["rec-1:1001"]}, names=_NAME
    ),
    ("PUT", "/accounts/{name}/password"): Row(
        what="password_set", roles=CHIEFS, json={"password": "another horse battery"}, names=_NAME
    ),
    ("PUT", "/accounts/{name}/disabled"): Row(
        what="account_enabled", roles=CHIEFS, json={"disabled": False}, names=_NAME
    ),
    ("PUT", "/accounts/{name}/totp"): Row(what="totp_set", roles=CHIEFS, json={"wanted": True}, names=_NAME),
    ("PUT", "/accounts/{name}/oidc"): Row(
        what="oidc_subject_set", roles=CHIEFS, json={"subject": "sub-17"}, names=_NAME
    ),
    ("GET", "/accounts/{name}/tokens"): Row(what="tokens_listed", roles=CHIEFS, names=_NAME),
    ("POST", "/accounts/{name}/tokens"): Row(
        what="token_added", roles=CHIEFS, json={"label": "backup", "scopes": ["search"]}, names=_NAME
    ),
    ("DELETE", "/tokens/{token_id}"): Row(what="token_revoked", roles=CHIEFS, names={"token_id": "0" * 16}),
    ("GET", "/groups"): Row(what="groups_listed", roles=CHIEFS),
    ("PUT", "/groups/{group}"): Row(
        what="group_set", roles=CHIEFS, json={"queues": ["rec-1:q2"]}, names={"group": "support"}
    ),
}
ELSEWHERE = """
[mirror]
url = "file://{folder}/copy"
[[deliveries]]
name = "customer"
host = "127.0.0.1"
port = 9
user = "recordings"
folder = "/recordings"
key_file = "recorder.key.pem"
host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq4Nn5Kk1rQ0tY0ZkXbTn5wq6p1g0m2c8u5sX9y3vZb"
"""
OPEN = {  # nobody needs an account for these; each has tests of its own
    ("POST", "/session"),
    ("POST", "/shared/{share_id}/audio"),
    ("GET", "/session/oidc"),
    ("GET", "/session/oidc/return"),
}
OWN_SESSION = {("GET", "/session"), ("DELETE", "/session")}  # whoever is known


def routes() -> Iterator[tuple[str, str, APIRoute]]:
    """Give method, path and route of every endpoint."""
    for part in PARTS:
        for route in part.routes:
            assert isinstance(route, APIRoute), f"{route} is no endpoint of ours"
            for method in sorted(route.methods):
                yield method, route.path, route


def gate_of(route: APIRoute) -> Any:
    """Find what stands before an endpoint."""
    calls = [dependency.call for dependency in route.dependant.dependencies]
    gates = [call for call in calls if isinstance(call, RecordingGate | HouseGate | OpenGate)]
    return gates[0] if gates else next((call for call in calls if call is identity_of), None)


@pytest.fixture(scope="module")
def archive() -> Iterator[WebArchive]:
    with quick_folder() as folder:  # a thousand rows of the audit log are synced here
        (folder / "copy").mkdir()
        archive = WebArchive(folder, extra=ELSEWHERE.format(folder=folder))
        archive.add_accounts()
        with archive.at_work():
            archive.ended(archive.chief().post(f"{PREFIX}/fsck"))  # job 1
            yield archive


@pytest.fixture(scope="module")
def recordings(archive: WebArchive) -> dict[tuple[str, bool], Entry]:
    return {
        (place, apart): archive.record(place, tags=("restricted",) if apart else ())
        for place in ("own", "group", "queue", "site", "foreign")
        for apart in (False, True)
        if not (apart and place == "queue")
    }


def test_every_endpoint_has_a_row_here_and_a_gate(archive: WebArchive) -> None:
    found = {(method, path): gate_of(route) for method, path, route in routes()}
    assert set(found) == set(ROWS) | OPEN | OWN_SESSION
    paths = archive.app.openapi()["paths"].items()
    described = {(method.upper(), path.removeprefix(PREFIX)) for path, works in paths for method in works}
    assert set(found) == described  # none was added beside the parts
    for key, gate in found.items():
        assert gate is not None, f"{key} has no gate"
        assert isinstance(gate, OpenGate) == (key in OPEN), key
        if key in ROWS:
            kind = RecordingGate if ROWS[key].places is not None else HouseGate
            assert isinstance(gate, kind), key


@pytest.mark.parametrize("key", [key for key, row in ROWS.items() if row.places is not None], ids=" ".join)
def test_who_may_do_what_with_which_recording(
    archive: WebArchive, recordings: dict[tuple[str, bool], Entry], key: tuple[str, str]
) -> None:
    row = ROWS[key]
    assert row.places is not None
    for role in ROLES:
        for (place, apart), shared in recordings.items():
            near = row.places.get(role, {}).get(place, NO)
            for second in (False, True) if apart else (False,):
                wanted = near if not apart or near == NO else (WHY if second else NO)
                entry = shared
                if key[1].endswith(("/erase", "/anonymise")) and wanted != NO:  # which is done once only
                    entry = archive.record(place, tags=("restricted",) if apart else ())
                told = f"{role} {place} apart={apart} second={second}: {wanted}"
                if wanted == WHY:
                    assert _ask(archive, key, row, entry, role, second) == "reason-wanted", told
                    _see_row(archive, row, entry, role, second, "refused", told)
                reason = "complaint 17" if wanted == WHY else ""
                answer = _ask(archive, key, row, entry, role, second, reason=reason)
                assert answer in (("refused", "unknown") if wanted == NO else ("",)), f"{told}, not {answer}"
                outcome = "refused" if wanted == NO else "done"
                _see_row(archive, row, entry, role, second, outcome, told, reason=reason)


@pytest.mark.parametrize("key", [key for key, row in ROWS.items() if row.roles is not None], ids=" ".join)
def test_who_may_do_what_in_the_house(archive: WebArchive, key: tuple[str, str]) -> None:
    row = ROWS[key]
    assert row.roles is not None
    for role in ROLES:
        name, client = role.value, archive.known(role)
        is_of_some = row.whole and role is Role.ADMINISTRATOR  # who reaches some recorders only
        is_let_in = role in row.roles and not is_of_some
        if row.wants_reason and role in row.roles:
            response = _ask_house(archive.chief() if is_of_some else client, key, row)
            assert (response.status_code, problem(response)) == (403, "reason-wanted"), role
            assert (archive.newest().what, archive.newest().outcome) == (row.what, "refused"), role
        response = _ask_house(client, key, row, reason="request 17")
        if role in row.roles and is_of_some:  # is refused as anybody
            assert (response.status_code, problem(response)) == (403, "refused"), role
            name, response, is_let_in = "chief", _ask_house(archive.chief(), key, row, reason="x"), True
        newest = archive.newest() if not (row.job and is_let_in) else _begun(archive, row, response, name)
        assert newest.who == f"token:{name}/test", role
        path = key[1].format(**row.names)
        if not is_let_in:
            assert (response.status_code, problem(response)) == (403, "refused"), role
            assert (newest.what, newest.outcome) == (_refused_word(key, row), "refused"), role
        elif "0" * 16 in path or str(2**53) in path:  # there is none, which only who may ask is told
            assert (response.status_code, problem(response)) == (404, "unknown"), role
            assert (newest.what, newest.outcome) == (row.what, "refused"), role
        else:
            assert response.is_success, (role, response.text)
            what = "subject_access_sent" if key[1].endswith("/bundle") else row.what
            assert (newest.what, newest.outcome, newest.address) == (what, "done", "192.0.2.7"), role


@pytest.mark.parametrize("key", [*ROWS, *sorted(OWN_SESSION)], ids=" ".join)
def test_nobody_gets_anything_without_an_account(archive: WebArchive, key: tuple[str, str]) -> None:
    names = {
        "recorder_id": "rec-1",
        "recording_id": "x",
        "name": "x",
        "tag": "x",
        "group": "x",
        "number": "1",
    }
    path = PREFIX + key[1].format(**names, share_id="0" * 16, token_id="0" * 16)
    row = ROWS.get(key)
    for token in ("", "rat_0000000000000000_x"):
        body = {"json": row.json, "content": row.content} if row else {}
        response = archive.client(token).request(key[0], path, **body)
        assert (response.status_code, problem(response)) == (401, "who-are-you")


def _begun(archive: WebArchive, row: Row, response: Any, name: str) -> AuditRow:
    """Wait for a job; see that its end is in the audit log, and give the row of its begin."""
    told = archive.ended(response)
    assert (told["work"], told["who"]) == (row.job, f"token:{name}/test")
    (end,) = archive.desk.audit_log.rows(AuditFilter(what=f"{row.job}_ended"), limit=1)
    assert (end.who, end.subject, end.address) == (told["who"], f"job {told['number']}", "192.0.2.7")
    assert end.outcome == ("done" if told["state"] == "done" else "failed")
    (begin,) = archive.desk.audit_log.rows(AuditFilter(what=row.what, outcome="done"), limit=1)
    assert begin.subject == end.subject
    return begin


def _ask_house(client: TestClient, key: tuple[str, str], row: Row, *, reason: str = "") -> Any:
    path = f"{PREFIX}{key[1].format(**row.names)}?{row.query}".removesuffix("?")
    headers = {"X-Reason": reason} if reason else {}
    return client.request(key[0], path, json=row.json, content=row.content, headers=headers)


def _refused_word(key: tuple[str, str], row: Row) -> str:
    return "account_disabled" if key[1].endswith("/disabled") else row.what


def _ask(
    archive: WebArchive,
    key: tuple[str, str],
    row: Row,
    entry: Entry,
    role: Role,
    second: bool,
    *,
    reason: str = "",
) -> str:
    names = dict(row.names)
    if names.get("name") == "MANIFEST":
        names["name"] = f"{entry.id}.manifest.json"
    if "number" in names:
        names["number"] = str(_hold(archive, entry))
    path = PREFIX + key[1].format(recorder_id=entry.recorder_id, recording_id=entry.id, **names)
    headers = {"X-Reason": reason} if reason else {}
    response = archive.known(role, second=second).request(key[0], path, json=row.json, headers=headers)
    return "" if response.is_success else problem(response)


def _see_row(
    archive: WebArchive,
    row: Row,
    entry: Entry,
    role: Role,
    second: bool,
    outcome: str,
    told: str,
    *,
    reason: str = "",
) -> None:
    newest = archive.newest()
    who = f"token:{role.value}{'-cleared' if second else ''}/test"
    assert (newest.who, newest.what, newest.outcome, newest.reason) == (who, row.what, outcome, reason), told
    assert entry.id in f"{newest.subject} {newest.detail}", told


def _hold(archive: WebArchive, entry: Entry) -> int:
    """Put a recording on hold, unless it is; give the hold's number."""
    holds, selection = archive.desk.keeping.holds, Selection(recording_id=entry.id)
    for hold in holds.listed():
        if hold.selection == selection and not hold.released_at:
            return hold.number
    return holds.add(
        selection, reason="a test", until="", who=ROOT, now_utc="2026-11-28T00:00:00.000Z"
    ).number
