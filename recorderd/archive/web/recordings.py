"""Recordings over HTTP: found, looked at, heard, taken away, annotated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from fastapi import Path as InPath

from recorderd.archive.audio_forms import Form
from recorderd.archive.call_groups import Copy
from recorderd.archive.catalogue import Entry
from recorderd.archive.criteria import KINDS, parse_criteria
from recorderd.archive.database import storable
from recorderd.archive.groups import FileAt, FileRow
from recorderd.archive.sign_in import Identity
from recorderd.archive.web.desk import Desk, desk_of
from recorderd.archive.web.gates import Granted, HouseGate, RecordingGate
from recorderd.archive.web.labels import facts_of
from recorderd.archive.web.peaks import POINTS_MAX, ChannelPeaks, RecordingPeaks
from recorderd.archive.web.playing import audio_of, audio_response, file_response
from recorderd.archive.web.problems import unknown
from recorderd.archive.web.visibility import visible_to
from recorderd.core.clock import utc_text
from recorderd.policy.access import Action, Ruling, rule_on_recording

router: Final = APIRouter(prefix="/recordings", tags=["recordings"])
NAME_LIMIT: Final = 255
TAG: Final = r"^[^\x00-\x1f\x7f]{1,200}$"
_ONE: Final = "/{recorder_id}/{recording_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One recording as it is told."""

    id: str
    recorder_id: str
    sequence: int
    manifest_sha256: str
    previous_manifest_sha256: str
    call_id: str
    caller: str
    callee: str
    direction: str
    extension: str
    trunk: str
    queue: str
    started_at: str
    duration_s: float
    channels: int
    sample_rate_hz: int
    size_bytes: int
    state: str
    chain: str
    archived_at: str
    tags: list[str]
    copies: list[str]  # what other recorders have of the call, as RECORDER/ID; told in searches of everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Recordings:
    """One page; ``next_after`` goes into the question for the next one, empty = this is the last."""

    recordings: list[Recording]
    next_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of a recording."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteView:
    """What somebody added."""

    number: int
    who: str
    at: str
    text: str


def told(entry: Entry, tags: tuple[str, ...], copies: tuple[Copy, ...] = ()) -> Recording:
    """Tell a recording."""
    values = {name: getattr(entry, name) for name in Recording.__slots__ if name not in ("tags", "copies")}
    others = [f"{row.recorder_id}/{row.recording_id}" for row in copies if row.recording_id != entry.id]
    return Recording(**values, tags=list(tags), copies=others)


_SEARCHED: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": kind,
            "in": "query",
            "required": False,
            "schema": {"type": "array", "items": {"type": "string", "maxLength": 200}},
        }
        for kind in KINDS
    ]
}


@router.get("", openapi_extra=_SEARCHED)
def search(
    request: Request,
    identity: Annotated[Identity, Depends(HouseGate(Action.SEARCH, "recordings_searched"))],
) -> Recordings:
    """Search what one reaches; every condition must hold.

    `number` in any notation, `part` of one, `since` and `until` (days or times), `extension`, `queue`,
    `trunk`, `direction`, `recorder`, `state`, `tag`, `note`, `min_duration`, `max_duration` in seconds;
    `sort` (started, duration, archived, with a - for the greatest first), `limit`, `after`.
    """
    desk = desk_of(request)
    words: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        if name != "reason":
            words.setdefault(name, []).append(value)
    criteria = parse_criteria(words)
    within = visible_to(identity.viewer)
    if within is None:
        return Recordings(recordings=[], next_after="")
    page = desk.search.page(replace(criteria, within=within))
    facts = facts_of(desk, page.entries, page.tags)
    rows = [
        told(entry, page.tags.get(entry.row_id, ()), page.copies.get(entry.row_id, ()) if not within else ())
        for entry in page.entries
        if rule_on_recording(identity.viewer, Action.VIEW, facts[entry.row_id]) is not Ruling.REFUSED
    ]
    return Recordings(recordings=rows, next_after=page.next_after)


@router.get(_ONE)
def view(granted: Annotated[Granted, Depends(RecordingGate(Action.VIEW, "recording_viewed"))]) -> Recording:
    """Look at one recording."""
    return told(granted.entry, granted.tags)


@router.get(f"{_ONE}/files")
def files(
    request: Request,
    granted: Annotated[Granted, Depends(RecordingGate(Action.VIEW, "files_listed"))],
) -> list[StoredFile]:
    """List its files: audio, manifest, signatures."""
    return [
        StoredFile(name=storable(row.name), size_bytes=row.size_bytes)
        for row in _files(desk_of(request), granted.entry)
    ]


@router.get(
    f"{_ONE}/files/{{name}}",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {}}},
        206: {"description": "A part, where a range was asked for."},
    },
)
def download(
    request: Request,
    name: Annotated[str, InPath(max_length=NAME_LIMIT)],
    granted: Annotated[Granted, Depends(RecordingGate(Action.DOWNLOAD, "file_downloaded"))],
) -> Response:
    """Download a file as it was signed, or a range of it."""
    group = desk_of(request).store.group(granted.entry.path)
    for row in _files(desk_of(request), granted.entry):
        if row.name == name:  # compared with what is there; a path is never made of what was asked
            return file_response(request, FileAt(path=granted.entry.path, group=group, name=row.name))
    raise unknown()


@router.get(
    f"{_ONE}/audio",
    response_class=Response,
    responses={
        200: {"content": {"audio/wav": {}, "audio/mpeg": {}, "audio/flac": {}, "audio/ogg": {}}},
        206: {"description": "A part of the WAV, where a range was asked for."},
    },
)
def play(
    request: Request,
    granted: Annotated[Granted, Depends(RecordingGate(Action.PLAY, "recording_played"))],
    form: Annotated[Form, Query(alias="format")] = Form.WAV,
) -> Response:
    """Hear it: made while it is sent; ranges of WAV only. The original is what `files` gives."""
    return audio_response(request, audio_of(desk_of(request).store, granted.entry), form)


@router.get(f"{_ONE}/peaks")
def peaks(
    request: Request,
    granted: Annotated[Granted, Depends(RecordingGate(Action.PLAY, "level_drawn"))],
    points: Annotated[int, Query(ge=1, le=POINTS_MAX)] = 800,
) -> RecordingPeaks:
    """Give the least and the greatest sample of each stretch, for drawing."""
    desk = desk_of(request)
    table = desk.peaks.of(audio_of(desk.store, granted.entry), points=points)
    channels = [ChannelPeaks(**row) for row in table["channels"]]
    return RecordingPeaks(**(table | {"channels": channels}))


@router.get(f"{_ONE}/notes")
def notes(
    request: Request,
    granted: Annotated[Granted, Depends(RecordingGate(Action.VIEW, "notes_read"))],
) -> list[NoteView]:
    """Read what people added, the oldest first."""
    return [
        NoteView(number=note.note_id, who=note.who, at=note.at, text=note.text)
        for note in desk_of(request).annotations.notes(granted.entry.row_id)
    ]


@router.post(f"{_ONE}/notes", status_code=201)
def add_note(
    request: Request,
    granted: Annotated[Granted, Depends(RecordingGate(Action.NOTE, "note_added", by_deed=True))],
    text: Annotated[str, Body(embed=True, min_length=1, max_length=10_000)],
) -> dict[str, int]:
    """Add a note; it is never changed."""
    desk, who = desk_of(request), granted.identity.actor
    at = utc_text(desk.clock.utc_ns())
    with desk.database.write() as connection:
        number = desk.annotations.add_note(
            granted.entry.row_id, text, who=who.name, at=at, connection=connection
        )
        desk.audit_log.note(
            who,
            "note_added",
            granted.subject,
            reason=granted.reason,
            detail=f"note {number}",
            connection=connection,
        )
    return {"number": number}


@router.put(f"{_ONE}/tags/{{tag}}", status_code=204)
def add_tag(
    request: Request,
    tag: Annotated[str, InPath(pattern=TAG)],
    granted: Annotated[Granted, Depends(RecordingGate(Action.TAG, "tag_added", by_deed=True))],
) -> None:
    """Add a tag."""
    desk, who = desk_of(request), granted.identity.actor
    at = utc_text(desk.clock.utc_ns())
    with desk.database.write() as connection:
        desk.annotations.add_tag(granted.entry.row_id, tag, who=who.name, at=at, connection=connection)
        _note_tag(desk, granted, "tag_added", tag, connection)


@router.delete(f"{_ONE}/tags/{{tag}}", status_code=204)
def remove_tag(
    request: Request,
    tag: Annotated[str, InPath(pattern=TAG)],
    granted: Annotated[Granted, Depends(RecordingGate(Action.TAG, "tag_removed", by_deed=True))],
) -> None:
    """Remove a tag."""
    desk = desk_of(request)
    with desk.database.write() as connection:
        desk.annotations.remove_tag(granted.entry.row_id, tag, connection=connection)
        _note_tag(desk, granted, "tag_removed", tag, connection)


def _note_tag(desk: Desk, granted: Granted, what: str, tag: str, connection: Any) -> None:
    who, reason = granted.identity.actor, granted.reason
    desk.audit_log.note(who, what, granted.subject, reason=reason, detail=tag, connection=connection)


def _files(desk: Desk, entry: Entry) -> list[FileRow]:
    group = desk.store.group(entry.path)
    try:
        return [row for row in group.rows() if row.is_regular]
    except FileNotFoundError:
        return []
