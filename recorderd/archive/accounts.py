"""Accounts: who may come in, as what, and how far they reach; groups of extensions and queues; API tokens.

Contract: every change is one transaction with its row in the audit log; what takes rights away (disabling, a
new password, another role) ends the account's sessions in the same transaction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, Table, delete, select, update

from recorderd.archive.accounts_tables import ACCOUNT_REACH, ACCOUNTS, API_TOKENS, GROUP_MEMBERS, SESSIONS
from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.database import Database
from recorderd.archive.secrets_of_people import (
    check_password_fit,
    fingerprint_of,
    hash_password,
    new_id,
    new_secret,
    new_totp_secret,
)
from recorderd.core.clock import NS_PER_S, Clock, utc_text
from recorderd.core.errors import AccountRefused, AccountUnknown
from recorderd.policy.access import Action, Role, Viewer

TOKEN_PREFIX: Final = "rat"  # recorder-archive token: scanners for secrets look for such
DAY_S: Final = 86_400
LONGEST_TOKEN_DAYS: Final = 3650
EVERY_RECORDER: Final = "*"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_PLACE: Final = re.compile(
    r"[^\s,\x00-\x1f\x7f\ud800-\udfff]{1,128}"
)  # an extension, queue, group or recorder
KINDS: Final = ("extension", "group", "recorder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account, without its secrets."""

    name: str
    role: Role
    disabled: bool
    second_right: bool
    has_password: bool
    has_totp: bool
    oidc_subject: str
    created_at: str
    extensions: tuple[str, ...]
    groups: tuple[str, ...]
    recorders: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One API token, without its secret."""

    id: str
    account: str
    name: str
    scopes: tuple[Action, ...]
    expires_utc_s: int
    created_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaching:
    """What an account is to reach."""

    extensions: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    recorders: tuple[str, ...] = ()

    def rows(self) -> list[tuple[str, str]]:
        """Give kind and name of each, checked.

        Errors: AccountRefused.
        """
        pairs = zip(KINDS, (self.extensions, self.groups, self.recorders), strict=True)
        return [(kind, _place(name)) for kind, names in pairs for name in dict.fromkeys(names)]


def is_account_name(name: str) -> bool:
    """Tell whether a text may be the name of an account."""
    return _NAME.fullmatch(name) is not None


class Accounts:
    """The accounts of one archive.

    Thread: any.
    Errors: CatalogueFailed; AccountUnknown and AccountRefused where they say.
    """

    def __init__(self, database: Database, audit_log: AuditLog, *, clock: Clock) -> None:
        self._database = database
        self._audit_log = audit_log
        self._clock = clock

    # --- reading ------------------------------------------------------------------------------------

    def all(self) -> list[Account]:
        """Return every account, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(ACCOUNTS).order_by(ACCOUNTS.c.name)).mappings().all()
            reach = _reach_of_all(connection)
        return [_account(row, reach.get(row["name"], [])) for row in rows]

    def find(self, name: str) -> Account:
        """Return one account.

        Errors: AccountUnknown.
        """
        with self._database.read() as connection:
            return find_account(connection, name)

    def is_known(self, name: str) -> bool:
        """Tell whether there is an account of this name."""
        with self._database.read() as connection:
            return (
                connection.execute(select(ACCOUNTS.c.name).where(ACCOUNTS.c.name == name)).first() is not None
            )

    def viewer(self, name: str, *, scopes: Iterable[Action] | None = None) -> Viewer:
        """Say what an account's rights depend on.

        Errors: AccountUnknown.
        """
        with self._database.read() as connection:
            account = find_account(connection, name)
            members = _members_of(connection, account.groups)
        return Viewer(
            role=account.role,
            extensions=frozenset(account.extensions),
            group_extensions=frozenset(number for kind, number in members if kind == "extension"),
            group_queues=frozenset(number for kind, number in members if kind == "queue"),
            recorders=frozenset(account.recorders) - {EVERY_RECORDER},
            all_recorders=EVERY_RECORDER in account.recorders,
            second_right=account.second_right,
            scopes=frozenset(Action) if scopes is None else frozenset(scopes),
        )

    def groups(self) -> dict[str, list[tuple[str, str]]]:
        """Return kind and number of every group's members."""
        found: dict[str, list[tuple[str, str]]] = {}
        order = (GROUP_MEMBERS.c.group_name, GROUP_MEMBERS.c.kind, GROUP_MEMBERS.c.name)
        with self._database.read() as connection:
            for row in connection.execute(select(GROUP_MEMBERS).order_by(*order)):
                found.setdefault(row.group_name, []).append((row.kind, row.name))
        return found

    def tokens(self, account: str = "") -> list[Token]:
        """Return the tokens of one account, or of all."""
        query = select(API_TOKENS).order_by(API_TOKENS.c.account, API_TOKENS.c.created_at, API_TOKENS.c.id)
        if account:
            query = query.where(API_TOKENS.c.account == account)
        with self._database.read() as connection:
            return [token_of(row) for row in connection.execute(query).mappings()]

    # --- changing -----------------------------------------------------------------------------------

    def add(
        self, who: Actor, name: str, role: Role, reaching: Reaching, *, second_right: bool = False
    ) -> Account:
        """Make an account, without a password yet.

        Errors: AccountRefused when the name is taken or none.
        """
        if not is_account_name(name):
            reason = "a name is 1 to 64 of a-z, 0-9, dot, @, - and _, the first a letter or digit"
            raise AccountRefused(account=name, reason=reason)
        reach = reaching.rows()
        with self._database.write() as connection:
            if connection.execute(select(ACCOUNTS.c.name).where(ACCOUNTS.c.name == name)).first():
                raise AccountRefused(account=name, reason="there is one of this name")
            values = {
                **{"name": name, "role": role.value, "disabled": False, "second_right": second_right},
                **{"password_hash": "", "totp_secret": "", "totp_step": 0, "failures": 0},
                **{"locked_until_utc_s": 0, "oidc_subject": ""},
                "created_at": utc_text(self._clock.utc_ns()),
            }
            connection.execute(ACCOUNTS.insert().values(**values))
            _put_reach(connection, name, reach)
            detail = _told(role, reach, second_right)
            self._audit_log.note(who, "account_added", name, detail=detail, connection=connection)
            return find_account(connection, name)

    def change(self, who: Actor, name: str, role: Role, reaching: Reaching, *, second_right: bool) -> Account:
        """Give an account another role and reach; its sessions end.

        Errors: AccountUnknown, AccountRefused.
        """
        reach = reaching.rows()
        with self._database.write() as connection:
            _set(connection, name, role=role.value, second_right=second_right)
            connection.execute(delete(ACCOUNT_REACH).where(ACCOUNT_REACH.c.account == name))
            _put_reach(connection, name, reach)
            _end_sessions(connection, name)
            detail = _told(role, reach, second_right)
            self._audit_log.note(who, "account_changed", name, detail=detail, connection=connection)
            return find_account(connection, name)

    def set_disabled(self, who: Actor, name: str, *, disabled: bool) -> None:
        """Shut an account or open it again; its sessions end, its tokens do not count while it is shut.

        Errors: AccountUnknown.
        """
        what = "account_disabled" if disabled else "account_enabled"
        with self._database.write() as connection:
            _set(connection, name, disabled=disabled, failures=0, locked_until_utc_s=0)
            _end_sessions(connection, name)
            self._audit_log.note(who, what, name, connection=connection)

    def set_password(self, who: Actor, name: str, password: str) -> None:
        """Give an account a password; its sessions end.

        Errors: AccountUnknown, PasswordUnfit.
        """
        check_password_fit(password, account=name)
        password_hash = hash_password(password)
        with self._database.write() as connection:
            _set(connection, name, password_hash=password_hash, failures=0, locked_until_utc_s=0)
            _end_sessions(connection, name)
            self._audit_log.note(who, "password_set", name, connection=connection)

    def set_totp(self, who: Actor, name: str, *, wanted: bool = True) -> str:
        """Give an account a new TOTP seed, or none; return it.

        Errors: AccountUnknown.
        """
        secret = new_totp_secret() if wanted else ""
        with self._database.write() as connection:
            _set(connection, name, totp_secret=secret, totp_step=0)
            what = "totp_set" if wanted else "totp_removed"
            self._audit_log.note(who, what, name, connection=connection)
        return secret

    def set_oidc_subject(self, who: Actor, name: str, subject: str) -> None:
        """Say whom an account is at the OpenID provider; empty = nobody.

        Errors: AccountUnknown, AccountRefused when another account is that person.
        """
        with self._database.write() as connection:
            taken = select(ACCOUNTS.c.name).where(ACCOUNTS.c.oidc_subject == subject, ACCOUNTS.c.name != name)
            if subject and connection.execute(taken).first():
                raise AccountRefused(account=name, reason="another account is that person")
            _set(connection, name, oidc_subject=subject)
            self._audit_log.note(who, "oidc_subject_set", name, detail=subject, connection=connection)

    def set_group(
        self, who: Actor, group: str, *, extensions: Sequence[str] = (), queues: Sequence[str] = ()
    ) -> None:
        """Say who belongs to a group; nobody = there is no such group any more.

        Errors: AccountRefused.
        """
        kinds = (("extension", extensions), ("queue", queues))
        rows = [(kind, _place(name)) for kind, names in kinds for name in dict.fromkeys(names)]
        with self._database.write() as connection:
            connection.execute(delete(GROUP_MEMBERS).where(GROUP_MEMBERS.c.group_name == _place(group)))
            for kind, name in rows:
                row = {"group_name": group, "kind": kind, "name": name}
                connection.execute(GROUP_MEMBERS.insert().values(**row))
            detail = " ".join(f"{kind}={name}" for kind, name in rows)
            self._audit_log.note(who, "group_set", group, detail=detail, connection=connection)

    def add_token(
        self, who: Actor, account: str, *, name: str, scopes: Sequence[Action], days: int
    ) -> tuple[Token, str]:
        """Make an API token; return it, and the text that opens, which is told this once.

        Errors: AccountUnknown, AccountRefused.
        """
        if not scopes:
            raise AccountRefused(account=account, reason="a token needs at least one scope")
        if not 1 <= days <= LONGEST_TOKEN_DAYS:
            reason = f"a token is good for 1 to {LONGEST_TOKEN_DAYS} days"
            raise AccountRefused(account=account, reason=reason)
        now_ns, secret, token_id = self._clock.utc_ns(), new_secret(), new_id()
        words = sorted({Action(scope).value for scope in scopes})
        row = {
            **{"id": token_id, "account": account, "name": _place(name)},
            **{"secret_sha256": fingerprint_of(secret), "scopes": " ".join(words)},
            **{"expires_utc_s": now_ns // NS_PER_S + days * DAY_S, "created_at": utc_text(now_ns)},
        }
        with self._database.write() as connection:
            find_account(connection, account)
            connection.execute(API_TOKENS.insert().values(**row))
            detail = f"{name} for {days} days: {' '.join(words)}"
            self._audit_log.note(
                who, "token_added", f"{account}/{token_id}", detail=detail, connection=connection
            )
        return token_of(row), f"{TOKEN_PREFIX}_{token_id}_{secret}"

    def revoke_token(self, who: Actor, token_id: str) -> None:
        """Make a token worthless.

        Errors: AccountUnknown when there is no such token.
        """
        with self._database.write() as connection:
            query = select(API_TOKENS.c.account).where(API_TOKENS.c.id == token_id)
            account = connection.execute(query).scalar()
            if account is None:
                raise AccountUnknown(account=f"token {token_id}")
            connection.execute(delete(API_TOKENS).where(API_TOKENS.c.id == token_id))
            self._audit_log.note(who, "token_revoked", f"{account}/{token_id}", connection=connection)


def find_account(connection: Connection, name: str) -> Account:
    """Return one account.

    Errors: AccountUnknown.
    """
    row = connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.name == name)).mappings().first()
    if row is None:
        raise AccountUnknown(account=name)
    query = select(ACCOUNT_REACH).where(ACCOUNT_REACH.c.account == name).order_by(ACCOUNT_REACH.c.name)
    return _account(row, [(reach.kind, reach.name) for reach in connection.execute(query)])


def token_of(row: RowMapping | dict[str, Any]) -> Token:
    """Make a token of its row."""
    return Token(
        id=row["id"],
        account=row["account"],
        name=row["name"],
        scopes=tuple(Action(word) for word in row["scopes"].split()),
        expires_utc_s=int(row["expires_utc_s"]),
        created_at=row["created_at"],
    )


def _account(row: RowMapping, reach: Sequence[tuple[str, str]]) -> Account:
    names = {kind: tuple(name for one, name in reach if one == kind) for kind in KINDS}
    return Account(
        name=row["name"],
        role=Role(row["role"]),
        disabled=bool(row["disabled"]),
        second_right=bool(row["second_right"]),
        has_password=bool(row["password_hash"]),
        has_totp=bool(row["totp_secret"]),
        oidc_subject=row["oidc_subject"],
        created_at=row["created_at"],
        extensions=names["extension"],
        groups=names["group"],
        recorders=names["recorder"],
    )


def _reach_of_all(connection: Connection) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for row in connection.execute(select(ACCOUNT_REACH).order_by(ACCOUNT_REACH.c.name)):
        found.setdefault(row.account, []).append((row.kind, row.name))
    return found


def _members_of(connection: Connection, groups: Sequence[str]) -> list[tuple[str, str]]:
    query = select(GROUP_MEMBERS.c.kind, GROUP_MEMBERS.c.name).where(GROUP_MEMBERS.c.group_name.in_(groups))
    return [(row.kind, row.name) for row in connection.execute(query)]


def _put_reach(connection: Connection, account: str, reach: Sequence[tuple[str, str]]) -> None:
    for kind, name in reach:
        connection.execute(_insert(ACCOUNT_REACH, account=account, kind=kind, name=name))


def _insert(table: Table, **values: object) -> Any:
    return table.insert().values(**values)


def _set(connection: Connection, account: str, **values: object) -> None:
    done = connection.execute(update(ACCOUNTS).where(ACCOUNTS.c.name == account).values(**values))
    if done.rowcount != 1:
        raise AccountUnknown(account=account)


def _end_sessions(connection: Connection, account: str) -> None:
    connection.execute(delete(SESSIONS).where(SESSIONS.c.account == account))


def _place(name: str) -> str:
    if _PLACE.fullmatch(name) is None:
        reason = "a name is 1 to 128 characters without white space or comma"
        raise AccountRefused(account=name, reason=reason)
    return name


def _told(role: Role, reach: Sequence[tuple[str, str]], second_right: bool) -> str:
    words = [f"{kind}={name}" for kind, name in reach]
    return " ".join([role.value, *words, *(["restricted"] if second_right else [])])
