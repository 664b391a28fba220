"""Erasing recordings and making them anonymous over HTTP: one, or what a selection covers after a preview.

Rule: what cannot be undone is shown first. Who acts on a selection says how many recordings the preview said
that it would reach; where that is no longer so, nothing is done.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Body, Depends, Request

from recorderd.archive.anonymising import NewAudio, stage_audio
from recorderd.archive.call_groups import with_copies
from recorderd.archive.erasure import Wish
from recorderd.archive.sign_in import Identity
from recorderd.archive.web.choosing import Chosen, Conditions, chosen, reaches_all
from recorderd.archive.web.desk import Desk, desk_of
from recorderd.archive.web.gates import Granted, HouseGate, RecordingGate
from recorderd.archive.web.problems import Problem
from recorderd.core.errors import ErasureRefused
from recorderd.policy.access import Action
from recorderd.wire.tombstone import Cause, Kind

router: Final = APIRouter(tags=["keeping"])
AT_ONCE: Final = 1000  # recordings in one request
ANONYMISED_AT_ONCE: Final = 100  # whose audio is written anew
_ONE: Final = "/recordings/{recorder_id}/{recording_id}"
_BUSY: Final = threading.BoundedSemaphore(1)  # of this process: each keeps the disk busy
_MOST: Final = {Kind.ERASED: AT_ONCE, Kind.ANONYMISED: ANONYMISED_AT_ONCE}
_ACTION: Final = {Kind.ERASED: Action.ERASE, Kind.ANONYMISED: Action.ANONYMISE}

Right = Annotated[
    bool,
    Body(description="A person claims it: goes before the class's minimum where the class permits."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DisposalRow:
    """One recording, and what would become or became of it."""

    recording_id: str
    recorder_id: str
    started_at: str
    retention_class: str
    size_bytes: int
    refused: str  # why it stays; empty = it goes


@dataclass(frozen=True, slots=True, kw_only=True)
class Disposal:
    """What a selection covers. ``recordings`` of a preview goes into the request that acts."""

    kind: Kind
    covers: str
    done: bool
    recordings: int
    refused: int
    rows: list[DisposalRow]


@router.post(f"{_ONE}/erase", status_code=204)
def erase(
    request: Request,
    granted: Annotated[Granted, Depends(RecordingGate(Action.ERASE, "recording_erased", by_deed=True))],
    right_to_erasure: Annotated[bool, Body(embed=True)] = False,
) -> None:
    """Erase a recording for good; a signed tombstone stays. Refused under a hold and before its time."""
    _dispose_one(request, granted, Kind.ERASED, right_to_erasure)


@router.post(f"{_ONE}/anonymise", status_code=204)
def anonymise(
    request: Request,
    granted: Annotated[
        Granted, Depends(RecordingGate(Action.ANONYMISE, "recording_anonymised", by_deed=True))
    ],
    right_to_erasure: Annotated[bool, Body(embed=True)] = False,
) -> None:
    """Keep a recording's audio, and nobody's number. Refused as erasing is."""
    _dispose_one(request, granted, Kind.ANONYMISED, right_to_erasure)


@router.post("/erasures/preview")
def preview_erasures(
    request: Request,
    identity: Annotated[Identity, Depends(HouseGate(Action.ERASE, "erasure_previewed", by_deed=True))],
    selection: Conditions,
    right_to_erasure: Right = False,
) -> Disposal:
    """Say which recordings a selection covers, and which of them would be erased."""
    return _preview(request, identity, Kind.ERASED, selection, right_to_erasure)


@router.post("/erasures")
def erase_selected(
    request: Request,
    identity: Annotated[
        Identity, Depends(HouseGate(Action.ERASE, "recordings_erased", by_deed=True, wants_reason=True))
    ],
    selection: Conditions,
    recordings: Annotated[int, Body(ge=0, le=AT_ONCE)],
    right_to_erasure: Right = False,
) -> Disposal:
    """Erase what a selection covers; ``recordings`` is how many the preview found."""
    return _act(request, identity, Kind.ERASED, selection, expected=recordings, claims_right=right_to_erasure)


@router.post("/anonymisations/preview")
def preview_anonymisations(
    request: Request,
    identity: Annotated[
        Identity, Depends(HouseGate(Action.ANONYMISE, "anonymisation_previewed", by_deed=True))
    ],
    selection: Conditions,
    right_to_erasure: Right = False,
) -> Disposal:
    """Say which recordings a selection covers, and which of them would be made anonymous."""
    return _preview(request, identity, Kind.ANONYMISED, selection, right_to_erasure)


@router.post("/anonymisations")
def anonymise_selected(
    request: Request,
    identity: Annotated[
        Identity,
        Depends(HouseGate(Action.ANONYMISE, "recordings_anonymised", by_deed=True, wants_reason=True)),
    ],
    selection: Conditions,
    recordings: Annotated[int, Body(ge=0, le=ANONYMISED_AT_ONCE)],
    right_to_erasure: Right = False,
) -> Disposal:
    """Make anonymous what a selection covers; ``recordings`` is how many the preview found."""
    return _act(
        request, identity, Kind.ANONYMISED, selection, expected=recordings, claims_right=right_to_erasure
    )


# --- the work ---------------------------------------------------------------------------------------


def _dispose_one(request: Request, granted: Granted, kind: Kind, claims_right: bool) -> None:
    desk, row_id = desk_of(request), granted.entry.row_id
    wish = _wish(kind, granted.identity, granted.reason, claims_right)
    desk.keeping.sweeper.enrol()
    audio: dict[int, NewAudio] = {}
    with _turn() if kind is Kind.ANONYMISED else nullcontext():
        if kind is Kind.ANONYMISED and not _foreseen(desk, row_id, wish):
            audio[row_id] = stage_audio(desk.store, granted.entry)
        row_ids = _rows_of(desk, granted, kind)
        request.state.deed = None  # the eraser notes what came of it, whatever that is
        for outcome in desk.keeping.eraser.dispose(row_ids, wish, audio=audio):
            if outcome.refusal:
                raise Problem(409, "kept", f"It {outcome.refusal}.")


def _rows_of(desk: Desk, granted: Granted, kind: Kind) -> list[int]:
    """Name what is erased with a recording: what other recorders have of its call.

    Errors: Problem when somebody may not do that with all of it.
    """
    row_ids = [granted.entry.row_id]
    if kind is Kind.ERASED:
        with desk.database.read() as connection:
            row_ids = with_copies(connection, row_ids)
    if not reaches_all(desk, granted.identity.viewer, row_ids, _ACTION[kind]):
        raise Problem(403, "refused", "Another recorder has this call too, and you may not erase that.")
    return row_ids


def _foreseen(desk: Desk, row_id: int, wish: Wish) -> str:
    with desk.database.read() as connection:
        kept = list(desk.keeping.book.kept(connection, [row_id]))
    return desk.keeping.eraser.refusals(kept, wish).get(row_id, "")


def _preview(
    request: Request, identity: Identity, kind: Kind, conditions: Conditions, claims_right: bool
) -> Disposal:
    desk, selection = desk_of(request), conditions.selection()
    found = chosen(desk, identity, selection, _ACTION[kind])
    wish = _wish(kind, identity, "", claims_right)
    refusals = desk.keeping.eraser.refusals([row.kept for row in found], wish)
    told = _told(kind, str(selection), found, refusals, done=False)
    _note(request, desk, told)
    return told


def _act(
    request: Request,
    identity: Identity,
    kind: Kind,
    conditions: Conditions,
    *,
    expected: int,
    claims_right: bool,
) -> Disposal:
    desk, selection = desk_of(request), conditions.selection()
    wish = _wish(kind, identity, request.state.deed.reason, claims_right)
    with _turn():
        found = chosen(desk, identity, selection, _ACTION[kind])
        if len(found) != expected or len(found) > _MOST[kind]:
            detail = f"It covers {len(found)} recordings now; look at the preview again."
            raise Problem(409, "changed", detail)
        refusals = desk.keeping.eraser.refusals([row.kept for row in found], wish)
        audio: dict[int, NewAudio] = {}
        for row in found:
            if kind is Kind.ANONYMISED and not refusals[row.kept.row_id]:
                try:
                    audio[row.kept.row_id] = stage_audio(desk.store, row.entry)
                except ErasureRefused as problem:
                    refusals[row.kept.row_id] = str(problem.fields["reason"])
        for outcome in desk.keeping.eraser.dispose([row.kept.row_id for row in found], wish, audio=audio):
            foreseen = refusals[outcome.row_id]  # tells more of audio that could not be written anew
            refusals[outcome.row_id] = (foreseen or outcome.refusal) if outcome.refusal else ""
    told = _told(kind, str(selection), found, refusals, done=True)
    _note(request, desk, told)
    return told


@contextmanager
def _turn() -> Iterator[None]:
    if not _BUSY.acquire(blocking=False):
        raise Problem(503, "busy", "Others are being erased.", headers={"Retry-After": "5"})
    try:
        yield
    finally:
        _BUSY.release()


def _wish(kind: Kind, identity: Identity, reason: str, claims_right: bool) -> Wish:
    cause = Cause.RIGHT if claims_right else Cause.REQUEST
    return Wish(kind=kind, cause=cause, who=identity.actor, reason=reason)


def _told(kind: Kind, covers: str, found: list[Chosen], refusals: dict[int, str], *, done: bool) -> Disposal:
    rows = [
        DisposalRow(
            recording_id=row.entry.id,
            recorder_id=row.entry.recorder_id,
            started_at=row.entry.started_at,
            retention_class=row.kept.facts.retention_class,
            size_bytes=row.kept.size_bytes,
            refused=refusals[row.kept.row_id],
        )
        for row in found
    ]
    return Disposal(
        kind=kind,
        covers=covers,
        done=done,
        recordings=len(rows),
        refused=sum(bool(row.refused) for row in rows),
        rows=rows[:AT_ONCE],
    )


def _note(request: Request, desk: Desk, told: Disposal) -> None:
    """Note what was asked for with a selection; each recording that was tried has a row of its own."""
    deed = request.state.deed
    detail = f"{told.recordings} recordings, {told.refused} refused"
    desk.audit_log.note(deed.who, deed.what, told.covers, reason=deed.reason, detail=detail)
