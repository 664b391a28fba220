"""Share links: one recording to somebody without an account, for a while, so many times, with a passphrase.

Contract: link and passphrase are both needed, and go different ways. An attempt is counted before it is
looked at: a link is dead after ``FAILURES_MAX`` wrong passphrases, or when its uses are gone, also when many
come at once. Nobody can use a link more often than it was made for: a replay finds it used up. A use that we
could not give anything for is given back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, delete, select, update

from recorderd.archive.accounts_tables import SHARES
from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.catalogue import Entry
from recorderd.archive.database import Database
from recorderd.archive.secrets_of_people import (
    fingerprint_of,
    hash_password,
    new_id,
    new_secret,
    password_is,
    secret_is,
)
from recorderd.core.clock import NS_PER_S, Clock, utc_text
from recorderd.core.errors import ShareRefused, ShareUnknown

FAILURES_MAX: Final = 5
LONGEST_HOURS: Final = 24 * 30
USES_MAX: Final = 100
PASSPHRASE_MIN: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One link, without its secret."""

    id: str
    recorder_id: str
    recording_id: str
    expires_utc_s: int
    uses_left: int
    failures_left: int
    created_by: str
    created_at: str


class Shares:
    """The share links of one archive.

    Thread: any.
    Errors: CatalogueFailed; ShareUnknown, ShareRefused.
    """

    def __init__(self, database: Database, audit_log: AuditLog, *, clock: Clock) -> None:
        self._database = database
        self._audit_log = audit_log
        self._clock = clock

    def add(
        self, who: Actor, entry: Entry, *, passphrase: str, hours: int, uses: int, reason: str
    ) -> tuple[Share, str]:
        """Make a link; return it, and the secret that belongs into it, which is told this once."""
        if len(passphrase) < PASSPHRASE_MIN:
            raise ShareRefused(reason=f"the passphrase needs {PASSPHRASE_MIN} characters")
        if not (1 <= hours <= LONGEST_HOURS and 1 <= uses <= USES_MAX):
            raise ShareRefused(reason=f"give 1 to {LONGEST_HOURS} hours and 1 to {USES_MAX} uses")
        now_ns, secret, share_id = self._clock.utc_ns(), new_secret(), new_id()
        share = Share(
            id=share_id,
            recorder_id=entry.recorder_id,
            recording_id=entry.id,
            expires_utc_s=now_ns // NS_PER_S + hours * 3600,
            uses_left=uses,
            failures_left=FAILURES_MAX,
            created_by=who.name,
            created_at=utc_text(now_ns),
        )
        hashes = {"secret_sha256": fingerprint_of(secret), "passphrase_hash": hash_password(passphrase)}
        values = {name: getattr(share, name) for name in Share.__slots__}
        with self._database.write() as connection:
            connection.execute(SHARES.insert().values(**values, **hashes))
            self._audit_log.note(
                who,
                "share_added",
                f"{entry.recorder_id}/{entry.id}",
                reason=reason,
                detail=f"share {share_id}: {uses} uses, {hours} hours",
                connection=connection,
            )
        return share, secret

    def all(self) -> list[Share]:
        """Return every link that was not revoked, the oldest first."""
        with self._database.read() as connection:
            query = select(*(SHARES.c[name] for name in Share.__slots__)).order_by(SHARES.c.created_at)
            return [Share(**row) for row in connection.execute(query).mappings()]

    def find(self, share_id: str) -> Share:
        """Return one link."""
        for share in self.all():
            if share.id == share_id:
                return share
        raise ShareUnknown(share=share_id)

    def revoke(self, who: Actor, share_id: str, *, reason: str) -> None:
        """Make a link worthless."""
        with self._database.write() as connection:
            if connection.execute(delete(SHARES).where(SHARES.c.id == share_id)).rowcount != 1:
                raise ShareUnknown(share=share_id)
            self._audit_log.note(
                who, "share_revoked", f"share {share_id}", reason=reason, connection=connection
            )

    def use(self, share_id: str, secret: str, passphrase: str, *, address: str) -> Share:
        """Use a link once; whoever has not both gets nothing, and is told no more than that."""
        actor = _actor(share_id, address)
        now_utc_s = self._clock.utc_ns() // NS_PER_S
        with self._database.read() as connection:
            row = connection.execute(select(SHARES).where(SHARES.c.id == share_id)).mappings().first()
        if row is None or not secret_is(secret, row["secret_sha256"]):
            raise ShareUnknown(share=share_id)  # not noted: anybody may ask for any id
        if row["expires_utc_s"] <= now_utc_s:
            self._refuse(actor, row["recorder_id"], row["recording_id"], "has ended")
        alive = (SHARES.c.id == share_id, SHARES.c.failures_left > 0, SHARES.c.uses_left > 0)
        counted = {"failures_left": SHARES.c.failures_left - 1}
        if not self._count(alive, counted):
            self._refuse(actor, row["recorder_id"], row["recording_id"], "is used up")
        if not password_is(passphrase, row["passphrase_hash"]):
            self._refuse(actor, row["recorder_id"], row["recording_id"], "wrong passphrase")
        used = {"uses_left": SHARES.c.uses_left - 1, "failures_left": FAILURES_MAX}
        still = (SHARES.c.id == share_id, SHARES.c.uses_left > 0)
        with self._database.write() as connection:
            if connection.execute(update(SHARES).where(*still).values(**used)).rowcount == 1:
                subject = f"{row['recorder_id']}/{row['recording_id']}"
                self._audit_log.note(actor, "share_used", subject, connection=connection)
                values = {name: row[name] for name in Share.__slots__}
                return Share(**(values | {"uses_left": row["uses_left"] - 1}))
        return self._refuse(actor, row["recorder_id"], row["recording_id"], "is used up")

    def give_back(self, share: Share, *, why: str, address: str) -> None:
        """Have a use not count that gave nothing, through no fault of whoever used the link."""
        with self._database.write() as connection:
            again = {"uses_left": SHARES.c.uses_left + 1}
            connection.execute(update(SHARES).where(SHARES.c.id == share.id).values(**again))
            self._audit_log.note(
                _actor(share.id, address),
                "share_used",
                f"{share.recorder_id}/{share.recording_id}",
                outcome="failed",
                detail=f"{why}; this use does not count",
                connection=connection,
            )

    def _count(self, where: tuple[ColumnElement[bool], ...], values: Mapping[str, object]) -> bool:
        with self._database.write() as connection:
            done = connection.execute(update(SHARES).where(*where).values(**values))
            return done.rowcount == 1

    def _refuse(self, actor: Actor, recorder_id: str, recording_id: str, why: str) -> Share:
        subject = f"{recorder_id}/{recording_id}"
        self._audit_log.note(actor, "share_used", subject, outcome="refused", detail=why)
        raise ShareRefused(reason=f"this link {why}" if not why.startswith("wrong") else why)


def _actor(share_id: str, address: str) -> Actor:
    return Actor(name=f"share:{share_id[:32]}", address=address)
