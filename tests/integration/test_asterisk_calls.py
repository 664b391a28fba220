"""A real exchange: every kind of call, as two legs and as a mixed one; tones tell who is on which channel."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.audio import tone_level_dbfs
from tests.support.house import Recorded
from tests.support.office import TRUNK_NUMBER, Office
from tests.support.registered import TONES_HZ, channel_of, speakers, spells_s, talk

TALK_S = 0.9
OUTSIDE_NUMBER = "002079460123"
CONFIDENTIAL_NUMBER = "0116123"
RULES = f"""
[[rules]]
name = "confidential"
mode = "never"
numbers = ["{CONFIDENTIAL_NUMBER}"]

[[rules]]
name = "support-queue"
mode = "always-pausable"
queues = ["support"]

[[rules]]
name = "board"
mode = "always"
conferences = ["701"]

[[rules]]
name = "outside"
mode = "always"
directions = ["inbound", "outbound"]

[[rules]]
name = "house"
mode = "always-pausable"
directions = ["internal"]
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with Office(tmp_path_factory.mktemp("office"), rules=RULES) as office:
        yield office


@pytest.fixture
def office(shared: Office) -> Office:
    shared.quiet()
    return shared


@pytest.fixture(params=["legs", "mixed"])
def mode(request: pytest.FixtureRequest, office: Office) -> Iterator[str]:
    mode: str = request.param
    with office.exchange.switched(REC_MODE=mode):
        yield mode


def _facts(recorded: Recorded) -> dict[str, str]:
    call = recorded.manifest["call"]
    names = ("caller", "callee", "direction", "extension", "trunk", "queue", "conference")
    return {name: call[name] for name in names if call[name]} | {"rule": recorded.manifest["rule"]["name"]}


def _check_voices(recorded: Recorded, mode: str, *, first: str, second: str) -> None:
    """The recorded extension has the first channel, the other party the second; a mixed leg has one."""
    samples, rate_hz = talk(recorded)
    expected = [{first}, {second}] if mode == "legs" else [{first, second}]
    assert speakers(samples, rate_hz) == expected


def _spans_s(recorded: Recorded, channel: int, who: str) -> list[tuple[float, float]]:
    """Where somebody's tone sounds on a channel."""
    samples, rate_hz = recorded.samples()
    return spells_s(samples[:, channel], rate_hz, TONES_HZ[who])


def test_an_internal_call_has_both_extensions(office: Office, mode: str) -> None:
    call_s = office.conversation("1001", "1002", "1002", talk_s=TALK_S)
    (recorded,) = office.house.new_recordings(1)
    assert _facts(recorded) == {
        "caller": "1001", "callee": "1002", "direction": "internal", "extension": "1002", "rule": "house",
    }  # fmt: skip
    _check_voices(recorded, mode, first="1002", second="1001")
    assert recorded.manifest["duration_samples"] / 8000 == pytest.approx(call_s, abs=0.15)


def test_an_inbound_call_names_trunk_and_number(office: Office, mode: str) -> None:
    office.conversation("trunk", "1001", "1001", talk_s=TALK_S)
    (recorded,) = office.house.new_recordings(1)
    assert _facts(recorded) == {
        "caller": TRUNK_NUMBER, "callee": "1001", "direction": "inbound", "extension": "1001",
        "trunk": "trunk", "rule": "outside",
    }  # fmt: skip
    _check_voices(recorded, mode, first="1001", second="trunk")


def test_an_outbound_call_has_the_callers_extension_first(office: Office, mode: str) -> None:
    office.conversation("1001", OUTSIDE_NUMBER, "trunk", talk_s=TALK_S)
    (recorded,) = office.house.new_recordings(1)
    assert _facts(recorded) == {
        "caller": "1001", "callee": OUTSIDE_NUMBER, "direction": "outbound", "extension": "1001",
        "trunk": "trunk", "rule": "outside",
    }  # fmt: skip
    _check_voices(recorded, mode, first="1001", second="trunk")


def test_a_queues_call_follows_the_queues_rule_and_has_the_agent_first(office: Office, mode: str) -> None:
    office.conversation("trunk", "600", "1002", talk_s=TALK_S)
    (recorded,) = office.house.new_recordings(1)
    assert _facts(recorded) == {
        "caller": TRUNK_NUMBER, "callee": "600", "direction": "inbound", "extension": "1002",
        "trunk": "trunk", "queue": "support", "rule": "support-queue",
    }  # fmt: skip
    _check_voices(recorded, mode, first="1002", second="trunk")


def test_a_conference_is_one_channel_with_everybody(office: Office) -> None:
    """The recorder is a member that is not heard; there is no other way, whatever the mode."""
    office.meet("701", "1001", "1002", "1003")
    time.sleep(TALK_S)
    for who in ("1001", "1002", "1003"):
        office.phones[who].hangup()
    (recorded,) = office.house.new_recordings(1)
    assert _facts(recorded) == {
        "caller": "1001", "callee": "701", "direction": "internal", "conference": "701", "rule": "board",
    }  # fmt: skip
    samples, rate_hz = talk(recorded)
    assert speakers(samples[-rate_hz // 2 :], rate_hz) == [{"1001", "1002", "1003"}]


def test_hold_is_silence_of_its_length_in_one_recording(office: Office, mode: str) -> None:
    office.connect("1001", "1002", "1002")
    time.sleep(0.6)
    office.phones["1002"].hold(True)
    time.sleep(0.8)
    office.phones["1002"].hold(False)
    time.sleep(0.6)
    office.phones["1001"].hangup()
    (recorded,) = office.house.new_recordings(1)
    assert recorded.manifest["duration_samples"] / 8000 == pytest.approx(2.0, abs=0.3)
    holder = channel_of(recorded, "1002") if mode == "legs" else 0
    (_, gone_s), (back_s, _) = _spans_s(recorded, holder, "1002")
    assert back_s - gone_s == pytest.approx(0.8, abs=0.2)
    assert recorded.manifest["spans"] == []  # nobody asked the recorder for this silence


def test_a_blind_transfer_is_one_recording_and_keeps_the_survivor_once(office: Office, mode: str) -> None:
    office.connect("1001", "1002", "1002")
    time.sleep(1.0)
    office.phones["1002"].transfer("1003")
    office.phones["1003"].wait("confirmed")
    time.sleep(1.2)
    office.phones["1001"].hangup()
    (recorded,) = office.house.new_recordings(1)
    samples, rate_hz = recorded.samples()
    if mode == "legs":
        survivor = channel_of(recorded, "1001")
        before, after = channel_of(recorded, "1002"), channel_of(recorded, "1003")
        assert len({survivor, before, after}) == samples.shape[1] == 3
    else:
        survivor = before = after = 0
        assert samples.shape[1] == 1
    ((_, left_s),) = _spans_s(recorded, before, "1002")
    ((came_s, _),) = _spans_s(recorded, after, "1003")
    assert left_s < came_s + 0.02
    ((from_s, until_s),) = _spans_s(recorded, survivor, "1001")
    assert from_s < 0.3
    assert until_s > samples.shape[0] / rate_hz - 0.3
    late = samples[-rate_hz:, survivor]  # both of the survivor's legs run: the voice is there, but not twice
    assert tone_level_dbfs(late, rate_hz, TONES_HZ["1001"]) == pytest.approx(-12, abs=1.5)
    assert any(row["doubled"] for row in recorded.manifest["streams"])


def test_an_attended_transfer_joins_both_calls_when_the_exchange_links_them(
    office: Office, mode: str
) -> None:
    agent, linked = office.phones["1002"], len(office.link.linked)
    office.connect("1001", "1002", "1002")
    first = agent.wait("incoming")["call"]
    time.sleep(0.9)
    agent.hold(True)
    second = office.connect("1002", "1003", "1003")["call"]
    time.sleep(1.0)
    agent.transfer_attended(call=first, to_call=second)
    ids = office.link.wait(linked + 1)[-1]
    time.sleep(1.2)
    office.phones["1001"].hangup()
    conversation, consultation = office.house.new_recordings(2)
    assert [row["call_id"] for row in (conversation.manifest["call"], consultation.manifest["call"])] == [
        *ids
    ]
    assert conversation.manifest["call_ids"] == [*ids]
    (join,) = conversation.manifest["joins"]
    assert (join["call_id"], join["session"]) == (ids[1], consultation.manifest["recording_id"])
    assert consultation.manifest["joined_into"] == conversation.manifest["recording_id"]
    samples, rate_hz = conversation.samples()
    channel = 0 if mode == "mixed" else channel_of(conversation, "1003")
    ((_, until_s),) = _spans_s(conversation, channel, "1003")
    assert until_s > samples.shape[0] / rate_hz - 0.3
    survivors = speakers(samples[-rate_hz:-800], rate_hz)
    assert sorted(map(sorted, survivors)) == (
        [[], ["1001"], ["1003"]] if mode == "legs" else [["1001", "1003"]]
    )


def test_what_no_rule_covers_and_what_is_never_recorded_is_refused_and_goes_on(
    office: Office,
) -> None:
    """Paging, voicemail, intercom, another conference, a confidential number: handed over, not recorded."""
    for to in ("850", "860", "870", "702", CONFIDENTIAL_NUMBER):
        before = office.house.log().count("session_not_recorded")
        office.phones["1001"].call(to)
        office.phones["1001"].wait("confirmed")
        time.sleep(0.5)
        assert not office.phones["1001"].seen("ended")[len(office.phones["1001"].seen("confirmed")) :], to
        assert office.house.log().count("session_not_recorded") > before, to
        office.disconnect("1001")
    assert office.house.new_recordings(0) == []
    assert office.house.entries() == ["not_wanted"]  # of the rule that says never; the others are nobody's
