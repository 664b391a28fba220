"""How somebody comes in: by password and code, by API token, by the session that began so.

Contract: an attempt is counted before its password is looked at, so that a hundred at once are a hundred; a
code counts once; every coming in, leaving and refusal is in the audit log. What is answered does not tell
whether there is such an account.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, delete, or_, select, update

from recorderd.archive.accounts import TOKEN_PREFIX, Accounts, is_account_name, token_of
from recorderd.archive.accounts_tables import ACCOUNTS, API_TOKENS, SESSIONS
from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.database import Database
from recorderd.archive.secrets_of_people import (
    TOTP_PERIOD_S,
    fingerprint_of,
    is_id,
    new_secret,
    password_is,
    secret_is,
    totp_step,
)
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import CodeWanted, SignInLocked, SignInRefused
from recorderd.policy.access import Viewer
from recorderd.policy.lockout import LONGEST_WAIT_S, wait_after_s

_SEEN_EVERY_S: Final = 60  # a session's last use is written so often
_SECRETS_LIMIT: Final = 1024  # characters of a password, token or cookie
_AHEAD_MAX_S: Final = 2 * LONGEST_WAIT_S  # front ends differ; more was noted by a clock that was ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Somebody who has come in."""

    actor: Actor
    account: str
    viewer: Viewer
    csrf_sha256: str = ""  # of a session: what writes must show that it comes from our page

    @property
    def by_session(self) -> bool:
        """Tell whether a browser brings the proof by itself."""
        return bool(self.csrf_sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSession:
    """A session that has just begun, with its secrets."""

    account: str
    secret: str = field(repr=False)
    csrf: str = field(repr=False)


class SignIn:
    """The archive's door for people and their programs.

    Thread: any.
    Errors: CatalogueFailed; SignInRefused, of which CodeWanted and SignInLocked are kinds.
    """

    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        audit_log: AuditLog,
        *,
        clock: Clock,
        session_idle_s: int,
        session_max_s: int,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._audit_log = audit_log
        self._clock = clock
        self._session_idle_s = session_idle_s
        self._session_max_s = session_max_s

    def by_password(self, name: str, password: str, *, code: str, address: str) -> OpenedSession:
        """Let somebody in who knows the password, and has the code where the account wants one."""
        name = name.strip().casefold()
        actor = Actor(name=f"account:{name}" if is_account_name(name) else "account:?", address=address)
        try:
            password_hash, totp_secret = self._count_attempt(name)
        except SignInRefused as problem:
            if not isinstance(problem, SignInLocked):
                password_is(password[:_SECRETS_LIMIT], "")
            self._refuse(actor, str(problem.fields["reason"]))
            raise
        if len(password) > _SECRETS_LIMIT or not password_is(password, password_hash):
            self._refuse(actor, "wrong password")
            raise SignInRefused(reason="wrong password")
        if totp_secret:
            self._check_code(actor, name, totp_secret, code)
        return self.begin_session(name, actor, how="password and code" if totp_secret else "password")

    def begin_session(self, account: str, actor: Actor, *, how: str) -> OpenedSession:
        """Begin a session of an account that has proved itself.

        Errors: SignInRefused when it was disabled meanwhile.
        """
        session = OpenedSession(account=account, secret=new_secret(), csrf=new_secret())
        now_utc_s = self._now_utc_s()
        with self._database.write() as connection:
            fit = (ACCOUNTS.c.name == account, ACCOUNTS.c.disabled.is_(False))
            done = connection.execute(update(ACCOUNTS).where(*fit).values(failures=0, locked_until_utc_s=0))
            if done.rowcount != 1:
                raise SignInRefused(reason="the account is disabled")
            self._forget_ended(connection, now_utc_s)
            connection.execute(
                SESSIONS.insert().values(
                    secret_sha256=fingerprint_of(session.secret),
                    account=account,
                    csrf_sha256=fingerprint_of(session.csrf),
                    address=actor.address,
                    began_utc_s=now_utc_s,
                    seen_utc_s=now_utc_s,
                )
            )
            self._audit_log.note(actor, "signed_in", account, detail=how, connection=connection)
        return session

    def by_session(self, secret: str, *, address: str) -> Identity:
        """Recognise a session; one that was idle too long, or is too old, is none."""
        now_utc_s, sha256 = self._now_utc_s(), fingerprint_of(secret[:_SECRETS_LIMIT])
        with self._database.read() as connection:
            row = connection.execute(select(SESSIONS).where(SESSIONS.c.secret_sha256 == sha256)).first()
        if row is None or self._has_ended(row.began_utc_s, row.seen_utc_s, now_utc_s):
            raise SignInRefused(reason="the session has ended")
        if now_utc_s - row.seen_utc_s >= _SEEN_EVERY_S:
            with self._database.write() as connection:
                mine = SESSIONS.c.secret_sha256 == sha256
                connection.execute(update(SESSIONS).where(mine).values(seen_utc_s=now_utc_s))
        return Identity(
            actor=Actor(name=f"account:{row.account}", address=address),
            account=row.account,
            viewer=self._accounts.viewer(row.account),
            csrf_sha256=row.csrf_sha256,
        )

    def by_token(self, text: str, *, address: str) -> Identity:
        """Recognise an API token; one that is known, but no longer good, is noted."""
        prefix, _, rest = text[:_SECRETS_LIMIT].partition("_")
        token_id, _, secret = rest.partition("_")
        if not is_id(token_id):
            raise SignInRefused(reason="no such token")
        with self._database.read() as connection:
            query = select(API_TOKENS).where(API_TOKENS.c.id == token_id)
            row = connection.execute(query).mappings().first()
            enabled = None
            if row is not None:
                of_account = select(ACCOUNTS.c.disabled).where(ACCOUNTS.c.name == row["account"])
                enabled = connection.execute(of_account).scalar() is False
        known = row["secret_sha256"] if row is not None else "0" * 64
        if not secret_is(secret, known) or prefix != TOKEN_PREFIX or row is None:
            raise SignInRefused(reason="no such token")
        token = token_of(row)
        actor = Actor(name=f"token:{token.account}/{token.name}", address=address)
        reason = "the account is disabled" if not enabled else ""
        if token.expires_utc_s <= self._now_utc_s():
            reason = "the token has ended"
        if reason:
            self._refuse(actor, reason)
            raise SignInRefused(reason=reason)
        viewer = self._accounts.viewer(token.account, scopes=token.scopes)
        return Identity(actor=actor, account=token.account, viewer=viewer)

    def leave(self, secret: str, actor: Actor, account: str) -> None:
        """End a session."""
        with self._database.write() as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.secret_sha256 == fingerprint_of(secret)))
            self._audit_log.note(actor, "signed_out", account, connection=connection)

    def _count_attempt(self, name: str) -> tuple[str, str]:
        """Count an attempt as failed until it has proved itself; give what it is to be compared with."""
        now_utc_s = self._now_utc_s()
        if not is_account_name(name):
            raise SignInRefused(reason="no such account")
        with self._database.write() as connection:
            row = connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.name == name)).first()
            if row is None:
                raise SignInRefused(reason="no such account")
            wait_s = int(row.locked_until_utc_s - now_utc_s)
            if 0 < wait_s <= _AHEAD_MAX_S:
                raise SignInLocked(wait_s=wait_s, reason="locked after wrong passwords")
            failures = int(row.failures) + 1
            values = {"failures": failures, "locked_until_utc_s": now_utc_s + wait_after_s(failures)}
            connection.execute(update(ACCOUNTS).where(ACCOUNTS.c.name == name).values(**values))
            password_hash = "" if row.disabled else row.password_hash
            return str(password_hash), str(row.totp_secret)

    def _check_code(self, actor: Actor, name: str, secret: str, code: str) -> None:
        if not code:
            self._refuse(actor, "no code")
            raise CodeWanted(reason="a code is wanted")
        step = totp_step(secret, code.strip()[:16], now_utc_s=self._now_utc_s())
        if step is not None:
            of_another_clock = ACCOUNTS.c.totp_step > step + _AHEAD_MAX_S // TOTP_PERIOD_S
            unused = (ACCOUNTS.c.name == name, or_(ACCOUNTS.c.totp_step < step, of_another_clock))
            with self._database.write() as connection:
                if connection.execute(update(ACCOUNTS).where(*unused).values(totp_step=step)).rowcount == 1:
                    return
        reason = "wrong code" if step is None else "this code was used already"
        self._refuse(actor, reason)
        raise SignInRefused(reason=reason)

    def _refuse(self, actor: Actor, reason: str) -> None:
        self._audit_log.note(actor, "signed_in", actor.name, outcome="refused", detail=reason)

    def _has_ended(self, began_utc_s: int, seen_utc_s: int, now_utc_s: int) -> bool:
        """Tell whether it is over; one that a clock began which was ahead, and set back since, is too."""
        idle_s, age_s = abs(now_utc_s - seen_utc_s), abs(now_utc_s - began_utc_s)
        return idle_s > self._session_idle_s or age_s > self._session_max_s

    def _forget_ended(self, connection: Connection, now_utc_s: int) -> None:
        idle = SESSIONS.c.seen_utc_s < now_utc_s - self._session_idle_s
        old = SESSIONS.c.began_utc_s < now_utc_s - self._session_max_s
        connection.execute(delete(SESSIONS).where(or_(idle, old)))

    def _now_utc_s(self) -> int:
        return self._clock.utc_ns() // NS_PER_S
