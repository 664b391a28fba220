"""How long recordings are kept, over HTTP: holds, erasure, and what the next sweep would do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Body, Depends, Request
from fastapi import Path as InPath

from recorderd.archive.call_groups import with_copies
from recorderd.archive.erasure import Wish
from recorderd.archive.sign_in import Identity
from recorderd.archive.web.desk import Desk, desk_of
from recorderd.archive.web.gates import Granted, HouseGate, RecordingGate
from recorderd.archive.web.problems import Problem, unknown
from recorderd.core.clock import utc_text
from recorderd.policy.access import Action
from recorderd.policy.holds import Hold
from recorderd.policy.retention import ClassTally, PlanTally
from recorderd.policy.selection import Selection
from recorderd.wire.tombstone import Cause, Kind

router: Final = APIRouter(tags=["keeping"])
_ONE: Final = "/recordings/{recorder_id}/{recording_id}"
_UNTIL: Final = r"^(\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d{1,3})?Z)?)?$"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldView:
    """One hold in force on a recording."""

    number: int
    covers: str
    reason: str
    by: str
    added_at: str
    until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """What the next sweep would do, by class."""

    classes: dict[str, ClassTally]
    unknown: list[str]  # classes that are in no terms: kept


@router.get(f"{_ONE}/holds")
def holds(
    request: Request,
    granted: Annotated[Granted, Depends(RecordingGate(Action.VIEW, "holds_listed"))],
) -> list[HoldView]:
    """List the holds that a recording is under."""
    return [
        HoldView(
            number=hold.number,
            covers=str(hold.selection),
            reason=hold.reason,
            by=hold.by,
            added_at=hold.added_at,
            until=hold.until,
        )
        for hold in _holds(desk_of(request), granted)
    ]


@router.post(f"{_ONE}/holds", status_code=201)
def add_hold(
    request: Request,
    granted: Annotated[Granted, Depends(RecordingGate(Action.HOLD, "hold_added", by_deed=True))],
    until: Annotated[str, Body(embed=True, pattern=_UNTIL)] = "",
) -> dict[str, int]:
    """Put a recording on hold, until a day or until somebody releases it."""
    desk, entry = desk_of(request), granted.entry
    hold = desk.keeping.holds.add(
        Selection(recording_id=entry.id, recorder_id=entry.recorder_id),
        reason=granted.reason,
        until=until,
        who=granted.identity.actor,
        now_utc=utc_text(desk.clock.utc_ns()),
    )
    return {"number": hold.number}


@router.delete(f"{_ONE}/holds/{{number}}", status_code=204)
def release_hold(
    request: Request,
    number: Annotated[int, InPath(ge=1, le=2**53)],
    granted: Annotated[Granted, Depends(RecordingGate(Action.RELEASE, "hold_released", by_deed=True))],
) -> None:
    """End a hold of this recording; one that covers others too is released on the command line."""
    desk, who = desk_of(request), granted.identity.actor
    hold = next((row for row in _holds(desk, granted) if row.number == number), None)
    if hold is None:
        raise unknown()
    if not hold.selection.recording_id:
        raise Problem(409, "hold-is-wider", "This hold covers other recordings too.")
    now_utc = utc_text(desk.clock.utc_ns())
    desk.keeping.holds.release(number, reason=granted.reason, who=who, now_utc=now_utc)


@router.post(f"{_ONE}/erase", status_code=204)
def erase(
    request: Request,
    granted: Annotated[Granted, Depends(RecordingGate(Action.ERASE, "recording_erased", by_deed=True))],
    right_to_erasure: Annotated[bool, Body(embed=True)] = False,
) -> None:
    """Erase a recording for good; a signed tombstone stays. Refused under a hold and before its time."""
    desk = desk_of(request)
    wish = Wish(
        kind=Kind.ERASED,
        cause=Cause.RIGHT if right_to_erasure else Cause.REQUEST,
        who=granted.identity.actor,
        reason=granted.reason,
    )
    desk.keeping.sweeper.enrol()
    request.state.deed = None  # the eraser notes what came of it, whatever that is
    with desk.database.read() as connection:
        row_ids = with_copies(connection, [granted.entry.row_id])
    for outcome in desk.keeping.eraser.dispose(row_ids, wish):
        if outcome.refusal:
            raise Problem(409, "kept", f"It {outcome.refusal}.")


@router.get("/retention/plan")
def plan(
    request: Request,
    identity: Annotated[Identity, Depends(HouseGate(Action.PLAN, "retention_planned"))],
) -> PlanView:
    """Say what the next sweep would erase of the recorders that one reaches."""
    keeping, viewer, tally = desk_of(request).keeping, identity.viewer, PlanTally()
    keeping.sweeper.enrol()
    with desk_of(request).database.read() as connection:
        for decision in keeping.sweeper.decisions(connection):
            if viewer.all_recorders or decision.recording.facts.recorder_id in viewer.recorders:
                tally.count(decision)
    return PlanView(classes=tally.classes, unknown=sorted(tally.unknown))


def _holds(desk: Desk, granted: Granted) -> tuple[Hold, ...]:
    """Find the holds in force that cover a recording."""
    desk.keeping.sweeper.enrol()
    with desk.database.read() as connection:
        index = desk.keeping.holds.index(connection, now_utc=utc_text(desk.clock.utc_ns()))
        kept = list(desk.keeping.book.kept(connection, [granted.entry.row_id]))
    return index.of(kept[0].facts) if kept else ()
