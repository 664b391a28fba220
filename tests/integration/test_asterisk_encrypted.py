"""A real exchange hands its calls over by TCP and SRTP, keys in the SDP; the recorder insists on it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.office import Office
from tests.support.registered import find_prompt, heard, speakers, talk

TOLD = "this_call_is_recorded"
RULES = f"""
[[rules]]
name = "everything"
mode = "always"
prompt_internal = "{TOLD}"
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with Office(
        tmp_path_factory.mktemp("office"), rules=RULES, transport="tcp",
        changes={"[rtp]\n": '[rtp]\nsrtp = "require"\n'},
        REC_ENDPOINT="recorder-srtp", REC_WHISPER="yes",
    ) as office:  # fmt: skip
        yield office


@pytest.fixture
def office(shared: Office) -> Office:
    shared.quiet()
    return shared


def test_encrypted_legs_are_two_clean_channels_and_the_prompt_goes_back_encrypted(office: Office) -> None:
    office.conversation("1001", "1002", "1002", talk_s=4.0)
    for who in ("1001", "1002"):
        _, _, likeness = find_prompt(*heard(office.phones[who].wait("recorded")), TOLD)
        assert likeness > 0.85, f"{who} did not hear it: {likeness:.2f}"
    (recorded,) = office.house.new_recordings(1)
    samples, rate_hz = talk(recorded)
    assert speakers(samples, rate_hz) == [{"1002"}, {"1001"}]
    assert not any(row["packets_lost"] or row["packets_malformed"] for row in recorded.manifest["streams"])
    offers = [path.read_bytes().decode() for path in recorded.folder.glob("*.sip")]
    assert len(offers) == 2
    for offer in offers:
        assert "/TCP " in offer.split("\r\n")[1]
        assert "RTP/SAVP " in offer
        assert "AES_CM_128_HMAC_SHA1_80" in offer


def test_a_leg_in_the_clear_is_refused_and_the_call_goes_on(office: Office) -> None:
    with office.exchange.switched(REC_ENDPOINT="recorder"):
        office.connect("1001", "1002", "1002")
        office.house.wait_logged("session_refused")
        time.sleep(0.5)
        assert office.exchange.channels() == 2
        office.disconnect("1001")
    assert office.house.new_recordings(0) == []
