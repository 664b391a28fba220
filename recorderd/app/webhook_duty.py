"""The daemon's part in webhooks: one thread for each, so that none waits for another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Event as StopToken

from recorderd.app.webhooks_configuration import WebhookSection
from recorderd.archive.database import Database
from recorderd.archive.webhooks import FIRST_WAIT_S, Hook, Teller
from recorderd.core.clock import Clock
from recorderd.core.errors import CatalogueFailed
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.keys import read_secret_text, resolve_secret

Loop = Callable[[StopToken], None]


def webhook_loops(
    sections: Iterable[WebhookSection], database: Database, *, archive_id: str, clock: Clock, log: EventLog
) -> dict[str, Loop]:
    """Give the work of each thread, by the thread's name.

    Errors: KeyUnusable when a secret cannot be read.
    """
    loops: dict[str, Loop] = {}
    for section in sections:
        hook = Hook(
            name=section.name,
            url=section.url,
            secret=read_secret_text(resolve_secret(section.secret_file)),
            kinds=frozenset(section.on),
            ca_file=section.tls_ca_file,
        )
        teller = Teller(database, hook, archive_id=archive_id, clock=clock, log=log)
        loops[f"hook-{section.name}"] = _loop(teller, section.name, log)
    return loops


def _loop(teller: Teller, name: str, log: EventLog) -> Loop:
    def run(stop: StopToken) -> None:
        while not stop.is_set():
            try:
                teller.run(stop.wait)
            except CatalogueFailed as problem:  # the database is away: what is to be told waits in it
                log.warning(Ev.WEBHOOK_FAILED, subject=name, reason=problem)
                stop.wait(FIRST_WAIT_S)

    return run
