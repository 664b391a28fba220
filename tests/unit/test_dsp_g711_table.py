"""G.711 for all 256 codes of both laws, from the recommendation's own tables of segments.

Nothing here is computed as the product does it (no shifts, no exponents): the tables list, segment by
segment, the decision values and how wide the intervals are; the value of an interval lies in its middle.
Source: ITU-T G.711 (11/88) tables 1a, 1b (A-law, 13 bits) and 2a, 2b (mu-law, 14 bits).
"""

from dataclasses import dataclass

import numpy as np
import pytest

from dsp import g711


@dataclass(frozen=True, kw_only=True)
class Law:
    """One law as the recommendation prints it, for one polarity."""

    law: int
    scale: int  # from the recommendation's units to 16 bits
    segments: tuple[tuple[int, int, int], ...]  # first decision value, width and number of intervals
    last_decision: int  # the virtual one
    printed_values: dict[int, int]  # n -> y(n), where the tables print it; n counts intervals from 1

    @property
    def decisions(self) -> list[int]:
        starts = [first + width * n for first, width, count in self.segments for n in range(count)]
        return [*starts, self.last_decision]


A_LAW = Law(
    law=g711.A_LAW,
    scale=8,
    segments=(
        (0, 2, 32),
        (64, 4, 16),
        (128, 8, 16),
        (256, 16, 16),
        (512, 32, 16),
        (1024, 64, 16),
        (2048, 128, 16),
    ),
    last_decision=4096,
    printed_values={1: 1, 33: 66, 49: 132, 65: 264, 81: 528, 97: 1056, 113: 2112, 128: 4032},
)
MU_LAW = Law(
    law=g711.MU_LAW,
    scale=4,
    segments=(
        (0, 1, 1),
        (1, 2, 15),
        (31, 4, 16),
        (95, 8, 16),
        (223, 16, 16),
        (479, 32, 16),
        (991, 64, 16),
        (2015, 128, 16),
        (4063, 256, 16),
    ),
    last_decision=8159,
    printed_values={1: 0, 2: 2, 17: 33, 33: 99, 49: 231, 65: 495, 81: 1023, 97: 2079, 113: 4191, 128: 8031},
)
LAWS = [pytest.param(A_LAW, id="A"), pytest.param(MU_LAW, id="mu")]


def _code(law: Law, interval: int, *, positive: bool) -> int:
    """Character signal of an interval; that of A-law goes out with its even bits inverted."""
    if law is A_LAW:
        return ((0b1000_0000 if positive else 0) + interval) ^ 0b0101_0101
    return (0b1111_1111 if positive else 0b0111_1111) - interval


def _values(law: Law) -> list[int]:
    middles = [(low + high) / 2 for low, high in zip(law.decisions, law.decisions[1:], strict=False)]
    if law is MU_LAW:
        middles[0] = 0  # the interval around zero
    assert all(middle == int(middle) for middle in middles)
    return [int(middle) for middle in middles]


@pytest.mark.parametrize("law", LAWS)
def test_the_table_is_the_recommendations(law: Law) -> None:
    values = _values(law)
    assert len(values) == 128
    assert {n: values[n - 1] for n in law.printed_values} == law.printed_values


@pytest.mark.parametrize("law", LAWS)
def test_every_code_has_the_value_of_its_interval(law: Law) -> None:
    expected = {}
    for interval, value in enumerate(_values(law)):
        expected[_code(law, interval, positive=True)] = value * law.scale
        expected[_code(law, interval, positive=False)] = -value * law.scale
    assert len(expected) == 256
    codes = np.arange(256, dtype=np.uint8)
    decoded = g711.decode(codes, laws=np.full(256, law.law, dtype=np.uint8))
    assert decoded.tolist() == [expected[code] for code in range(256)]


@pytest.mark.parametrize("law", LAWS)
def test_every_sample_has_the_code_of_the_interval_it_lies_in(law: Law) -> None:
    samples = np.arange(-32_768, 32_768).astype(np.int16)
    encoded = g711.encode(samples, law=law.law)
    starts = np.array(law.decisions[:-1]) * law.scale
    magnitude = np.abs(samples.astype(int))
    above = np.searchsorted(starts, magnitude, side="right") - 1
    below = np.maximum(
        0, np.searchsorted(starts, magnitude, side="left") - 1
    )  # differs on decision values only
    assert np.count_nonzero(above != below) == 2 * 127
    positive = samples >= 0
    permitted = [
        np.array(
            [_code(law, n, positive=sign) for n, sign in zip(side.tolist(), positive.tolist(), strict=True)]
        )
        for side in (above, below)
    ]
    assert ((encoded == permitted[0]) | (encoded == permitted[1])).all()
