"""Keys in the band are gone before anything is written: whatever the recording goes through meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dsp import dtmf
from recorderd.core.ids import DialogId
from recorderd.core.messages import ControlAction, RecordingState
from recorderd.core.terms import Mode, RecordingTerms
from recorderd.wire.manifest import StreamEntry
from tests.support import speech
from tests.support.bundles import make_signer
from tests.support.studio import RATE_HZ, Studio, Voice
from tests.support.tones import key_tone, to_int16

PER_MS = RATE_HZ // 1000
MASKED = RecordingTerms(rule="cards", mask_dtmf=True)
ON, OFF, PAUSED = RecordingState.ON, RecordingState.OFF, RecordingState.PAUSED
EDGE_MS = 10  # guard and the error of an edge


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path, make_signer(tmp_path, "recorder"))


def _payload(seconds: float, keys: Sequence[tuple[str, int]], *, seed: int = 1, key_ms: int = 100) -> bytes:
    """Noise as loud as a quiet voice, with keys at milliseconds."""
    signal = np.random.default_rng(seed).normal(0, 300, round(seconds * RATE_HZ))
    for key, at_ms in keys:
        tone = key_tone(key, duration_ms=key_ms)[: signal.size - at_ms * PER_MS]
        signal[at_ms * PER_MS : at_ms * PER_MS + tone.size] += tone
    return speech.encode_a_law(to_int16(signal))


def _speak(
    studio: Studio,
    session: str,
    stream: str,
    payload: bytes,
    *,
    first_ms: int = 0,
    lost: Collection[int] = (),
) -> Voice:
    return studio.voice(
        session,  # type: ignore[arg-type]
        stream,
        first_ms=first_ms,
        packets=len(payload) // 160,
        payload=payload,
        lost=lost,
    )


def _spans(entry: StreamEntry, cause: str) -> list[tuple[int, int]]:
    """The gaps of a cause, in milliseconds."""
    return [
        (gap.start_samples // PER_MS, -(-(gap.start_samples + gap.length_samples) // PER_MS))
        for gap in entry.gaps
        if gap.cause == cause
    ]


def _about(spans: Sequence[tuple[int, int]], wanted: Sequence[tuple[int, int]]) -> bool:
    """Each wanted span is covered, by no more than the edges' error."""
    return len(spans) == len(wanted) and all(
        low - EDGE_MS <= start <= low and high <= end <= high + EDGE_MS
        for (start, end), (low, high) in zip(spans, wanted, strict=True)
    )


def _is_told(samples: np.ndarray, entry: StreamEntry, voice: Voice) -> bool:
    """In gaps there is silence, elsewhere what was sent; gaps are in order and lie within."""
    sent = voice.into(np.zeros(samples.size + RATE_HZ, dtype=np.int16))[: samples.size]
    heard = np.ones(samples.size, dtype=bool)
    end = 0
    for gap in entry.gaps:
        assert gap.start_samples >= end
        end = gap.start_samples + gap.length_samples
        heard[gap.start_samples : end] = False
    assert end <= samples.size
    return bool(np.array_equal(samples, np.where(heard, sent, 0)))


def _hears_no_key(studio: Studio, session: str) -> bool:
    return all(not dtmf.detect(channel, rate_hz=RATE_HZ) for channel in studio.samples(session).T.copy())


def _drafts(studio: Studio) -> Iterable[Path]:
    return (studio.root / "spool" / "drafts").glob("*/*.wav")


@pytest.mark.parametrize("shift_ms", range(0, 120, 10))
def test_a_key_is_masked_wherever_windows_part_it(studio: Studio, shift_ms: int) -> None:
    places = [600 + shift_ms, 1100 + shift_ms, 2100 + shift_ms]  # windows end at 700, 1200, 2200
    session = studio.session("s", terms=MASKED)
    voice = _speak(studio, session, "s/1", _payload(4, [("5", at) for at in places]))
    studio.end(session, ms=4000)
    studio.run(6000)
    (entry,) = studio.manifest(session).streams
    samples = studio.samples(session)[:, 0]
    assert samples.size == 4 * RATE_HZ
    assert _about(_spans(entry, "masked"), [(at, at + 100) for at in places])
    assert _is_told(samples, entry, voice)
    assert _hears_no_key(studio, session)


@pytest.mark.parametrize("sounding_ms", [10, 20, 30, 40, 60, 100])
def test_a_key_at_the_very_end_is_masked(studio: Studio, sounding_ms: int) -> None:
    session = studio.session("s", terms=MASKED)
    at = 4000 - sounding_ms
    voice = _speak(studio, session, "s/1", _payload(4, [("9", at)]))
    studio.end(session, ms=4000)
    studio.run(6000)
    (entry,) = studio.manifest(session).streams
    samples = studio.samples(session)[:, 0]
    assert samples.size == 4 * RATE_HZ
    assert not samples[at * PER_MS :].any()
    assert _is_told(samples, entry, voice)


@pytest.mark.parametrize("sounding_ms", [10, 20, 30, 40, 60, 90])
def test_of_a_key_that_a_pause_cuts_nothing_is_heard(studio: Studio, sounding_ms: int) -> None:
    session = studio.session("s", terms=MASKED)
    begun, resumed = 2000 - sounding_ms, 3000
    keys = [("7", begun), ("8", resumed - 100 + sounding_ms)]
    voice = _speak(studio, session, "s/1", _payload(5, keys))
    studio.change(session, PAUSED, ms=2000)
    studio.change(session, ON, ms=resumed, action=ControlAction.RESUME)
    studio.end(session, ms=5000)
    studio.run(7000)
    (entry,) = studio.manifest(session).streams
    samples = studio.samples(session)[:, 0]
    assert not samples[begun * PER_MS : (resumed + sounding_ms) * PER_MS].any()
    assert samples.size == 5 * RATE_HZ
    assert _spans(entry, "paused") == [(2000, 3000)]
    assert _is_told(samples, entry, voice)


@pytest.mark.parametrize("first_lost", range(53, 63))
def test_of_a_key_with_lost_packets_nothing_is_left(studio: Studio, first_lost: int) -> None:
    """Every second packet is lost around where a window ends, at 1,200 ms; what comes is no key by itself."""
    session = studio.session("s", terms=MASKED)
    lost = {first_lost, first_lost + 2, first_lost + 4, first_lost + 6}
    begun = 20 * first_lost + 20
    voice = _speak(studio, session, "s/1", _payload(3, [("4", begun)]), lost=lost)
    studio.end(session, ms=3000)
    studio.run(5000)
    (entry,) = studio.manifest(session).streams
    samples = studio.samples(session)[:, 0]
    assert not samples[begun * PER_MS : (begun + 100) * PER_MS].any()
    assert np.count_nonzero(samples == 0) < (100 + 80 + 2 * EDGE_MS + 30) * PER_MS
    assert _is_told(samples, entry, voice)


@pytest.mark.parametrize("late_ms", [0, 900])
def test_a_stop_within_a_key_and_a_start_within_another_let_nothing_through(
    studio: Studio, late_ms: int
) -> None:
    terms = RecordingTerms(rule="boss", mode=Mode.ON_DEMAND, mask_dtmf=True, preroll_ms=500)
    session = studio.session("s", terms=terms, state=OFF)
    keys = [("1", 980), ("2", 1980), ("3", 2950), ("4", 3500)]
    voice = _speak(studio, session, "s/1", _payload(5, keys))
    studio.change(session, ON, ms=1500, action=ControlAction.START)
    studio.change(session, OFF, ms=2000, put_ms=2000 + late_ms, action=ControlAction.STOP)
    studio.change(session, ON, ms=3000, action=ControlAction.START)
    studio.end(session, ms=5000)
    studio.run(7000)
    (entry,) = studio.manifest(session).streams
    samples = studio.samples(session)[:, 0]
    begins = 1000  # the past that is kept
    assert samples.size == (5000 - begins) * PER_MS
    sent = voice.samples[begins * PER_MS :]
    for low, high in [(1000, 1080), (1980, 3050), (3500, 3600)]:
        assert not samples[(low - begins) * PER_MS : (high - begins) * PER_MS].any()
    assert _spans(entry, "stopped") == [(2000 - begins, 3000 - begins)]
    assert _is_told(samples, entry, Voice(0, sent))


def test_what_is_erased_while_something_is_held_is_gone(studio: Studio) -> None:
    session = studio.session("s", terms=MASKED)
    _speak(studio, session, "s/1", _payload(4, [("1", 1100)]))
    studio.run(2000)
    studio.change(session, RecordingState.ERASED, ms=2100, action=ControlAction.OBJECT)
    studio.end(session, ms=4000)
    studio.run(6000)
    assert studio.plain(session)["outcome"] == "objected"
    assert list(studio.folder(session).glob("*.wav")) == []


@pytest.mark.parametrize("paused_ms", [1500, 1630, 1690, 1700])
def test_a_pause_that_comes_late_meets_what_is_held_back(studio: Studio, paused_ms: int) -> None:
    """By 2,600 ms the recording is rendered up to 1,700 and written up to 1,620."""
    session = studio.session("s", terms=MASKED)
    voice = _speak(studio, session, "s/1", _payload(5, [("1", 1550), ("2", 1800), ("3", 3600)]))
    studio.change(session, PAUSED, ms=paused_ms, put_ms=2600)
    studio.change(session, ON, ms=3500, action=ControlAction.RESUME)
    studio.end(session, ms=5000)
    studio.run(7000)
    manifest = studio.manifest(session)
    (entry,) = manifest.streams
    samples = studio.samples(session)[:, 0]
    assert samples.size == 5 * RATE_HZ
    assert _spans(entry, "paused") == [(paused_ms, 3500)]
    assert {gap.cause for gap in entry.gaps} == {"paused", "masked"}
    assert not entry.doubled
    assert not samples[1550 * PER_MS : 1650 * PER_MS].any()
    assert not samples[paused_ms * PER_MS : 3500 * PER_MS].any()
    assert _is_told(samples, entry, voice)
    assert _hears_no_key(studio, session)
    assert studio.log.counters().get("pause_late", 0) == (paused_ms < 1620)


@pytest.mark.parametrize("key_ms", [1100, 1140, 1180])
def test_a_crash_loses_what_is_held_and_leaves_no_key_on_disk(studio: Studio, key_ms: int) -> None:
    session = studio.session("s", terms=MASKED)
    voice = _speak(studio, session, "s/1", _payload(4, [("6", key_ms)]))
    studio.run(2000)
    (draft,) = _drafts(studio)
    written = draft.read_bytes()[4096:]
    on_disk = np.frombuffer(written, dtype="<i2")
    assert on_disk.size == (1200 - dtmf.LOOKAHEAD_MS) * PER_MS
    low = key_ms * PER_MS
    assert not on_disk[low:].any()
    before = on_disk[: low - EDGE_MS * PER_MS]
    assert np.array_equal(before, voice.samples[: before.size])
    studio.crash()
    manifest = studio.manifest(session)
    assert manifest.recovered and manifest.duration_samples == on_disk.size
    samples = studio.samples(session)[:, 0]
    assert np.array_equal(samples, on_disk)
    assert _is_told(samples, manifest.streams[0], voice)


@pytest.mark.parametrize("goes_silent", [True, False], ids=["then-silence", "then-nothing"])
@pytest.mark.parametrize("let_through_ms", [15, 20, 30])
def test_what_a_gateway_lets_through_of_a_key_that_it_tells_as_an_event_is_silent(
    studio: Studio, let_through_ms: int, goes_silent: bool
) -> None:
    """It has listened for 40 ms before it knew; from then on it sends silence, or no audio at all."""
    session = studio.session("s", terms=MASKED)
    signal = np.random.default_rng(1).normal(0, 300, 3 * RATE_HZ)
    signal[1500 * PER_MS : 1640 * PER_MS] = 0
    tone = key_tone("5", duration_ms=let_through_ms)
    signal[1500 * PER_MS :][: tone.size] = tone
    told = range(77, 82)  # packets from 1,540 ms on
    payload = speech.encode_a_law(to_int16(signal))
    voice = _speak(studio, session, "s/1", payload, lost=() if goes_silent else told)
    for number in told:
        event = studio.event("s/1", code=5, since_packet=77, at_packet=number)
        studio.arrive("s/1", event, ms=20 * number)
    studio.end(session, ms=3000)
    studio.run(5500)
    (entry,) = studio.manifest(session).streams
    samples = studio.samples(session)[:, 0]
    assert not samples[1500 * PER_MS : 1600 * PER_MS].any()
    assert _is_told(samples, entry, voice)
    assert entry.keys == ()
    assert samples[: 1470 * PER_MS].any() and samples[1650 * PER_MS :].any()
    assert _spans(entry, "masked") == [(1480, 1600)]


def test_a_stream_that_joins_later_is_masked_too_and_moves_nothing(studio: Studio) -> None:
    session = studio.session("s", terms=MASKED)
    first = _speak(studio, session, "s/1", _payload(5, [("1", 700), ("2", 3000)]))
    later = _speak(studio, session, "s/2", _payload(3, [("3", 20), ("4", 1000)], seed=2), first_ms=1800)
    studio.end(session, ms=5000)
    studio.run(7000)
    manifest = studio.manifest(session)
    samples = studio.samples(session)
    assert samples.shape == (5 * RATE_HZ, 2)
    one, two = sorted(manifest.streams, key=lambda entry: entry.channel)
    assert _about(_spans(one, "masked"), [(700, 800), (3000, 3100)])
    assert _about(_spans(two, "masked"), [(1820, 1920), (2800, 2900)])
    assert _spans(two, "before_first") == [(0, 1800)]
    assert _is_told(samples[:, 0], one, first)
    assert _is_told(samples[:, 1], two, later)
    assert _hears_no_key(studio, session)


def test_a_key_of_one_party_does_not_silence_the_other(studio: Studio) -> None:
    session = studio.session("s", terms=MASKED)
    _speak(studio, session, "s/1", _payload(3, [("0", 1500)]))
    other = _speak(studio, session, "s/2", _payload(3, [], seed=2))
    studio.end(session, ms=3000)
    studio.run(5000)
    _, entry = sorted(studio.manifest(session).streams, key=lambda entry: entry.channel)
    assert entry.gaps == ()
    assert np.array_equal(studio.samples(session)[:, 1], other.samples)


def test_the_sealed_file_is_what_tools_read(studio: Studio) -> None:
    session = studio.session("s", terms=MASKED)
    _speak(studio, session, "s/1", _payload(2, [("#", 500)]))
    studio.end(session, ms=2000)
    studio.run(4000)
    (wav,) = studio.folder(session).glob("*.wav")
    assert soundfile.info(wav).frames == 2 * RATE_HZ


@pytest.mark.parametrize("left_ms", [20, 80])
def test_a_key_that_begins_on_one_leg_of_a_party_and_ends_on_another_is_masked(
    studio: Studio, left_ms: int
) -> None:
    """Both legs bring the same; the second is heard from where the first ends, within the key."""
    session = studio.session("s", terms=MASKED)
    payload = _payload(4, [("7", 1900 + left_ms)])
    for number, packets in ((1, 100), (2, 200)):
        studio.voice(
            session,
            f"s/{number}",
            first_ms=0,
            packets=packets,
            payload=payload[: 160 * packets],
            party="anna",
            dialog=DialogId(f"d{number}"),
        )
    studio.end(session, ms=4000)
    studio.run(6000)
    samples = studio.samples(session)
    assert samples.shape == (4 * RATE_HZ, 1)
    begun = (1900 + left_ms) * PER_MS
    assert not samples[begun : begun + 100 * PER_MS].any()
    assert samples[: begun - 200].any(axis=1).mean() > 0.9
    assert samples[begun + 120 * PER_MS :].any(axis=1).mean() > 0.9
