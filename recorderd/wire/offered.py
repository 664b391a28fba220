"""The words for what an INVITE offers to record."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from recorderd.core.errors import MetadataFormatError, SipFormatError
from recorderd.core.messages import CallDescription
from recorderd.wire.sdp import SessionDescription
from recorderd.wire.sip_message import SipAddress, SipMessage, address_of
from recorderd.wire.siprec import RecordingMetadata

HEADER_MAX: Final = 512  # characters of whatever a stranger states of a call: a manifest's texts are bounded
MIN_SE_S: Final = 90  # RFC 4028 section 5
_YES: Final = ("yes", "true", "1", "given", "granted", "on")
_NO: Final = ("no", "false", "0", "refused", "denied", "objected", "off")


class OfferKind(StrEnum):
    """By which of its ways the exchange hands over the call."""

    SIPREC = "siprec"
    CISCO_BIB = "cisco_bib"  # built-in bridge: a dialog for the near end, another for the far end
    CISCO_CUBE = "cisco_cube"  # network-based forking: both parties on two lines, named in headers
    LEG = "leg"


@dataclass(frozen=True, slots=True, kw_only=True)
class LegHeaderNames:
    """Which headers say what; an empty name = that is never said."""

    call_id: str = "X-Call-ID"
    leg: str = "X-Call-Leg"
    caller: str = "X-Call-Caller"
    callee: str = "X-Call-Callee"
    direction: str = "X-Call-Direction"
    extension: str = "X-Call-Extension"
    trunk: str = "X-Call-Trunk"
    queue: str = "X-Call-Queue"
    conference: str = "X-Call-Conference"
    kind: str = "X-Call-Kind"
    linked: str = "X-Call-Linked"
    consent: str = "X-Recording-Consent"
    consent_yes: str = "yes"  # what the exchange writes there, beside the usual words
    consent_no: str = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedLine:
    """Whose voice is on one ``m=`` line."""

    label: str
    side_rank: int  # 0 = the recorded side
    participant_ids: tuple[str, ...] = ()
    party: str = ""  # the number of whose voice it is; empty = the label decides


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An INVITE, re-INVITE or UPDATE as a recorder sees it; ``lines`` has one entry per line of the SDP."""

    kind: OfferKind
    description: CallDescription
    stated: (
        CallDescription  # only what headers say; metadata that come later complete this, not what they said
    )
    sip_call_id: str
    has_call_id: bool  # the exchange named the call, so that legs can meet
    call_key: str  # dialogs with one key belong to one call; empty = nothing says so
    leg: str  # the leg's name: caller, callee, mixed, near, far, ... as the exchange put it
    sdp: SessionDescription | None  # None: a late offer, or metadata alone
    lines: tuple[OfferedLine, ...]
    voices: tuple[OfferedLine, ...] = ()  # what the headers say of the lines; the last holds for all further
    parties: frozenset[str] = frozenset()  # the call's two ends, as far as they are named
    linked_call_id: str = ""  # another call that the exchange has made one with this
    consent: bool | None = None  # what the exchange says of the parties' consent; None = nothing
    record_aware: bool = False  # the peer understands a=record and a=recordpref
    metadata: RecordingMetadata | None = None
    metadata_problem: MetadataFormatError | None = None


def read_header(message: SipMessage, name: str) -> str:
    """Give a header's text on one line, at most ``HEADER_MAX`` long; empty when absent or nameless."""
    text = message.header(name) if name else None
    return " ".join(text.split())[:HEADER_MAX] if text else ""


def read_consent(text: str, names: LegHeaderNames) -> bool | None:
    """Read a yes or no, in the words of the exchange or in usual ones; None for anything else."""
    word = text.partition(";")[0].strip().casefold()
    own = {names.consent_yes.casefold(): True, names.consent_no.casefold(): False}
    if not word or word in own:
        return own[word] if word else None
    return True if word in _YES else False if word in _NO else None


def address_in(value: str | None) -> SipAddress | None:
    """Read an address header; None when it is absent or holds no address."""
    try:
        return address_of(value) if value else None
    except SipFormatError:
        return None


def has_literal_host(value: str) -> bool:
    """Tell whether an address names its host by number."""
    address = address_in(value)
    try:
        return address is not None and bool(ipaddress.ip_address(address.host.strip("[]")))
    except ValueError:
        return False


def from_and_to(message: SipMessage) -> tuple[str, str]:
    """Give the user parts of who calls (as asserted, or else as stated) and who is called, kept short."""
    caller = address_in(message.header("p-asserted-identity")) or address_in(message.header("from"))
    callee = address_in(message.header("to"))
    return _user_of(caller), _user_of(callee)


def _user_of(address: SipAddress | None) -> str:
    return unquote(address.user, errors="replace")[:HEADER_MAX] if address is not None else ""


def called_user(message: SipMessage) -> str:
    """Give the user part that a request calls, unescaped; empty when it has none."""
    _, _, rest = message.request_uri.partition(":")
    user, at, _ = rest.partition("@")
    return unquote(user.partition(";")[0].partition(":")[0], errors="replace") if at else ""


def session_interval_problem(message: SipMessage) -> str:
    """Say why the session interval that a client asks for is too short; empty when it is not.

    Source: RFC 4028 section 9.
    """
    asked, least = (_seconds(message.header(name)) for name in ("session-expires", "min-se"))
    if asked is None or asked >= max(MIN_SE_S, least or 0):
        return ""
    return f"a session interval of {asked} s is too short"


def _seconds(value: str | None) -> int | None:
    text = (value or "").partition(";")[0].strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def is_in_dialog(message: SipMessage) -> bool:
    """Say whether a request belongs to a dialog: its To header has a tag."""
    to = address_in(message.header("to"))
    return to is not None and any(
        part.strip().lower().startswith("tag=") for part in to.parameters.split(";")
    )


def named_labels(sdp: SessionDescription | None) -> list[str]:
    """Name each line by its label, kept short, or else by its place.

    Lines with one name share a channel, so no two that are open at once get the same. A stream that moved
    to another line keeps its name: the line that it left has port 0.
    """
    media = sdp.media if sdp else ()
    given = {line.label for line in media}
    taken: set[str] = set()
    labels: list[str] = []
    for number, line in enumerate(media):
        label = line.label[:HEADER_MAX] or str(number)
        while label in taken or (label in given and label != line.label):
            label = f"{label}.{number}"
        if line.port:
            taken.add(label)
        labels.append(label)
    return labels
