"""What an INVITE offers to record: a SIPREC session or a recording leg, and whose voice is on which line.

Contract: malformed SIP or SDP raises; malformed metadata does not, for the call must be recorded all the
same: it is reported beside the offer. Source: RFC 7866 sections 6 and 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from recorderd.core.errors import MetadataFormatError, SipFormatError
from recorderd.core.messages import CallDescription, Origin, Participant
from recorderd.wire.sdp import SessionDescription, parse_sdp
from recorderd.wire.sip_message import BodyPart, SipAddress, SipMessage, address_of, body_parts
from recorderd.wire.siprec import (
    METADATA_TYPES,
    RecordingMetadata,
    parse_metadata,
    senders_by_label,
    senders_by_stream,
)

SDP_TYPE: Final = "application/sdp"
CALLER_LEG: Final = "caller"
CALLEE_LEG: Final = "callee"


@dataclass(frozen=True, slots=True, kw_only=True)
class LegHeaderNames:
    """Which headers of a recording leg say what."""

    call_id: str = "X-Call-ID"
    leg: str = "X-Call-Leg"
    caller: str = "X-Call-Caller"
    callee: str = "X-Call-Callee"
    direction: str = "X-Call-Direction"
    extension: str = "X-Call-Extension"
    trunk: str = "X-Call-Trunk"
    queue: str = "X-Call-Queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedLine:
    """Whose voice is on one ``m=`` line."""

    label: str
    side_rank: int  # 0 = the recorded side
    participant_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An INVITE as a recorder sees it; ``lines`` has one entry per line of the SDP."""

    description: CallDescription
    sip_call_id: str
    has_call_id: bool  # the exchange named the call, so that legs can meet
    sdp: SessionDescription | None
    lines: tuple[OfferedLine, ...]
    metadata: RecordingMetadata | None = None
    metadata_problem: MetadataFormatError | None = None


def describe_offer(message: SipMessage, *, leg_headers: LegHeaderNames) -> Offer:
    """Read an INVITE or re-INVITE.

    Errors: SipFormatError, SdpFormatError.
    """
    parts = body_parts(message)
    sdp_part = _part_of(parts, (SDP_TYPE,))
    sdp = parse_sdp(sdp_part.content) if sdp_part is not None else None
    metadata_part = _part_of(parts, METADATA_TYPES)
    if metadata_part is not None or _requires_siprec(message):
        return _siprec_offer(message, sdp, metadata_part)
    return _leg_offer(message, sdp, leg_headers)


def _siprec_offer(message: SipMessage, sdp: SessionDescription | None, part: BodyPart | None) -> Offer:
    metadata, problem = None, None
    try:
        if part is None:
            reason = "the INVITE has none"
            raise MetadataFormatError(what="metadata", field="body", reason=reason)
        metadata = parse_metadata(part.content)
    except MetadataFormatError as found:
        problem = found
    sip_call_id = _sip_call_id(message)
    if metadata is None:
        caller, callee = _from_and_to(message)
        call_id = sip_call_id
        participants: tuple[Participant, ...] = ()
        senders: list[tuple[str, ...]] = [() for _ in sdp.media] if sdp else []
    else:
        names = (*metadata.sip_session_ids, *metadata.group_ids, *metadata.session_ids, sip_call_id)
        call_id, participants, senders = names[0], metadata.participants, _senders(sdp, metadata)
        caller, callee = _parties(participants, senders)
    return Offer(
        description=CallDescription(
            call_id=call_id, origin=Origin.SIPREC, caller=caller, callee=callee, participants=participants
        ),
        sip_call_id=sip_call_id,
        has_call_id=metadata is not None,
        sdp=sdp,
        lines=tuple(
            OfferedLine(label=label, side_rank=rank, participant_ids=senders[rank])
            for rank, label in enumerate(_labels(sdp))
        ),
        metadata=metadata,
        metadata_problem=problem,
    )


def _labels(sdp: SessionDescription | None) -> list[str]:
    """Name each line by its label or else by its place.

    Lines with one name share a channel, so no two that are open at once get the same. A stream that moved
    to another line keeps its name: the line that it left has port 0.
    """
    media = sdp.media if sdp else ()
    given = {line.label for line in media}
    taken: set[str] = set()
    labels: list[str] = []
    for number, line in enumerate(media):
        label = line.label or str(number)
        while label in taken or (label in given and label != line.label):
            label = f"{label}.{number}"
        if line.port:
            taken.add(label)
        labels.append(label)
    return labels


def _senders(sdp: SessionDescription | None, metadata: RecordingMetadata) -> list[tuple[str, ...]]:
    """Say for each line who sends it: by label, or by place where one side has no label."""
    media = sdp.media if sdp else ()
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


def _parties(participants: tuple[Participant, ...], senders: list[tuple[str, ...]]) -> tuple[str, str]:
    """Name the first two parties in the order of the streams they send."""
    by_id = {entry.participant_id: entry for entry in participants}
    order: list[str] = []
    for line in senders:
        order += [who for who in line if who in by_id]
    order += by_id
    names = [by_id[who].number or by_id[who].name for who in dict.fromkeys(order)]
    return (*names, "", "")[0], (*names, "", "")[1]


def _leg_offer(message: SipMessage, sdp: SessionDescription | None, names: LegHeaderNames) -> Offer:
    def read(name: str) -> str:
        return (message.header(name) or "").strip() if name else ""

    from_user, to_user = _from_and_to(message)
    caller, callee = read(names.caller) or from_user, read(names.callee) or to_user
    extension, leg = read(names.extension), read(names.leg)
    call_id, sip_call_id = read(names.call_id), _sip_call_id(message)
    lines = len(sdp.media) if sdp else 0
    label = leg or sip_call_id
    rank = _leg_rank(leg, caller=caller, extension=extension)
    return Offer(
        description=CallDescription(
            call_id=call_id or sip_call_id,
            origin=Origin.LEG,
            caller=caller,
            callee=callee,
            direction=read(names.direction),
            extension=extension,
            trunk=read(names.trunk),
            queue=read(names.queue),
        ),
        sip_call_id=sip_call_id,
        has_call_id=bool(call_id),
        sdp=sdp,
        lines=tuple(
            OfferedLine(label=label if number == 0 else f"{label}.{number}", side_rank=rank)
            for number in range(lines)
        ),
    )


def _leg_rank(leg: str, *, caller: str, extension: str) -> int:
    """Put the leg of the recorded extension first; without one, the caller's."""
    recorded = CALLEE_LEG if extension and extension != caller else CALLER_LEG
    if leg.lower() not in (CALLER_LEG, CALLEE_LEG):
        return 2
    return 0 if leg.lower() == recorded else 1


def _from_and_to(message: SipMessage) -> tuple[str, str]:
    caller = _address(message.header("p-asserted-identity")) or _address(message.header("from"))
    callee = _address(message.header("to"))
    return (caller.user if caller else ""), (callee.user if callee else "")


def _address(value: str | None) -> SipAddress | None:
    try:
        return address_of(value) if value else None
    except SipFormatError:
        return None


def _requires_siprec(message: SipMessage) -> bool:
    required = ",".join(message.headers("require")).lower().split(",")
    return "siprec" in map(str.strip, required) or "+sip.src" in ",".join(message.headers("contact")).lower()


def _sip_call_id(message: SipMessage) -> str:
    call_id = message.header("call-id")
    if not call_id:
        raise SipFormatError(what="SIP", field="call-id", reason="missing")
    return call_id


def _part_of(parts: tuple[BodyPart, ...], types: tuple[str, ...]) -> BodyPart | None:
    return next((part for part in parts if part.content_type in types), None)
