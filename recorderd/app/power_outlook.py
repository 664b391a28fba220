"""Will the spool be empty before the batteries are? Asked for status, and once when power fails."""

from __future__ import annotations

from typing import Any

from recorderd.core.clock import Clock
from recorderd.core.conditions import Power
from recorderd.policy.power import Outlook, outlook
from recorderd.spool.layout import Spool
from recorderd.spool.link_state import read_link_state


def outlook_of(spool: Spool, power: Power, *, waiting_bytes: int, clock: Clock) -> dict[str, Any]:
    """Compare what waits in a spool, at the rate of the last minutes, with what the batteries have left."""
    link = read_link_state(spool.root, now_utc_ns=clock.utc_ns())
    found: Outlook = outlook(waiting_bytes=waiting_bytes, bytes_per_s=link.bytes_per_s, power=power)
    return {
        "in_time": found.in_time.value,
        "waiting_bytes": waiting_bytes,
        "bytes_per_s": round(link.bytes_per_s),
        "needed_s": found.needed_s,
        "usable_s": found.usable_s,
    }
