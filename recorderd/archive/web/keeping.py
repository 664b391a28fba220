"""How long recordings are kept, over HTTP: terms, what the next sweep would do, holds of one recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Body, Depends, Request
from fastapi import Path as InPath

from recorderd.archive.sign_in import Identity
from recorderd.archive.web.desk import Desk, desk_of
from recorderd.archive.web.gates import Granted, HouseGate, RecordingGate
from recorderd.archive.web.problems import Problem, unknown
from recorderd.core.clock import NS_PER_S, utc_text
from recorderd.policy.access import Action
from recorderd.policy.holds import Hold
from recorderd.policy.retention import ClassTally, PlanTally, RetentionClass, decide
from recorderd.policy.selection import Selection

router: Final = APIRouter(tags=["keeping"])
_ONE: Final = "/recordings/{recorder_id}/{recording_id}"
UNTIL: Final = r"^(\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d{1,3})?Z)?)?$"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldView:
    """One hold."""

    number: int
    covers: str
    reason: str
    by: str
    added_at: str
    until: str
    released_at: str
    released_by: str
    release_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """What the next sweep would do, by class."""

    classes: dict[str, ClassTally]
    unknown: list[str]  # classes that are in no terms: kept


@dataclass(frozen=True, slots=True, kw_only=True)
class TermsView:
    """Terms that were signed: under which classes recordings came from ``from_row`` on."""

    number: int
    stated_at: str
    by: str
    from_row: int
    worm: bool
    classes: list[RetentionClass]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptUntil:
    """How long one recording is kept; days of UTC, empty = never, or not under WORM."""

    retention_class: str
    verdict: str
    nobody_before: str
    due: str
    worm_until: str
    holds: list[int]


@router.get(f"{_ONE}/retention")
def kept_until(
    request: Request,
    granted: Annotated[Granted, Depends(RecordingGate(Action.VIEW, "retention_shown"))],
) -> KeptUntil:
    """Say until when a recording is kept."""
    desk = desk_of(request)
    keeping, now_utc_ns = desk.keeping, desk.clock.utc_ns()
    keeping.sweeper.enrol()
    with desk.database.read() as connection:
        ruling = keeping.book.ruling(connection)
        index = keeping.holds.index(connection, now_utc=utc_text(now_utc_ns))
        kept = next(iter(keeping.book.kept(connection, [granted.entry.row_id])), None)
    if kept is None:
        raise unknown()  # erased
    decision = decide(kept, ruling, index, now_utc_s=now_utc_ns // NS_PER_S)
    return KeptUntil(
        retention_class=kept.facts.retention_class,
        verdict=decision.verdict.value,
        nobody_before=_day(decision.due.earliest_utc_s),
        due=_day(decision.due.due_utc_s),
        worm_until=_day(decision.due.floor_utc_s),
        holds=[hold.number for hold in index.of(kept.facts)],
    )


@router.get(f"{_ONE}/holds")
def holds(
    request: Request,
    granted: Annotated[Granted, Depends(RecordingGate(Action.VIEW, "holds_listed"))],
) -> list[HoldView]:
    """List the holds that a recording is under."""
    return [told_hold(hold) for hold in _holds(desk_of(request), granted)]


@router.post(f"{_ONE}/holds", status_code=201)
def add_hold(
    request: Request,
    granted: Annotated[Granted, Depends(RecordingGate(Action.HOLD, "hold_added", by_deed=True))],
    until: Annotated[str, Body(embed=True, pattern=UNTIL)] = "",
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


@router.get("/retention/classes")
def classes(
    request: Request,
    _: Annotated[Identity, Depends(HouseGate(Action.PLAN, "terms_shown"))],
) -> list[TermsView]:
    """Show the terms that were ever signed, the oldest first."""
    desk = desk_of(request)
    with desk.database.read() as connection:
        steps = desk.keeping.book.signed(connection)
    return [
        TermsView(
            number=step.number,
            stated_at=step.stated_at,
            by=step.by,
            from_row=step.from_row,
            worm=step.worm,
            classes=list(step.classes),
        )
        for step in steps
    ]


def told_hold(hold: Hold) -> HoldView:
    """Tell a hold."""
    return HoldView(
        number=hold.number,
        covers=str(hold.selection),
        reason=hold.reason,
        by=hold.by,
        added_at=hold.added_at,
        until=hold.until,
        released_at=hold.released_at,
        released_by=hold.released_by,
        release_reason=hold.release_reason,
    )


def _day(utc_s: int | None) -> str:
    return "" if utc_s is None else utc_text(utc_s * NS_PER_S)[:10]


def _holds(desk: Desk, granted: Granted) -> tuple[Hold, ...]:
    """Find the holds in force that cover a recording."""
    desk.keeping.sweeper.enrol()
    with desk.database.read() as connection:
        index = desk.keeping.holds.index(connection, now_utc=utc_text(desk.clock.utc_ns()))
        kept = list(desk.keeping.book.kept(connection, [granted.entry.row_id]))
    return index.of(kept[0].facts) if kept else ()
