"""What every request may use: made once, handed to the application, found through the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import Request

from recorderd.archive.accounts import Accounts
from recorderd.archive.annotations import Annotations
from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.call_records import CallRecords, Columns
from recorderd.archive.catalogue import Catalogue
from recorderd.archive.database import Database
from recorderd.archive.erasure import Eraser
from recorderd.archive.hold_book import HoldBook
from recorderd.archive.jobs import Jobs, Telling, Work
from recorderd.archive.oidc import Oidc
from recorderd.archive.reconciling import Reconciler
from recorderd.archive.retention_book import RetentionBook
from recorderd.archive.search import Search
from recorderd.archive.shares import Shares
from recorderd.archive.sign_in import SignIn
from recorderd.archive.store import Store
from recorderd.archive.sweeping import Sweeper
from recorderd.archive.web.peaks import Peaks
from recorderd.core.clock import Clock
from recorderd.core.events import EventLog
from recorderd.evidence.keys import Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTerms:
    """Which recordings are apart, by their tags as ``criteria.tag_of`` writes them, or their class."""

    restricted_tags: frozenset[str] = frozenset()
    restricted_classes: frozenset[str] = frozenset()
    reason_tags: frozenset[str] = frozenset()
    reason_classes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What decides how long recordings are kept."""

    book: RetentionBook
    holds: HoldBook
    eraser: Eraser
    sweeper: Sweeper


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The exchange's call records: how files are read, where they are kept, what they are held against."""

    columns: Columns
    records: CallRecords
    reconciler: Reconciler


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody wants done; each kind of work reads what is its own."""

    who: Actor
    deep: bool = False  # fsck: the copy too, to its last octet
    days: int = 0  # renew: what ends within so many
    route: str = ""  # deliver: this one; empty: all

    @property
    def told(self) -> str:
        """Say it for the audit log."""
        words = {"deep": self.deep, "days": self.days, "route": self.route}
        return " ".join(f"{name}={value}" for name, value in words.items() if value)


class Upkeep(Protocol):
    """What the program does to keep its archive in order.

    Thread: any; ``run`` one at a time of each kind of work.
    Errors: NotConfigured; CatalogueFailed, KeyUnusable, OSError.
    """

    def check(self, work: Work, order: Order) -> None:
        """See that a work can be begun.

        Errors: PutOff, AlreadyRunning, NotConfigured.
        """

    def run(self, work: Work, order: Order, telling: Telling) -> dict[str, Any]:
        """Do it; what is returned is told to whoever asks.

        Errors: JobStopped, and whatever the work may fail of.
        """
        ...

    def mirror(self) -> dict[str, Any]:
        """Tell of the off-site copy."""
        ...

    def deliveries(self, *, limit: int, failed_only: bool) -> list[dict[str, Any]]:
        """Tell of each route."""
        ...

    def scrub(self) -> dict[str, Any]:
        """Tell of the newest round, and what differs."""
        ...

    def intake(self) -> dict[str, Any]:
        """Tell what is taken.

        Errors: ControlUnavailable when no daemon runs.
        """
        ...

    def drain(self, *, on: bool, reason: str) -> dict[str, Any]:
        """Take nothing new, or take it again.

        Errors: ControlUnavailable when no daemon runs.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The archive's parts, as the HTTP interface needs them."""

    archive_id: str
    store: Store
    terms: AccessTerms
    database: Database
    catalogue: Catalogue
    search: Search
    annotations: Annotations
    keeping: Keeping
    calls: Calls
    accounts: Accounts
    sign_in: SignIn
    oidc: Oidc | None
    shares: Shares
    jobs: Jobs
    upkeep: Upkeep
    audit_log: AuditLog
    peaks: Peaks
    signer: Signer  # of bundles
    keep_free_bytes: int  # of the store's disk
    clock: Clock
    log: EventLog


def desk_of(request: Request) -> Desk:
    """Find the desk."""
    desk: Desk = request.app.state.desk
    return desk


def address_of(request: Request) -> str:
    """Say from where a request comes."""
    return request.client.host if request.client is not None else ""
