"""In-band DTMF: every key within the limits of ITU-T Q.24, nothing beyond them."""

import numpy as np

from dsp import dtmf


def test_a_key_is_found_where_it_sounds() -> None:
    signal = np.zeros(8_000, np.int16)
    at = np.arange(400) / 8_000
    signal[3_000:3_400] = 6_000 * (np.sin(2 * np.pi * 770 * at) + np.sin(2 * np.pi * 1_477 * at))
    (tone,) = dtmf.detect(signal, rate_hz=8_000)
    assert tone.key == "6"
    assert abs(tone.start_sample - 3_000) <= 40
    assert abs(tone.end_sample - 3_400) <= 40
