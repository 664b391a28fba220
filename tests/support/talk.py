"""Recorded calls of two legs under rules, and what became of them."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tests.support import g711_reference
from tests.support.house import House, Recorded, run_program
from tests.support.programs import Program
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import Call, SipClient, sdp_offer

PACKET = 160
RATE_HZ = 8000
PREROLL_S = 2
RULES = f"""
[numbering]
country_code = "44"
trunk_prefix = "0"

[control]
supervisors = ["9000"]

[[rules]]
name = "never"
mode = "never"
extensions = ["2000"]

[[rules]]
name = "pausable"
mode = "always-pausable"
extensions = ["2001"]
retention_class = "seven-years"

[[rules]]
name = "watched"
mode = "always-pausable"
extensions = ["2009"]
pause_limit_s = 1

[[rules]]
name = "always"
mode = "always"
extensions = ["2002"]

[[rules]]
name = "demand"
mode = "on-demand"
extensions = ["2003"]

[[rules]]
name = "demand-with-past"
mode = "on-demand"
extensions = ["2004"]
preroll_s = {PREROLL_S}

[[rules]]
name = "asked"
mode = "always"
extensions = ["2005"]
consent = "required"
consent_wait_s = 3

[[rules]]
name = "objectable"
mode = "always"
extensions = ["2006"]
consent = "objection"

[[rules]]
name = "announced"
mode = "always"
extensions = ["2007"]
prompt_internal = "this_call_is_recorded"

[[rules]]
name = "mixed"
mode = "always"
extensions = ["2008"]
layout = "mix"
"""


@dataclass
class Talk:
    """A recorded call of two legs that are talking."""

    client: SipClient
    extension: str
    seconds: float
    call_id: str = ""
    linked: str = ""  # the call that the exchange has made one with this
    legs: list[Call] = field(default_factory=list)
    streams: list[RtpStream] = field(default_factory=list)
    ended_s: tuple[float, float] = (0.0, 0.0)  # its audio, and its dialogs; monotonic

    def __post_init__(self) -> None:
        self.call_id = self.call_id or f"call-{self.extension}-{time.monotonic_ns()}"
        for leg in ("caller", "callee"):
            headers = {
                "X-Call-ID": self.call_id, "X-Call-Leg": leg, "X-Call-Caller": "1001",
                "X-Call-Callee": self.extension, "X-Call-Extension": self.extension,
                "X-Call-Direction": "internal", **({"X-Call-Linked": self.linked} if self.linked else {}),
            }  # fmt: skip
            call = Call(client=self.client, headers=headers)
            call.invite(
                sdp_offer(self.client.address, [("", "PCMA")], direction="sendrecv"), "application/sdp"
            )
            assert call.response is not None
            assert call.response.code == 200, call.response.start_line
            self.legs.append(call)
            payload = os.urandom(PACKET * round(self.seconds * 50))
            self.streams.append(RtpStream(port=call.lines[0].port, payload_type=8, payload=payload))
        self._sender = threading.Thread(target=send_streams, args=(self.streams,))
        self._sender.start()

    def request(self, leg: int, method: str, body: str, content_type: str, **headers: str) -> int:
        """Send a request within a leg's dialog; return the status code."""
        call = self.legs[leg]
        reply = self.client.request(
            method, call_id=call.call_id, cseq=call.cseq, uri=call.target, body=body.encode(),
            headers={**call._dialog(), "Content-Type": content_type, **headers},
        )  # fmt: skip
        call.cseq += 1
        return reply.code

    def end(self) -> None:
        """Let both finish, then hang up."""
        self._sender.join()
        silent_s = time.monotonic()
        for call in self.legs:
            call.bye()
        self.ended_s = silent_s, time.monotonic()

    def decoded(self, leg: int) -> Any:
        """What a leg said."""
        return g711_reference.decode(self.streams[leg].payload, law="PCMA")


def recording_of(house: tuple[House, Program], call_id: str) -> Recorded:
    """Wait for the recording of a call and open it."""
    line = house[1].wait_for("recording_sealed", f"call_id={call_id}")
    return house[0].sealed(line.split("subject=")[1].split()[0])


def steer(house: tuple[House, Program], action: str, call_id: str) -> int:
    """Ask for something on the command line; return its exit code."""
    done = run_program(
        *("recorderctl", action, "--config", house[0].recorder_toml, "--call", call_id), check=False
    )
    return done.returncode


def tombstone(house: tuple[House, Program], call_id: str) -> dict[str, Any]:
    """Wait for the entry without audio that a call left, verify it, and give its manifest."""
    line = house[1].wait_for("recording_sealed", f"call_id={call_id}")
    name = line.split("subject=")[1].split()[0]
    folder = house[0].folder / "spool" / "ready" / name
    assert not list(folder.glob("*.wav"))
    assert not list(folder.glob("*.sip"))
    manifest: dict[str, Any] = json.loads((folder / f"{name}.manifest.json").read_text())
    verified = run_program(
        "recorderctl", "verify", "--ca", house[0].folder / "keys" / "signing-cert.pem", folder
    )
    assert "verified" in verified.stdout
    return manifest


WAYS = (
    "feature_code",
    "message",
    "message_in_dialog",
    "info",
    "info_record",
    "notify",
    "keys",
    "control_socket",
)


def ask(house: tuple[House, Program], talk: Talk, way: str, action: str) -> tuple[float, float]:
    """Ask for a pause or resume in one of the ways there are; say when, and when it was answered."""
    asked_s = time.monotonic()
    _ask(house, talk, way, action)
    return asked_s, time.monotonic()


def _ask(house: tuple[House, Program], talk: Talk, way: str, action: str) -> None:
    code = {"pause": "*48", "resume": "*49", "start": "*44", "stop": "*47"}[action]
    text = f"action={action} call={talk.call_id} by=1001"
    match way:
        case "feature_code":
            headers = {"From-User": "1001", "X-Call-Extension": "1001"}
            call = Call(
                client=talk.client,
                headers=headers,
                target=f"sip:{code}@{house[0].server[0]}:{house[0].server[1]}",
            )
            sdp = sdp_offer(talk.client.address, [("", "PCMA")], direction="sendrecv")
            assert call.invite(sdp, "application/sdp").code == 200
        case "message":
            headers = {
                "From": "<sip:1001@example.com>;tag=m", "To": "<sip:recorder@example.com>",
                "Content-Type": "text/plain",
            }  # fmt: skip
            call_id = f"m-{time.monotonic_ns()}"
            reply = talk.client.request(
                "MESSAGE", call_id=call_id, cseq=1, headers=headers, body=text.encode()
            )
            assert reply.code == 200
        case "message_in_dialog":
            assert talk.request(0, "MESSAGE", action, "text/plain") == 200
        case "info":
            assert talk.request(0, "INFO", text, "text/plain") == 200
        case "info_record":
            assert talk.request(0, "INFO", "", "text/plain", Record=action) == 200
        case "notify":
            headers = {"Event": "recording", "Subscription-State": "active"}
            assert talk.request(1, "NOTIFY", text, "text/plain", **headers) == 200
        case "keys":
            for key in code:
                body = f"Signal={key}\r\nDuration=160\r\n"
                assert talk.request(0, "INFO", body, "application/dtmf-relay") == 200
        case "control_socket":
            assert steer(house, action, talk.call_id) == 0
