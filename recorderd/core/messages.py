"""What the stages say to each other: frozen, past tense, ids instead of references.

Order per session: SessionStarted, then anything else in any order, then SessionEnded once; or SessionRefused
alone. Times are monotonic nanoseconds; `_utc_ns` is for people.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from recorderd.core.ids import DialogId, SessionId, StreamId
from recorderd.core.terms import RecordingTerms


class StreamEnd(StrEnum):
    """Why a stream or session ended."""

    BYE = "bye"
    RTP_TIMEOUT = "rtp_timeout"
    SHUTDOWN = "shutdown"
    POWER = "power"  # the batteries are about to be empty
    REPLACED = "replaced"  # a re-INVITE took the stream away
    SIGNALLING_LOST = "signalling_lost"
    JOINED = "joined"  # its streams went on in another session: the exchange made two calls one
    OBJECTED = "objected"  # somebody on the call did not want it recorded
    CRASH = "crash"  # found as a draft at the next start


class RecordingState(StrEnum):
    """What becomes of a session's samples from an instant on."""

    WAITING = "waiting"  # a prompt is being played or consent is awaited: nothing is kept
    OFF = "off"  # on demand: not started yet, or stopped by the user; nothing is kept
    ON = "on"
    PAUSED = "paused"  # digital silence on every channel, the time line goes on
    ERASED = "erased"  # objected to: nothing is kept, what was taken is erased


class ControlAction(StrEnum):
    """What somebody asks of a running session, or what time does to it."""

    START = "start"
    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"
    CONSENT = "consent"
    OBJECT = "object"
    PROMPT_ENDED = "prompt_ended"
    CONSENT_TIMED_OUT = "consent_timed_out"
    PAUSE_TIMED_OUT = "pause_timed_out"
    RESTARTED = "restarted"  # nobody asked: the recorder is another process since


class Origin(StrEnum):
    """How the exchange hands over a call."""

    SIPREC = "siprec"
    LEG = "leg"


class Encoding(StrEnum):
    """RTP payload encodings that the recorder decodes; the value is the SDP encoding name."""

    PCMU = "PCMU"
    PCMA = "PCMA"
    L16 = "L16"
    G722 = "G722"
    G729 = "G729"
    OPUS = "opus"
    GSM = "GSM"
    ILBC = "iLBC"
    AMR = "AMR"
    SPEEX = "speex"


# What exchanges write where a number is withheld: it tells nobody from another.
WITHHELD: Final = frozenset({"anonymous", "private", "restricted", "unavailable", "unknown", "withheld"})
BY_OCTET: Final = (Encoding.PCMU, Encoding.PCMA, Encoding.L16)  # any octet has its own time, and no memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """One payload type as negotiated for one stream."""

    payload_type: int
    encoding: Encoding
    clock_rate_hz: int  # of the RTP timestamps
    channels: int = 1
    fmtp: str = ""  # format parameters as they stand in SDP

    @property
    def is_framed(self) -> bool:
        """Tell whether packets must be decoded whole and in order."""
        return self.encoding not in BY_OCTET

    @property
    def octets_per_tick(self) -> int:
        """Octets that one tick of the RTP clock takes on the wire; of a framed codec this means nothing."""
        return 2 * self.channels if self.encoding is Encoding.L16 else self.channels

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the decoded audio.

        Source: RFC 3551 section 4.5.2 (G.722 counts at 8 kHz what it samples at 16), RFC 7587 section 4.1.
        """
        return {Encoding.G722: 16_000, Encoding.OPUS: 48_000}.get(self.encoding, self.clock_rate_hz)


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
    kind: str = ""  # paging | intercom | voicemail | feature, as the exchange named it; empty = a plain call
    participants: tuple[Participant, ...] = ()
    also_call_ids: tuple[str, ...] = ()  # under which the exchange says that this call goes on


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted:
    """A session was accepted; the recording begins at ``at_mono_ns``."""

    session: SessionId
    description: CallDescription
    at_mono_ns: int
    at_utc_ns: int
    terms: RecordingTerms = field(default_factory=RecordingTerms)
    state: RecordingState = RecordingState.ON


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRefused:
    """A session was not accepted; no other message is about it."""

    session: SessionId  # made for the entry that it leaves
    description: CallDescription
    terms: RecordingTerms
    outcome: str  # one of core.outcomes.CHOSEN
    reason: str
    at_mono_ns: int
    at_utc_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingChanged:
    """The state of a session changed at an instant that may lie a little in the past."""

    session: SessionId
    state: RecordingState
    action: ControlAction
    by: str  # who asked: an extension, a user of the machine; empty = nobody, time did
    via: str  # feature_code | message | info | notify | siprec | dtmf | header | control_socket | timer
    at_mono_ns: int
    at_utc_ns: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRefused:
    """Somebody asked for what the rule or the state does not allow; noted, nothing changed."""

    session: SessionId
    action: ControlAction
    by: str
    via: str
    reason: str
    at_mono_ns: int
    at_utc_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMoved:
    """The exchange made two calls one: a stream goes on in ``session``, no longer in ``from_session``.

    The recording of ``from_session`` has its samples before ``at_mono_ns``, that of ``session`` the rest.
    """

    session: SessionId
    from_session: SessionId
    call_id: str  # of the session that it leaves
    opened: StreamOpened  # as it was opened, with the session it now belongs to
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
    label: str  # a=label, or the leg's name
    side_rank: int  # 0 = the recorded side, which takes the first channel; larger comes later
    codecs: tuple[Codec, ...]
    local_port: int
    at_mono_ns: int
    participant_ids: tuple[str, ...] = ()
    party: str = ""  # whose voice; streams with one party (else: one label) share a channel
    remote_address: str = ""  # whence the offer said that RTP comes; empty = it did not say


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDescribed:
    """Later signalling named more of those whose voices a stream carries."""

    session: SessionId
    stream: StreamId
    participant_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecoded:
    """Signalling agreed on other codecs; packets of the earlier ones may still come."""

    session: SessionId
    stream: StreamId
    codecs: tuple[Codec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHeld:
    """Signalling said that a stream stands still from now on, or that it goes on."""

    session: SessionId
    stream: StreamId
    held: bool
    at_mono_ns: int


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


RecordMessage = (
    SessionStarted
    | SessionRefused
    | CallDescribed
    | RecordingChanged
    | ControlRefused
    | StreamOpened
    | StreamMoved
    | StreamDescribed
    | StreamHeld
    | StreamRecoded
    | StreamEnded
    | OfferReceived
    | SessionEnded
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSilent:
    """No RTP came for a session longer than the limit; whoever owns its dialogs ends them."""

    session: SessionId
    silent_ns: int


def opened_of(told: Iterable[RecordMessage]) -> dict[StreamId, StreamOpened]:
    """Give the streams that signalling told of, as they are now."""
    found: dict[StreamId, StreamOpened] = {}
    for message in told:
        match message:
            case StreamOpened():
                found[message.stream] = message
            case StreamMoved():
                found[message.opened.stream] = message.opened
            case StreamDescribed() if message.stream in found:
                known = found[message.stream]
                found[message.stream] = replace(known, participant_ids=message.participant_ids)
    return found
