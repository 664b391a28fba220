"""Accounts and the door: what lets in, what does not, and what a guesser meets."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pyotp
import pytest

from recorderd.archive.accounts import Accounts, Reaching
from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.database import Database
from recorderd.archive.migrations import migrate
from recorderd.archive.secrets_of_people import TOTP_PERIOD_S
from recorderd.archive.sign_in import SignIn
from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import (
    AccountRefused,
    AccountUnknown,
    CodeWanted,
    PasswordUnfit,
    SignInLocked,
    SignInRefused,
)
from recorderd.policy.access import Action, Role
from recorderd.policy.lockout import FREE_FAILURES

ROOT = Actor(name="cli:root")
PASSWORD = "correct horse battery"


@dataclass
class SetClock:
    """A clock that a test sets."""

    utc_s: int = 1_800_000_000

    def mono_ns(self) -> int:
        return self.utc_s * NS_PER_S

    def utc_ns(self) -> int:
        return self.utc_s * NS_PER_S


@dataclass
class Door:
    """Accounts of one archive with a door and a clock."""

    url: str
    clock: SetClock = field(default_factory=SetClock)

    def __post_init__(self) -> None:
        self.database = Database(self.url)
        migrate(self.database)
        self.log = AuditLog(self.database, clock=self.clock)
        self.accounts = Accounts(self.database, self.log, clock=self.clock)
        self.sign_in = SignIn(
            self.database,
            self.accounts,
            self.log,
            clock=self.clock,
            session_idle_s=1800,
            session_max_s=43_200,
        )
        self.accounts.add(ROOT, "alice", Role.USER, Reaching(extensions=("100",)))
        self.accounts.set_password(ROOT, "alice", PASSWORD)

    def enter(self, password: str = PASSWORD, *, code: str = "", name: str = "alice") -> str:
        return self.sign_in.by_password(name, password, code=code, address="192.0.2.7").secret

    def told(self) -> list[tuple[str, str, str]]:
        """What the log says of coming in, oldest first."""
        rows = [row for row in self.log.after(0, limit=1000) if row.what == "signed_in"]
        return [(row.who, row.outcome, row.detail) for row in rows]


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(f"sqlite:///{tmp_path / 'c.sqlite3'}")


def test_who_knows_the_password_comes_in_and_is_known_by_the_session(door: Door) -> None:
    identity = door.sign_in.by_session(door.enter(), address="192.0.2.8")
    assert (identity.account, identity.actor.name, identity.actor.address) == (
        "alice",
        "account:alice",
        "192.0.2.8",
    )
    assert identity.viewer.extensions == {"100"}
    assert door.told() == [("account:alice", "done", "password")]


def test_a_wrong_password_and_an_unknown_name_are_refused_alike_and_noted(door: Door) -> None:
    for name in ("alice", "nobody", "x" * 5000, "'; DROP TABLE accounts; --"):
        with pytest.raises(SignInRefused):
            door.enter("wrong", name=name)
    assert [row[1] for row in door.told()] == ["refused"] * 4


def test_no_password_and_no_secret_stands_in_the_database(door: Door, tmp_path: Path) -> None:
    secret = door.enter()
    _, token = door.accounts.add_token(ROOT, "alice", name="backup", scopes=[Action.SEARCH], days=1)
    door.database.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for text in (PASSWORD, secret, token.rpartition("_")[2]):
        assert text.encode() not in content


def test_a_guesser_waits_longer_and_longer_and_then_so_does_the_right_password(door: Door) -> None:
    for _ in range(FREE_FAILURES):
        with pytest.raises(SignInRefused):
            door.enter("wrong")
    with pytest.raises(SignInLocked) as first:
        door.enter()
    door.clock.utc_s += 16
    with pytest.raises(SignInRefused):
        door.enter("wrong")
    with pytest.raises(SignInLocked) as second:
        door.enter()
    assert int(str(second.value.fields["wait_s"])) > int(str(first.value.fields["wait_s"]))
    door.clock.utc_s += 1000
    assert door.enter()
    for _ in range(FREE_FAILURES - 1):  # the count began anew
        with pytest.raises(SignInRefused):
            door.enter("wrong")
    assert door.enter()


def test_a_hundred_guesses_at_once_are_no_way_around_the_wait(door: Door) -> None:
    outcomes: list[type[BaseException]] = []

    def guess() -> None:
        try:
            door.enter("wrong")
        except SignInRefused as problem:
            outcomes.append(type(problem))

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(SignInRefused) == FREE_FAILURES
    assert outcomes.count(SignInLocked) == 20 - FREE_FAILURES


def test_a_code_is_wanted_and_counts_once(door: Door) -> None:
    generator = pyotp.TOTP(door.accounts.set_totp(ROOT, "alice"))
    with pytest.raises(CodeWanted):
        door.enter()
    with pytest.raises(SignInRefused, match="wrong code"):
        door.enter(code="000000" if generator.at(door.clock.utc_s) != "000000" else "000001")
    code = generator.at(door.clock.utc_s)
    assert door.enter(code=code)
    with pytest.raises(SignInRefused, match="used already"):
        door.enter(code=code)
    door.clock.utc_s += TOTP_PERIOD_S
    with pytest.raises(SignInRefused, match="used already"):  # still good by its time
        door.enter(code=code)
    assert door.enter(code=generator.at(door.clock.utc_s))
    door.clock.utc_s += 10 * TOTP_PERIOD_S
    with pytest.raises(SignInRefused, match="wrong code"):
        door.enter(code=generator.at(door.clock.utc_s - 5 * TOTP_PERIOD_S))


def test_a_session_ends_when_idle_when_old_and_when_left(door: Door) -> None:
    idle = door.enter()
    door.clock.utc_s += 1801
    with pytest.raises(SignInRefused):
        door.sign_in.by_session(idle, address="")
    used = door.enter()
    for _ in range(43_200 // 1500):
        door.clock.utc_s += 1500
        try:
            door.sign_in.by_session(used, address="")
        except SignInRefused:
            break
    door.clock.utc_s += 1500
    with pytest.raises(SignInRefused):
        door.sign_in.by_session(used, address="")
    left = door.enter()
    door.sign_in.leave(left, Actor(name="account:alice"), "alice")
    with pytest.raises(SignInRefused):
        door.sign_in.by_session(left, address="")


def test_a_clock_that_was_years_ahead_leaves_no_endless_session_and_no_endless_wait(door: Door) -> None:
    generator = pyotp.TOTP(door.accounts.set_totp(ROOT, "alice"))
    door.clock.utc_s += 10 * 365 * 86_400
    session = door.enter(code=generator.at(door.clock.utc_s))
    for _ in range(FREE_FAILURES):
        with pytest.raises(SignInRefused):
            door.enter("wrong")
    with pytest.raises(SignInLocked):
        door.enter()
    door.clock.utc_s -= 10 * 365 * 86_400
    with pytest.raises(SignInRefused, match="has ended"):
        door.sign_in.by_session(session, address="")
    code = generator.at(door.clock.utc_s)
    assert door.enter(code=code)
    with pytest.raises(SignInRefused, match="used already"):
        door.enter(code=code)


@pytest.mark.parametrize("how", ["disable", "password", "role"])
def test_what_takes_rights_away_ends_the_sessions(door: Door, how: str) -> None:
    session = door.enter()
    if how == "disable":
        door.accounts.set_disabled(ROOT, "alice", disabled=True)
    elif how == "password":
        door.accounts.set_password(ROOT, "alice", "another horse battery")
    else:
        door.accounts.change(ROOT, "alice", Role.AUDITOR, Reaching(), second_right=False)
    with pytest.raises(SignInRefused):
        door.sign_in.by_session(session, address="")
    if how == "disable":
        with pytest.raises(SignInRefused):
            door.enter()


def test_a_token_opens_with_its_scopes_until_it_ends_or_is_revoked(door: Door) -> None:
    token, text = door.accounts.add_token(
        ROOT, "alice", name="backup", scopes=[Action.SEARCH, Action.VIEW], days=1
    )
    identity = door.sign_in.by_token(text, address="192.0.2.9")
    assert identity.viewer.scopes == {Action.SEARCH, Action.VIEW}
    assert identity.actor.name == "token:alice/backup"
    for wrong in (text[:-1] + ("A" if text[-1] != "A" else "B"), f"rat_{token.id}_", "", "rat__", "x" * 9999):
        with pytest.raises(SignInRefused):
            door.sign_in.by_token(wrong, address="")
    door.accounts.set_disabled(ROOT, "alice", disabled=True)
    with pytest.raises(SignInRefused, match="disabled"):
        door.sign_in.by_token(text, address="")
    door.accounts.set_disabled(ROOT, "alice", disabled=False)
    door.clock.utc_s += 86_401
    with pytest.raises(SignInRefused, match="has ended"):
        door.sign_in.by_token(text, address="")
    door.accounts.revoke_token(ROOT, token.id)
    with pytest.raises(SignInRefused, match="no such token"):
        door.sign_in.by_token(text, address="")


def test_groups_make_what_a_supervisor_reaches(door: Door) -> None:
    door.accounts.add(ROOT, "bob", Role.SUPERVISOR, Reaching(groups=("sales",)))
    door.accounts.set_group(ROOT, "sales", extensions=["200", "rec-2:300"], queues=["q1"])
    viewer = door.accounts.viewer("bob")
    assert (viewer.group_extensions, viewer.group_queues) == ({"200", "rec-2:300"}, {"q1"})
    door.accounts.set_group(ROOT, "sales")
    assert door.accounts.viewer("bob").group_extensions == frozenset()


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaaaa", "my name is Alice!", "x" * 10_000])
def test_a_bad_password_is_not_taken(door: Door, password: str) -> None:
    with pytest.raises(PasswordUnfit):
        door.accounts.set_password(ROOT, "alice", password)
    assert door.enter()


def test_accounts_are_refused_for_what_is_wrong_with_them(door: Door) -> None:
    for name in ("alice", "", "../etc", "Ünal", "a b", "x" * 65):
        with pytest.raises(AccountRefused):
            door.accounts.add(ROOT, name, Role.USER, Reaching())
    with pytest.raises(AccountRefused):
        door.accounts.add(ROOT, "bob", Role.USER, Reaching(extensions=("1 00",)))
    with pytest.raises(AccountUnknown):
        door.accounts.set_password(ROOT, "nobody", PASSWORD)
    with pytest.raises(AccountRefused):
        door.accounts.add_token(ROOT, "alice", name="x", scopes=[], days=1)
    assert [account.name for account in door.accounts.all()] == ["alice"]


def test_every_change_of_an_account_is_in_the_log(door: Door) -> None:
    door.accounts.set_totp(ROOT, "alice")
    door.accounts.set_totp(ROOT, "alice", wanted=False)
    door.accounts.set_disabled(ROOT, "alice", disabled=True)
    door.accounts.set_group(ROOT, "sales", extensions=["200"])
    done = [(row.who, row.what) for row in door.log.after(0, limit=100)]
    assert done == [
        ("cli:root", what)
        for what in (
            *("account_added", "password_set", "totp_set", "totp_removed"),
            *("account_disabled", "group_set"),
        )
    ]
