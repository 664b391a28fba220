"""What was never recorded leaves a signed entry in the chain, or is counted; nobody makes the chain flood."""

from __future__ import annotations

import errno
import os
from collections import Counter
from pathlib import Path

import pytest

from recorderd.core import outcomes
from recorderd.core.ids import new_session_id
from recorderd.core.messages import CallDescription, Origin, RecordingState, SessionRefused
from recorderd.core.terms import Mode, RecordingTerms
from recorderd.record.entries import EntryPolicy
from recorderd.spool.layout import Place
from tests.support.bundles import make_signer
from tests.support.studio import BEGIN_MONO_NS, BEGIN_UTC_NS, Studio

NEVER = RecordingTerms(rule="board", mode=Mode.NEVER)


def _studio(folder: Path, policy: EntryPolicy | None = None) -> Studio:
    return Studio(folder, make_signer(folder, "recorder"), policy=policy)


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return _studio(tmp_path)


def _refuse(
    studio: Studio,
    call_id: str,
    *,
    ms: int = 0,
    outcome: str = outcomes.REFUSED_CAPACITY,
    reason: str = "full",
) -> str:
    session = new_session_id(BEGIN_UTC_NS)
    refused = SessionRefused(
        session=session,
        description=CallDescription(call_id=call_id, origin=Origin.SIPREC, caller="1000", callee="2000"),
        terms=NEVER if outcome == outcomes.NOT_WANTED else RecordingTerms(),
        outcome=outcome,
        reason=reason,
        at_mono_ns=BEGIN_MONO_NS + ms * 1_000_000,
        at_utc_ns=BEGIN_UTC_NS + ms * 1_000_000,
    )
    studio.put(refused, ms=ms)
    return session


@pytest.mark.parametrize(
    "outcome",
    [outcomes.NOT_WANTED, outcomes.REFUSED_CAPACITY, outcomes.REFUSED_MEDIA, outcomes.FAILED],
)
def test_a_refused_session_leaves_a_signed_entry_that_says_who_and_why(studio: Studio, outcome: str) -> None:
    session = _refuse(studio, "call-1", ms=100, outcome=outcome, reason="503 the spool is full")
    studio.run(1000)
    manifest = studio.manifest(session)  # which the verifier has looked at
    assert (manifest.outcome, manifest.end_cause) == (outcome, "503 the spool is full")
    assert (manifest.call.call_id, manifest.call.caller, manifest.call.callee) == ("call-1", "1000", "2000")
    assert manifest.rule.name == ("board" if outcome == outcomes.NOT_WANTED else "")
    assert (manifest.files, manifest.streams, manifest.duration_samples) == ((), (), 0)
    assert studio.log.counters()["entry_sealed"] == 1


def test_entries_and_recordings_stand_in_one_chain(studio: Studio) -> None:
    first = _refuse(studio, "call-1", ms=0)
    session = studio.session("s", ms=100)
    studio.voice(session, "s/1", first_ms=100, packets=50)
    studio.end(session, ms=1500)
    studio.run(4000)
    last = _refuse(studio, "call-2", ms=4100)
    studio.run(5000)
    assert [studio.manifest(name).sequence for name in (first, session, last)] == [1, 2, 3]


def test_a_call_that_is_refused_again_and_again_leaves_one_entry_a_minute(studio: Studio) -> None:
    for ms in range(0, 59_000, 5000):
        _refuse(studio, "call-1", ms=ms)
    _refuse(studio, "call-1", ms=10_000, outcome=outcomes.FAILED)
    _refuse(studio, "call-1", ms=61_000)
    studio.run(62_000)
    assert Counter(studio.manifest(name).outcome for name in studio.places()["ready"]) == {
        "refused_capacity": 2,
        "failed": 1,
    }


def test_a_flood_is_counted_and_does_not_grow_the_chain(tmp_path: Path) -> None:
    counted: Counter[str] = Counter()
    studio = _studio(tmp_path, EntryPolicy(per_minute=5, count=lambda why: counted.update([why])))
    for number in range(50):
        _refuse(studio, f"call-{number}", ms=10 * number)
    studio.run(1000)
    assert len(studio.places()["ready"]) == 5
    assert counted == {"refused_capacity_over_rate": 45}
    assert studio.log.counters()["entry_left_out"] == 45
    _refuse(studio, "call-later", ms=61_500)
    studio.run(62_000)
    assert len(studio.places()["ready"]) == 6


def test_what_the_configuration_does_not_want_is_counted_only(tmp_path: Path) -> None:
    counted: Counter[str] = Counter()
    policy = EntryPolicy(wanted=frozenset({outcomes.FAILED}), count=lambda why: counted.update([why]))
    studio = _studio(tmp_path, policy)
    _refuse(studio, "call-1", outcome=outcomes.NOT_WANTED)
    kept = _refuse(studio, "call-2", outcome=outcomes.FAILED)
    session = studio.session("s", state=RecordingState.OFF)
    studio.voice(session, "s/1", first_ms=0, packets=50)
    studio.end(session, ms=1000)
    for name in ("t", "u"):
        begun = studio.session(name)
        studio.voice(begun, f"{name}/1", first_ms=0, packets=20)
        studio.end(begun, ms=1000)
    studio.run(4000)
    assert studio.places() == {"ready": sorted([kept, "t", "u"])}
    assert counted == {"not_wanted": 1, "not_started": 1}


def test_an_entry_that_a_power_cut_left_half_made_is_sealed_at_the_next_start(studio: Studio) -> None:
    session = _refuse(studio, "call-1", reason="503 the spool is full")

    def cut(*_: object) -> None:
        raise OSError("cut")

    studio.sealer.seal = cut  # type: ignore[method-assign, assignment]
    studio.run(1000)
    assert studio.places() == {"drafts": [session]}
    studio.crash()
    manifest = studio.manifest(session)
    assert (manifest.outcome, manifest.end_cause) == ("refused_capacity", "503 the spool is full")
    assert studio.places() == {"ready": [session]}


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_entries_for_which_there_was_no_room_are_made_when_there_is_some(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    with monkeypatch.context() as patch:
        for number, (owner, step) in enumerate(
            ((studio.sealer, "seal"), (studio.spool, "begin_draft"), (studio.sealer, "seal"))
        ):
            patch.setattr(owner, step, _full)
            names.append(_refuse(studio, f"call-{number}", ms=1000 * number, reason="503 the spool is full"))
            studio.run(1000 * number + 500)
            for _ in range(5):
                studio.entries.make_again()
        assert (studio.entries.waiting, studio.places()) == (3, {"drafts": [names[0]]})
        assert studio.log.counters() == {"seal_postponed": 3}  # each is told of once
    studio.entries.make_again()
    assert studio.places() == {"ready": sorted(names)}
    assert [studio.manifest(name).sequence for name in names] == [1, 2, 3]
    assert {studio.manifest(name).outcome for name in names} == {"refused_capacity"}
    assert studio.log.counters() == {"seal_postponed": 3, "entry_sealed": 3}


def test_a_draft_that_finds_no_room_for_its_seal_to_the_end_is_sealed_at_the_next_start(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = _refuse(studio, "call-1")
    with monkeypatch.context() as patch:
        patch.setattr(studio.sealer, "seal", _full)
        studio.run(1000)
        studio.entries.give_up()
    studio.crash()
    assert studio.places() == {"ready": [session]}
    assert studio.manifest(session).outcome == "refused_capacity"


def test_an_entry_that_finds_no_room_to_the_end_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: Counter[str] = Counter()
    studio = _studio(tmp_path, EntryPolicy(count=lambda why: counted.update([why])))
    monkeypatch.setattr(studio.spool, "begin_draft", _full)
    _refuse(studio, "call-1")
    studio.run(1000)
    studio.entries.give_up()
    assert counted == {"refused_capacity_not_written": 1}
    assert (studio.entries.waiting, studio.log.counters()["draft_failed"]) == (0, 1)


def test_an_entry_for_which_there_is_no_disk_is_counted(tmp_path: Path) -> None:
    counted: Counter[str] = Counter()
    studio = _studio(tmp_path, EntryPolicy(count=lambda why: counted.update([why])))
    (tmp_path / "spool" / "drafts").rmdir()
    _refuse(studio, "call-1")
    studio.run(1000)
    assert counted == {"refused_capacity_not_written": 1}
    assert studio.log.counters()["draft_failed"] == 1


def test_a_draft_that_goes_to_quarantine_leaves_an_entry_that_names_it(studio: Studio) -> None:
    session = studio.session("s")
    studio.voice(session, "s/1", first_ms=0, packets=100)
    studio.run(2000)
    (studio.spool.path(Place.DRAFTS, "s") / "s.wav").write_bytes(b"not a WAV at all")
    studio.crash()
    places = studio.places()
    assert places["quarantine"] == ["s"]
    (entry,) = places["ready"]
    manifest = studio.manifest(entry)
    assert (manifest.outcome, manifest.call.call_id) == ("quarantined", "call-s")
    assert manifest.end_cause.startswith("s: ")


def test_a_draft_without_a_journal_leaves_an_entry_too(studio: Studio) -> None:
    folder = studio.spool.begin_draft("stray")
    (folder / "stray.wav").write_bytes(b"RIFF")
    studio.crash()
    (entry,) = studio.places()["ready"]
    assert studio.manifest(entry).outcome == "quarantined"
    assert studio.manifest(entry).end_cause == "stray: no journal"


def test_no_caller_can_write_a_line_of_its_own_through_a_reason(studio: Studio) -> None:
    session = _refuse(studio, "call-1", reason="full\nentry_sealed subject=forged" + "x" * 500)
    studio.run(1000)
    assert studio.manifest(session).end_cause == ("full?entry_sealed subject=forged" + "x" * 500)[:200]
