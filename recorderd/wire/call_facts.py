"""What metadata says of a call and of its lines.

Rule: what a header states goes before what the metadata say, an extension that names the parties before the
order of the streams; a line belongs to who sends the stream with its label, or else by place.
Source: RFC 7865 section 6; the extensions are those of BroadWorks, Metaswitch, Oracle and Ribbon.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from recorderd.core.messages import CallDescription, Participant
from recorderd.wire.offered import OfferedLine, named_labels
from recorderd.wire.sdp import SessionDescription
from recorderd.wire.siprec import (
    RecordingMetadata,
    extension,
    number_of,
    senders_by_label,
    senders_by_stream,
)

_DIRECTIONS: Final = {
    "origcall": "outbound", "originating": "outbound", "outgoing": "outbound", "outbound": "outbound",
    "termcall": "inbound", "terminating": "inbound", "incoming": "inbound", "inbound": "inbound",
}  # fmt: skip
_CALL_IDS: Final = ("ucid", "extTrackingID", "trackingID", "callid")


def describe_metadata(
    metadata: RecordingMetadata | None, *, sdp: SessionDescription | None, stated: CallDescription
) -> CallDescription:
    """Complete what is stated of a call with what its metadata say."""
    if metadata is None:
        return stated
    participants = _real(metadata)
    lines = lines_of_metadata(sdp, metadata)
    caller, callee = _parties(metadata, participants, lines)
    direction = _DIRECTIONS.get(extension(metadata, "callType").lower(), "")
    caller, callee = stated.caller or caller, stated.callee or callee
    return replace(
        stated,
        call_id=_call_id(metadata, stated),
        caller=caller,
        callee=callee,
        direction=stated.direction or direction,
        extension=stated.extension or _recorded(metadata, caller, callee, direction),
        participants=participants,
    )


def lines_of_metadata(
    sdp: SessionDescription | None, metadata: RecordingMetadata | None
) -> tuple[OfferedLine, ...]:
    """Say for each line of an SDP whose voice is on it."""
    senders = _senders(sdp, metadata)
    return tuple(
        OfferedLine(label=label, side_rank=rank, participant_ids=senders[rank])
        for rank, label in enumerate(named_labels(sdp))
    )


def _senders(sdp: SessionDescription | None, metadata: RecordingMetadata | None) -> list[tuple[str, ...]]:
    """Say for each line who sends it: by label, or by place where one side has no label."""
    media = sdp.media if sdp else ()
    if metadata is None:
        return [() for _ in media]
    if not metadata.senders:
        return _by_place(sdp, metadata)
    by_label, by_stream = senders_by_label(metadata), senders_by_stream(metadata)
    given = {line.label for line in media}
    senders: list[tuple[str, ...]] = []
    for number, line in enumerate(media):
        who = by_label.get(line.label, ())
        if not who and number < len(metadata.streams):
            stream = metadata.streams[number]
            if not stream.label or (not line.label and stream.label not in given):
                who = by_stream.get(stream.stream_id, ())
        senders.append(who)
    return senders


def _by_place(sdp: SessionDescription | None, metadata: RecordingMetadata) -> list[tuple[str, ...]]:
    """Put participants on lines in their order, where the metadata never say who sends anything.

    One line carries all of them; otherwise there must be as many as lines, or nothing is claimed.
    """
    media = sdp.media if sdp else ()
    people = tuple(entry.participant_id for entry in _real(metadata))
    associated = set(metadata.associated)
    people = tuple(who for who in people if who not in associated)
    open_lines = [number for number, line in enumerate(media) if line.kind == "audio"]
    senders: list[tuple[str, ...]] = [() for _ in media]
    if len(open_lines) == 1:
        senders[open_lines[0]] = people
    elif len(open_lines) == len(people):
        for number, who in zip(open_lines, people, strict=True):
            senders[number] = (who,)
    return senders


def _real(metadata: RecordingMetadata) -> tuple[Participant, ...]:
    """Leave out participants that some clients make up: nameless, numberless, and sending nothing."""
    sending = {who for who, _ in metadata.senders}
    return tuple(
        entry
        for entry in metadata.participants
        if entry.number or entry.name or entry.participant_id in sending
    )


def _parties(
    metadata: RecordingMetadata, participants: tuple[Participant, ...], lines: tuple[OfferedLine, ...]
) -> tuple[str, str]:
    """Name caller and callee: as an extension names them, or else in the order of the streams they send."""
    by_id = {entry.participant_id: entry for entry in participants}
    order = [who for who, _ in _calling_first(metadata)]
    for line in lines:
        order += line.participant_ids
    order += by_id
    names = [by_id[who].number or by_id[who].name for who in dict.fromkeys(order) if who in by_id]
    names = [name for name in names if name]
    caller = number_of(extension(metadata, "callingPartyNumber", "fromhdr")) or (*names, "")[0]
    callee = number_of(extension(metadata, "calledPartyNumber", "tohdr"))
    others = [name for name in names if name != caller]
    return caller, callee or (*others, "")[0]


def _calling_first(metadata: RecordingMetadata) -> list[tuple[str, bool]]:
    """Give the participants of which Oracle says whether they called, the caller first."""
    said = [
        (key.partition("@")[2], text.lower() == "true")
        for key, text in metadata.extensions
        if key.startswith("callingParty@")
    ]
    return sorted(said, key=lambda entry: not entry[1])


def _recorded(metadata: RecordingMetadata, caller: str, callee: str, direction: str) -> str:
    """Name the extension that is recorded: as stated, or the user's own side of the call."""
    stated = number_of(extension(metadata, "recordedParty"))
    if stated:
        return stated
    return {"outbound": caller, "inbound": callee}.get(direction, "")


def _call_id(metadata: RecordingMetadata, stated: CallDescription) -> str:
    names = (
        stated.call_id,
        *metadata.sip_session_ids,
        extension(metadata, *_CALL_IDS).partition(";")[0],
        *metadata.group_ids,
        *metadata.session_ids,
    )
    return next((name for name in names if name), "")
