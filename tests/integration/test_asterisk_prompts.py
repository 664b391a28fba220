"""A real exchange: what people hear of a recording before and while it runs, and what their answer does."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.support.audio import Samples, tone_level_dbfs
from tests.support.house import Recorded
from tests.support.office import Office
from tests.support.registered import (
    LEAK_DBFS,
    controls,
    find_prompt,
    heard,
    speakers,
    spells_s,
    talk,
    write_prompt,
)

ALIKE = 0.85
UNLIKE = 0.5
TOLD = "this_call_is_recorded"
BEEP_HZ = 1400
QUESTION_HZ = 700
QUESTION_S = 0.5
RULES = f"""
[control]
prompts_dir = "prompts"

[[rules]]
name = "asked"
mode = "always"
queues = ["support"]
consent = "required"
consent_wait_s = 2
prompt_inbound = "consent_question"

[[rules]]
name = "board"
mode = "always"
conferences = ["701"]
prompt_internal = "{TOLD}"

[[rules]]
name = "told"
mode = "always"
directions = ["inbound"]
prompt_inbound = "{TOLD}"

[[rules]]
name = "objectable"
mode = "always"
callees = ["1003"]
consent = "objection"

[[rules]]
name = "beeping"
mode = "always"
beep_every_s = 1
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    # The operator's own question replaces the built-in one; a short one, so that nobody has to wait.
    write_prompt(folder / "prompts", "consent_question", _question())
    with Office(folder, rules=RULES, REC_WHISPER="yes") as office:
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


def _question() -> tuple[Samples, int]:
    rate_hz = 16_000
    turns = QUESTION_HZ / rate_hz * np.arange(round(QUESTION_S * rate_hz))
    return 0.1 * np.sin(2 * np.pi * turns), rate_hz


def _heard_by(office: Office, who: str) -> tuple[Samples, int]:
    return heard(office.phones[who].wait("recorded"))


def _check_not_recorded(recorded: Recorded, prompt_name: str) -> None:
    samples, rate_hz = recorded.samples()
    for channel in samples.T:
        assert find_prompt(channel, rate_hz, prompt_name)[2] < UNLIKE


def test_both_parties_hear_the_prompt_and_recording_begins_when_it_ends(office: Office, mode: str) -> None:
    call_s = office.conversation("trunk", "1001", "1001", talk_s=3.3)
    ends_s = []
    for who in ("trunk", "1001"):
        samples, rate_hz = _heard_by(office, who)
        start_s, end_s, likeness = find_prompt(samples, rate_hz, TOLD)
        assert likeness > ALIKE, f"{who} did not hear it: {likeness:.2f}"
        assert start_s < 1.0
        ends_s.append(end_s)
    (recorded,) = office.house.new_recordings(1)
    assert recorded.manifest["rule"]["name"] == "told"
    duration_s = recorded.manifest["duration_samples"] / 8000
    assert duration_s == pytest.approx(call_s - max(ends_s), abs=0.3)
    samples, rate_hz = recorded.samples()  # from the first sample on, not only after the legs' own start
    expected = [{"1001"}, {"trunk"}] if mode == "legs" else [{"1001", "trunk"}]
    assert speakers(samples[: rate_hz // 5], rate_hz) == expected
    _check_not_recorded(recorded, TOLD)


def test_everybody_in_a_conference_hears_the_prompt(office: Office) -> None:
    office.meet("701", "1001", "1002", "1003", settle_s=0.0)  # the prompt begins with the first
    time.sleep(3.3)
    for who in ("1001", "1002", "1003"):
        office.phones[who].hangup()
    for who in ("1001", "1002", "1003"):
        _, _, likeness = find_prompt(*_heard_by(office, who), TOLD)
        assert likeness > ALIKE, f"{who} did not hear it: {likeness:.2f}"
    (recorded,) = office.house.new_recordings(1)
    samples, rate_hz = recorded.samples()
    assert speakers(samples[: rate_hz // 4], rate_hz) == [{"1001", "1002", "1003"}]
    _check_not_recorded(recorded, TOLD)


def test_consent_that_the_exchange_has_asked_for_is_recorded_after_the_prompt(
    office: Office,
) -> None:
    """A menu of the exchange may have asked already: X-Recording-Consent says yes."""
    office.phones["trunk"].call("600", headers={"X-Recording-Consent": "yes"})
    office.phones["1002"].wait("confirmed")
    time.sleep(1.9)
    office.disconnect("trunk")
    for who in ("trunk", "1002"):  # the operator's own; the exchange needs 0.1 s to take up a leg's audio
        samples, rate_hz = _heard_by(office, who)
        ((start_s, end_s),) = spells_s(samples, rate_hz, QUESTION_HZ)
        assert QUESTION_S - 0.2 < end_s - start_s < QUESTION_S + 0.05
    (recorded,) = office.house.new_recordings(1)
    assert (recorded.manifest["outcome"], recorded.manifest["rule"]["name"]) == ("recorded", "asked")
    assert ("consent", "header") in {(action, via) for action, _, via, _ in controls(recorded)}
    assert 1.0 < recorded.manifest["duration_samples"] / 8000 < 1.7
    samples, rate_hz = talk(recorded)
    assert speakers(samples, rate_hz) == [{"1002"}, {"trunk"}]


def test_consent_by_a_code_during_the_call_begins_the_recording(office: Office) -> None:
    """The caller outside agrees by *45, which the exchange passes on under the caller's number."""
    office.connect("trunk", "600", "1002")
    time.sleep(0.2)
    office.phones["trunk"].dtmf("*45")
    office.house.wait_logged("consent_given")
    time.sleep(1.0)
    office.disconnect("trunk")
    (recorded,) = office.house.new_recordings(1)
    assert recorded.manifest["outcome"] == "recorded"
    assert recorded.manifest["duration_samples"] / 8000 == pytest.approx(1.0, abs=0.3)
    (given,) = [row for row in controls(recorded) if row[0] == "consent"]
    assert given == ("consent", "02079460123", "feature_code", True)


def test_a_refusal_and_an_answer_that_never_comes_leave_only_a_tombstone(office: Office) -> None:
    for answer, outcome in (({"X-Recording-Consent": "no"}, "objected"), ({}, "consent_missing")):
        office.phones["trunk"].call("600", headers=answer)
        office.phones["1002"].wait("confirmed")
        if not answer:
            office.house.wait_logged("consent_timed_out", timeout_s=10)
        time.sleep(0.8)
        assert office.exchange.channels() >= 2  # the conversation itself goes on
        office.disconnect("trunk")
        (folder,) = office.house.new_folders(1)
        assert office.house.outcome(folder) == outcome
        assert not list(folder.glob("*.wav"))


def test_an_objection_during_the_call_erases_what_was_recorded(office: Office) -> None:
    office.connect("1001", "1003", "1003")
    time.sleep(0.8)
    office.phones["1001"].dtmf("*46")
    office.house.wait_logged("recording_objected")
    time.sleep(0.5)
    assert office.exchange.channels() >= 2
    office.disconnect("1001")
    (folder,) = office.house.new_folders(1)
    assert office.house.outcome(folder) == "objected"
    assert not [entry for entry in folder.iterdir() if entry.suffix in (".wav", ".sip")]


def test_a_beep_is_heard_every_second_and_not_recorded(office: Office) -> None:
    office.conversation("1001", "1002", "1002", talk_s=2.9)
    for who in ("1001", "1002"):
        samples, rate_hz = _heard_by(office, who)
        starts_s = [start_s for start_s, _ in spells_s(samples, rate_hz, BEEP_HZ)]
        assert len(starts_s) >= 2, f"{who} heard {starts_s}"
        assert np.diff(starts_s) == pytest.approx(1.0, abs=0.15)
    (recorded,) = office.house.new_recordings(1)
    samples, rate_hz = talk(recorded)
    assert all(tone_level_dbfs(channel, rate_hz, BEEP_HZ) < LEAK_DBFS for channel in samples.T)
    assert speakers(samples, rate_hz) == [{"1002"}, {"1001"}]
