"""What a listener would have thought of a stream, from loss and delay: the E-model.

Everything but codec, loss and delay has the model's default; echo is taken as perfectly cancelled.
Source: ITU-T G.107 (06/2015), G.107.1 (06/2019) for wideband, G.113 (11/2007) Appendix I for the codecs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from dsp.shapes import I64

R_NARROWBAND: Final = 93.2  # G.107 with every default
R_WIDEBAND: Final = 129.0  # G.107.1
_WORST_IE: Final = 95.0  # where total loss leads, on both scales


@dataclass(frozen=True, slots=True, kw_only=True)
class Impairment:
    """What a codec costs by itself, and how well it bears loss."""

    ie: float
    bpl: float
    wideband: bool = False  # ie on the scale of G.107.1


# Keys are SDP encoding names in capitals.
IMPAIRMENTS: Final = {
    "PCMU": Impairment(ie=0, bpl=25.1),  # G.113 Appendix I: G.711 with the concealment of its appendix I
    "PCMA": Impairment(ie=0, bpl=25.1),
    "L16": Impairment(ie=0, bpl=25.1),  # approximation: as G.711
    "G729": Impairment(ie=11, bpl=19.0),  # G.113 Appendix I: G.729A with VAD; ie is 10 without VAD
    "GSM": Impairment(ie=20, bpl=10.0),  # ie by G.113 Appendix I; bpl is an approximation: as GSM-EFR
    "AMR": Impairment(ie=5, bpl=10.0),  # G.113 Appendix I: GSM-EFR, which is AMR at 12.2 kbit/s
    "ILBC": Impairment(ie=11, bpl=32.0),  # approximation: between G.729A and its frames' independence
    "SPEEX": Impairment(ie=11, bpl=19.0),  # approximation: as G.729A, also a CELP
    "G722": Impairment(ie=13, bpl=4.3, wideband=True),  # ie by G.113 at 64 kbit/s; bpl is an approximation
    "OPUS": Impairment(ie=8, bpl=19.0, wideband=True),  # approximation: better than G.722 without loss
}
BPL_UNCONCEALED: Final = 4.3  # G.113 Appendix I: G.711 where a gap is silence
_OF_SAMPLES: Final = frozenset({"PCMU", "PCMA", "L16"})


def e_model_r(
    *, loss_fraction: float, burst_ratio: float, delay_ms: float, codec: str, concealed: bool = True
) -> float:
    """Give the rating R on the narrowband scale; a wideband R is divided by 1.29, as G.107.1 has it for MOS.

    ``concealed`` says whether listeners' phones conceal the gaps of G.711 and L16; others do by themselves.

    Units:  burst_ratio 1 == random loss; delay from mouth to ear.
    Errors: KeyError on a codec without an entry; ValueError on a loss_fraction outside of 0 to 1.
    Source: ITU-T G.107 sections 7.4 (Idd) and 7.5 (Ie-eff).
    """
    name = codec.upper()
    known = IMPAIRMENTS[name]
    if not 0 <= loss_fraction <= 1:
        raise ValueError(f"loss_fraction {loss_fraction} is not between 0 and 1")
    bpl = known.bpl if concealed or name not in _OF_SAMPLES else BPL_UNCONCEALED
    loss_percent = 100.0 * loss_fraction
    effective = known.ie + (_WORST_IE - known.ie) * loss_percent / (
        loss_percent / max(1.0, burst_ratio) + bpl
    )
    rating = (R_WIDEBAND if known.wideband else R_NARROWBAND) - _delay_impairment(delay_ms) - effective
    return rating * 100.0 / R_WIDEBAND if known.wideband else rating


def e_model_mos(
    *, loss_fraction: float, burst_ratio: float, delay_ms: float, codec: str, concealed: bool = True
) -> float:
    """Estimate the mean opinion of a conversation, 1 to 4.5; arguments and errors as in ``e_model_r``."""
    rating = e_model_r(
        loss_fraction=loss_fraction,
        burst_ratio=burst_ratio,
        delay_ms=delay_ms,
        codec=codec,
        concealed=concealed,
    )
    return mos_of(rating)


def mos_of(rating: float) -> float:
    """Turn R into a mean opinion score.

    Source: ITU-T G.107 annex B; its cubic falls below 1 where R is under 6.5 and is held at 1 there.
    """
    if rating >= 100.0:
        return 4.5
    return (
        max(1.0, 1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6)
        if rating > 0
        else 1.0
    )


def burst_ratio(runs: I64, *, loss_fraction: float) -> float:
    """Compare the mean length of the runs of lost packets with that under random loss; never below 1.

    Shapes: runs (m,) lengths in packets, any order; none -> 1.
    Source: ITU-T G.107 section 7.5.
    """
    if runs.size == 0:
        return 1.0
    return max(1.0, float(runs.mean()) * (1.0 - loss_fraction))


def _delay_impairment(delay_ms: float) -> float:
    """Idd of G.107 section 7.4, with the default sensitivity: nobody minds 100 ms."""
    if delay_ms <= 100.0:
        return 0.0
    x = math.log2(delay_ms / 100.0)
    return 25.0 * (math.pow(1.0 + x**6, 1 / 6) - 3.0 * math.pow(1.0 + (x / 3.0) ** 6, 1 / 6) + 2.0)
