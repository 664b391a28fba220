"""Requests that the library would do by itself, or that a stranger sends: refused, and the calls go on."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

import pytest

from tests.support.house import House
from tests.support.programs import Program
from tests.support.sip_client import Call, SipClient, metadata_xml, sdp_offer, siprec_body, siprec_call


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Program]]:
    with House(tmp_path_factory.mktemp("refused")) as house:
        yield house, house.recorder()


@pytest.fixture
def client(house: tuple[House, Program]) -> Iterator[SipClient]:
    with SipClient(server=house[0].server) as client:
        yield client


def _sessions(house: House) -> list[str]:
    return [row["call_id"] for row in house.status()["recorder"]["sessions"]]


def test_nobody_makes_the_recorder_call_or_tell_a_third_party(
    house: tuple[House, Program], client: SipClient
) -> None:
    with SipClient(server=house[0].server) as other:
        one = siprec_call(client, session_id="referred")
        third = f"<sip:premium@127.0.0.1:{other.port}>"
        for method, headers in (
            ("REFER", {"Refer-To": third}),
            ("SUBSCRIBE", {"Event": "presence", "Expires": "60"}),
        ):
            within = client.request(
                method,
                call_id=one.call_id,
                cseq=one.cseq,
                uri=one.target,
                headers={**one._dialog(), **headers},
            )
            one.cseq += 1
            stranger = Call(client=client, headers={})
            outside = client.request(
                method, call_id=secrets.token_hex(8), cseq=1, headers={**stranger._dialog(), **headers}
            )
            assert (within.code, outside.code) == (405, 405)
        assert one.bye().code == 200
        assert other.requests.empty()


def test_a_dialog_that_is_to_be_replaced_goes_on(house: tuple[House, Program], client: SipClient) -> None:
    one = siprec_call(client, session_id="replaced")
    tag = re.search("tag=([^;>]+)", one.to)
    assert tag is not None
    metadata = metadata_xml(session_id="replaced", parties=[("sip:1@x", "A")], labels=["1"])
    body = siprec_body(sdp_offer(client.address, [("1", "PCMA")]), metadata)
    other = Call(client=client, headers={"Require": "siprec", "Contact-Parameters": ";+sip.src"})
    other.headers["Replaces"] = f"{one.call_id};to-tag={tag[1]};from-tag={one.local_tag}"
    refused = other.invite(*body)
    assert (refused.code, refused.header("Unsupported")) == (420, "replaces")
    assert _sessions(house[0]).count("replaced") == 1
    assert one.bye().code == 200


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_an_offer_of_too_many_lines_leaves_the_call_as_it_was(
    house: tuple[House, Program], client: SipClient, method: str
) -> None:
    call = siprec_call(client, session_id=f"many-{method}")
    ports, before = [line.port for line in call.lines], house[1].text().count("stream_opened")
    many = sdp_offer(client.address, [(str(number), "PCMA") for number in range(1, 18)])
    if method == "INVITE":
        to, target = call.to, call.target
        assert call.invite(many, "application/sdp").code == 488
        call.to, call.target = to, target
    else:
        headers = {**call._dialog(), "Content-Type": "application/sdp"}
        asked = {"call_id": call.call_id, "cseq": call.cseq, "uri": call.target, "headers": headers}
        assert client.request("UPDATE", **asked, body=many).code == 488
        call.cseq += 1
    assert house[1].text().count("stream_opened") == before
    assert (
        call.invite(sdp_offer(client.address, [("1", "PCMA"), ("2", "PCMA")]), "application/sdp").code == 200
    )
    assert [line.port for line in call.lines] == ports
    assert call.bye().code == 200


def test_an_invite_with_the_call_id_of_another_dialog_changes_nothing_of_that(
    house: tuple[House, Program], client: SipClient
) -> None:
    one = siprec_call(client, session_id="first", caller="1001")
    other = Call(client=client, call_id=one.call_id, headers=dict(one.headers))
    metadata = metadata_xml(session_id="second", parties=[("sip:1002@x", "A")], labels=["1", "2"])
    assert other.invite(metadata, "application/rs-metadata+xml").code == 200  # with an offer of ours
    rows = {row["call_id"]: row["caller"] for row in house[0].status()["recorder"]["sessions"]}
    assert (rows["first"], rows["second"]) == ("1001", "1002")
    assert (other.bye().code, one.bye().code) == (200, 200)
