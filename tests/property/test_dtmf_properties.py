"""Properties of the live detector: blocks do not matter, and it is never late."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dsp import dtmf
from tests.support.tones import KEYS, key_tone, to_int16


def signal_of(script: list[tuple[str, int, int]], *, rate_hz: int, noise: int) -> np.ndarray:
    random = np.random.default_rng(noise)
    parts = []
    for key, duration_ms, pause_ms in script:
        parts += [
            key_tone(key, duration_ms=duration_ms, rate_hz=rate_hz),
            np.zeros(pause_ms * rate_hz // 1000),
        ]
    whole = np.concatenate(parts)
    return to_int16(whole + random.normal(0, 800, whole.size))


SCRIPTS = st.lists(
    st.tuples(st.sampled_from(KEYS), st.integers(25, 200), st.integers(0, 150)), min_size=1, max_size=5
)


@settings(max_examples=60)
@given(
    script=SCRIPTS,
    rate_hz=st.sampled_from([8000, 16_000, 48_000]),
    noise=st.integers(0, 99),
    lengths=st.lists(st.integers(0, 700), min_size=1, max_size=8),
)
def test_any_division_into_blocks_finds_the_same_tones_in_time(
    script: list[tuple[str, int, int]], rate_hz: int, noise: int, lengths: list[int]
) -> None:
    signal = signal_of(script, rate_hz=rate_hz, noise=noise)
    whole = dtmf.detect(signal, rate_hz=rate_hz)
    detector = dtmf.Detector(rate_hz)
    late = dtmf.LOOKAHEAD_MS * rate_hz // 1000
    ended: dict[int, dtmf.Tone] = {}
    masked = np.zeros(signal.size, dtype=np.bool_)
    fed = turn = 0
    while fed < signal.size:
        length = max(1, lengths[turn % len(lengths)] * rate_hz // 8000) + turn % 3
        report = detector.feed(signal[fed : fed + length])
        written, fed, turn = max(0, fed - late), min(signal.size, fed + length), turn + 1
        ended.update({tone.start_sample: tone for tone in report})
        for start, end in dtmf.mask_spans(
            report, rate_hz=rate_hz
        ):  # what a writer 80 ms behind can still mask
            masked[max(start, written) : min(end, signal.size)] = True
    rest = detector.finish(total_samples=signal.size)
    ended.update({tone.start_sample: tone for tone in rest})
    for start, end in dtmf.mask_spans(rest, rate_hz=rate_hz):
        masked[max(start, 0, fed - late) : end] = True
    assert tuple(sorted(ended.values(), key=lambda tone: (tone.start_sample, tone.key))) == whole
    wanted = np.zeros(signal.size, dtype=np.bool_)
    for start, end in dtmf.mask_spans(whole, rate_hz=rate_hz):
        wanted[start:end] = True
    missed = np.flatnonzero(wanted & ~masked)
    assert missed.size == 0, f"late by report: samples {missed[:5]} of {whole}"
