"""A side that nobody hears raises an event while the call is up, once, and only when it should speak."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from recorderd.core.ids import SessionId, StreamId
from recorderd.core.messages import StreamHeld
from recorderd.record.recorder import Pace
from tests.support.bundles import make_signer
from tests.support.studio import BEGIN_MONO_NS, DELAY_MS, Studio

LONG = 25 * 50  # packets of 25 s


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path, make_signer(tmp_path, "recorder"))


def _raised(studio: Studio) -> int:
    return studio.log.counters().get("stream_one_way", 0)


def _hold(studio: Studio, session: SessionId, stream: str, *, ms: int, held: bool) -> None:
    at_mono_ns = BEGIN_MONO_NS + ms * 1_000_000
    message = StreamHeld(session=session, stream=StreamId(stream), held=held, at_mono_ns=at_mono_ns)
    studio.put(message, ms=ms)


def test_a_side_that_never_speaks_is_told_once_while_the_call_is_up(
    studio: Studio, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    session = studio.session("s")
    studio.voice(session, "caller", first_ms=0, packets=LONG)
    studio.voice(session, "callee", first_ms=0, packets=0)
    studio.run(10_000)
    assert _raised(studio) == 0
    studio.run(12_000)
    assert _raised(studio) == 1
    (told,) = [record.getMessage() for record in caplog.records if "one_way" in record.getMessage()]
    assert told == "stream_one_way subject=callee label=callee"
    studio.run(24_000)
    assert _raised(studio) == 1


def test_a_side_that_falls_silent_is_told_ten_seconds_after_its_last_word(studio: Studio) -> None:
    session = studio.session("s")
    studio.voice(session, "caller", first_ms=0, packets=LONG)
    studio.voice(session, "callee", first_ms=0, packets=250)
    studio.run(14_900)
    assert _raised(studio) == 0
    studio.run(17_000)
    assert _raised(studio) == 1


def test_a_side_that_comes_later_has_its_ten_seconds(studio: Studio) -> None:
    session = studio.session("s")
    studio.voice(session, "caller", first_ms=0, packets=LONG)
    studio.voice(session, "callee", first_ms=8_000, packets=0)
    studio.run(17_900)
    assert _raised(studio) == 0
    studio.run(20_000)
    assert _raised(studio) == 1


def test_a_side_on_hold_may_be_silent_and_has_its_ten_seconds_after(studio: Studio) -> None:
    session = studio.session("s")
    studio.voice(session, "caller", first_ms=0, packets=LONG)
    studio.voice(session, "callee", first_ms=0, packets=50)
    _hold(studio, session, "callee", ms=1_000, held=True)
    _hold(studio, session, "callee", ms=13_000, held=False)
    studio.run(22_900)
    assert _raised(studio) == 0
    studio.run(24_900)
    assert _raised(studio) == 1


def _ended_by_silence(studio: Studio) -> list[str]:
    return [silent.session for silent in studio.silent]


@pytest.fixture
def impatient(tmp_path: Path) -> Studio:
    """Ends a session after three seconds without RTP."""
    pace = Pace(window_ms=500, delay_ms=DELAY_MS, checkpoint_s=1, silence_limit_s=3)
    return Studio(tmp_path, make_signer(tmp_path, "recorder"), pace=pace)


def test_a_call_that_is_held_for_longer_than_silence_may_last_is_recorded_on(impatient: Studio) -> None:
    session = impatient.session("s")
    for name in ("caller", "callee"):
        impatient.voice(session, name, first_ms=0, packets=100)
        _hold(impatient, session, name, ms=2_000, held=True)
        _hold(impatient, session, name, ms=12_000, held=False)
    impatient.run(14_900)
    assert _ended_by_silence(impatient) == []
    impatient.run(17_000)  # it has the time of any other from then on
    assert _ended_by_silence(impatient) == [session]


def test_a_line_that_was_held_and_has_hung_up_lets_no_silence_last(impatient: Studio) -> None:
    session = impatient.session("s")
    for name in ("caller", "callee"):
        impatient.voice(session, name, first_ms=0, packets=100)
    _hold(impatient, session, "callee", ms=2_000, held=True)
    impatient.hang_up(session, "callee", ms=2_500)
    impatient.run(7_000)
    assert _ended_by_silence(impatient) == [session]


def test_who_says_by_comfort_noise_that_nobody_speaks_is_there(impatient: Studio) -> None:
    session = impatient.session("s")
    for name in ("caller", "callee"):
        impatient.voice(session, name, first_ms=0, packets=50)
    for number in range(50, 500, 50):
        impatient.arrive("caller", impatient.noise("caller", at_packet=number), ms=20 * number)
    impatient.run(12_000)  # the last one came at 9,000
    assert _ended_by_silence(impatient) == []
    assert _raised(impatient) == 0
    impatient.run(14_000)
    assert _ended_by_silence(impatient) == [session]


def test_a_side_that_has_hung_up_is_not_waited_for(studio: Studio) -> None:
    session = studio.session("s")
    studio.voice(session, "caller", first_ms=0, packets=LONG)
    studio.voice(session, "callee", first_ms=0, packets=50)
    studio.hang_up(session, "callee", ms=1_000)
    studio.run(24_000)
    assert _raised(studio) == 0


def test_one_stream_alone_and_silence_on_both_sides_are_not_one_way(studio: Studio) -> None:
    alone, quiet = studio.session("alone"), studio.session("quiet")
    studio.voice(alone, "alone/1", first_ms=0, packets=LONG)
    studio.voice(quiet, "quiet/1", first_ms=0, packets=50)
    studio.voice(quiet, "quiet/2", first_ms=0, packets=0)
    studio.run(24_000)
    assert _raised(studio) == 0


def test_two_sides_that_speak_are_not_one_way(studio: Studio) -> None:
    session = studio.session("s")
    studio.voice(session, "caller", first_ms=0, packets=LONG)
    studio.voice(session, "callee", first_ms=0, packets=LONG, lost=range(200, 600))  # 8 s
    studio.run(24_000)
    assert _raised(studio) == 0
