"""Calls to feature codes: what a code asks is done, the caller hears what became of it, and is hung up.

Contract: such a call is never recorded; we hang it up when the message has been heard, or after a while. The
message goes where the exchange moves the call. Thread: the SIP thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pjsua2

from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import FormatError, RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import StreamId
from recorderd.core.prompts import Prompt
from recorderd.sip.answering import Answering
from recorderd.sip.library import LINES_MAX, RecorderCall
from recorderd.sip.requests import Requests
from recorderd.sip.settings import SipSettings
from recorderd.sip.speech import Speech
from recorderd.sip.streams import Change, DialogStreams
from recorderd.tap.drain import Tap
from recorderd.tap.ports import PortPool
from recorderd.wire.control_request import read_feature_code
from recorderd.wire.offer import Offer, describe_offer
from recorderd.wire.sdp import parse_sdp
from recorderd.wire.sip_message import SipMessage, parse_sip

LISTEN_NS: Final = 20 * NS_PER_S  # a call that nobody hangs up; the longest message takes 8 s


@dataclass(slots=True, kw_only=True)
class _FeatureCall:
    call: RecorderCall
    streams: DialogStreams
    sdp: str
    number: int  # of the SDP origin line
    spoken: tuple[Prompt, ...]
    hang_up_ns: int
    saying: bool = False
    answered_by: str = ""  # the Call-ID of the ACK that brings the answer to our offer


class FeatureCalls:
    """The calls to feature codes that are up."""

    def __init__(
        self,
        *,
        requests: Requests,
        answering: Answering,
        settings: SipSettings,
        ports: PortPool,
        tap: Tap,
        speech: Speech,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._requests = requests
        self._answering = answering
        self._settings = settings
        self._ports = ports
        self._tap = tap
        self._speech = speech
        self._clock = clock
        self._log = log
        self._calls: list[_FeatureCall] = []
        self._named = 0

    def begin(
        self,
        call: RecorderCall,
        call_id: int,
        *,
        user: str,
        message: SipMessage,
        offer: Offer,
        arrived_mono_ns: int,
    ) -> None:
        """Do what a code asks, answer, say what became of it, and hang up."""
        control = self._settings.control
        request = read_feature_code(message, codes=control.actions, leg_headers=self._settings.leg_headers)
        if request is None:
            self._answering.refuse(call, 404, f"{user} is no feature code of ours")
            return
        verdict = self._requests.ask(request, self._requests.find(request), arrived_mono_ns=arrived_mono_ns)
        entry = self._open(call, call_id, offer, verdict.spoken if control.announce else ())
        if entry is None:
            return
        self._calls.append(entry)
        lines = len(offer.sdp.media) if offer.sdp is not None else 1
        try:
            self._answering.accept(call, lines=lines)
        except pjsua2.Error as problem:
            self.over(call)
            self._log.warning(Ev.PROMPT_FAILED, subject=user, reason=problem.reason)

    def _open(
        self, call: RecorderCall, call_id: int, offer: Offer, spoken: tuple[Prompt, ...]
    ) -> _FeatureCall | None:
        if offer.sdp is not None and len(offer.sdp.media) > LINES_MAX:
            self._answering.refuse(call, 488, f"more than {LINES_MAX} lines")
            return None
        streams = DialogStreams(
            ports=self._ports,
            tap=self._tap,
            address=self._settings.rtp_address,
            srtp=self._settings.srtp,
            log=self._log,
            name_stream=self._name,
        )
        try:
            if offer.sdp is not None:
                change = streams.answer(offer.sdp, session_id=call_id + 1, want_audio_back=True)
            else:
                change = streams.offer([""], session_id=call_id + 1, want_audio_back=True)
        except (RecorderError, ValueError) as problem:
            self._answering.refuse(call, 500, str(problem))
            return None
        if not change.opened:
            self._answering.refuse(call, 488, "no audio line to speak on")
            return None
        return _FeatureCall(
            call=call,
            streams=streams,
            sdp=change.answer.decode(),
            number=call_id + 1,
            spoken=spoken,
            hang_up_ns=self._clock.mono_ns() + LISTEN_NS,
            answered_by=offer.sip_call_id if offer.sdp is None else "",
        )

    def acknowledged(self, sip_call_id: str, raw: str) -> None:
        """Read from an ACK where a feature call is to hear us, if that was left to our offer."""
        entry = next((known for known in self._calls if known.answered_by == sip_call_id), None)
        if entry is None:
            return
        try:
            message = parse_sip(raw.encode(errors="surrogateescape"))
            answer = describe_offer(message, leg_headers=self._settings.leg_headers).sdp
        except FormatError as problem:
            self._log.warning(Ev.MALFORMED_SDP, subject=sip_call_id, reason=problem)
            return
        if answer is not None:
            entry.answered_by = ""
            self._follow(entry, entry.streams.accept_answer(answer))

    def offered(self, call: RecorderCall, offer: str) -> int:
        """Take the SDP of a feature call's re-INVITE; return how many lines it has."""
        entry = self._of_call(call)
        if entry is None:
            return 0
        try:
            sdp = parse_sdp(offer.encode(errors="surrogateescape"))
        except FormatError as problem:
            self._log.warning(Ev.MALFORMED_SDP, reason=problem)
            return len(entry.streams.lines)
        change = entry.streams.answer(sdp, session_id=entry.number, want_audio_back=True)
        entry.sdp = change.answer.decode()
        self._follow(entry, change)
        return len(sdp.media)

    def _follow(self, entry: _FeatureCall, change: Change) -> None:
        """Go on speaking where a feature call's lines now are."""
        for stream in change.closed:
            self._speech.release(stream)
            self._tap.release_stream(stream)
        for line in entry.streams.lines.values():
            self._speech.follow(line)

    def _name(self) -> StreamId:
        self._named += 1
        return StreamId(f"feature-call/{self._named}")

    def local_sdp(self, call: RecorderCall) -> str | None:
        """Give our SDP for a feature call."""
        entry = self._of_call(call)
        return entry.sdp if entry is not None else None

    def awaits(self, call: RecorderCall) -> bool:
        """Tell whether a call is one that we speak on."""
        return self._of_call(call) is not None

    def established(self, call: RecorderCall) -> None:
        """Speak once the caller hears: its ACK has come."""
        entry = self._of_call(call)
        if entry is None or entry.saying:
            return
        entry.saying = True
        language = self._settings.control.language
        lines = list(entry.streams.lines.values())
        said = bool(entry.spoken and lines) and self._speech.say(lines[0], entry.spoken, language=language)
        if not said:
            self._hang_up(entry)

    def heard(self, stream: StreamId) -> None:
        """An utterance is over: nothing more is to be said on that call."""
        for entry in self._calls:
            if any(line.stream == stream for line in entry.streams.lines.values()):
                self._hang_up(entry)

    def tick(self) -> None:
        """Hang up calls that last too long."""
        if not self._calls:
            return
        now_ns = self._clock.mono_ns()
        for entry in self._calls:
            if now_ns >= entry.hang_up_ns:
                entry.hang_up_ns = now_ns + LISTEN_NS
                self._hang_up(entry)

    def over(self, call: RecorderCall) -> bool:
        """Let go of a feature call; False when ``call`` is none."""
        entry = self._of_call(call)
        if entry is None:
            return False
        self._calls.remove(entry)
        for line in entry.streams.lines.values():
            self._speech.release(line.stream)
            self._tap.release_stream(line.stream)
        return True

    def end_all(self) -> None:
        """Hang up every feature call."""
        for entry in self._calls:
            self._hang_up(entry)

    @property
    def open_calls(self) -> Sequence[object]:
        """Feature calls that are up."""
        return tuple(self._calls)

    def _of_call(self, call: RecorderCall) -> _FeatureCall | None:
        return next((entry for entry in self._calls if entry.call is call), None)

    @staticmethod
    def _hang_up(entry: _FeatureCall) -> None:
        with contextlib.suppress(pjsua2.Error):
            entry.call.hangup(pjsua2.CallOpParam())
