"""The audit log, accounts and share links behave the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from recorderd.app.archive_audit import audit_findings
from recorderd.archive.accounts import Accounts, Reaching
from recorderd.archive.audit_heads import AuditHeads
from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.database import Database
from recorderd.archive.shares import Shares
from recorderd.archive.sign_in import SignIn
from recorderd.core.clock import SystemClock
from recorderd.core.errors import CatalogueFailed, ShareRefused, SignInRefused
from recorderd.evidence.verify import TrustStore
from recorderd.policy.access import Action, Role
from tests.support.audit_logs import ALICE, open_log
from tests.support.bundles import make_signer
from tests.support.catalogues import entry

ROOT = Actor(name="cli:root")
PASSWORD = "correct horse battery"


def at_once(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_two_front_ends_write_one_log_without_gap_or_double(catalogue_url: str) -> None:
    open_log(catalogue_url)
    front_ends = [open_log(catalogue_url)[1] for _ in range(2)]

    def write(number: int) -> None:
        for _ in range(5):
            front_ends[number % 2].note(Actor(name=f"cli:{number}"), "searched", "é ☎")

    at_once(4, write)
    database, log = open_log(catalogue_url)
    assert [row.number for row in log.after(0, limit=100)] == list(range(1, 21))
    assert list(audit_findings(database, TrustStore([]))) == []


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET who = 'x'", "DELETE FROM audit", "DELETE FROM audit_heads"]
)
def test_the_database_refuses_to_change_the_log(catalogue_url: str, statement: str, tmp_path: Path) -> None:
    database, log = open_log(catalogue_url, rows=2)
    signer, clock = make_signer(tmp_path, "archive"), SystemClock()
    heads = AuditHeads(database, log, archive_id="arc-1", signer=signer, clock=clock)
    heads.state("stop")
    refusal = pytest.raises(CatalogueFailed, match=r"append-only|permission denied")
    with refusal, database.write() as connection:
        connection.exec_driver_sql(statement)
    trust = TrustStore.from_files([tmp_path / "archive.cert.pem"])
    assert list(audit_findings(database, trust)) == []
    assert len(log.rows()) == 2


def test_a_truncated_log_is_refused_or_found(catalogue_url: str, tmp_path: Path) -> None:
    database, log = open_log(catalogue_url, rows=2)
    signer, clock = make_signer(tmp_path, "archive"), SystemClock()
    AuditHeads(database, log, archive_id="arc-1", signer=signer, clock=clock).state("stop")
    with database.write() as connection:  # as the owner of the tables may
        if database.is_sqlite:
            connection.exec_driver_sql("DROP TRIGGER audit_no_delete")
        else:
            connection.exec_driver_sql("DROP TRIGGER audit_no_change ON audit")
            connection.exec_driver_sql("GRANT DELETE ON audit TO CURRENT_USER")
        connection.exec_driver_sql("DELETE FROM audit WHERE number = 2")
    trust = TrustStore.from_files([tmp_path / "archive.cert.pem"])
    (finding,) = audit_findings(database, trust)
    assert (finding.subject, finding.reason) == ("audit row 2", "is missing: head 1 signed for it")


def test_accounts_tokens_and_sessions(catalogue_url: str) -> None:
    database, log = open_log(catalogue_url)
    clock = SystemClock()
    accounts = Accounts(database, log, clock=clock)
    accounts.add(ROOT, "alice", Role.SUPERVISOR, Reaching(extensions=("100",), groups=("sales",)))
    accounts.set_group(ROOT, "sales", extensions=["200"], queues=["q"])
    accounts.set_password(ROOT, "alice", PASSWORD)
    door = SignIn(database, accounts, log, clock=clock, session_idle_s=60, session_max_s=60)
    session = door.by_password("alice", PASSWORD, code="", address="")
    viewer = door.by_session(session.secret, address="").viewer
    assert (viewer.extensions, viewer.group_extensions, viewer.group_queues) == ({"100"}, {"200"}, {"q"})
    token, text = accounts.add_token(ROOT, "alice", name="t", scopes=[Action.SEARCH], days=1)
    assert door.by_token(text, address="").viewer.scopes == {Action.SEARCH}
    accounts.revoke_token(ROOT, token.id)
    accounts.set_disabled(ROOT, "alice", disabled=True)
    for refused in (
        lambda: door.by_token(text, address=""),
        lambda: door.by_session(session.secret, address=""),
    ):
        with pytest.raises(SignInRefused):
            refused()
    assert list(audit_findings(database, TrustStore([]))) == []


def test_a_share_link_is_used_as_often_as_it_says_by_two_front_ends(catalogue_url: str) -> None:
    database, log = open_log(catalogue_url)
    other = Database(catalogue_url)
    clock = SystemClock()
    front_ends = [Shares(one, AuditLog(one, clock=clock), clock=clock) for one in (database, other)]
    share, secret = front_ends[0].add(
        ALICE, entry(1), passphrase="between us two", hours=1, uses=2, reason="asked for"
    )
    outcomes: list[str] = []

    def use(number: int) -> None:
        try:
            front_ends[number % 2].use(share.id, secret, "between us two", address="")
            outcomes.append("used")
        except ShareRefused:
            outcomes.append("refused")

    at_once(4, use)
    assert sorted(outcomes) == ["refused", "refused", "used", "used"]
    told = [row.outcome for row in log.after(0, limit=100) if row.what == "share_used"]
    assert sorted(told) == ["done", "done", "refused", "refused"]
