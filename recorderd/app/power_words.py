"""Power in an operator's words, for `status`."""

from __future__ import annotations

from typing import Any, Final

from rich.markup import escape

_STATES: Final = {
    "on_line": "on line",
    "on_battery": "[yellow]on battery[/]",
    "low_battery": "[red]low battery: new optional sessions are refused[/]",
    "forced_shutdown": "[red]the machine is being shut down: nothing is recorded[/]",
}


def power_line(power: dict[str, Any]) -> str:
    """Say how a host is fed, what is left, and which UPS says what."""
    if not power["configured"]:
        return "no UPS configured"
    parts = [_STATES[power["state"]]]
    if power["runtime_s"] is not None:
        parts.append(f"{power['runtime_s'] // 60} min {power['runtime_s'] % 60} s left")
    if power["charge_percent"] is not None:
        parts.append(f"{power['charge_percent']} %")
    parts.append(f"({escape(power['reason'])})")
    if not power["contact"]:
        parts.append("[red]a UPS does not answer[/]")
    return "   ".join(parts)
