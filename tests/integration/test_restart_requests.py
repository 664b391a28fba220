"""What is asked within a dialog that an earlier process has answered is done or refused, as it was before."""

from __future__ import annotations

import socket
import struct
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from recorderd.wire.rtp import RtpPacket, write_rtp
from tests.support import faults
from tests.support.killed_calls import Life, Placed, offer


@pytest.fixture
def life() -> Iterator[Life]:
    """A recorder that can be killed and goes on, with a disk that is fast."""
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
        faults.nursery(Path(memory)) as nursery,
        Life(nursery, Path(memory) / "life") as opened,
    ):
        assert opened.is_up(opened.start())
        yield opened


def _state(life: Life, one: Placed) -> str:
    states = {row["call_id"]: row["state"] for row in life.house.status()["recorder"]["sessions"]}
    return str(states[one.call_id])


def _asked(life: Life, one: Placed, method: str, headers: Mapping[str, str], body: bytes = b"") -> int:
    """Ask something within a call's dialog."""
    call = one.call
    whole = {**call._dialog(), **headers}
    reply = life.client.request(
        method, call_id=call.call_id, cseq=call.cseq, headers=whole, body=body, uri=call.target
    )
    call.cseq += 1
    return reply.code


def _press(one: Placed, keys: str) -> None:
    """Press keys as a telephone tells them in RTP (RFC 4733)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number, key in enumerate(keys):
            event = struct.pack("!BBH", "0123456789*#".index(key), 0x80 | 10, 800)
            for turn in range(3):
                packet = RtpPacket(
                    payload_type=101, marker=not turn, sequence=3 * number + turn, timestamp=1600 * number,
                    ssrc=77, payload=event,
                )  # fmt: skip
                sock.sendto(write_rtp(packet), ("127.0.0.1", one.call.lines[0].port))


@pytest.mark.timeout(120)
def test_whoever_asks_within_such_a_dialog_gets_what_is_asked(life: Life) -> None:
    one = life.place("always")
    life.restart()
    control, relay = "X-Recording-Control", {"Content-Type": "application/dtmf-relay"}
    assert _asked(life, one, "UPDATE", {control: "pause"}) == 200
    assert _state(life, one) == "paused"
    assert _asked(life, one, "UPDATE", {control: "nonsense"}) == 400
    assert _asked(life, one, "INFO", {control: "resume"}) == 200
    assert _state(life, one) == "recording"
    one.call.headers[control] = "pause"
    assert one.call.invite(*offer(one)).code == 200
    assert _state(life, one) == "paused"
    del one.call.headers[control]
    for digit in "*49":
        assert _asked(life, one, "INFO", relay, f"Signal={digit}\r\nDuration=160\r\n".encode()) == 200
    assert _state(life, one) == "recording"
    assert _asked(life, one, "UPDATE", {control: "consent"}) == 403  # nobody has to agree to this one
    assert _asked(life, one, "OPTIONS", {}) == 200  # whether it still stands


@pytest.mark.timeout(120)
def test_keys_that_are_pressed_within_such_a_dialog_are_followed(life: Life) -> None:
    one = life.place("always")
    life.restart()
    _press(one, "*48")
    life.wait_for(lambda: _state(life, one) == "paused", what="the pause")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
def test_an_objection_that_the_exchange_tells_within_such_a_dialog_counts(life: Life, method: str) -> None:
    one = life.place("objectable")
    life.restart()
    if method == "UPDATE":
        assert _asked(life, one, "UPDATE", {"X-Recording-Consent": "no"}) == 200
    else:
        one.call.headers["X-Recording-Consent"] = "no"
        assert one.call.invite(*offer(one)).code == 200
    assert _state(life, one) == "erased"


@pytest.mark.timeout(120)
def test_a_held_call_that_is_taken_up_without_an_offer_is_recorded_on(life: Life) -> None:
    one = life.place("always")
    life.change(one, how="inactive")
    assert _state(life, one) == "paused"
    life.restart()
    call, (answer, kind) = one.call, offer(one)
    headers = {**call._dialog(), "Content-Type": "application/sdp"}
    given = life.client.request(
        "INVITE", call_id=call.call_id, cseq=call.cseq, headers=headers, uri=call.target
    )
    assert (given.code, given.body.count(b"a=recvonly"), given.body.count(b"a=inactive")) == (200, 2, 0)
    headers["Content-Type"] = kind
    life.client.send_raw(
        life.client.build(
            "ACK", call_id=call.call_id, cseq=call.cseq, headers=headers, body=answer, uri=call.target
        )
    )
    life.wait_for(lambda: _state(life, one) == "recording", what="the recording going on")
