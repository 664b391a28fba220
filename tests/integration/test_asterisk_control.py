"""A real exchange: who is on a call controls its recording by code, dialled inside the call or from hold."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import numpy as np
import pytest

from tests.support.audio import tone_level_dbfs
from tests.support.house import Recorded
from tests.support.office import Office
from tests.support.registered import (
    SPEAKS_DBFS,
    TONES_HZ,
    beginning_of,
    controls,
    find_spoken,
    heard,
    prompt,
    silent_spans,
    speakers,
    talk,
    write_prompt,
)

ALIKE = 0.85  # two announcements that differ in a word have up to 0.81
TALK_S = 0.6
WHY_NOT = ("not_possible", "always_recorded", "no_call")
WHY_NOT_S = 0.5
RULES = """
[control]
prompts_dir = "prompts"

[[rules]]
name = "inbound"
mode = "always"
directions = ["inbound"]

[[rules]]
name = "on-demand"
mode = "on-demand"
callees = ["1003"]

[[rules]]
name = "pausable"
mode = "always-pausable"
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    for name in WHY_NOT:  # their beginnings are enough, and are put in the place of the built-in ones
        write_prompt(folder / "prompts", name, beginning_of(name, WHY_NOT_S))
    with Office(folder, rules=RULES) as office:
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


def _at_s(row: dict[str, str]) -> float:
    return datetime.fromisoformat(row["at"]).timestamp()


def _check_one_pause(recorded: Recorded, *, by: str, via: str) -> None:
    """One span, silent to the sample on all channels, as long as the pause; voices right before and after."""
    assert controls(recorded) == [("pause", by, via, True), ("resume", by, via, True)]
    paused, resumed = recorded.manifest["controls"]
    ((start, end),) = silent_spans(recorded)
    (span,) = recorded.manifest["spans"]
    assert (span["cause"], span["begun_by"], span["ended_by"]) == ("paused", by, by)
    samples, rate_hz = recorded.samples()
    assert (paused["sample"], resumed["sample"]) == (start, end)
    # The request is noted when it is read, and in force from when it can have arrived.
    assert 0.0 <= (end - start) / rate_hz - (_at_s(resumed) - _at_s(paused)) + 0.002 < 0.1
    assert (end - start) / rate_hz > TALK_S
    for stream in recorded.manifest["streams"]:
        gaps = [(gap["start_samples"], gap["length_samples"], gap["cause"]) for gap in stream["gaps"]]
        assert (start, end - start, "paused") in gaps
    # 1001 dials nothing and never falls silent: the pause takes of its voice exactly the span.
    window = rate_hz // 10
    channel = int(np.argmax([tone_level_dbfs(row, rate_hz, TONES_HZ["1001"]) for row in samples.T]))
    for part in (samples[start - window : start, channel], samples[end : end + window, channel]):
        assert tone_level_dbfs(part, rate_hz, TONES_HZ["1001"]) > SPEAKS_DBFS
    assert np.any(samples[start - 20 : start])
    assert np.any(samples[end : end + 20])


@pytest.mark.parametrize(
    ("mode", "way", "via"),
    [("legs", "call", "feature_code"), ("mixed", "message", "message")],
)
def test_a_code_dialled_inside_the_call_pauses_and_resumes(
    office: Office, mode: str, way: str, via: str
) -> None:
    """The agent dials; the exchange passes it on as a call to the code or as a SIP MESSAGE."""
    agent = office.phones["1002"]
    with office.exchange.switched(REC_MODE=mode, REC_CTL=way):
        start_ns = int(office.connect("1001", "1002", "1002")["at_mono_ns"])
        time.sleep(TALK_S)
        agent.dtmf("*48")
        office.house.wait_logged("recording_paused")
        time.sleep(TALK_S)
        agent.dtmf("*49")
        office.house.wait_logged("recording_resumed")
        time.sleep(TALK_S)
        office.phones["1001"].hangup()
        end_ns = int(agent.wait("ended")["at_mono_ns"])
    (recorded,) = office.house.new_recordings(1)
    _check_one_pause(recorded, by="1002", via=via)
    assert recorded.manifest["duration_samples"] / 8000 == pytest.approx((end_ns - start_ns) / 1e9, abs=0.15)
    samples, rate_hz = talk(recorded)
    expected = [{"1002"}, {"1001"}] if mode == "legs" else [{"1001", "1002"}]
    assert speakers(samples[: rate_hz // 2], rate_hz) == expected
    assert speakers(samples[-rate_hz // 4 :], rate_hz) == expected


def _ask(office: Office, who: str, code: str, *announcements: str) -> None:
    """Call a code and hear the recorder's answer out; the recorder hangs up."""
    phone = office.phones[who]
    phone.call(code)
    number = phone.wait("confirmed")["call"]
    ended = phone.wait("ended", timeout_s=12)
    assert ended["call"] == number
    samples, rate_hz = heard(phone.wait("recorded"))
    after_s = -1.0
    for name in announcements:
        sound = beginning_of(name, WHY_NOT_S) if name in WHY_NOT else prompt(name)
        start_s, end_s, likeness = find_spoken(samples, rate_hz, *sound)
        assert likeness > ALIKE, f"{name} is not what was said: {likeness:.2f}"
        assert start_s > after_s
        after_s = end_s - 0.1


def test_a_code_dialled_from_hold_is_answered_with_an_announcement(office: Office, mode: str) -> None:
    agent = office.phones["1002"]
    office.connect("1001", "1002", "1002")
    first = agent.wait("incoming")["call"]
    time.sleep(TALK_S)
    agent.hold(True, call=first)
    _ask(office, "1002", "*48", "recording_paused")
    agent.hold(False, call=first)
    time.sleep(TALK_S)
    agent.hold(True, call=first)
    _ask(office, "1002", "*49", "recording_resumed")
    agent.hold(False, call=first)
    time.sleep(TALK_S)
    office.phones["1001"].hangup()
    (recorded,) = office.house.new_recordings(1)
    _check_one_pause(recorded, by="1002", via="feature_code")
    assert len(recorded.samples()[0].T) == (2 if mode == "legs" else 1)


def test_a_call_that_is_always_recorded_refuses_a_pause_and_says_why(office: Office) -> None:
    office.connect("trunk", "1001", "1001")
    first = office.phones["1001"].wait("incoming")["call"]
    time.sleep(0.4)
    office.phones["1001"].hold(True, call=first)
    _ask(office, "1001", "*48", "not_possible", "always_recorded")
    office.phones["1001"].hold(False, call=first)
    time.sleep(TALK_S)
    office.disconnect("trunk")
    (recorded,) = office.house.new_recordings(1)
    assert controls(recorded) == [("pause", "1001", "feature_code", False)]
    assert recorded.manifest["spans"] == []
    samples, rate_hz = talk(recorded)
    assert speakers(samples[-rate_hz // 4 :], rate_hz) == [{"1001"}, {"trunk"}]


def test_a_call_on_demand_is_kept_from_the_code_on(office: Office, mode: str) -> None:
    """The legs are there from the beginning; the rule keeps nothing until *44."""
    agent = office.phones["1003"]
    office.connect("1001", "1003", "1003")
    first = agent.wait("incoming")["call"]
    time.sleep(TALK_S)
    agent.hold(True, call=first)
    _ask(office, "1003", "*44", "recording_started")
    agent.hold(False, call=first)
    back_s = time.monotonic()
    time.sleep(1.2)
    office.phones["1001"].hangup()
    kept_s = time.monotonic() - back_s
    (recorded,) = office.house.new_recordings(1)
    assert recorded.manifest["rule"]["mode"] == "on-demand"
    assert controls(recorded) == [("start", "1003", "feature_code", True)]
    # It began while the announcement was still to come, not when the call did.
    duration_s = recorded.manifest["duration_samples"] / 8000
    assert kept_s < duration_s < kept_s + 3.0
    samples, rate_hz = talk(recorded)
    expected = [{"1003"}, {"1001"}] if mode == "legs" else [{"1001", "1003"}]
    assert speakers(samples[-rate_hz // 2 :], rate_hz) == expected


def test_a_call_on_demand_that_nobody_starts_leaves_nothing(office: Office) -> None:
    office.conversation("1001", "1003", "1003", talk_s=TALK_S)
    assert office.house.new_recordings(0) == []


def test_an_exchange_that_hands_over_only_on_demand_has_its_legs_recorded(office: Office) -> None:
    """REC_MODE ondemand: there is no leg at all before *44; the rule of what comes then says always."""
    with office.exchange.switched(REC_MODE="ondemand"):
        office.connect("1001", "1002", "1002")
        time.sleep(TALK_S)
        office.phones["1002"].dtmf("*44")
        office.house.wait_logged("session_started")
        time.sleep(1.2)
        office.phones["1001"].hangup()
    (recorded,) = office.house.new_recordings(1)
    assert recorded.manifest["duration_samples"] / 8000 == pytest.approx(1.2, abs=0.3)
    samples, rate_hz = talk(recorded)
    assert speakers(samples, rate_hz) == [{"1002"}, {"1001"}]


def test_somebody_without_a_call_is_told_so(office: Office) -> None:
    office.connect("1001", "1002", "1002")
    _ask(office, "1003", "*48", "not_possible", "no_call")
    office.disconnect("1001")
    (recorded,) = office.house.new_recordings(1)
    assert recorded.manifest["spans"] == []
    assert controls(recorded) == []
