"""Any sequence of states, any pace of looking: the WAV is the audio where it was on and silence elsewhere."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st

from recorderd.core.messages import RecordingState
from recorderd.core.terms import Mode, RecordingTerms
from recorderd.evidence.keys import Signer
from recorderd.record import gaps
from recorderd.record.timeline import Change, Timeline, instant_of, sample_at
from recorderd.wire.manifest import Gap
from tests.support.bundles import make_signer
from tests.support.studio import DELAY_MS, RATE_HZ, Studio, Voice

ON, OFF = RecordingState.ON, RecordingState.OFF
PAUSED, WAITING = RecordingState.PAUSED, RecordingState.WAITING
END_MS = 6000
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # a play takes a while; shrinking plays hundreds
STATES = st.sampled_from([ON, OFF, PAUSED, WAITING])


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    yield make_signer(tmp_path_factory.mktemp("key"), "recorder")


@dataclass(frozen=True)
class Asked:
    """A change: when, to what, and how long its message takes."""

    ms: float
    state: RecordingState
    delay_ms: int


def _looks(paces: list[int]) -> list[int]:
    looks, at, number = [], 0, 0
    while at < END_MS + 6000:  # the latest message, its round, and one for the seal
        at += 100 * paces[number % len(paces)]
        number += 1
        looks.append(at)
    return looks


def _states_of(
    initial: RecordingState, asked: list[tuple[int, RecordingState]], total: int
) -> list[RecordingState]:
    """The model: which state each sample of the session has."""
    line = [initial] * total
    for at, state in asked:
        line[at:] = [state] * (total - at)
    return line


def _expected(line: list[RecordingState], origin: int, voices: list[Voice]) -> np.ndarray:
    on = np.array([state is ON for state in line])
    on[origin : next((number for number, is_on in enumerate(on) if is_on), origin)] = True  # the pre-roll
    kept = [number for number, state in enumerate(line) if state in (ON, PAUSED)]
    stop = kept[-1] + 1
    rows = [np.where(on, voice.into(np.zeros(len(line), dtype=np.int16)), 0) for voice in voices]
    return np.stack(rows, axis=-1)[origin:stop]


def _record(
    signer: Signer,
    *,
    initial: RecordingState,
    changes: list[Asked],
    terms: RecordingTerms,
    looks: list[int],
    first_ms: tuple[int, int],
) -> tuple[Studio, list[Voice], tempfile.TemporaryDirectory[str]]:
    folder = tempfile.TemporaryDirectory()
    studio = Studio(Path(folder.name), signer)
    session = studio.session("s", state=initial, terms=terms)
    voices = [
        studio.voice(
            session,
            f"s/{side}",
            first_ms=first_ms[side],
            packets=(END_MS - first_ms[side]) // 20,
            side_rank=side,
        )
        for side in (0, 1)
    ]
    put_ms = 0
    for row in changes:
        put_ms = max(put_ms, round(row.ms) + row.delay_ms)  # the queue keeps its order
        studio.change(session, row.state, ms=row.ms, put_ms=put_ms)
    studio.end(session, ms=max(END_MS, put_ms))
    studio.run(max(END_MS, put_ms) + 3000, looks_ms=looks)
    return studio, voices, folder


def _check_manifest(studio: Studio, samples: np.ndarray, line: list[RecordingState], origin: int) -> None:
    manifest = studio.manifest("s")
    assert manifest.duration_samples == samples.shape[0]
    silent = np.zeros(samples.shape[0], dtype=np.bool_)
    for span in manifest.spans:
        for at in (span.start_samples, span.start_samples + span.length_samples - 1):
            state = line[origin + at]
            assert span.cause == ("paused" if state is PAUSED else "stopped")
        silent[span.start_samples : span.start_samples + span.length_samples] = True
    first_on = next(number for number, state in enumerate(line) if state is ON)
    wanted = np.array([state is not ON for state in line[origin : origin + samples.shape[0]]], dtype=np.bool_)
    wanted[: first_on - origin] = False
    assert np.array_equal(silent, wanted)


changes = st.lists(st.builds(Asked, st.floats(1, END_MS - 1), STATES, st.integers(0, 600)), max_size=7).map(
    lambda rows: sorted(rows, key=lambda row: row.ms)
)


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(
    STATES,
    changes,
    st.lists(st.integers(1, 12), min_size=1, max_size=6),
    st.integers(0, 3000),
    st.booleans(),
    st.tuples(st.integers(0, 40), st.integers(0, 200)),
)
@example(
    OFF, [Asked(2500.3, ON, 100), Asked(3100.7, PAUSED, 0), Asked(4000, ON, 9)], [5], 1234, True, (0, 80)
)
@example(OFF, [Asked(500.3, ON, 100), Asked(3100.7, OFF, 0), Asked(4000, ON, 9)], [9, 1], 3000, True, (4, 0))
@example(OFF, [Asked(2500.3, ON, 600), Asked(5100.7, OFF, 0)], [2], 1234, False, (0, 80))
def test_the_wav_is_the_audio_where_it_was_on_and_silence_elsewhere(
    signer: Signer,
    initial: RecordingState,
    changes: list[Asked],
    paces: list[int],
    preroll_ms: int,
    keep_preroll: bool,
    first: tuple[int, int],
) -> None:
    terms = RecordingTerms(mode=Mode.ON_DEMAND, preroll_ms=preroll_ms, keep_preroll=keep_preroll)
    studio, voices, folder = _record(
        signer,
        initial=initial,
        changes=changes,
        terms=terms,
        looks=_looks(paces),
        first_ms=(20 * first[0], 20 * first[1]),
    )
    with folder:
        asked = [(sample_at(round(row.ms * 1_000_000), rate_hz=RATE_HZ), row.state) for row in changes]
        end_ms = max([END_MS, *(round(row.ms) + row.delay_ms for row in changes)])
        line = _states_of(initial, asked, end_ms * RATE_HZ // 1000)
        if ON not in line:
            assert (studio.manifest("s").outcome, studio.manifest("s").files) == ("not_started", ())
            return
        begin = run = line.index(ON)
        while run > 0 and line[run - 1] is OFF:
            run -= 1
        past = preroll_ms * RATE_HZ // 1000 if keep_preroll else 0
        origin = max(begin - past, run)
        samples = studio.samples("s")
        assert np.array_equal(samples, _expected(line, origin, voices))
        _check_manifest(studio, samples, line, origin)
        assert not studio.log.counters().get("pause_late")


late = st.lists(
    st.builds(Asked, st.floats(1, END_MS - 1), STATES, st.integers(0, 3000)), min_size=1, max_size=6
).map(lambda rows: sorted(rows, key=lambda row: row.ms))


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(late, st.lists(st.integers(1, 12), min_size=1, max_size=6))
@example(  # what is to go on is paused again before it does
    [Asked(32, PAUSED, 3000), Asked(93, ON, 84), Asked(1078, PAUSED, 0), Asked(1399.3, OFF, 0)], [4, 8, 6]
)
def test_a_pause_that_comes_late_is_silent_from_its_instant_nevertheless(
    signer: Signer, changes: list[Asked], paces: list[int]
) -> None:
    looks = _looks(paces)
    studio, voices, folder = _record(
        signer, initial=ON, changes=changes, terms=RecordingTerms(), looks=looks, first_ms=(0, 60)
    )
    with folder:
        instants: list[tuple[int, RecordingState]] = [(0, ON)]
        put_ms = 0
        for row in changes:
            put_ms = max(put_ms, round(row.ms) + row.delay_ms)
            seen_ms = next(look for look in looks if look >= put_ms)
            rendered_ms = max([0, *(look - DELAY_MS for look in looks if look < seen_ms)])
            at_ns = round(row.ms * 1_000_000)
            if row.state is instants[-1][1]:
                continue
            if row.state is ON:  # what was thrown away does not come back
                at_ns = max(at_ns, rendered_ms * 1_000_000)
            if at_ns <= instants[-1][0]:  # what was to hold from then on never held
                at_ns, _ = instants.pop()
            if not instants or row.state is not instants[-1][1]:
                instants.append((at_ns, row.state))
        asked = [(sample_at(at_ns, rate_hz=RATE_HZ), state) for at_ns, state in instants]
        end_ms = max(END_MS, put_ms)
        line = _states_of(ON, asked, end_ms * RATE_HZ // 1000)
        assume(line[0] is ON)
        samples = studio.samples("s")
        assert np.array_equal(samples, _expected(line, 0, voices))
        _check_manifest(studio, samples, line, 0)


@given(st.integers(0, 10**9), st.sampled_from([8000, 11025, 16_000, 44_100, 48_000]))
def test_a_sample_comes_back_from_its_instant(sample: int, rate_hz: int) -> None:
    assert sample_at(instant_of(sample, rate_hz=rate_hz), rate_hz=rate_hz) == sample


@given(
    st.lists(st.tuples(st.integers(0, 9 * 10**9), STATES), max_size=12),
    st.integers(1, 80_000),
    st.integers(0, 100),
)
def test_segments_cover_a_span_once_and_neighbours_differ(
    changes: list[tuple[int, RecordingState]], end: int, cut: int
) -> None:
    timeline = Timeline.begin(ON)
    for at_ns, state in changes:
        timeline = timeline.changed(Change(at_ns=at_ns, state=state))
    whole = timeline.segments(0, end, rate_hz=RATE_HZ)
    assert [whole[0].start, whole[-1].end] == [0, end]
    assert all(first.end == second.start for first, second in pairwise(whole))
    middle = end * cut // 100
    states = {}
    for part in (
        timeline.segments(0, middle, rate_hz=RATE_HZ),
        timeline.segments(middle, end, rate_hz=RATE_HZ),
    ):
        states |= {number: row.state for row in part for number in (row.start, row.end - 1)}
    assert all(
        next(row.state for row in whole if row.start <= number < row.end) is state
        for number, state in states.items()
    )


spans = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10), st.sampled_from("abc")), max_size=12)


@given(spans)
def test_gaps_stay_in_order_and_say_of_each_sample_what_was_said_last(
    rows: list[tuple[int, int, str]],
) -> None:
    known: list[Gap] = []
    model = [""] * 60
    for start, length, cause in rows:
        known = gaps.overlay(known, start, start + length, cause)
        model[start : start + length] = [cause] * length
    said = [""] * 60
    end = 0
    for gap in known:
        assert gap.start_samples >= end and gap.length_samples > 0
        end = gap.start_samples + gap.length_samples
        said[gap.start_samples : end] = [gap.cause] * gap.length_samples
    assert said == model
