"""A re-INVITE within a dialog that an earlier process has answered is followed; the call goes on whole."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support import faults
from tests.support.faults import Nursery
from tests.support.g711_reference import decode
from tests.support.house import Recorded
from tests.support.killed_calls import Life, Placed, judge, offer
from tests.support.restarts import speech
from tests.support.rtp_sender import send_streams
from tests.support.sip_client import Call, metadata_xml, sdp_offer, siprec_body
from tests.support.sip_text import Message
from tests.support.srtp_sender import SrtpSender, SrtpStream

TIMER = "1800;refresher=uac"


@pytest.fixture
def life() -> Iterator[Life]:
    """A recorder that can be killed and goes on, with a disk that is fast."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, faults.nursery(Path(memory)) as nursery:
        yield from _life(nursery, Path(memory))


def _life(nursery: Nursery, folder: Path) -> Iterator[Life]:
    with Life(nursery, folder / "life") as opened:
        yield opened


def _refresh(one: Placed, *, body: bool = True) -> Message:
    """Keep the dialog alive, as an exchange with session timers does that knows no UPDATE."""
    one.call.headers |= {"Supported": "timer, siprec", "Session-Expires": TIMER}
    reply = one.call.invite(*(offer(one) if body else (b"", "application/sdp")))
    assert (reply.code, reply.header("Session-Expires"), reply.header("Require")) == (200, TIMER, "timer")
    return reply


def _origin(reply: Message) -> tuple[str, int]:
    found = re.search(rb"o=\S+ (\d+) (\d+)", reply.body)
    assert found is not None
    return found[1].decode(), int(found[2])


@pytest.mark.timeout(180)
def test_what_an_earlier_process_has_agreed_on_is_kept_and_changed_as_it_would_have_been(life: Life) -> None:
    assert life.is_up(life.start())
    first, second = life.place("always"), life.place("objectable")
    given = {id(one): one.call.response for one in (first, second)}
    for _ in range(2):
        life.pause_s(0.6)
        life.restart()
        for one in (first, second):
            assert _refresh(one).body.decode() == given[id(one)].body.decode()
        assert _refresh(first, body=False).body == given[id(first)].body
        ports = [line.port for line in second.call.lines]
        for how, back in (("inactive", "inactive"), ("sendonly", "recvonly")):
            life.change(second, how=how)
            held = second.call.response
            assert held is not None
            number, version = _origin(given[id(second)])
            assert (held.code, _origin(held)) == (200, (number, version + 1))
            assert [line.port for line in second.call.lines] == ports
            assert held.body.count(f"a={back}".encode()) == 2
            given[id(second)] = held
        life.change(first, codecs="8 0")
        assert first.call.response is not None
        assert first.call.response.code == 200
        given[id(first)] = first.call.response
        life.change(first)
        given[id(first)] = first.call.response
    child = life.child
    assert child is not None
    for one in life.placed:
        life.hang_up(one, early=False)
    drafts = life.house.folder / "spool" / "drafts"
    life.wait_for(lambda: not any(drafts.iterdir()), what="all sealed")
    life.close(child)
    recordings = [Recorded(folder) for folder in (drafts.parent / "ready").iterdir()]
    assert len(recordings) == 2
    judge(life.placed, recordings)
    for recorded in recordings:
        assert not recorded.manifest["recovered"]
        assert [row["reason"] for row in recorded.manifest["controls"]].count("0 samples lost") == 2


@pytest.mark.timeout(120)
def test_a_hold_of_the_client_s_is_over_when_it_sends_again_and_a_pause_is_not(life: Life) -> None:
    assert life.is_up(life.start())
    held, paused = life.place("always"), life.place("always")
    life.change(held, how="inactive")
    life.change(paused, how="inactive")
    assert life.ask(paused, "resume").get("done")
    assert life.ask(paused, "pause").get("done")
    life.restart()
    for one in (held, paused):
        life.change(one)
    states = {row["call_id"]: row["state"] for row in life.house.status()["recorder"]["sessions"]}
    assert states == {held.call_id: "recording", paused.call_id: "paused"}


@pytest.mark.timeout(120)
def test_a_preference_that_is_only_repeated_after_a_restart_ends_no_pause(life: Life) -> None:
    assert life.is_up(life.start())
    one = life.place("always")

    def state_with(preference: str) -> str:
        body, content_type = offer(one)
        wish = b"a=recordpref:" + preference.encode() + b"\r\na=sendonly"
        assert one.call.invite(body.replace(b"a=sendonly", wish), content_type).code == 200
        (row,) = life.house.status()["recorder"]["sessions"]
        return str(row["state"])

    assert state_with("on") == "recording"
    assert life.ask(one, "pause").get("done")
    life.restart()
    assert [state_with(word) for word in ("on", "on", "pause", "on", "pause")] == [
        "paused", "paused", "paused", "recording", "paused",
    ]  # fmt: skip
    assert life.ask(one, "resume").get("done")
    life.restart()
    assert [state_with(word) for word in ("pause", "on")] == ["paused", "recording"]


@pytest.mark.timeout(120)
def test_what_cannot_be_followed_is_refused_so_that_the_exchange_begins_anew(life: Life) -> None:
    assert life.is_up(life.start())
    one = life.place("always")
    life.pause_s(0.6)
    life.restart()
    labels = [*one.labels, "third"]
    more = sdp_offer("127.0.0.1", [(label, "PCMA") for label in labels])
    wide = sdp_offer("127.0.0.1", [(label, "L16/16000") for label in one.labels])
    metadata = metadata_xml(session_id=one.call_id, parties=[("sip:1@x", "A")], labels=labels)
    to, target = one.call.to, one.call.target
    for sdp in (more, wide, b"v=0\r\nnonsense"):
        assert one.call.invite(*siprec_body(sdp, metadata)).code == 481
        one.call.to, one.call.target = to, target
    stranger = life.client.request(
        "INVITE", call_id="nobody's", cseq=3, headers={"From": "<sip:x@y>;tag=1", "To": "<sip:z@y>;tag=2"}
    )
    assert stranger.code == 481
    _refresh(one)
    one.call.bye()
    drafts = life.house.folder / "spool" / "drafts"
    life.wait_for(lambda: not any(drafts.iterdir()), what="sealed")


@pytest.mark.timeout(120)
def test_an_invite_that_comes_once_more_after_a_restart_leaves_no_dialog_behind(life: Life) -> None:
    assert life.is_up(life.start())
    one = life.place("always")
    life.pause_s(0.6)
    life.restart()
    one.call.to = one.call.target = ""  # what was answered before the kill never came to the client
    one.call.cseq = 1
    assert one.call.invite(*offer(one)).code == 200
    (row,) = life.house.status()["recorder"]["sessions"]
    assert (row["call_id"], row["state"]) == (one.call_id, "recording")
    child = life.child
    assert child is not None
    assert child.text().count("stream_ended") == 2
    one.call.bye()
    life.wait_for(lambda: "recording_sealed" in child.text(), what="the call sealed")
    standing = life.house.status()["recorder"]["sip"]
    assert (standing["sessions"], standing["dialogs"]) == (0, 0)
    assert child.text().count("stream_ended") == 4


@pytest.mark.timeout(120)
def test_keys_that_a_reinvite_has_changed_are_those_after_a_restart(life: Life) -> None:
    assert life.is_up(life.start())
    payload = speech(7, 200)
    decoded = decode(payload, law="PCMA")
    call = Call(client=life.client, headers={"X-Call-ID": "rekeyed", "X-Call-Leg": "mixed"})
    for number in range(2):
        sender = SrtpSender(suite="AES_CM_128_HMAC_SHA1_80")
        sdp = sdp_offer("127.0.0.1", [("", "PCMA")]).replace(b"RTP/AVP", b"RTP/SAVP")
        sdp += f"a=crypto:{sender.crypto()}\r\n".encode()
        assert call.invite(sdp, "application/sdp").code == 200
        if number:
            life.pause_s(3.5)  # what came by the old keys is written, and on no shelf any more
            life.restart()
        stream = SrtpStream(port=call.lines[0].port, payload_type=8, payload=payload, sender=sender)
        send_streams([stream])
    call.bye()
    child = life.child
    assert child is not None
    life.wait_for(lambda: "recording_sealed" in child.text(), what="the call sealed")
    (ready,) = (life.house.folder / "spool" / "ready").iterdir()
    samples, _ = Recorded(ready).samples()
    begins = [
        at
        for at in np.flatnonzero(samples[:, 0] == decoded[0])
        if np.array_equal(samples[at:, 0][:160], decoded[:160])
    ]
    assert len(begins) == 2
    for at in begins:
        assert np.array_equal(samples[at:, 0][: decoded.size], decoded)
