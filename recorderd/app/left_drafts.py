"""Drafts that no call is writing any more: what an earlier process left, and what this one gave up.

Contract: each is recovered once it can be (``record.recovery``); those that want the key or room are kept and
tried again when there may be either.
Thread: ``waiting`` any; the rest the sealing one, or whoever is there before it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from recorderd.app.appliance_parts import SealingParts
from recorderd.core.events import EventLog
from recorderd.core.ids import SessionId
from recorderd.record.recovery import recover
from recorderd.spool.layout import Place


class LeftDrafts:
    """What is left of drafts on one appliance."""

    def __init__(self, parts: SealingParts, *, log: EventLog) -> None:
        self._spool = parts.spool
        self._entries = parts.entries
        self._recover = partial(
            recover,
            spool=parts.spool,
            chain=parts.chain,
            sealer=parts.sealer,
            entries=parts.entries,
            log=log,
            refused=set(),
        )
        self._unsealed: tuple[str, ...] = ()  # they want the key, or a disk that takes them
        self._given_up: tuple[str, ...] = ()  # by this process

    @property
    def waiting(self) -> int:
        """Count those that wait."""
        return len(self._unsealed) + len(self._given_up)

    def recover(self, drafts: Sequence[str]) -> None:
        """Deal with what an earlier process left."""
        self._unsealed = self._recover(only=drafts)

    def recover_waiting(self) -> None:
        """Try again what waited."""
        entries, self._entries.unsealed = self._entries.unsealed, []
        if self._unsealed or entries:
            self._unsealed = self._recover(only=(*self._unsealed, *entries))
        if self._given_up:  # tried for as long as the disk refuses: only a start sets aside
            self._given_up = self._recover(only=self._given_up, refused=set())

    def give_up(self, session: SessionId) -> None:
        """Let a draft that this process cannot go on with be recovered."""
        if self._spool.path(Place.DRAFTS, session).exists():
            self._given_up = (*self._given_up, session)
