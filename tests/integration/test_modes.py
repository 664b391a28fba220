"""Rules and modes at work: what is recorded, on whose word, and what is refused."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest

from dsp.mixing import Limiter, mix
from tests.support.field.request import FieldRequest
from tests.support.house import House
from tests.support.programs import Program, wait_until
from tests.support.sip_client import Call, SipClient, sdp_offer
from tests.support.sip_dialog import Dialog
from tests.support.talk import PREROLL_S, RATE_HZ, RULES, Talk, ask, recording_of


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Program]]:
    with House(tmp_path_factory.mktemp("modes"), extra=RULES) as house:
        yield house, house.recorder()


@pytest.fixture
def client(house: tuple[House, Program]) -> Iterator[SipClient]:
    with SipClient(server=house[0].server) as client:
        yield client


def test_a_call_that_no_rule_records_is_declined(house: tuple[House, Program], client: SipClient) -> None:
    for extension in ("2000", "2999"):
        headers = {"X-Call-ID": f"no-{extension}", "X-Call-Leg": "caller", "X-Call-Extension": extension}
        call = Call(client=client, headers=headers)
        assert call.invite(sdp_offer(client.address, [("", "PCMA")]), "application/sdp").code == 603
    assert house[0].status()["recorder"]["events"]["session_not_recorded"] >= 2


def test_on_demand_begins_with_the_request_and_ends_with_the_stop(
    house: tuple[House, Program], client: SipClient
) -> None:
    talk = Talk(client, "2003", 4.5)
    time.sleep(1.5)
    started_s = ask(house, talk, "feature_code", "start")
    time.sleep(1.5)
    stopped_s = ask(house, talk, "info", "stop")
    talk.end()
    recorded = recording_of(house, talk.call_id)
    shortest_s, longest_s = stopped_s[0] - started_s[1], stopped_s[1] - started_s[0]
    assert shortest_s - 0.2 < recorded.manifest["duration_samples"] / RATE_HZ < longest_s + 0.3
    samples, _ = recorded.samples()
    for entry in recorded.streams():
        decoded = talk.decoded(("caller", "callee").index(entry["label"]))
        piece = samples[400:8000, entry["channel"]]
        starts = [at for at in range(RATE_HZ, decoded.size - piece.size) if decoded[at] == piece[0]]
        assert any(np.array_equal(decoded[at : at + piece.size], piece) for at in starts)


def test_on_demand_with_pre_roll_keeps_the_past(house: tuple[House, Program], client: SipClient) -> None:
    talk = Talk(client, "2004", 5.0)
    time.sleep(3.5)
    session = house[1].wait_for("session_started", talk.call_id).split("subject=")[1].split()[0]
    assert not list((house[0].folder / "spool" / "drafts" / session).glob("*.wav"))
    started_s = ask(house, talk, "info", "start")
    talk.end()
    recorded = recording_of(house, talk.call_id)
    shortest_s, longest_s = talk.ended_s[0] - started_s[1], talk.ended_s[1] - started_s[0]
    duration_s = recorded.manifest["duration_samples"] / RATE_HZ
    assert PREROLL_S + shortest_s - 0.4 < duration_s < PREROLL_S + longest_s + 0.4
    samples, _ = recorded.samples()
    for entry in recorded.streams():
        decoded = talk.decoded(("caller", "callee").index(entry["label"]))
        piece = samples[: 2 * RATE_HZ, entry["channel"]]
        starts = [at for at in range(decoded.size - piece.size) if decoded[at] == piece[0]]
        assert any(np.array_equal(decoded[at : at + piece.size], piece) for at in starts)


def test_a_demand_that_never_comes_leaves_an_entry_without_audio(
    house: tuple[House, Program], client: SipClient
) -> None:
    talk = Talk(client, "2003", 1.5)
    talk.end()
    session = house[1].wait_for("session_started", talk.call_id).split("subject=")[1].split()[0]
    house[1].wait_for("session_ended", session)
    house[1].wait_for("entry_sealed", session)
    names = {path.name for path in (house[0].folder / "spool" / "ready" / session).iterdir()}
    assert names == {f"{session}.{end}" for end in ("manifest.json", "manifest.json.p7s", "signer.pem")}


def test_a_feature_call_hears_what_became_of_it(house: tuple[House, Program], client: SipClient) -> None:
    talk = Talk(client, "2001", 4.0)
    time.sleep(0.5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind((client.address, 0))
        host, port = house[0].server
        call = Call(client=client, headers={"From-User": "1001"}, target=f"sip:%2A48@{host}:{port}")
        sdp = sdp_offer(client.address, [("", "PCMA")], direction="sendrecv")
        sdp = sdp.replace(b"m=audio 50000", f"m=audio {ear.getsockname()[1]}".encode())
        assert call.invite(sdp, "application/sdp").code == 200
        ear.settimeout(0.1)
        heard = b""
        while client.requests.empty():
            with suppress(TimeoutError):
                heard += ear.recv(2048)[12:]
        assert client.requests.get().method == "BYE"
    assert len(heard) > RATE_HZ // 2
    talk.end()
    (span,) = recording_of(house, talk.call_id).manifest["spans"]
    assert span["begun_by"] == "1001"
    assert span["begun_via"] == "feature_code"


def test_a_feature_call_that_leaves_the_offer_to_us_hears_what_became_of_it(
    house: tuple[House, Program], client: SipClient
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind((client.address, 0))
        ear.settimeout(20)
        host, port = house[0].server
        dialog = Dialog(client=client, user="*48")
        from_to = (("From", "<sip:1001@example.com>;tag=late"), ("To", f"<sip:*48@{host}:{port}>"))
        contact = ("Contact", f"<sip:1001@{client.address}:{client.port}>")
        answer = sdp_offer(client.address, [("", "PCMA")], direction="sendrecv")
        answer = answer.replace(b"m=audio 50000", f"m=audio {ear.getsockname()[1]}".encode())
        reply = dialog.send(FieldRequest(method="INVITE", headers=(*from_to, contact)), ack=answer)
        assert reply.code == 200
        assert len(ear.recv(2048)) > 12
    dialog.bye()


def test_a_feature_call_is_spoken_to_where_the_exchange_moves_it(
    house: tuple[House, Program], client: SipClient
) -> None:
    with ExitStack() as stack:
        ears = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)]
        host, port = house[0].server
        call = Call(client=client, headers={"From-User": "1001"}, target=f"sip:%2A48@{host}:{port}")
        for ear, codec in zip(ears, ("PCMA", "PCMU"), strict=True):
            ear.bind((client.address, 0))
            ear.settimeout(20)
            sdp = sdp_offer(client.address, [("", codec)], direction="sendrecv")
            sdp = sdp.replace(b"m=audio 50000", f"m=audio {ear.getsockname()[1]}".encode())
            assert codec.encode() in call.invite(sdp, "application/sdp").body
            assert len(ear.recv(2048)) > 12
    call.bye()


def test_a_mixed_layout_has_one_channel(house: tuple[House, Program], client: SipClient) -> None:
    talk = Talk(client, "2008", 1.5)
    talk.end()
    recorded = recording_of(house, talk.call_id)
    samples, _ = recorded.samples()
    assert samples.shape[1] == 1
    one, two = recorded.streams()
    sides = np.zeros((2, samples.shape[0]), dtype=np.int16)
    for side, entry in zip(sides, (one, two), strict=True):
        decoded = talk.decoded(("caller", "callee").index(entry["label"]))
        end = min(side.size, entry["first_sample"] + decoded.size)
        side[entry["first_sample"] : end] = decoded[: end - entry["first_sample"]]
    assert np.array_equal(samples[:, 0], mix(sides, Limiter.of(RATE_HZ))[0])


MUST = """
[[rules]]
name = "trade"
mode = "always"
extensions = ["2001"]
mandatory = true

[[rules]]
name = "rest"
mode = "always"
"""


def test_a_call_that_must_be_recorded_and_cannot_is_refused_at_once_with_an_alarm(tmp_path: Path) -> None:
    with House(tmp_path, extra=MUST) as house:
        text = house.recorder_toml.read_text()
        low = int(re.search(r"port_min = (\d+)", text)[1])  # type: ignore[index]
        text = re.sub(r"port_max = \d+", f"port_max = {low + 3}", text)  # two pairs
        house.recorder_toml.write_text(text)
        recorder = house.recorder()
        with SipClient(server=house.server) as client:

            def invite(extension: str, name: str, lines: int) -> Call:
                headers = {"X-Call-ID": name, "X-Call-Leg": "mixed", "X-Call-Extension": extension}
                call = Call(client=client, headers=headers)
                offer = sdp_offer(client.address, [(str(number), "PCMA") for number in range(lines)])
                call.invite(offer, "application/sdp")
                return call

            first = invite("2002", "a", 1)
            assert first.response is not None
            assert first.response.code == 200
            refused = invite("2001", "b", 2)  # one pair is left, and both lines must be recorded
            assert refused.response is not None
            assert refused.response.code == 503
            assert int(refused.response.header("Retry-After")) > 0
            assert refused.response.header("Reason").startswith("SIP;cause=503;text=")
            recorder.wait_for("ERROR mandatory_refused", "subject=trade")
            others = list[Call]()

            def is_taken() -> bool:  # a port comes back with the next drain
                others.append(invite("2002", f"c-{len(others)}", 2))
                return len(others[-1].lines) == 2

            wait_until(is_taken, what="a call that need not be recorded is taken")
            assert others[-1].lines[1].port == 0  # it takes what there is
            full = invite("2001", "d", 1)
            assert full.response is not None
            assert full.response.code == 503
            assert house.status()["recorder"]["events"]["mandatory_refused"] == 2
