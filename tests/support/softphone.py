"""The process behind ``tests.support.phone``: a SIP phone without a sound card that plays a tone to its peer.

Rule: one thread makes every pjsua2 call. Audio never passes through Python: pjmedia's own clock paces it.
Protocol: one JSON object a line. Commands come on stdin (its end means quit), events go out on stdout;
times are CLOCK_MONOTONIC, the same for every process of the machine. pjsua2's log goes to stderr.
A command is for every call of the phone, or with ``call`` for the one that has this number in the events.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import select
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pjsua2 as pj

RATE_HZ: Final = 8000
TONE_S: Final = 10  # whole seconds hold whole cycles of any whole frequency: no seam when played again
POLL_MS: Final = 5
JITTER_MS: Final = 60
LOOPBACK: Final = "127.0.0.1"
LIBC: Final = ctypes.CDLL(None)
DRAWS: Final = 4  # pjmedia 2.17 sets up the receiving session first
DRAW_SLACK: Final = 16
SRTP: Final = {
    "off": pj.PJMEDIA_SRTP_DISABLED,
    "optional": pj.PJMEDIA_SRTP_OPTIONAL,
    "mandatory": pj.PJMEDIA_SRTP_MANDATORY,
}


def write_tone(path: Path, *, hz: int, level_dbfs: float) -> None:
    """Write a WAV file with a sine; 0 dBFS is one that just reaches full scale."""
    sine = np.sin(2 * math.pi * hz / RATE_HZ * np.arange(TONE_S * RATE_HZ))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.round(32767 * 10 ** (level_dbfs / 20) * sine).astype("<i2").tobytes())


def rising_sequence(since_mono_ns: int) -> int:
    """Return a first RTP sequence number above what any call has reached that began earlier.

    Asterisk 22.10 drops what a new party says from a mixed spy leg while its sequence numbers are below the
    former party's: after a transfer, as often as not. Random numbers, as phones use them, would make every
    second test of it fail. Good for the first five minutes: it rises by 100 a second, a call by 50.
    """
    return (time.monotonic_ns() - since_mono_ns) // 10_000_000 % 0x8000


def seed_draw(wanted: int) -> None:
    """Seed the C library's random numbers so that an RTP session draws (nearly) these low 15 bits."""
    for seed in range(1, 100_000):
        LIBC.srand(seed)
        drawn = [LIBC.rand() & 0x7FFF for _ in range(DRAWS)][-1]
        if 0 <= drawn - wanted < DRAW_SLACK:
            LIBC.srand(seed)
            return


def is_closed(recording: Path) -> bool:
    """Tell whether pjmedia has written the length of the data, the last thing it does to a WAV file."""
    return any(recording.read_bytes()[40:44])


class PhoneCall(pj.Call):  # type: ignore[misc]
    """One call: reports what happens to it and keeps the tone connected."""

    def __init__(self, phone: Softphone, call_id: int = pj.PJSUA_INVALID_ID) -> None:
        super().__init__(phone.account, call_id)
        self.phone = phone
        self.recorder: pj.AudioMediaRecorder | None = None
        self.record_path = ""

    def onCallState(self, prm: pj.OnCallStateParam) -> None:
        info = self.getInfo()
        if info.state == pj.PJSIP_INV_STATE_CONFIRMED:
            self.phone.say("confirmed", info)
        elif info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.phone.say("ended", info, code=int(info.lastStatusCode))
            self.phone.gone.append(self.phone.calls.pop(info.id))
            if self.recorder is not None:
                self.recorder = None  # pjmedia's clock closes the file a little later
                self.phone.closing.append((self.record_path, info))

    def onStreamPreCreate(self, prm: pj.OnStreamPreCreateParam) -> None:
        # One of the next numbers that the library draws is the first sequence number of this call's RTP.
        seed_draw(rising_sequence(self.phone.options.since_mono_ns))

    def onStreamCreated(self, prm: pj.OnStreamCreatedParam) -> None:
        LIBC.srand(int.from_bytes(os.urandom(4), "little"))

    def onCallMediaState(self, prm: pj.OnCallMediaStateParam) -> None:
        info = self.getInfo()
        states = [int(media.status) for media in info.media]
        self.phone.say("media", info, active=pj.PJSUA_CALL_MEDIA_ACTIVE in states)
        self.connect(self.phone.tone_on)

    def connect(self, tone_on: bool) -> None:
        """Join the call's audio with the tone and the recording, or part it from the tone."""
        info = self.getInfo()  # keep it: its parts are freed with it
        for index, media in enumerate(info.media):
            if media.type != pj.PJMEDIA_TYPE_AUDIO or media.status != pj.PJSUA_CALL_MEDIA_ACTIVE:
                continue
            audio = self.getAudioMedia(index)
            if tone_on:
                self.phone.player.startTransmit(audio)
            else:
                self.phone.player.stopTransmit(audio)
            if self.recorder is None and self.phone.options.record_dir:
                name = f"{self.phone.options.name}-{time.monotonic_ns()}.wav"
                self.record_path = str(Path(self.phone.options.record_dir) / name)
                self.recorder = pj.AudioMediaRecorder()
                self.recorder.createRecorder(self.record_path)
            if self.recorder is not None:
                audio.startTransmit(self.recorder)


class PhoneAccount(pj.Account):  # type: ignore[misc]
    """The registration, and where calls come in."""

    def __init__(self, phone: Softphone) -> None:
        super().__init__()
        self.phone = phone

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        self.phone.registered = bool(prm.code == 200 and prm.expiration > 0)
        event = "registered" if self.phone.registered else "unregistered" if prm.code == 200 else "refused"
        self.phone.say(event, code=int(prm.code), expires_s=int(prm.expiration))

    def onInstantMessage(self, prm: pj.OnInstantMessageParam) -> None:
        self.phone.say("message", body=prm.msgBody, raw=prm.rdata.wholeMsg)

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        call = PhoneCall(self.phone, prm.callId)
        self.phone.calls[prm.callId] = call
        self.phone.say("incoming", call.getInfo(), raw=prm.rdata.wholeMsg)
        if self.phone.options.answer_after_ms >= 0:
            due_ns = time.monotonic_ns() + 1_000_000 * self.phone.options.answer_after_ms
            self.phone.to_answer.append((due_ns, prm.callId))


class Softphone:
    """The library, one account and its calls; ``commands`` is all it can be told."""

    def __init__(self, options: argparse.Namespace, events_fd: int) -> None:
        self.options = options
        self.events_fd = events_fd
        self.calls: dict[int, PhoneCall] = {}
        self.gone: list[PhoneCall] = []  # dropped outside of the callback that ended them
        self.closing: list[tuple[str, pj.CallInfo]] = []  # recordings
        self.registered = False
        self.to_answer: list[tuple[int, int]] = []  # (due, call)
        self.tone_on = True
        self.running = True
        self.endpoint = self._endpoint()
        tone = Path(options.dir) / "tone.wav"
        write_tone(tone, hz=options.tone_hz, level_dbfs=options.level_dbfs)
        self.player = pj.AudioMediaPlayer()
        self.player.createPlayer(str(tone))
        self.account = PhoneAccount(self)
        self.account.create(self._account_config())
        self.commands: dict[str, Callable[[dict[str, Any]], None]] = {
            "call": self._call,
            "answer": lambda command: self._each(command, lambda call: call.answer(_reply(200))),
            "hangup": lambda command: self._each(
                command, lambda call: call.hangup(_reply(command.get("code", 0)))
            ),
            "dtmf": lambda command: self._each(command, lambda call: call.dialDtmf(command["digits"])),
            "hold": lambda command: self._each(command, lambda call: call.setHold(pj.CallOpParam())),
            "unhold": lambda command: self._each(command, _unhold),
            "transfer": self._transfer,
            "attended": lambda command: self.calls[command["call"]].xferReplaces(
                self.calls[command["to_call"]], pj.CallOpParam()
            ),
            "tone": self._tone,
            "quit": lambda command: setattr(self, "running", False),
        }

    def _endpoint(self) -> pj.Endpoint:
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 0
        config.uaConfig.mainThreadOnly = True
        config.uaConfig.userAgent = "softphone"
        config.medConfig.clockRate = config.medConfig.sndClockRate = RATE_HZ
        config.medConfig.audioFramePtime = config.medConfig.ptime = 20
        config.medConfig.noVad = True
        config.medConfig.ecTailLen = 0
        config.medConfig.sndAutoCloseTime = -1
        # A fixed buffer: one that adapts slips by a tick on a busy machine, and what was heard cannot be
        # compared to the sample any more.
        config.medConfig.jbInit = config.medConfig.jbMinPre = config.medConfig.jbMaxPre = JITTER_MS
        config.medConfig.jbMax = 10 * JITTER_MS
        config.medConfig.jbDiscardAlgo = pj.PJMEDIA_JB_DISCARD_NONE
        config.logConfig.level = config.logConfig.consoleLevel = 4
        endpoint = pj.Endpoint()
        endpoint.libCreate()
        endpoint.libInit(config)
        transport = pj.TransportConfig()
        transport.boundAddress = self.options.address
        transport.port = self.options.own_sip_port
        endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
        endpoint.transportCreate(pj.PJSIP_TRANSPORT_TCP, transport)
        endpoint.libStart()
        endpoint.audDevManager().setNullDev()
        for codec in endpoint.codecEnum2():
            wanted = codec.codecId == f"{self.options.codec}/8000/1"
            endpoint.codecSetPriority(codec.codecId, 255 if wanted else 0)
        return endpoint

    def _uri(self, user: str) -> str:
        return f"sip:{user}@{LOOPBACK}:{self.options.sip_port};transport={self.options.transport}"

    def _account_config(self) -> pj.AccountConfig:
        config = pj.AccountConfig()
        config.idUri = f"sip:{self.options.name}@{self.options.address}"
        if self.options.password:
            config.regConfig.registrarUri = self._uri("").replace("sip:@", "sip:")
        config.regConfig.timeoutSec = self.options.expires_s
        config.regConfig.retryIntervalSec = config.regConfig.firstRetryIntervalSec = 1
        config.regConfig.randomRetryIntervalSec = 0
        config.sipConfig.authCreds.append(
            pj.AuthCredInfo("digest", "*", self.options.name, 0, self.options.password)
        )
        config.mediaConfig.transportConfig.boundAddress = self.options.address
        config.mediaConfig.transportConfig.port = self.options.rtp_port
        config.mediaConfig.transportConfig.portRange = 200
        config.mediaConfig.streamKaEnabled = False
        config.mediaConfig.srtpUse = SRTP[self.options.srtp]
        config.mediaConfig.srtpSecureSignaling = 0
        config.natConfig.iceEnabled = False
        return config

    def say(self, event: str, info: pj.CallInfo | None = None, **fields: Any) -> None:
        """Report an event with the time at which it is reported."""
        line = {"event": event, "at_mono_ns": time.monotonic_ns(), **fields}
        if info is not None:
            line |= {"call": info.id, "sip_call_id": info.callIdString, "remote": info.remoteUri}
        os.write(self.events_fd, (json.dumps(line) + "\n").encode())

    def _each(self, command: dict[str, Any], action: Callable[[PhoneCall], None]) -> None:
        for number, call in list(self.calls.items()):
            if command.get("call", number) == number:
                action(call)

    def _call(self, command: dict[str, Any]) -> None:
        call = PhoneCall(self)
        prm = pj.CallOpParam(True)
        for name, value in command.get("headers", {}).items():
            header = pj.SipHeader()
            header.hName, header.hValue = name, value
            prm.txOption.headers.append(header)
        call.makeCall(self._uri(command["to"]), prm)
        self.calls[call.getId()] = call

    def _transfer(self, command: dict[str, Any]) -> None:
        self._each(command, lambda call: call.xfer(self._uri(command["to"]), pj.CallOpParam()))

    def _tone(self, command: dict[str, Any]) -> None:
        self.tone_on = bool(command["on"])
        self._each({}, lambda call: call.connect(self.tone_on))
        self.say("tone", on=self.tone_on)

    def run(self) -> None:
        """Serve the library and stdin until told to quit."""
        pending = b""
        if not self.options.password:
            self.say("ready")
        while self.running:
            self._poll()
            self._answer_due()
            if not select.select([0], [], [], 0)[0]:
                continue
            data = os.read(0, 65536)
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                command = json.loads(line)
                self.commands[command["cmd"]](command)

    def _poll(self) -> None:
        self.endpoint.libHandleEvents(POLL_MS)
        self.gone.clear()
        for entry in [entry for entry in self.closing if is_closed(Path(entry[0]))]:
            self.closing.remove(entry)
            self.say("recorded", entry[1], record=entry[0])

    def _answer_due(self) -> None:
        now_ns = time.monotonic_ns()
        due = [entry for entry in self.to_answer if entry[0] <= now_ns]
        for entry in due:
            self.to_answer.remove(entry)
            if entry[1] in self.calls:
                self.calls[entry[1]].answer(_reply(self.options.answer_code))

    def close(self) -> None:
        """Hang up, unregister and end the library, in the order that pjsua2 needs."""
        self._each({}, lambda call: call.hangup(_reply(0)))
        if self.registered:
            self.account.setRegistration(False)
        deadline_ns = time.monotonic_ns() + 1_000_000_000
        while (self.calls or self.closing or self.registered) and time.monotonic_ns() < deadline_ns:
            self._poll()
        self.calls.clear()
        self.gone.clear()
        del self.player
        self.account.shutdown()
        self.endpoint.libDestroy(pj.PJSUA_DESTROY_NO_NETWORK)  # else it waits for a second


def _reply(code: int) -> pj.CallOpParam:
    prm = pj.CallOpParam(True)
    prm.statusCode = code
    return prm


def _unhold(call: PhoneCall) -> None:
    prm = pj.CallOpParam(True)
    prm.opt.flag = pj.PJSUA_CALL_UNHOLD
    call.reinvite(prm)


def main() -> None:
    """Run a phone until stdin ends or says quit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--name", required=True)
    parser.add_argument("--password", default="", help="without one it does not register")
    parser.add_argument("--address", default=LOOPBACK, help="of this phone")
    parser.add_argument("--own-sip-port", type=int, default=0)
    parser.add_argument("--sip-port", type=int, required=True)
    parser.add_argument("--dir", required=True, help="its own, to write into")
    parser.add_argument("--transport", choices=("udp", "tcp"), default="udp")
    parser.add_argument("--codec", choices=("PCMA", "PCMU"), default="PCMA")
    parser.add_argument("--tone-hz", type=int, default=400)
    parser.add_argument("--level-dbfs", type=float, default=-12.0)
    parser.add_argument("--rtp-port", type=int, default=0)
    parser.add_argument("--since-mono-ns", type=int, default=0, help="start of the test's exchange")
    parser.add_argument("--srtp", choices=tuple(SRTP), default="off")
    parser.add_argument("--expires-s", type=int, default=120)
    parser.add_argument("--answer-after-ms", type=int, default=0, help="below zero: only when told to")
    parser.add_argument("--answer-code", type=int, default=200)
    parser.add_argument("--record-dir", default="", help="keep what each call's peer says as WAV files here")
    options = parser.parse_args()
    events_fd = os.dup(1)
    os.dup2(2, 1)  # pjsua2 logs to stdout
    phone = Softphone(options, events_fd)
    try:
        phone.run()
    finally:
        phone.close()


if __name__ == "__main__":
    main()
