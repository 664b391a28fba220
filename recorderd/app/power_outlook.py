"""Will the spool be empty before the batteries are? Asked for status, and once when power fails."""

from __future__ import annotations

from typing import Any

from recorderd.core.clock import Clock
from recorderd.core.conditions import Power
from recorderd.policy.power import Outlook, outlook
from recorderd.spool.layout import RECEIPT_NAME, Place, Spool
from recorderd.spool.link_state import read_link_state


def outlook_of(spool: Spool, power: Power, *, used_bytes: int, clock: Clock) -> dict[str, Any]:
    """Compare what waits in a spool, at the rate of the last minutes, with what the batteries have left."""
    waiting_bytes = max(0, used_bytes - _receipted_bytes(spool))
    link = read_link_state(spool.root, now_utc_ns=clock.utc_ns())
    found: Outlook = outlook(waiting_bytes=waiting_bytes, bytes_per_s=link.bytes_per_s, power=power)
    return {
        "in_time": found.in_time.value,
        "waiting_bytes": waiting_bytes,
        "bytes_per_s": round(link.bytes_per_s),
        "needed_s": found.needed_s,
        "usable_s": found.usable_s,
    }


def _receipted_bytes(spool: Spool) -> int:
    """Add up the copies of what the archive has: they wait for nothing but their grace."""
    total_bytes = 0
    for recording_id in spool.ids(Place.CLAIMED):
        folder = spool.path(Place.CLAIMED, recording_id)
        try:
            if (folder / RECEIPT_NAME).exists():
                total_bytes += sum(path.stat().st_size for path in folder.iterdir())
        except FileNotFoundError:  # released meanwhile
            continue
    return total_bytes
