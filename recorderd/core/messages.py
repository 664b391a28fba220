"""What the stages say to each other: frozen, past tense, ids instead of references.

Order per session: SessionStarted, then StreamOpened / StreamEnded / OfferReceived in any order, then
SessionEnded once. Times are monotonic nanoseconds; `_utc_ns` is for people.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from recorderd.core.ids import DialogId, SessionId, StreamId


class StreamEnd(StrEnum):
    """Why a stream or session ended."""

    BYE = "bye"
    RTP_TIMEOUT = "rtp_timeout"
    SHUTDOWN = "shutdown"
    REPLACED = "replaced"  # a re-INVITE took the stream away
    SIGNALLING_LOST = "signalling_lost"
    CRASH = "crash"  # found as a draft at the next start


class Origin(StrEnum):
    """How the exchange hands over a call."""

    SIPREC = "siprec"
    LEG = "leg"


class Encoding(StrEnum):
    """RTP payload encodings that the recorder decodes; the value is the SDP encoding name."""

    PCMU = "PCMU"
    PCMA = "PCMA"
    L16 = "L16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """One payload type as negotiated for one stream."""

    payload_type: int
    encoding: Encoding
    clock_rate_hz: int
    channels: int = 1

    @property
    def octets_per_tick(self) -> int:
        """Octets that one tick of the RTP clock takes on the wire."""
        return 2 * self.channels if self.encoding is Encoding.L16 else self.channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """Somebody on the call, as the exchange described them."""

    participant_id: str
    aor: str = ""
    name: str = ""
    number: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDescription:
    """What the exchange said of the call; absent facts are empty."""

    call_id: str  # the exchange's id of the call; legs of one call share it
    origin: Origin
    caller: str = ""
    callee: str = ""
    direction: str = ""
    extension: str = ""
    trunk: str = ""
    queue: str = ""
    conference: str = ""
    participants: tuple[Participant, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted:
    """A session was accepted; the recording begins at ``at_mono_ns``."""

    session: SessionId
    description: CallDescription
    at_mono_ns: int
    at_utc_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDescribed:
    """Later signalling told more of the call; replaces the earlier description."""

    session: SessionId
    description: CallDescription


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOpened:
    """One ``m=audio`` was answered with our port; packets may come from now on."""

    session: SessionId
    stream: StreamId
    dialog: DialogId
    label: str  # a=label, or the leg's name; streams with the same label share a channel
    side_rank: int  # 0 = the recorded side, which takes the first channel; larger comes later
    codecs: tuple[Codec, ...]
    local_port: int
    at_mono_ns: int
    participant_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded:
    """No more packets are wanted for this stream."""

    session: SessionId
    stream: StreamId
    cause: StreamEnd
    at_mono_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferReceived:
    """The raw SIP text of an offer, kept with the recording as an attachment."""

    session: SessionId
    dialog: DialogId
    raw: bytes = field(repr=False)
    at_utc_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded:
    """The session is over; the recording lasts until ``at_mono_ns``."""

    session: SessionId
    cause: StreamEnd
    at_mono_ns: int
    at_utc_ns: int


RecordMessage = SessionStarted | CallDescribed | StreamOpened | StreamEnded | OfferReceived | SessionEnded


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSilent:
    """No RTP came for a session longer than the limit; whoever owns its dialogs ends them."""

    session: SessionId
    silent_ns: int
