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
    return "   ".join([*parts, *_outlook_words(power.get("outlook"))])


def _outlook_words(outlook: dict[str, Any] | None) -> list[str]:
    if outlook is None or not outlook["waiting_bytes"]:
        return []
    waiting = f"{outlook['waiting_bytes'] / 1e6:.0f} MB wait"
    needed, usable = outlook["needed_s"], outlook["usable_s"]
    if needed is None:
        return [f"{waiting} for the archive, which takes nothing now"]
    words = f"{waiting} for the archive: {needed} s at the present rate"
    if usable is None:
        return [words]
    verdict = "in time" if outlook["in_time"] == "yes" else "[red]not in time[/]"
    return [f"{words}, {usable} s of battery before the shutdown: {verdict}"]
