"""Calls that the exchange makes one, each under a rule of its own: nothing is kept or lost by that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.support.house import House, Recorded
from tests.support.programs import Program
from tests.support.sip_client import Call, SipClient, metadata_xml, sdp_offer, siprec_body
from tests.support.talk import RATE_HZ, RULES, Talk, recording_of, tombstone


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Program]]:
    with House(tmp_path_factory.mktemp("linked"), extra=RULES) as house:
        yield house, house.recorder()


@pytest.fixture
def client(house: tuple[House, Program]) -> Iterator[SipClient]:
    with SipClient(server=house[0].server) as client:
        yield client


def _link(talk: Talk, other: Talk) -> int:
    return talk.request(0, "INFO", "", "text/plain", **{"X-Call-Linked": other.call_id})


def _stream_of(recorded: Recorded, talk: Talk, leg: int) -> dict[str, Any]:
    return next(entry for entry in recorded.streams() if talk.streams[leg].ssrc in entry["ssrcs"])


def _holds_leg(recorded: Recorded, talk: Talk, leg: int) -> None:
    entry, decoded, (samples, _) = _stream_of(recorded, talk, leg), talk.decoded(leg), recorded.samples()
    first = entry["first_sample"]
    assert np.array_equal(samples[first : first + decoded.size, entry["channel"]], decoded)


def _holds_alone(house: tuple[House, Program], talk: Talk) -> None:
    """The recording of a call has all that its two legs said and no other voice."""
    recorded = recording_of(house, talk.call_id)
    assert recorded.manifest["spans"] == []
    assert len(recorded.streams()) == 2
    for leg in (0, 1):
        _holds_leg(recorded, talk, leg)


def test_a_call_that_was_objected_to_is_not_recorded_as_a_part_of_another(
    house: tuple[House, Program], client: SipClient
) -> None:
    recorded, objected = Talk(client, "2002", 4.0), Talk(client, "2006", 3.0)
    time.sleep(1.0)
    assert objected.request(0, "INFO", "", "text/plain", **{"X-Recording-Consent": "no"}) == 200
    assert _link(objected, recorded) == 403
    objected.end()
    recorded.end()
    assert tombstone(house, objected.call_id)["outcome"] == "objected"
    _holds_alone(house, recorded)


def test_a_call_that_waits_for_consent_is_not_recorded_as_a_part_of_another(
    house: tuple[House, Program], client: SipClient
) -> None:
    recorded, asked = Talk(client, "2002", 5.0), Talk(client, "2005", 4.0)
    time.sleep(1.0)
    assert _link(asked, recorded) == 403
    asked.end()
    recorded.end()
    assert tombstone(house, asked.call_id)["outcome"] == "consent_missing"
    _holds_alone(house, recorded)


def test_what_must_be_recorded_is_not_lost_in_a_call_that_nobody_started_to_record(
    house: tuple[House, Program], client: SipClient
) -> None:
    unstarted = Talk(client, "2003", 5.0)
    time.sleep(0.5)
    recorded = Talk(client, "2002", 4.0)
    time.sleep(1.5)
    assert _link(recorded, unstarted) == 200
    unstarted.end()
    recorded.end()
    whole = recording_of(house, recorded.call_id)
    samples, _ = whole.samples()
    _holds_leg(whole, recorded, 1)
    entry, decoded = _stream_of(whole, unstarted, 1), unstarted.decoded(1)
    heard = samples[entry["first_sample"] :, entry["channel"]]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(decoded, (0, RATE_HZ)), RATE_HZ)
    (at,) = (at for at in np.flatnonzero(decoded == heard[0]) if np.array_equal(windows[at], heard[:RATE_HZ]))
    assert at > RATE_HZ  # from the link on, to its end
    assert np.array_equal(heard[: decoded.size - at], decoded[at:])


def test_a_call_that_begins_as_a_part_of_one_that_waits_for_consent_is_recorded_by_its_own_rule(
    house: tuple[House, Program], client: SipClient
) -> None:
    asked = Talk(client, "2005", 3.0)
    recorded = Talk(client, "2002", 2.0, linked=asked.call_id)
    recorded.end()
    asked.end()
    _holds_alone(house, recorded)


def test_a_call_that_begins_as_a_part_of_one_that_nobody_started_to_record_is_recorded(
    house: tuple[House, Program], client: SipClient
) -> None:
    unstarted = Talk(client, "2003", 3.0)
    recorded = Talk(client, "2002", 2.0, linked=unstarted.call_id)
    recorded.end()
    unstarted.end()
    _holds_leg(recording_of(house, recorded.call_id), recorded, 1)


def test_a_call_that_needs_consent_is_no_part_of_a_recorded_one_from_its_beginning(
    house: tuple[House, Program], client: SipClient
) -> None:
    recorded = Talk(client, "2002", 5.0)
    asked = Talk(client, "2005", 4.0, linked=recorded.call_id)
    asked.end()
    recorded.end()
    assert tombstone(house, asked.call_id)["outcome"] == "consent_missing"
    _holds_alone(house, recorded)


def _asked_by(client: SipClient, user: str, action: str) -> int:
    headers = {
        "From": f"<sip:{user}@example.com>;tag=m", "To": "<sip:recorder@example.com>",
        "Content-Type": "text/plain",
    }  # fmt: skip
    call_id = f"{user}-{time.monotonic_ns()}"
    body = f"action={action}".encode()
    return client.request("MESSAGE", call_id=call_id, cseq=1, headers=headers, body=body).code


@pytest.mark.parametrize("from_the_beginning", [False, True])
def test_who_came_with_a_call_that_became_one_with_another_may_pause_it(
    house: tuple[House, Program], client: SipClient, from_the_beginning: bool
) -> None:
    first = Talk(client, "2001", 2.5)
    second = Talk(client, "2009", 2.0, linked=first.call_id if from_the_beginning else "")
    if not from_the_beginning:
        assert _link(second, first) == 200
    assert [_asked_by(client, "2009", action) for action in ("pause", "resume")] == [200, 200]
    second.end()
    first.end()
    actions = [row["action"] for row in recording_of(house, first.call_id).manifest["controls"]]
    assert actions == ["pause", "resume"]
    assert _asked_by(client, "2009", "pause") == 404


def test_a_pause_outlasts_being_made_one_with_a_call_that_knows_none(
    house: tuple[House, Program], client: SipClient
) -> None:
    recorded, paused = Talk(client, "2002", 4.0), Talk(client, "2001", 3.0)
    time.sleep(1.0)
    assert paused.request(0, "INFO", "action=pause", "text/plain") == 200
    assert _link(paused, recorded) == 403
    paused.end()
    recorded.end()
    (span,) = recording_of(house, paused.call_id).manifest["spans"]
    assert span["cause"] == "paused"
    _holds_alone(house, recorded)


def _siprec(client: SipClient, call_id: str, parties: tuple[str, str]) -> Call:
    call = Call(
        client=client,
        headers={
            "Require": "siprec", "Supported": "siprec", "Contact-Parameters": ";+sip.src",
            "X-Call-ID": call_id, "X-Call-Extension": "2001",
        },
    )  # fmt: skip
    metadata = metadata_xml(
        session_id=call_id,
        parties=[(f"sip:{party}@example.com", party) for party in parties],
        labels=["1", "2"],
    )
    sdp = sdp_offer(client.address, [("1", "PCMA"), ("2", "PCMA")])
    assert call.invite(*siprec_body(sdp, metadata)).code == 200
    return call


def test_a_reinvite_that_makes_two_calls_one_and_asks_for_a_pause_is_followed_in_both(
    house: tuple[House, Program], client: SipClient
) -> None:
    first, second = f"first-{time.monotonic_ns()}", f"second-{time.monotonic_ns()}"
    kept, absorbed = _siprec(client, first, ("1001", "2001")), _siprec(client, second, ("1002", "2001"))
    absorbed.headers["X-Call-Linked"] = first
    wish = sdp_offer(client.address, [("1", "PCMA"), ("2", "PCMA")])
    wish = wish.replace(b"a=sendonly", b"a=recordpref:pause\r\na=sendonly")
    ports = [line.port for line in absorbed.lines]
    assert absorbed.invite(wish, "application/sdp").code == 200
    assert [line.port for line in absorbed.lines] == ports
    house[1].wait_for("sessions_joined", f"call_id={second}")
    time.sleep(1.0)
    for call in (absorbed, kept):
        call.bye()
    (paused,) = recording_of(house, first).manifest["spans"]
    assert paused["cause"] == "paused"
    assert "internal_error" not in house[1].text()


@pytest.mark.parametrize("from_the_beginning", [False, True])
def test_what_must_be_recorded_is_not_paused_with_a_call_that_may_be(
    house: tuple[House, Program], client: SipClient, from_the_beginning: bool
) -> None:
    pausable = Talk(client, "2001", 4.0)
    recorded = Talk(client, "2002", 3.0, linked=pausable.call_id if from_the_beginning else "")
    if not from_the_beginning:
        time.sleep(0.5)
        assert _link(recorded, pausable) == 403
    assert pausable.request(0, "INFO", "action=pause", "text/plain") == 200
    recorded.end()
    pausable.end()
    (span,) = recording_of(house, pausable.call_id).manifest["spans"]
    assert span["cause"] == "paused"
    _holds_alone(house, recorded)
