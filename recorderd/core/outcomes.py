"""What became of a session: the words that stand in manifests. All but one leave an entry without audio."""

from __future__ import annotations

from typing import Final

RECORDED: Final = "recorded"
OBJECTED: Final = "objected"
CONSENT_MISSING: Final = "consent_missing"
NOT_WANTED: Final = "not_wanted"  # a rule says never
NOT_STARTED: Final = "not_started"  # on demand and nobody started it, or it ended while it waited
REFUSED_CAPACITY: Final = "refused_capacity"  # there was no room
REFUSED_MEDIA: Final = "refused_media"  # it offered nothing that can be recorded
FAILED: Final = "failed"  # we could not take it
QUARANTINED: Final = "quarantined"  # its draft is set aside; the entry names it
SHED: Final = "shed"  # a sealed recording was deleted unsent, for want of room; the entry names it

ERASED: Final = (OBJECTED, CONSENT_MISSING)  # always leave an entry
CHOSEN: Final = (
    NOT_WANTED,
    NOT_STARTED,
    REFUSED_CAPACITY,
    REFUSED_MEDIA,
    FAILED,
    QUARANTINED,
)  # if configured
TOLD: Final = (*CHOSEN, SHED)  # of which entries tell that are none of the call's own recording
WITHOUT_AUDIO: Final = (*ERASED, *TOLD)
