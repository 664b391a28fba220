"""Share links over HTTP: made and revoked by whoever may, used by whoever has link and passphrase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Body, Depends, Request, Response
from fastapi import Path as InPath

from recorderd.archive.audio_forms import Form
from recorderd.archive.shares import LONGEST_HOURS, PASSPHRASE_MIN, USES_MAX, Share
from recorderd.archive.sign_in import Identity
from recorderd.archive.web.desk import Desk, address_of, desk_of
from recorderd.archive.web.gates import Granted, HouseGate, OpenGate, RecordingGate
from recorderd.archive.web.labels import facts_of
from recorderd.archive.web.playing import audio_of, audio_response
from recorderd.archive.web.problems import Problem, unknown
from recorderd.core.clock import NS_PER_S, utc_text
from recorderd.core.errors import RecorderError
from recorderd.policy.access import Action, Ruling, rule_on_recording

router: Final = APIRouter(tags=["shares"])
ShareId = Annotated[str, InPath(pattern=r"^[0-9a-f]{16}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareView:
    """A link as it is told."""

    id: str
    recorder_id: str
    recording_id: str
    expires_at: str
    uses_left: int
    is_dead: bool  # by too many wrong passphrases
    created_by: str
    created_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewShareView:
    """A new link; ``secret`` is told this once and belongs into the link, the passphrase goes another way."""

    share: ShareView
    secret: str


def _told(share: Share) -> ShareView:
    values = {name: getattr(share, name) for name in ShareView.__slots__ if hasattr(share, name)}
    expires_at = utc_text(share.expires_utc_s * NS_PER_S)
    return ShareView(**values, expires_at=expires_at, is_dead=share.failures_left <= 0)


@router.post("/recordings/{recorder_id}/{recording_id}/shares", status_code=201)
def add_share(
    request: Request,
    granted: Annotated[Granted, Depends(RecordingGate(Action.SHARE, "share_added", by_deed=True))],
    passphrase: Annotated[str, Body(min_length=PASSPHRASE_MIN, max_length=256)],
    hours: Annotated[int, Body(ge=1, le=LONGEST_HOURS)] = 72,
    uses: Annotated[int, Body(ge=1, le=USES_MAX)] = 3,
) -> NewShareView:
    """Share one recording with somebody who has no account."""
    desk = desk_of(request)
    audio_of(desk.store, granted.entry)  # else the other side would be the first to hear that there is none
    share, secret = desk.shares.add(
        granted.identity.actor,
        granted.entry,
        passphrase=passphrase,
        hours=hours,
        uses=uses,
        reason=granted.reason,
    )
    return NewShareView(share=_told(share), secret=secret)


@router.get("/shares")
def shares(
    request: Request,
    identity: Annotated[Identity, Depends(HouseGate(Action.SEARCH, "shares_listed"))],
) -> list[ShareView]:
    """List the links to what one may share."""
    desk = desk_of(request)
    return [_told(share) for share in desk.shares.all() if _may_share(desk, identity, share)]


@router.delete("/shares/{share_id}", status_code=204)
def revoke_share(
    request: Request,
    share_id: ShareId,
    identity: Annotated[Identity, Depends(HouseGate(Action.SEARCH, "share_revoked", by_deed=True))],
) -> None:
    """Make a link worthless."""
    desk = desk_of(request)
    share = desk.shares.find(share_id)
    if not _may_share(desk, identity, share):
        raise unknown()
    desk.shares.revoke(identity.actor, share_id, reason="")


@router.post(
    "/shared/{share_id}/audio",
    response_class=Response,
    dependencies=[Depends(OpenGate("proves itself by link and passphrase"))],
    responses={200: {"content": {"audio/wav": {}, "audio/mpeg": {}, "audio/flac": {}, "audio/ogg": {}}}},
)
def hear_shared(
    request: Request,
    share_id: ShareId,
    secret: Annotated[str, Body(max_length=256)],
    passphrase: Annotated[str, Body(max_length=256)],
    form: Annotated[Form, Body(alias="format")] = Form.MP3,
) -> Response:
    """Hear what was shared; each answer with audio is one use."""
    desk, address = desk_of(request), address_of(request)
    share = desk.shares.use(share_id, secret, passphrase, address=address)
    try:
        entry = desk.catalogue.find(share.recorder_id, share.recording_id)
        if entry is None:
            raise Problem(410, "gone", "The recording is not there any more.")
        return audio_response(request, audio_of(desk.store, entry), form)
    except (Problem, RecorderError, OSError) as problem:
        desk.shares.give_back(share, why=str(problem), address=address)
        raise


def _may_share(desk: Desk, identity: Identity, share: Share) -> bool:
    entry = desk.catalogue.find(share.recorder_id, share.recording_id)
    if entry is None:
        return identity.actor.name == share.created_by
    facts = facts_of(desk, [entry], {entry.row_id: desk.annotations.tags(entry.row_id)})
    return rule_on_recording(identity.viewer, Action.SHARE, facts[entry.row_id]) is not Ruling.REFUSED
