"""Which keys the manifest tells: each once, in full, and none of what was not to be recorded."""

from __future__ import annotations

import numpy as np
import pytest

from recorderd.record.keys import BY_EVENT, BY_TONE, Keys
from recorderd.record.piece import Piece
from recorderd.wire.manifest import Gap
from recorderd.wire.manifest_rows import KeyEntry
from tests.support.tones import key_tone, to_int16


def _listen(keys: Keys, signal: np.ndarray, *, start: int, rate_hz: int = 8000, window: int = 4000) -> None:
    for at in range(0, signal.size, window):
        part = to_int16(signal[at : at + window])
        keys.listen(Piece(start=start + at, samples=part, absent=()), rate_hz=rate_hz)


def _signal(*keys: tuple[str, int], size: int) -> np.ndarray:
    signal = np.random.default_rng(1).normal(0, 100, size)
    for key, at in keys:
        tone = key_tone(key, duration_ms=100)[: size - at]
        signal[at : at + tone.size] += tone
    return signal


def _told(keys: Keys, *, origin: int = 0, end: int = 80_000, gaps: tuple[Gap, ...] = ()) -> list[KeyEntry]:
    return list(keys.entries(origin=origin, end=end, gaps=gaps))


def test_later_news_of_an_event_replace_earlier_ones_and_a_recording_counts_from_its_beginning() -> None:
    keys = Keys()
    for length in (160, 480, 800):
        keys.note("5", via=BY_EVENT, start=9_000, length=length)
    keys.note("1", via=BY_EVENT, start=7_999, length=800)
    keys.note("2", via=BY_EVENT, start=20_000, length=800)
    assert _told(keys, origin=8_000, end=20_000) == [
        KeyEntry(key="5", via=BY_EVENT, start_samples=1_000, length_samples=800)
    ]
    (row,) = _told(keys, origin=8_000, end=9_500)
    assert row.length_samples == 500


@pytest.mark.parametrize("cause", ["paused", "stopped", "masked"])
def test_a_key_that_reaches_into_what_was_not_to_be_recorded_is_not_told(cause: str) -> None:
    keys = Keys()
    for start in (1_000, 4_500, 5_500, 6_500, 7_000):
        keys.note("5", via=BY_EVENT, start=start, length=600)
    gaps = (Gap(start_samples=5_000, length_samples=2_000, cause=cause),)
    assert [row.start_samples for row in _told(keys, gaps=gaps)] == [1_000, 7_000]
    elsewhere = (Gap(start_samples=5_000, length_samples=2_000, cause="dtmf"),)
    assert len(_told(keys, gaps=elsewhere)) == 5


def test_a_tone_across_windows_is_one_key_and_one_to_the_end_is_told() -> None:
    keys = Keys()
    _listen(keys, _signal(("7", 3_700), ("9", 11_400), size=12_000), start=800)
    keys.finish()
    rows = _told(keys)
    assert [(row.key, row.via) for row in rows] == [("7", BY_TONE), ("9", BY_TONE)]
    for row, (start, length) in zip(rows, [(4_500, 800), (12_200, 600)], strict=True):
        assert abs(row.start_samples - start) <= 40 and abs(row.length_samples - length) <= 80


def test_what_does_not_adjoin_is_listened_to_afresh_and_what_was_before_is_told_to_its_end() -> None:
    keys = Keys()
    _listen(keys, _signal(("7", 3_600), size=4_000), start=0)
    _listen(keys, _signal(("8", 0), size=4_000), start=40_000)
    keys.finish()
    assert [(row.key, row.start_samples // 4_000) for row in _told(keys)] == [("7", 0), ("8", 10)]
    keys.forget()
    assert _told(keys) == []


def test_a_rate_that_the_detector_does_not_know_is_not_listened_to() -> None:
    keys = Keys()
    _listen(keys, _signal(("7", 100), size=4_000), start=0, rate_hz=11_025)
    keys.finish()
    assert _told(keys) == []
