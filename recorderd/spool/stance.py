"""What the recorder asks of the flush: written by recorderd, read by recorderd-flush.

Contract: one small file, `stance.json`, replaced as a whole whenever it changes and every few seconds; not
synced. What is older than ``STALE_NS``, absent or unreadable asks for nothing unusual: the flush then goes by
its own configuration. ``free_bytes`` is asked for once per ``number``: so many bytes of receipted copies may
go before their local grace is over, the oldest first.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from recorderd import durable
from recorderd.core.clock import NS_PER_S
from recorderd.policy.admission import FlushOrder

STANCE_NAME: Final = "stance.json"
STALE_NS: Final = 60 * NS_PER_S
_LIMIT_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushStance:
    """How hard the archive is to be pushed, and what may go here."""

    flush_percent: int = 100  # of the window in flight; 0 = offer nothing new
    order: FlushOrder = FlushOrder.FAIR
    free_bytes: int = 0
    number: int = 0  # grows with each ``free_bytes``
    at_utc_ns: int = 0


USUAL: Final = FlushStance()


def write_stance(spool_root: Path, stance: FlushStance) -> None:
    """Tell the flush.

    Errors: OSError.
    """
    row = {**asdict(stance), "order": stance.order.value}
    durable.replace(spool_root / STANCE_NAME, json.dumps(row).encode(), synced=False)


def read_stance(spool_root: Path, *, now_utc_ns: int) -> FlushStance:
    """Read what the recorder asks for."""
    try:
        with (spool_root / STANCE_NAME).open("rb") as stream:
            row: dict[str, Any] = json.loads(stream.read(_LIMIT_BYTES))
        stance = FlushStance(
            flush_percent=min(100, max(0, int(row["flush_percent"]))),
            order=FlushOrder(row["order"]),
            free_bytes=max(0, int(row["free_bytes"])),
            number=int(row["number"]),
            at_utc_ns=int(row["at_utc_ns"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return USUAL
    return stance if abs(now_utc_ns - stance.at_utc_ns) <= STALE_NS else USUAL
