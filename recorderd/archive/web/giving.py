"""Subject access over HTTP: what there is about a number, and all of it as one sealed bundle.

Rule: somebody gives out what they may download; the bundle says among which recordings was looked. Who gets
it stands in the audit log before the first octet leaves, and whether it left whole after the last.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Annotated, Final

import anyio
from fastapi import APIRouter, Body, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from recorderd.archive.sign_in import Identity
from recorderd.archive.subject_access import Bundle, Found, Subject, found_of
from recorderd.archive.tar_pieces import tar_pieces
from recorderd.archive.web.choosing import Chosen, Word, chosen
from recorderd.archive.web.desk import Desk, desk_of
from recorderd.archive.web.gates import HouseGate
from recorderd.archive.web.problems import Deed, Problem
from recorderd.core.clock import NS_PER_S, utc_text
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev
from recorderd.policy.access import Action, Viewer
from recorderd.policy.selection import Selection, party_key

router: Final = APIRouter(prefix="/subject-access", tags=["people"])
BUNDLES: Final = 2  # at once: each copies recordings
LISTED: Final = 1000
_MAKING: Final = threading.BoundedSemaphore(BUNDLES)
Number = Annotated[
    Word, Body(embed=True, min_length=1, description="A number in any notation, or an extension.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectRow:
    """One recording about somebody."""

    recording_id: str
    recorder_id: str
    started_at: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectView:
    """What there is about a number."""

    number: str
    scope: str
    recordings: int
    size_bytes: int
    rows: list[SubjectRow]


@router.post("/preview")
def preview(
    request: Request,
    identity: Annotated[
        Identity, Depends(HouseGate(Action.SUBJECT_ACCESS, "subject_access_previewed", by_deed=True))
    ],
    number: Number,
) -> SubjectView:
    """Say what a bundle about a number would hold."""
    desk = desk_of(request)
    found = _about(desk, identity, number)
    deed = request.state.deed
    desk.audit_log.note(deed.who, deed.what, number, reason=deed.reason, detail=f"{len(found)} recordings")
    return SubjectView(
        number=number,
        scope=_scope(identity.viewer),
        recordings=len(found),
        size_bytes=sum(row.entry.size_bytes for row in found),
        rows=[
            SubjectRow(
                recording_id=row.entry.id,
                recorder_id=row.entry.recorder_id,
                started_at=row.entry.started_at,
                size_bytes=row.entry.size_bytes,
            )
            for row in found[:LISTED]
        ],
    )


@router.post("/bundle", response_class=Response, responses={200: {"content": {"application/x-tar": {}}}})
def bundle(
    request: Request,
    identity: Annotated[
        Identity,
        Depends(HouseGate(Action.SUBJECT_ACCESS, "subject_access", by_deed=True, wants_reason=True)),
    ],
    number: Number,
) -> Response:
    """Give everything about a number: a tar with an index to read, its digests, and our signature last."""
    desk, deed = desk_of(request), request.state.deed
    pairs = _about(desk, identity, number)
    _see_room(desk, pairs)
    if not _MAKING.acquire(blocking=False):
        raise Problem(503, "busy", "Other bundles are being made.", headers={"Retry-After": "60"})
    try:
        now_utc_ns = desk.clock.utc_ns()
        subject = Subject(
            number=number,
            reason=deed.reason,
            by=identity.actor.name,
            scope=_scope(identity.viewer),
            archive_id=desk.archive_id,
            made_at=utc_text(now_utc_ns),
            made_utc_s=now_utc_ns // NS_PER_S,
        )
        found = found_of(
            [(row.kept, row.entry) for row in pairs],
            database=desk.database,
            book=desk.keeping.book,
            holds=desk.keeping.holds,
            now_utc=subject.made_at,
        )
        _note(desk, deed, number, found)
        pieces = _watched(desk, deed, number, _pieces(desk, subject, found))
    except BaseException:
        _MAKING.release()
        raise
    name = f"subject-access-{subject.made_at[:10]}.tar"
    return _Made(pieces, name=name)


class _Made(StreamingResponse):
    """A bundle on its way: also when its reader leaves, what was begun is cleared away before the next."""

    def __init__(self, pieces: Generator[bytes], *, name: str) -> None:
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        super().__init__(pieces, media_type="application/x-tar", headers=headers)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._end)

    def _end(self) -> None:
        try:
            self._pieces.close()
        finally:
            _MAKING.release()


def _about(desk: Desk, identity: Identity, number: str) -> list[Chosen]:
    if not party_key(number):
        raise Problem(422, "search", "There is no number in that.")
    return chosen(desk, identity, Selection(number=number), Action.DOWNLOAD)


def _scope(viewer: Viewer) -> str:
    where = "every recorder" if viewer.all_recorders else ", ".join(sorted(viewer.recorders)) or "no recorder"
    apart = "" if viewer.second_right else ", without restricted ones"
    return f"recordings of {where}{apart}"


def _see_room(desk: Desk, pairs: list[Chosen]) -> None:
    largest_bytes = max((row.entry.size_bytes for row in pairs), default=0)
    if shutil.disk_usage(desk.store.root).free - largest_bytes < desk.keep_free_bytes:
        raise Problem(507, "no-room", "There is no room for a copy of the longest recording.")


def _note(desk: Desk, deed: Deed, number: str, found: list[Found]) -> None:
    """Note what leaves, in one transaction: each recording, then the bundle."""
    with desk.database.write() as connection:
        for row in found:
            desk.audit_log.note(deed.who, deed.what, row.entry.id, reason=deed.reason, connection=connection)
        desk.audit_log.note(
            deed.who,
            deed.what,
            number,
            reason=deed.reason,
            detail=f"{len(found)} recordings",
            connection=connection,
        )


def _pieces(desk: Desk, subject: Subject, found: list[Found]) -> Iterator[bytes]:
    bundle = Bundle(
        subject,
        store=desk.store,
        annotations=desk.annotations,
        audit=desk.audit_log,
        signer=desk.signer,
    )
    top = f"subject-access-{subject.made_at[:10]}"
    return tar_pieces(desk.store.root, bundle, found, top=top, made_utc_s=subject.made_utc_s)


def _watched(desk: Desk, deed: Deed, number: str, pieces: Iterator[bytes]) -> Generator[bytes]:
    """Give a bundle on; note how that ended."""
    outcome, detail = "failed", "was cut off"
    try:
        yield from pieces
        outcome, detail = "done", "whole"
    except (RecorderError, OSError) as problem:
        detail = f"was cut off: {type(problem).__name__}"
        desk.log.error(Ev.HTTP_FAILED, subject="/subject-access/bundle", reason=problem)
        raise
    finally:
        desk.audit_log.note(
            deed.who, "subject_access_sent", number, reason=deed.reason, outcome=outcome, detail=detail
        )
