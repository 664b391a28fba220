"""What is held back and why, in an operator's words; shared by the daemon and recorderctl."""

from __future__ import annotations

from typing import Any, Final

from recorderd.core.conditions import ArchiveState, PowerState
from recorderd.policy.admission import Accepts, Conditions

_REFUSED: Final = {
    Accepts.USUAL: "new calls of low priority are refused",
    Accepts.MANDATORY: "all new calls but mandatory ones are refused",
    Accepts.NONE: "all new calls are refused",
}


def held_back(known: Conditions, accepts: Accepts, *, why: str, link_reason: str) -> list[str]:
    """List what is held back, each with its reason."""
    rows = []
    if accepts in _REFUSED:
        rows.append(f"{_REFUSED[accepts]}: {why}")
    if known.power is PowerState.FORCED_SHUTDOWN:
        rows.append("nothing is offered to the archive: power is going down")
    elif known.archive is ArchiveState.REFUSING:
        rows.append(f"recordings wait here: the archive gives no credit ({link_reason})")
    elif known.archive is ArchiveState.GONE:
        rows.append(f"recordings wait here: the archive is gone ({link_reason})")
    elif known.archive is ArchiveState.SLOW:
        rows.append(f"recordings wait here: the archive takes less than comes ({link_reason})")
    return rows


def spool_lines(spool: dict[str, Any]) -> list[str]:
    """Describe the spool in a few lines."""
    used, quota, room = (spool[name] / 1e6 for name in ("used_bytes", "quota_bytes", "room_bytes"))
    places = ", ".join(f"{name} {count}" for name, count in spool["recordings"].items() if count)
    level = spool["level"] if spool["level"] == "low" else f"[red]{spool['level']}[/]"
    reason = f" ({spool['level_reason']})" if spool["level_reason"] else ""
    lines = [
        f"{used:.1f} of {quota:.0f} MB, room for {max(0.0, room):.0f} MB   {places or 'empty'}",
        f"{level}{reason}   {_rates(spool)}",
    ]
    if spool["waits_for_room"]:
        lines.append("[red]the disk is full: running calls wait in memory[/]")
    if spool["reserve_missing_bytes"]:
        lines.append(f"[red]{spool['reserve_missing_bytes'] / 1e6:.0f} MB of the reserve are used[/]")
    if spool["shed_recordings"]:
        lines.append(f"[red]{spool['shed_recordings']} recordings were deleted unsent[/]")
    return lines


def _rates(spool: dict[str, Any]) -> str:
    rates = f"in {spool['written_per_s'] / 1e3:.0f} kB/s, out {spool['flushed_per_s'] / 1e3:.0f} kB/s"
    if spool["full_in_s"] is not None:
        return f"{rates}, full in {duration(spool['full_in_s'])}"
    if spool["empty_in_s"] is not None:
        return f"{rates}, empty in {duration(spool['empty_in_s'])}"
    return rates


def duration(seconds: float) -> str:
    """Say how long that is."""
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
