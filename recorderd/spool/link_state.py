"""How the archive takes recordings: written by the flush, read by the recorder and by people.

Contract: one small file, `link.json`, is replaced as a whole about once a second; whoever reads finds an
older or a newer one, never a torn one. It means nothing after a power cut and is not synced. What is older
than ``STALE_NS``, absent or unreadable reads as GONE: a flush that does not run takes nothing either.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from recorderd import durable
from recorderd.core.clock import NS_PER_S
from recorderd.core.conditions import ArchiveLink, ArchiveState, Power, PowerState

LINK_NAME: Final = "link.json"
STALE_NS: Final = 60 * NS_PER_S
NOT_RUNNING: Final = "the flush does not run"
_LIMIT_BYTES: Final = 1 << 16
_REASON_LIMIT: Final = 500  # characters


def write_link_state(spool_root: Path, link: ArchiveLink) -> None:
    """Tell how the archive stands.

    Durable: see the module's contract.
    Errors: OSError.
    """
    row: dict[str, Any] = {
        "state": link.state.name.lower(),
        "reason": link.reason[:_REASON_LIMIT],
        "bytes_per_s": link.bytes_per_s,
        "at_utc_ns": link.at_utc_ns,
        "power": None,
    }
    if link.power is not None:
        row["power"] = {
            "state": link.power.state.name.lower(),
            "reason": link.power.reason[:_REASON_LIMIT],
            "runtime_s": link.power.runtime_s,
            "charge_percent": link.power.charge_percent,
            "contact": link.power.contact,
        }
    durable.replace(spool_root / LINK_NAME, json.dumps(row).encode(), synced=False)


def read_link_state(spool_root: Path, *, now_utc_ns: int) -> ArchiveLink:
    """Read how the archive stands; GONE when nobody has told lately."""
    try:
        with (spool_root / LINK_NAME).open("rb") as stream:
            row = json.loads(stream.read(_LIMIT_BYTES))
        link = _link(row)
    except FileNotFoundError:
        return _gone(NOT_RUNNING, at_utc_ns=0)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        return _gone(f"{LINK_NAME} cannot be read: {problem}", at_utc_ns=0)
    if abs(now_utc_ns - link.at_utc_ns) > STALE_NS:
        return _gone(NOT_RUNNING, at_utc_ns=link.at_utc_ns)
    return link


def _gone(reason: str, *, at_utc_ns: int) -> ArchiveLink:
    return ArchiveLink(state=ArchiveState.GONE, reason=reason, bytes_per_s=0.0, at_utc_ns=at_utc_ns)


def _link(row: dict[str, Any]) -> ArchiveLink:
    power = row["power"]
    return ArchiveLink(
        state=ArchiveState[str(row["state"]).upper()],
        reason=str(row["reason"]),
        bytes_per_s=float(row["bytes_per_s"]),
        at_utc_ns=int(row["at_utc_ns"]),
        power=_power(power) if power is not None else None,
    )


def _power(row: dict[str, Any]) -> Power:
    runtime_s, charge_percent = row["runtime_s"], row["charge_percent"]
    return Power(
        state=PowerState[str(row["state"]).upper()],
        reason=str(row["reason"]),
        runtime_s=None if runtime_s is None else int(runtime_s),
        charge_percent=None if charge_percent is None else int(charge_percent),
        contact=bool(row["contact"]),
    )
