"""Which receipted copies go before their local grace is over, because the recorder needs the room.

Rule: only what is ARCHIVED, so confirmed by a verified receipt; the oldest first; no more than was asked for,
and once for each time it was asked (see ``spool.stance``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from recorderd.flush.delivery import Delivery, State
from recorderd.spool.stance import FlushStance


@dataclass(slots=True)
class EarlyRelease:
    """What was asked for already.

    Thread: one.
    """

    answered: int = 0

    def due(self, deliveries: Iterable[Delivery], stance: FlushStance) -> list[str]:
        """Name the recordings whose grace is over now."""
        if not stance.free_bytes or stance.number == self.answered:
            return []
        self.answered = stance.number
        freed, chosen = 0, []
        for delivery in sorted(deliveries, key=lambda entry: entry.recording_id):
            if freed >= stance.free_bytes:
                break
            if delivery.state is State.ARCHIVED:
                chosen.append(delivery.recording_id)
                freed += delivery.size_bytes
        return chosen
