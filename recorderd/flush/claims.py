"""Which recording is claimed next.

Rule: the smallest first, so that a long one does not hold up the short ones; every fourth claim takes the
oldest, so that no long one starves. Where time stamps are configured, only what ``Stamper.may_claim`` says.
"""

from __future__ import annotations

from typing import Final

from recorderd.core.events import Ev, EventLog
from recorderd.flush.parcel import folder_bytes
from recorderd.flush.stamping import Stamper
from recorderd.spool.layout import Place, Spool

OLDEST_EVERY: Final = 4


class Claims:
    """Takes recordings from ``ready/``.

    Thread: one.
    """

    def __init__(self, *, spool: Spool, stamper: Stamper | None, log: EventLog) -> None:
        self._spool = spool
        self._stamper = stamper
        self._log = log
        self._sizes: dict[str, int] = {}  # of what stands in ready/
        self.made = 0

    def take(self, wanted: int) -> tuple[int, list[str]]:
        """Claim up to ``wanted`` recordings; how many were tried, and which are ours now."""
        ids = self._spool.ids(Place.READY)
        self._sizes = {name: self._sizes.get(name, -1) for name in ids}
        if self._stamper is not None:
            ids = [name for name in ids if self._stamper.may_claim(name)]
        for name in (name for name in ids if self._sizes[name] < 0):
            self._sizes[name] = folder_bytes(self._spool.path(Place.READY, name))
        tried = min(wanted, len(ids))
        claimed = []
        for _ in range(tried):
            oldest = self.made % OLDEST_EVERY == 0
            name = ids[0] if oldest else min(ids, key=lambda name: (self._sizes[name], name))
            ids.remove(name)
            self.made += 1
            try:
                if self._stamper is not None:
                    self._stamper.let_go(name)
                self._spool.claim(name)
            except OSError as problem:
                self._log.error(Ev.INTERNAL_ERROR, subject=name, reason=f"cannot be claimed: {problem}")
            else:
                claimed.append(name)
        return tried, claimed
