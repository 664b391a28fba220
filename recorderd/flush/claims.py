"""Which recordings are claimed next; see ``order`` for whose turn it is.

Rule: of a full ``ready/`` a few hundred are looked into at a time, the oldest first; the others wait for the
next look. Where time stamps are configured, only what ``Stamper.may_claim`` says.
"""

from __future__ import annotations

from typing import Final

from recorderd.core.events import Ev, EventLog
from recorderd.flush.order import Candidate, in_turn
from recorderd.flush.parcel import folder_bytes, priority_of
from recorderd.flush.stamping import Stamper
from recorderd.spool.layout import Place, Spool

LOOKS_LIMIT: Final = 256  # folders that are looked into at a time


class Claims:
    """Takes recordings from ``ready/``.

    Thread: one.
    """

    def __init__(self, *, spool: Spool, stamper: Stamper | None, log: EventLog) -> None:
        self._spool = spool
        self._stamper = stamper
        self._log = log
        self._known: dict[str, Candidate] = {}  # of what stands in ready/
        self.made = 0

    def take(self, wanted: int) -> tuple[int, list[Candidate]]:
        """Claim up to ``wanted`` recordings; how many were tried, and which are ours now."""
        ids = self._spool.ids(Place.READY)
        if self._stamper is not None:
            ids = [name for name in ids if self._stamper.may_claim(name)]
        self._known = {name: self._known[name] for name in ids if name in self._known}
        for name in [name for name in ids if name not in self._known][:LOOKS_LIMIT]:
            folder = self._spool.path(Place.READY, name)
            self._known[name] = Candidate(
                recording_id=name, priority=priority_of(folder), size_bytes=folder_bytes(folder)
            )
        turns = in_turn(list(self._known.values()), turn=self.made, wanted=wanted)
        chosen = [entry.recording_id for entry in turns]
        self.made += len(chosen)
        if self._stamper is not None:
            for name in chosen:
                self._stamper.let_go(name)
        claimed = []
        for entry, problem in zip(turns, self._spool.claim_all(chosen), strict=True):
            if problem is None:
                claimed.append(entry)
            else:
                reason = f"cannot be claimed: {problem}"
                self._log.error(Ev.INTERNAL_ERROR, subject=entry.recording_id, reason=reason)
        return len(chosen), claimed
