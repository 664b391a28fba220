"""What a search may find for somebody: the policy's reach as the search's condition. Pure.

Rule: the condition narrows what is looked at; the policy is asked again for each row that was found.
"""

from __future__ import annotations

from collections.abc import Iterable

from recorderd.archive.criteria import Facets
from recorderd.policy.access import Role, Viewer


def visible_to(viewer: Viewer) -> tuple[Facets, ...] | None:
    """Say what somebody reaches: any of these; nothing of them = all; None = nothing at all."""
    if viewer.role is Role.ADMINISTRATOR:
        if viewer.all_recorders:
            return ()
        return (Facets(recorder=tuple(sorted(viewer.recorders))),) if viewer.recorders else None
    if viewer.role is Role.AUDITOR:
        return None
    found = _at("extension", viewer.extensions)
    if viewer.role is Role.SUPERVISOR:
        found += _at("extension", viewer.group_extensions) + _at("queue", viewer.group_queues)
    return tuple(dict.fromkeys(found)) or None


def _at(kind: str, names: Iterable[str]) -> list[Facets]:
    """Write names as conditions: those of any recorder together, the others by their recorder."""
    by_recorder: dict[str, list[str]] = {}
    for name in sorted(names):
        recorder, colon, number = name.rpartition(":")
        by_recorder.setdefault(recorder if colon else "", []).append(number if colon else name)
    return [
        Facets(**{kind: tuple(numbers)}, recorder=(recorder,) if recorder else ())
        for recorder, numbers in by_recorder.items()
        if any(numbers)
    ]
