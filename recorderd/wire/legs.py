"""Recording legs: plain calls to the recorder, with headers that say which voice of which call they carry.

Three ways: headers of the exchange's own (Asterisk and the like), the parameters that Cisco's built-in bridge
puts into the From URI (two dialogs, the offer comes late), and the headers of Cisco CUBE's forking (one
dialog, two lines).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from recorderd.core.messages import WITHHELD, Participant
from recorderd.wire.offered import (
    HEADER_MAX,
    LegHeaderNames,
    OfferedLine,
    OfferKind,
    address_in,
    from_and_to,
    named_labels,
    read_header,
)
from recorderd.wire.sdp import SessionDescription
from recorderd.wire.sip_message import SipMessage
from recorderd.wire.siprec import number_of

CALLER_LEG: Final = "caller"
CALLEE_LEG: Final = "callee"
CONFERENCE_LEG: Final = "conference"
MIXED_LEG: Final = "mixed"
RECORDING_PARTICIPANT: Final = "x-cisco-recording-participant"
PARTICIPANTS_MAX: Final = 64
_MEDIA_INDEX: Final = re.compile(r';\s*media-index\s*=\s*"?([0-9]{1,3})"?', re.IGNORECASE)
_BETWEEN: Final = re.compile(r",\s*(?=<?sips?:)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """What the headers of a leg say."""

    kind: OfferKind
    call_key: str
    call_id: str  # empty = the exchange did not name the call
    leg: str
    caller: str
    callee: str
    extension: str
    voices: tuple[OfferedLine, ...]  # never empty
    participants: tuple[Participant, ...] = ()


def read_leg(message: SipMessage, *, names: LegHeaderNames, sip_call_id: str) -> Leg:
    """Read a leg of whatever kind."""
    if message.header(RECORDING_PARTICIPANT) is not None:
        return _forked(message)
    near_far = bridge_parameters(message)
    if near_far:
        return _bridged(near_far)
    return _plain(message, names, sip_call_id)


def bridge_parameters(message: SipMessage) -> dict[str, str]:
    """Give the parameters of the From URI when Cisco's built-in bridge wrote them; else nothing."""
    address = address_in(message.header("from"))
    uri = address.uri if address else ""
    found: dict[str, str] = {}
    for part in uri.partition("?")[0].split(";")[1:]:
        name, _, value = part.partition("=")
        found.setdefault(name.strip().lower(), unquote(value.strip(), errors="replace")[:HEADER_MAX])
    return found if "x-nearend" in found or "x-farend" in found else {}


def lines_of_legs(
    sdp: SessionDescription | None, *, voices: tuple[OfferedLine, ...]
) -> tuple[OfferedLine, ...]:
    """Put the voices on the lines of an SDP; a second line of one voice gets a name of its own."""
    lines: list[OfferedLine] = []
    labels = named_labels(sdp)
    for number in range(len(sdp.media) if sdp else 0):
        voice = voices[min(number, len(voices) - 1)]
        label = voice.label or labels[number]
        if number >= len(voices) and voice.label:
            label = f"{label}.{number}"
        lines.append(
            OfferedLine(
                label=label,
                side_rank=voice.side_rank,
                participant_ids=voice.participant_ids,
                party=voice.party if number < len(voices) else "",
            )
        )
    return tuple(lines)


def _plain(message: SipMessage, names: LegHeaderNames, sip_call_id: str) -> Leg:
    from_user, to_user = from_and_to(message)
    caller = read_header(message, names.caller) or from_user
    callee = read_header(message, names.callee) or to_user
    extension, leg = read_header(message, names.extension), read_header(message, names.leg)
    call_id = read_header(message, names.call_id)
    voice = OfferedLine(
        label=leg or sip_call_id[:HEADER_MAX],
        side_rank=_leg_rank(leg, caller=caller, extension=extension),
        party=_leg_party(
            leg,
            caller=read_header(message, names.caller),
            callee=read_header(message, names.callee),
            extension=extension if extension != caller else "",
        ),
    )
    return Leg(
        kind=OfferKind.LEG,
        call_key=call_id,
        call_id=call_id,
        leg=leg,
        caller=caller,
        callee=callee,
        extension=extension,
        voices=(voice,),
    )


def _leg_rank(leg: str, *, caller: str, extension: str) -> int:
    """Put the leg of the recorded extension first; without one, the caller's."""
    recorded = CALLEE_LEG if extension and extension != caller else CALLER_LEG
    if leg.lower() not in (CALLER_LEG, CALLEE_LEG):
        return 2
    return 0 if leg.lower() == recorded else 1


def _leg_party(leg: str, *, caller: str, callee: str, extension: str) -> str:
    """Name whose voice a leg carries: behind a queue's number it is the agent that answered.

    Only what headers say counts: two legs taken for one party's would be kept once.
    """
    if leg.lower() == CALLER_LEG:
        return _somebody(caller)
    if leg.lower() == CALLEE_LEG:
        return _somebody(extension if extension and extension != caller else callee)
    return MIXED_LEG if leg.lower() == MIXED_LEG else ""  # both voices: a second such leg brings the same


def _somebody(number: str) -> str:
    """Give a number that tells one party from another; nothing where it is withheld, as many people's is."""
    return "" if number_of(number).strip().casefold() in WITHHELD else number


def _bridged(parameters: dict[str, str]) -> Leg:
    """Read a dialog of Cisco's built-in bridge; the near end is the phone that records.

    Nothing says who called whom: the far end is put down as the caller.
    """
    leg = "near" if "x-nearend" in parameters else "far"
    near = parameters.get("x-nearendaddr") or parameters.get("x-nearenddevice", "")
    far = parameters.get("x-farendaddr") or parameters.get("x-farenddevice", "")
    reference = parameters.get("x-refci", "")
    key = f"refci:{reference}@{parameters.get('x-nearendclusterid', '')}" if reference else ""
    party = _somebody(near if leg == "near" else far)
    return Leg(
        kind=OfferKind.CISCO_BIB,
        call_key=key,
        call_id=parameters.get("x-sessionid") or reference,
        leg=leg,
        caller=far,
        callee=near,
        extension=near,
        voices=(
            OfferedLine(label=leg, side_rank=0 if leg == "near" else 1, participant_ids=(leg,), party=party),
        ),
        participants=tuple(
            Participant(
                participant_id=end,
                number=number,
                name=parameters.get(f"x-{end}enddevice", ""),
            )
            for end, number in (("near", near), ("far", far))
            if number
        ),
    )


def _forked(message: SipMessage) -> Leg:
    """Read Cisco CUBE's network-based forking: a participant per line, by ``media-index``."""
    values = [value for header in message.headers(RECORDING_PARTICIPANT) for value in _BETWEEN.split(header)]
    by_line: dict[int, str] = {}
    for place, value in enumerate(values[:PARTICIPANTS_MAX]):
        index = _MEDIA_INDEX.search(value)
        number = int(index.group(1)) if index is not None else place
        if number < PARTICIPANTS_MAX:
            by_line[number] = value.partition(";")[0].strip().strip("<>")[:HEADER_MAX]
    uris = [by_line.get(number, "") for number in range(max(by_line, default=0) + 1)]
    guid = read_header(message, "cisco-guid")
    parties = [number_of(uri) for uri in uris]
    return Leg(
        kind=OfferKind.CISCO_CUBE,
        call_key=f"guid:{guid}" if guid else "",
        call_id=guid,
        leg="",
        caller=(*parties, "", "")[0],
        callee=(*parties, "", "")[1],
        extension="",
        voices=tuple(
            OfferedLine(
                label="",
                side_rank=number,
                participant_ids=(uri,) if uri else (),
                party=_somebody(parties[number]),
            )
            for number, uri in enumerate(uris)
        ),
        participants=tuple(
            Participant(participant_id=uri, aor=uri, number=number_of(uri))
            for uri in dict.fromkeys(uris)
            if uri
        ),
    )
