"""What an INVITE, re-INVITE or UPDATE offers to record, and whose voice is on which line.

Contract: malformed SIP or SDP raises; malformed metadata does not, for the call must be recorded all the
same: it is reported beside the offer. A request without SDP is no error here: the offer may come late, or an
UPDATE may carry metadata alone. Source: RFC 7866 sections 6 and 7, RFC 7865, RFC 9806.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from recorderd.core.errors import MetadataFormatError, SipFormatError
from recorderd.core.messages import CallDescription, Origin, Participant
from recorderd.wire.call_facts import describe_metadata, lines_of_metadata
from recorderd.wire.legs import (
    CONFERENCE_LEG,
    RECORDING_PARTICIPANT,
    bridge_parameters,
    lines_of_legs,
    read_leg,
)
from recorderd.wire.metadata_merge import merge
from recorderd.wire.offered import (
    HEADER_MAX,
    LegHeaderNames,
    Offer,
    OfferedLine,
    OfferKind,
    address_in,
    called_user,
    from_and_to,
    is_in_dialog,
    read_consent,
    read_header,
)
from recorderd.wire.sdp import SessionDescription, parse_sdp
from recorderd.wire.sip_message import BodyPart, SipMessage, body_parts
from recorderd.wire.siprec import METADATA_TYPES, RecordingMetadata, parse_metadata

__all__ = [
    "LegHeaderNames",
    "Offer",
    "OfferKind",
    "OfferedLine",
    "describe_offer",
    "fallback_key",
    "has_metadata",
    "later_offer",
    "with_answer",
    "with_metadata",
    "with_sdp",
]

SDP_TYPE: Final = "application/sdp"
_SOURCE_TAGS: Final = ("+sip.src", "src")


def describe_offer(message: SipMessage, *, leg_headers: LegHeaderNames) -> Offer:
    """Read a request that may offer something to record.

    Errors: SipFormatError, SdpFormatError.
    """
    parts = body_parts(message)
    sdp_part = _part_of(parts, (SDP_TYPE,))
    sdp = parse_sdp(sdp_part.content) if sdp_part is not None else None
    metadata_part = _part_of(parts, METADATA_TYPES)
    if metadata_part is not None:
        return _siprec_offer(message, sdp, metadata_part, leg_headers)
    is_cisco = message.header(RECORDING_PARTICIPANT) is not None or bridge_parameters(message)
    if not is_cisco and _is_siprec(message):
        return _siprec_offer(message, sdp, None, leg_headers)
    return _leg_offer(message, sdp, leg_headers)


def has_metadata(message: SipMessage) -> bool:
    """Tell whether a request has a metadata document, be it one that can be read or not."""
    return _part_of(body_parts(message), METADATA_TYPES) is not None


def with_sdp(offer: Offer, sdp: SessionDescription) -> Offer:
    """Give an offer the SDP that came later: in the ACK, or without a word of whose voice is where."""
    if offer.kind is OfferKind.SIPREC:
        lines = lines_of_metadata(sdp, offer.metadata)
        later = replace(offer, sdp=sdp, lines=lines)
        return later if offer.metadata is None else replace(later, description=_described(later))
    return replace(offer, sdp=sdp, lines=lines_of_legs(sdp, voices=offer.voices))


def with_answer(offer: Offer, answer: SessionDescription) -> Offer:
    """Give an offer of ours the peer's answer; lines that it does not label keep the labels that they had."""
    known = offer.sdp.media if offer.sdp is not None else ()
    labels = [line.label for line in known] + [""] * len(answer.media)
    media = (
        replace(line, label=line.label or label) for line, label in zip(answer.media, labels, strict=False)
    )
    return with_sdp(offer, replace(answer, media=tuple(media)))


def with_metadata(offer: Offer, metadata: RecordingMetadata) -> Offer:
    """Give a SIPREC offer what later documents said, merged; the SDP stays."""
    lines = lines_of_metadata(offer.sdp, metadata)
    later = replace(offer, metadata=metadata, metadata_problem=None, lines=lines)
    return replace(later, description=_with_first_parties(offer.description, _described(later)))


def _with_first_parties(known: CallDescription, described: CallDescription) -> CallDescription:
    """Keep caller and callee while they are described: whoever hangs up first is the caller still."""
    people = {text for entry in described.participants for text in (entry.number, entry.name)} - {""}
    caller = known.caller if known.caller in people else described.caller
    others = [name for name in (described.callee, described.caller) if name != caller]
    callee = known.callee if known.callee in people and known.callee != caller else (*others, "")[0]
    return replace(described, caller=caller, callee=callee)


def _described(offer: Offer) -> CallDescription:
    described = describe_metadata(offer.metadata, sdp=offer.sdp, stated=offer.stated)
    return replace(described, call_id=described.call_id or offer.sip_call_id[:HEADER_MAX])


def later_offer(known: Offer, said: Offer) -> Offer:
    """Give what holds of a dialog after a later request in it; ``said`` is that request, described alone.

    A later request need not repeat anything: what it leaves out stays. Documents of a SIPREC session are
    merged; ``metadata.unknown_references`` of the result says whether a snapshot is wanted. Cisco's headers
    replace who is on which line.
    """
    later = with_sdp(known, said.sdp) if said.sdp is not None else known
    if said.metadata is not None:
        described = later if known.kind is OfferKind.SIPREC else replace(said, sdp=later.sdp)
        later = with_metadata(described, merge(known.metadata, said.metadata))
    elif said.kind is known.kind and said.kind in (OfferKind.CISCO_BIB, OfferKind.CISCO_CUBE):
        later = replace(
            later,
            description=replace(
                said.description,
                call_id=known.description.call_id,
                participants=_all_people(known.description, said.description),
            ),
            stated=replace(said.stated, call_id=known.stated.call_id),
            voices=said.voices,
            lines=lines_of_legs(later.sdp, voices=said.voices),
        )
    return replace(
        later,
        linked_call_id=said.linked_call_id or known.linked_call_id,
        consent=known.consent if said.consent is None else said.consent,
        record_aware=known.record_aware or said.record_aware,
        metadata_problem=said.metadata_problem,
    )


def _all_people(known: CallDescription, said: CallDescription) -> tuple[Participant, ...]:
    """Give everybody who is or was on a call: the recording has the voice of whoever left."""
    return tuple(
        {entry.participant_id: entry for entry in (*known.participants, *said.participants)}.values()
    )


def fallback_key(offer: Offer) -> frozenset[str]:
    """Give the two parties of a leg whose call nobody named, so that two legs of one call may meet.

    Empty when the call has a name or when fewer than two parties are known. Whoever stands in To and is
    also whom the request calls is the recorder, no party: else all calls of an exchange would meet.
    """
    if offer.kind is not OfferKind.LEG or offer.has_call_id:
        return frozenset()
    return offer.parties if len(offer.parties) == 2 else frozenset()


def _siprec_offer(
    message: SipMessage, sdp: SessionDescription | None, part: BodyPart | None, names: LegHeaderNames
) -> Offer:
    metadata, problem = None, None
    try:
        if part is not None:
            metadata = parse_metadata(part.content)
        elif not is_in_dialog(message):  # a re-INVITE may bring an SDP alone
            raise MetadataFormatError(what="metadata", field="body", reason="the INVITE has none")
    except MetadataFormatError as found:
        problem = MetadataFormatError(**found.fields)  # a fresh one: what was raised holds on to its callers
    sip_call_id = _sip_call_id(message)
    call_id = read_header(message, names.call_id)
    stated = CallDescription(
        call_id=call_id or _user_to_user(message) or read_header(message, "cisco-guid"),
        origin=Origin.SIPREC,
        caller=read_header(message, names.caller),
        callee=read_header(message, names.callee),
        direction=read_header(message, names.direction).lower(),
        extension=read_header(message, names.extension),
        trunk=read_header(message, names.trunk),
        queue=read_header(message, names.queue),
        conference=read_header(message, names.conference),
        kind=read_header(message, names.kind).lower(),
    )
    described = describe_metadata(metadata, sdp=sdp, stated=stated)
    if metadata is None:  # the addresses are those of the client and of ours: better than nothing
        caller, callee = from_and_to(message)
        described = replace(described, caller=described.caller or caller, callee=described.callee or callee)
    if not described.call_id:
        described = replace(described, call_id=sip_call_id[:HEADER_MAX])
    return Offer(
        kind=OfferKind.SIPREC,
        description=described,
        stated=stated,
        sip_call_id=sip_call_id,
        has_call_id=metadata is not None or bool(call_id),
        call_key=call_id,
        leg="",
        sdp=sdp,
        lines=lines_of_metadata(sdp, metadata),
        metadata=metadata,
        metadata_problem=problem,
        linked_call_id=read_header(message, names.linked),
        consent=read_consent(read_header(message, names.consent), names),
        record_aware=_is_record_aware(message),
    )


def _leg_offer(message: SipMessage, sdp: SessionDescription | None, names: LegHeaderNames) -> Offer:
    sip_call_id = _sip_call_id(message)
    leg = read_leg(message, names=names, sip_call_id=sip_call_id)
    call_id = read_header(message, names.call_id) or leg.call_id
    stated = CallDescription(
        call_id=call_id or sip_call_id[:HEADER_MAX],
        origin=Origin.LEG,
        caller=read_header(message, names.caller) or leg.caller,
        callee=read_header(message, names.callee) or leg.callee,
        direction=read_header(message, names.direction).lower(),
        extension=read_header(message, names.extension) or leg.extension,
        trunk=read_header(message, names.trunk),
        queue=read_header(message, names.queue),
        conference=read_header(message, names.conference)
        or (leg.callee if leg.leg.lower() == CONFERENCE_LEG else ""),
        kind=read_header(message, names.kind).lower(),
        participants=leg.participants,
    )
    return Offer(
        kind=leg.kind,
        description=stated,
        stated=stated,
        sip_call_id=sip_call_id,
        has_call_id=bool(call_id),
        call_key=read_header(message, names.call_id) or leg.call_key,
        leg=leg.leg,
        parties=_parties(message, names),
        sdp=sdp,
        lines=lines_of_legs(sdp, voices=leg.voices),
        voices=leg.voices,
        linked_call_id=read_header(message, names.linked),
        consent=read_consent(read_header(message, names.consent), names),
        record_aware=_is_record_aware(message),
    )


def _parties(message: SipMessage, names: LegHeaderNames) -> frozenset[str]:
    caller, callee = from_and_to(message)
    called = callee if callee != called_user(message) else ""
    stated = {read_header(message, names.caller) or caller, read_header(message, names.callee) or called}
    return frozenset(stated - {""})


def _is_record_aware(message: SipMessage) -> bool:
    options = ",".join((*message.headers("supported"), *message.headers("require"))).lower()
    return "record-aware" in map(str.strip, options.split(","))


def _is_siprec(message: SipMessage) -> bool:
    """Know a recording client by its option tag or its feature tag, wherever it puts that."""
    required = ",".join(message.headers("require")).lower().split(",")
    if "siprec" in map(str.strip, required):
        return True
    for value in message.headers("contact"):
        contact = address_in(value)
        if contact is None:
            continue
        tags = contact.parameters.lower().split(";")
        tags += [part for part in contact.uri.lower().split(";")[1:] if part.startswith("+sip.")]
        if any(tag.partition("=")[0].split(",")[0].strip() in _SOURCE_TAGS for tag in tags):
            return True
    return False


def _user_to_user(message: SipMessage) -> str:
    """Give the call id that Avaya carries in User-to-User, without its encoding. Source: RFC 7433."""
    return read_header(message, "user-to-user").partition(";")[0].strip()


def _sip_call_id(message: SipMessage) -> str:
    call_id = message.header("call-id")
    if not call_id:
        raise SipFormatError(what="SIP", field="call-id", reason="missing")
    return call_id


def _part_of(parts: tuple[BodyPart, ...], types: tuple[str, ...]) -> BodyPart | None:
    return next((part for part in parts if part.content_type in types), None)
