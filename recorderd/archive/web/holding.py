"""Legal holds of whatever a selection covers, now and later, over HTTP.

Rule: somebody holds and releases only what is wholly of recorders that they reach; a hold that also covers
what is restricted to them is not theirs to release.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Body, Depends, Query, Request
from fastapi import Path as InPath

from recorderd.archive.selecting import covered_by
from recorderd.archive.sign_in import Identity
from recorderd.archive.web.choosing import Conditions, chosen, is_within_reach
from recorderd.archive.web.desk import Desk, desk_of
from recorderd.archive.web.gates import HouseGate
from recorderd.archive.web.keeping import UNTIL, HoldView, told_hold
from recorderd.archive.web.labels import facts_of
from recorderd.archive.web.problems import Problem, unknown
from recorderd.core.clock import utc_text
from recorderd.policy.access import Action, Ruling, Viewer, rule_on_recording
from recorderd.policy.holds import Hold

router: Final = APIRouter(prefix="/holds", tags=["keeping"])


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHold:
    """A hold that was added, and how many recordings it covers now."""

    hold: HoldView
    recordings: int


@router.get("")
def holds(
    request: Request,
    identity: Annotated[Identity, Depends(HouseGate(Action.HOLD, "holds_listed"))],
    ended: Annotated[bool, Query(description="Those that have ended, too.")] = False,
) -> list[HoldView]:
    """List holds of what one reaches."""
    desk = desk_of(request)
    now = utc_text(desk.clock.utc_ns())
    return [
        told_hold(hold)
        for hold in desk.keeping.holds.listed()
        if (ended or hold.in_force(now)) and _reaches(desk, identity.viewer, hold, Action.HOLD)
    ]


@router.post("", status_code=201)
def add_hold(
    request: Request,
    identity: Annotated[
        Identity, Depends(HouseGate(Action.HOLD, "hold_added", by_deed=True, wants_reason=True))
    ],
    selection: Conditions,
    until: Annotated[str, Body(pattern=UNTIL)] = "",
) -> NewHold:
    """Put what a selection covers on hold, now and later, until a day or until somebody releases it."""
    desk, wanted = desk_of(request), selection.selection()
    if not is_within_reach(identity.viewer, wanted):
        raise Problem(403, "refused", "A hold covers what comes later too: name a recorder of yours.")
    hold = desk.keeping.holds.add(
        wanted,
        reason=request.state.deed.reason,
        until=until,
        who=identity.actor,
        now_utc=utc_text(desk.clock.utc_ns()),
    )
    return NewHold(hold=told_hold(hold), recordings=len(chosen(desk, identity, wanted, Action.HOLD)))


@router.delete("/{number}", status_code=204)
def release_hold(
    request: Request,
    number: Annotated[int, InPath(ge=1, le=2**53)],
    identity: Annotated[
        Identity, Depends(HouseGate(Action.RELEASE, "hold_released", by_deed=True, wants_reason=True))
    ],
) -> None:
    """End a hold, of one recording or of many."""
    desk, reason = desk_of(request), request.state.deed.reason
    hold = next((row for row in desk.keeping.holds.listed() if row.number == number), None)
    if hold is None or not _reaches(desk, identity.viewer, hold, Action.RELEASE):
        raise unknown()
    keeping = desk.keeping
    all_of_it = covered_by(
        hold.selection, database=desk.database, book=keeping.book, sweeper=keeping.sweeper, perhaps=True
    )
    if len(chosen(desk, identity, hold.selection, Action.RELEASE)) != len(all_of_it):
        raise Problem(403, "refused", "It covers recordings that you may not release.")
    now_utc = utc_text(desk.clock.utc_ns())
    keeping.holds.release(number, reason=reason, who=identity.actor, now_utc=now_utc)


def _reaches(desk: Desk, viewer: Viewer, hold: Hold, action: Action) -> bool:
    """Tell whether somebody reaches all that a hold covers; of one recording, whether they see it."""
    selection = hold.selection
    found = desk.catalogue.by_id(selection.recording_id) if selection.recording_id else []
    found = [entry for entry in found if selection.recorder_id in ("", entry.recorder_id)]
    if not found:
        return is_within_reach(viewer, selection)
    facts = facts_of(desk, found, desk.annotations.tags_of([entry.row_id for entry in found]))
    return all(rule_on_recording(viewer, action, seen) is not Ruling.REFUSED for seen in facts.values())
