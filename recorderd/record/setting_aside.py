"""Drafts of which nothing can be made: set aside, each with the entry in the chain that tells of it.

Contract: a draft goes into quarantine together with the id of its entry; ``owed`` lists those whose entry a
cut has kept from being made, so that the next start makes it, under the same id, once. Nothing is deleted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import SessionId, is_safe_id
from recorderd.record.chain import Chain
from recorderd.spool.layout import Place, Spool

ENTRY_NAME: Final = "entry.txt"
REASON_NAME: Final = "reason.txt"
BY_RECOVERY: Final = "recovery: "


def set_aside(
    spool: Spool, recording_id: str, problem: Exception, *, entry: SessionId | None, log: EventLog
) -> bool:
    """Put a draft into quarantine, with the id of its entry if it has one; False when the disk refuses.

    Durable: after return it stands there with both.
    """
    try:
        if entry is not None:
            durable.replace(spool.path(Place.DRAFTS, recording_id) / ENTRY_NAME, entry.encode())
        spool.quarantine(recording_id, come_from=Place.DRAFTS, reason=f"{BY_RECOVERY}{problem}")
    except OSError as refusal:
        log.error(Ev.SPOOL_FAILED, subject=recording_id, reason=refusal)
        return False
    log.error(Ev.RECORDING_QUARANTINED, subject=recording_id, reason=problem)
    return True


def take_back(folder: Path) -> None:
    """Remove the notes of a draft that was about to be set aside: it may be understood this time."""
    for name in (ENTRY_NAME, REASON_NAME):
        if (folder / name).exists():
            durable.discard(folder / name)


def promised(spool: Spool) -> dict[str, str]:
    """Give what was set aside, by the id of its entry."""
    rows = {}
    for recording_id in spool.ids(Place.QUARANTINE):
        note = spool.path(Place.QUARANTINE, recording_id) / ENTRY_NAME
        entry = note.read_text(errors="replace") if note.exists() else ""
        if is_safe_id(entry):
            rows[entry] = recording_id
    return rows


def owed(spool: Spool, chain: Chain) -> list[tuple[str, SessionId]]:
    """List what was set aside and has no entry yet, with the id that this is to have."""
    rows = promised(spool)
    named = chain.named(rows)
    return [
        (recording_id, SessionId(entry))
        for entry, recording_id in rows.items()
        if entry not in named and not spool.path(Place.DRAFTS, entry).exists()
    ]


def reason_of(spool: Spool, recording_id: str) -> str:
    """Read why a draft was set aside."""
    path = spool.path(Place.QUARANTINE, recording_id) / REASON_NAME
    return path.read_text(errors="replace").strip().removeprefix(BY_RECOVERY) if path.exists() else ""
