"""What becomes of a recording that is paused, erased, never started, or cut off in the midst of it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from dsp.mixing import Limiter, mix
from recorderd.archive.verification import verify_bundle
from recorderd.core.ids import DialogId, SessionId
from recorderd.core.messages import (
    ControlAction,
    ControlRefused,
    OfferReceived,
    RecordingState,
    StreamEnd,
)
from recorderd.core.terms import Layout, Mode, RecordingTerms
from recorderd.evidence.verify import TrustStore
from recorderd.wire.manifest import ClockStatement
from tests.support.bundles import audio_of, make_signer
from tests.support.studio import BEGIN_MONO_NS, BEGIN_UTC_NS, Studio, Voice

ON, OFF, PAUSED = RecordingState.ON, RecordingState.OFF, RecordingState.PAUSED
WAITING, ERASED = RecordingState.WAITING, RecordingState.ERASED
PAUSABLE = RecordingTerms(rule="support", mode=Mode.ALWAYS_PAUSABLE)
ON_DEMAND = RecordingTerms(rule="boss", mode=Mode.ON_DEMAND, preroll_ms=2000)


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path, make_signer(tmp_path, "recorder"))


def _line(*voices: Voice, seconds: float, session_ms: int = 0) -> np.ndarray:
    line = np.zeros(round(seconds * 8000) + 8000 * 10, dtype=np.int16)
    for voice in voices:
        voice.into(line, session_ms=session_ms)
    return line[: round(seconds * 8000)]


def _draft_holds_audio(studio: Studio) -> bool:
    return any((studio.root / "spool" / "drafts").glob("*/*.wav"))


def _offer(studio: Studio, session: str, *, ms: int) -> None:
    message = OfferReceived(session=session, dialog=DialogId("d"), raw=b"INVITE", at_utc_ns=BEGIN_UTC_NS)  # type: ignore[arg-type]
    studio.put(message, ms=ms)


def test_the_manifest_says_who_paused_from_where_to_where_and_what_was_refused(studio: Studio) -> None:
    session = studio.session("s", terms=PAUSABLE)
    voice = studio.voice(session, "s/1", first_ms=0, packets=200)
    studio.change(session, PAUSED, ms=1000.5, by="1000")
    studio.put(
        ControlRefused(
            session=session,
            action=ControlAction.STOP,
            by="1001",
            via="message",
            reason="the rule does not allow it",
            at_mono_ns=BEGIN_MONO_NS + 1_500_000_000,
            at_utc_ns=BEGIN_UTC_NS + 1_500_000_000,
        ),
        ms=1500,
    )
    studio.change(session, ON, ms=2000, action=ControlAction.RESUME, by="1002")
    studio.end(session, ms=4000)
    studio.run(2500)
    row = studio.row(session)
    assert (row["state"], row["rule"], row["mode"]) == ("recording", "support", "always-pausable")
    studio.run(7000)
    table = studio.plain(session)
    assert table["spans"] == [
        {
            "start_samples": 8004,
            "length_samples": 7996,
            "cause": "paused",
            "begun_by": "1000",
            "begun_via": "feature_code",
            "ended_by": "1002",
            "ended_via": "feature_code",
        }
    ]
    told = [
        (row["sample"], row["action"], row["by"], row["state"], row["accepted"]) for row in table["controls"]
    ]
    assert told == [
        (8004, "pause", "1000", "paused", True),
        (12_000, "stop", "1001", "paused", False),
        (16_000, "resume", "1002", "on", True),
    ]
    assert table["rule"]["name"] == "support"
    expected = _line(voice, seconds=4)
    expected[8004:16_000] = 0
    assert np.array_equal(studio.samples(session)[:, 0], expected)
    assert studio.manifest(session).streams[0].gaps[0].cause == "paused"


def test_the_level_of_what_was_paused_late_is_not_told(studio: Studio) -> None:
    session = studio.session("s", terms=PAUSABLE)
    loud = bytes([0xAA]) * 160 * 200  # the loudest that A-law has
    studio.voice(session, "s/1", first_ms=1000, packets=200, payload=loud)
    studio.change(session, PAUSED, ms=900, put_ms=3500)
    studio.end(session, ms=5000)
    studio.run(8000)
    assert not studio.samples(session).any()
    assert studio.manifest(session).streams[0].peak_dbfs == -96
    assert studio.log.counters()["pause_late"] == 1


def test_an_objection_erases_at_once_and_leaves_a_signed_tombstone(studio: Studio) -> None:
    session = studio.session("s")
    studio.voice(session, "s/1", first_ms=0, packets=400)
    _offer(studio, session, ms=100)
    studio.run(3000)
    assert _draft_holds_audio(studio)
    studio.change(session, ERASED, ms=3000, action=ControlAction.OBJECT, by="+49301234")
    studio.run(3500)
    draft = studio.root / "spool" / "drafts" / "s"
    assert [path.name for path in draft.iterdir()] == ["journal.jsonl"]
    assert studio.row(session)["state"] == "erased"
    _offer(studio, session, ms=3600)
    studio.end(session, ms=6000)
    studio.run(9000)
    manifest = studio.manifest(session)
    assert (manifest.outcome, manifest.audio, manifest.duration_samples) == ("objected", None, 0)
    assert (manifest.controls[0].by, manifest.controls[0].state) == ("+49301234", "erased")
    assert sorted(path.name for path in studio.folder(session).iterdir()) == [
        "s.manifest.json",
        "s.manifest.json.p7s",
        "s.signer.pem",
    ]


def _press(studio: Studio, stream: str, code: int, *, at_packet: int) -> None:
    for number in range(at_packet, at_packet + 5):
        packet = studio.event(stream, code=code, since_packet=at_packet, at_packet=number)
        studio.arrive(stream, packet, ms=20 * number)


def _keys_on_disk(studio: Studio) -> str:
    lines = (studio.root / "spool" / "drafts" / "s" / "journal.jsonl").read_text().splitlines()
    streams = [stream for line in lines for stream in json.loads(line).get("streams", ())]
    return "".join(sorted({key["key"] for stream in streams for key in stream["keys"]}))


@pytest.mark.parametrize(("state", "left"), [(PAUSED, "4"), (ERASED, "")])
def test_of_keys_in_what_must_not_be_kept_none_stays_on_disk(
    studio: Studio, state: RecordingState, left: str
) -> None:
    """Key 7 is pressed in what a word that is heard late was about."""
    session = studio.session("s", terms=PAUSABLE)
    pressed = {50: 4, 105: 7}
    lost = [number for first in pressed for number in range(first, first + 5)]
    studio.voice(session, "s/1", first_ms=0, packets=300, lost=lost)
    for first, code in pressed.items():
        _press(studio, "s/1", code, at_packet=first)
    studio.run(3500)
    assert _keys_on_disk(studio) == "47"
    action = ControlAction.OBJECT if state is ERASED else ControlAction.PAUSE
    studio.change(session, state, ms=2000, put_ms=3600, action=action)
    studio.run(4500)
    assert _keys_on_disk(studio) == left
    studio.end(session, ms=6000)
    studio.run(9000)
    assert [key.key for stream in studio.manifest(session).streams for key in stream.keys] == list(left)


def test_of_a_call_that_sends_offers_without_end_so_many_are_kept_as_a_manifest_may_list(
    studio: Studio,
) -> None:
    """One that listed more than 10,000 files was taken by no archive."""
    session = studio.session("s")
    voice = studio.voice(session, "s/1", first_ms=0, packets=100)
    studio.run(500)
    studio.recorder.sessions.open[session].files.offers = 8_998  # as after so many
    for number in range(4):
        _offer(studio, session, ms=600 + number)
    studio.end(session, ms=2000)
    studio.run(5000)
    kept = {entry.name for entry in studio.manifest(session).files if ".offer-" in entry.name}
    assert kept == {"s.offer-8999.sip", "s.offer-9000.sip"}
    assert studio.log.counters()["offer_left_out"] == 2
    assert np.array_equal(studio.samples(session)[:, 0], voice.samples)


def test_consent_that_does_not_come_in_time_leaves_another_tombstone(studio: Studio) -> None:
    session = studio.session("s", state=WAITING)
    studio.voice(session, "s/1", first_ms=0, packets=100)
    studio.change(session, ERASED, ms=1500, action=ControlAction.CONSENT_TIMED_OUT, by="")
    studio.end(session, ms=2000)
    studio.run(5000)
    assert studio.manifest(session).outcome == "consent_missing"


def test_a_session_that_was_never_on_leaves_nothing_but_its_entry_in_the_chain(studio: Studio) -> None:
    session = studio.session("s", state=OFF, terms=ON_DEMAND)
    studio.voice(session, "s/1", first_ms=0, packets=300)
    _offer(studio, session, ms=100)
    studio.run(5000)
    assert not _draft_holds_audio(studio)
    assert studio.row(session)["state"] == "off"
    studio.end(session, ms=6000)
    studio.run(8000)
    assert (studio.manifest(session).outcome, studio.manifest(session).end_cause) == ("not_started", "bye")
    assert sorted(path.suffix for path in studio.folder(session).iterdir()) == [".json", ".p7s", ".pem"]
    assert studio.log.counters()["session_not_recorded"] == 1
    assert "recording_sealed" not in studio.log.counters()


def test_a_start_takes_the_past_along_and_a_stop_ends_the_recording(studio: Studio) -> None:
    session = studio.session("s", state=OFF, terms=ON_DEMAND)
    voice = studio.voice(session, "s/1", first_ms=0, packets=500)
    studio.run(4000)
    assert not _draft_holds_audio(studio)
    studio.change(session, ON, ms=4100, action=ControlAction.START)
    studio.change(session, OFF, ms=6000, action=ControlAction.STOP)
    studio.end(session, ms=9000)
    studio.run(12_000)
    manifest = studio.manifest(session)
    assert np.array_equal(studio.samples(session)[:, 0], _line(voice, seconds=9)[2100 * 8 : 6000 * 8])
    assert manifest.started_at != manifest.ended_at
    assert [row.sample for row in manifest.controls] == [2000 * 8, 3900 * 8]


@pytest.mark.parametrize("then", [PAUSED, OFF])
@pytest.mark.parametrize("mask", [False, True])
def test_a_start_and_its_end_that_both_come_late_keep_what_lies_between(
    studio: Studio, then: RecordingState, *, mask: bool
) -> None:
    terms = RecordingTerms(mode=Mode.ON_DEMAND, preroll_ms=1000, mask_dtmf=mask)
    session = studio.session("s", state=OFF, terms=terms)
    voice = studio.voice(session, "s/1", first_ms=0, packets=300)
    studio.change(session, ON, ms=2000, put_ms=3600, action=ControlAction.START)
    studio.change(session, then, ms=2400, put_ms=3600)
    studio.change(session, ON, ms=3000, put_ms=3600, action=ControlAction.RESUME)
    studio.end(session, ms=6000)
    studio.run(9000)
    heard = studio.samples(session)[:, 0]
    expected = _line(voice, seconds=6)
    expected[2400 * 8 : 3000 * 8] = 0
    begin = expected.size - heard.size
    assert begin <= 1750 * 8  # what was thrown away of the pre-roll by then does not come back
    assert np.array_equal(heard, expected[begin:])
    cause = "paused" if then is PAUSED else "stopped"
    gaps = [
        (row.start_samples, row.length_samples, row.cause) for row in studio.manifest(session).streams[0].gaps
    ]
    assert gaps == [(2400 * 8 - begin, 600 * 8, cause)]


def test_a_crash_in_a_pause_neither_reveals_nor_loses_it(studio: Studio) -> None:
    session = studio.session("s", terms=PAUSABLE)
    voice = studio.voice(session, "s/1", first_ms=0, packets=400)
    studio.change(session, PAUSED, ms=1000)
    studio.run(4000)
    studio.crash()
    manifest = studio.manifest(session)
    assert manifest.recovered and manifest.end_cause == "crash"
    samples = studio.samples(session)[:, 0]
    assert samples.size > 16_000
    assert np.array_equal(samples[:8000], _line(voice, seconds=1))
    assert not samples[8000:].any()
    assert [(row.start_samples, row.length_samples) for row in manifest.spans] == [
        (8000, samples.size - 8000)
    ]


def test_a_crash_between_the_word_and_the_wipe_does_not_reveal_a_late_pause(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*arguments: object, **more: object) -> None:
        raise OSError("cut here")

    session = studio.session("s", terms=PAUSABLE)
    studio.voice(session, "s/1", first_ms=0, packets=400)
    studio.change(session, PAUSED, ms=1000, put_ms=3500)
    with monkeypatch.context() as patch:
        patch.setattr("recorderd.record.draft.Draft.wipe", cut)
        studio.run(4000)
    studio.crash()
    assert not studio.samples(session)[8000:].any()
    assert studio.manifest(session).spans[0].start_samples == 8000


def test_a_crash_after_an_objection_still_leaves_the_tombstone(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = studio.session("s")
    studio.voice(session, "s/1", first_ms=0, packets=400)
    _offer(studio, session, ms=100)
    studio.run(3000)
    studio.change(session, ERASED, ms=3000, action=ControlAction.OBJECT)
    with monkeypatch.context() as patch:
        patch.setattr("recorderd.record.session.Recording.erase", lambda recording: None)
        studio.run(3500)
    assert _draft_holds_audio(studio)
    studio.crash()
    assert (studio.manifest(session).outcome, studio.manifest(session).recovered) == ("objected", True)
    assert not list(studio.root.rglob("*.wav")) and not list(studio.root.rglob("*.sip"))


@pytest.fixture
def failed(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """A call whose draft was given up because of its disk, and that goes on."""
    session = studio.session("s")
    studio.voice(session, "s/a", first_ms=0, packets=500)
    studio.run(3000)

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("recorderd.durable.write_at", broken)
        studio.run(3500)
    assert studio.log.counters()["draft_failed"] == 1
    return studio


def test_an_objection_to_a_call_whose_draft_was_given_up_survives_a_crash(failed: Studio) -> None:
    failed.change(SessionId("s"), RecordingState.ERASED, ms=4000, action=ControlAction.OBJECT)
    failed.run(6000)
    failed.crash()
    manifest = failed.manifest("s")
    assert (manifest.outcome, manifest.files) == ("objected", ())
    assert failed.places() == {"ready": ["s"]}


def test_a_late_pause_of_a_call_whose_draft_was_given_up_is_told(failed: Studio) -> None:
    failed.change(SessionId("s"), RecordingState.PAUSED, ms=2100, put_ms=3600)
    failed.run(6000)
    failed.crash()
    (span,) = failed.manifest("s").spans
    assert (span.start_samples, span.cause) == (2100 * 8, "paused")
    samples = failed.samples("s")[:, 0]
    assert samples.size == span.start_samples + span.length_samples
    assert samples[: span.start_samples].any() and not samples[span.start_samples :].any()


@pytest.mark.parametrize("state", [OFF, WAITING])
def test_a_crash_before_anything_was_kept_leaves_no_more_than_an_entry(
    studio: Studio, state: RecordingState
) -> None:
    session = studio.session("s", state=state, terms=ON_DEMAND)
    studio.voice(session, "s/1", first_ms=0, packets=100)
    studio.run(2000)
    studio.crash()
    manifest = studio.manifest(session)
    assert (manifest.outcome, manifest.end_cause, manifest.recovered) == ("not_started", "crash", True)
    assert manifest.files == ()
    assert studio.log.counters()["session_not_recorded"] == 1


def test_a_crash_after_a_stop_ends_the_recording_at_the_stop(studio: Studio) -> None:
    session = studio.session("s", terms=ON_DEMAND)
    voice = studio.voice(session, "s/1", first_ms=0, packets=300)
    studio.change(session, OFF, ms=2000, action=ControlAction.STOP)
    studio.run(5000)
    studio.crash()
    assert np.array_equal(studio.samples(session)[:, 0], _line(voice, seconds=2))


def test_the_chain_goes_on_over_a_tombstone(studio: Studio) -> None:
    for number, state in enumerate([ON, ERASED, ON]):
        session = studio.session(f"s{number}", ms=0)
        studio.voice(session, f"s{number}/1", first_ms=0, packets=50)
        if state is ERASED:
            studio.change(session, ERASED, ms=500, action=ControlAction.OBJECT)
        studio.end(session, ms=1000 + 1000 * number)
    studio.run(7000)
    assert [studio.manifest(f"s{number}").sequence for number in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("layout", "channels"),
    [(Layout.SPLIT, [[0], [1], [2]]), (Layout.SIDES, [[0], [1, 2]]), (Layout.MIX, [[0, 1, 2]])],
)
def test_the_layout_decides_who_is_on_which_channel(
    studio: Studio, layout: Layout, channels: list[list[int]]
) -> None:
    session = studio.session("s", terms=RecordingTerms(layout=layout))
    voices = [
        studio.voice(session, f"s/{number}", first_ms=0, packets=50, side_rank=number, party=f"p{number}")
        for number in range(3)
    ]
    studio.end(session, ms=1000)
    studio.run(4000)
    samples = studio.samples(session)
    assert samples.shape[1] == len(channels)
    assert studio.manifest(session).rule.layout == layout.value
    for channel, who in enumerate(channels):
        total, _ = mix(np.stack([voices[number].samples for number in who]), Limiter.of(8000))
        assert np.array_equal(samples[:, channel], total if len(who) > 1 else voices[who[0]].samples)


def test_a_party_keeps_its_channel_when_it_comes_again_in_another_leg(studio: Studio) -> None:
    session = studio.session("s")
    first = studio.voice(session, "s/1", first_ms=0, packets=50, party="anna", dialog=DialogId("d1"))
    other = studio.voice(session, "s/2", first_ms=0, packets=150, party="bert", dialog=DialogId("d2"))
    studio.hang_up(session, "s/1", ms=1000)
    again = studio.voice(session, "s/3", first_ms=2000, packets=50, party="anna", dialog=DialogId("d3"))
    studio.end(session, ms=3000, cause=StreamEnd.BYE)
    studio.run(6000)
    samples = studio.samples(session)
    assert samples.shape == (24_000, 2)
    assert np.array_equal(samples[:, 0], _line(first, again, seconds=3))
    assert np.array_equal(samples[:, 1], _line(other, seconds=3))


def test_a_recording_whose_audio_was_taken_away_does_not_pass_for_a_tombstone(studio: Studio) -> None:
    session = studio.session("s")
    studio.voice(session, "s/1", first_ms=0, packets=50)
    studio.end(session, ms=1000)
    studio.run(4000)
    studio.manifest(session)
    folder = studio.folder(session)
    audio = audio_of(folder)
    audio.with_name(f"{audio.name}.p7s").unlink()
    audio.unlink()
    verdict = verify_bundle(folder, TrustStore.from_files([folder / "s.signer.pem"]))
    assert {finding.code for finding in verdict.findings} == {"files"}


def test_nothing_of_a_paused_span_stays_in_the_ring(studio: Studio) -> None:
    session = studio.session("s", terms=PAUSABLE)
    studio.voice(session, "s/1", first_ms=0, packets=100)
    studio.change(session, PAUSED, ms=0)
    studio.run(1000)
    assert studio.tap.intake.ring._octets.any()
    studio.run(5000)
    assert not studio.tap.intake.ring._octets.any()


def test_a_draft_that_an_older_release_left_is_recovered(studio: Studio) -> None:
    session = studio.session("s")
    voice = studio.voice(session, "s/1", first_ms=0, packets=200)
    studio.run(3000)
    journal = studio.root / "spool" / "drafts" / "s" / "journal.jsonl"
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    for row in rows:
        for known in (row.get("session", {}), row.get("format", {}), *row.get("streams", [])):
            for key in ("terms", "state", "origin_samples", "afresh", "party", "moved_from", "doubled"):
                known.pop(key, None)
    journal.write_text("".join(json.dumps(row) + "\n" for row in rows))
    studio.crash()
    samples = studio.samples(session)[:, 0]
    assert np.array_equal(samples, _line(voice, seconds=2.2))
    assert studio.manifest(session).recovered


def test_a_call_that_nobody_started_is_not_kept_in_memory_longer_than_it_may(studio: Studio) -> None:
    session = studio.session("s", state=OFF, terms=RecordingTerms(mode=Mode.ON_DEMAND, preroll_ms=1000))
    studio.voice(session, "s/1", first_ms=0, packets=500)
    studio.run(9000)
    held = studio.recorder.sessions.open[session].preroll
    assert sum(window.end - window.start for window in held._windows) <= 8 * (1000 + 500)


def test_the_manifest_states_what_the_clock_was_worth_since_the_session_began(studio: Studio) -> None:
    asked: list[int] = []
    stated = ClockStatement(
        source="chrony",
        synchronised=True,
        offset_ns=-1200,
        stratum=3,
        max_error_ns=5000,
        checked_at="2026-11-23T06:22:36.125Z",
        stepped_ns=-1_500_000_000,
    )

    def state(since_mono_ns: int) -> ClockStatement:
        asked.append(since_mono_ns)
        return stated

    studio.host_clock = state
    session = studio.session("s", ms=700)
    studio.voice(session, "s/1", first_ms=700, packets=50)
    studio.end(session, ms=2000)
    studio.run(5000)
    assert studio.manifest(session).clock == stated
    assert asked == [BEGIN_MONO_NS + 700 * 1_000_000]
