"""The E-model against figures that the recommendations and the literature print."""

import numpy as np
import pytest

from dsp.quality import IMPAIRMENTS, burst_ratio, e_model_mos, e_model_r, mos_of

CLEAN = {"loss_fraction": 0.0, "burst_ratio": 1.0, "delay_ms": 0.0}


# ITU-T G.107 table B.1, which rounds generously, and 4.41 for the default connection.
@pytest.mark.parametrize(
    ("rating", "mos"), [(93.2, 4.41), (90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58)]
)
def test_ratings_become_the_opinions_of_annex_b(rating: float, mos: float) -> None:
    assert mos_of(rating) == pytest.approx(mos, abs=0.01)


def test_opinions_end_at_1_and_at_4_5() -> None:
    assert mos_of(100) == mos_of(120) == 4.5
    assert mos_of(99.999) == pytest.approx(4.5, abs=1e-3)
    assert mos_of(0) == mos_of(-5) == mos_of(3) == 1.0  # the cubic itself is at 0.99 for R = 3


# Ie-eff = Ie + (95 - Ie) * Ppl / (Ppl / BurstR + Bpl), worked out by hand from G.113's Ie and Bpl.
@pytest.mark.parametrize(
    ("codec", "loss_fraction", "bursts", "concealed", "rating"),
    [
        ("PCMU", 0.00, 1, True, 93.2),
        ("PCMA", 0.01, 1, True, 93.2 - 3.640),
        ("PCMA", 0.05, 1, True, 93.2 - 15.781),
        ("PCMU", 0.01, 1, False, 93.2 - 17.925),
        ("PCMU", 0.05, 1, False, 93.2 - 51.075),
        ("PCMU", 0.05, 2, True, 93.2 - 17.210),
        ("G729", 0.00, 1, True, 82.2),
        ("G729", 0.01, 1, True, 82.2 - 4.200),
        ("G729", 0.01, 1, False, 82.2 - 4.200),  # it conceals by itself
        ("GSM", 0.00, 1, True, 73.2),
        ("AMR", 0.02, 1, True, 88.2 - 15.0),
    ],
)
def test_codec_and_loss_impair_as_the_formula_says(
    codec: str, loss_fraction: float, bursts: float, concealed: bool, rating: float
) -> None:
    found = e_model_r(
        loss_fraction=loss_fraction, burst_ratio=bursts, delay_ms=0, codec=codec, concealed=concealed
    )
    assert found == pytest.approx(rating, abs=0.001)


@pytest.mark.parametrize(
    ("codec", "loss_fraction", "mos"),
    [("PCMU", 0, 4.41), ("PCMU", 0.01, 4.33), ("PCMU", 0.05, 3.93), ("G729", 0, 4.10), ("G722", 0, 4.34)],
)
def test_opinions_of_common_streams(codec: str, loss_fraction: float, mos: float) -> None:
    found = e_model_mos(loss_fraction=loss_fraction, burst_ratio=1, delay_ms=0, codec=codec)
    assert found == pytest.approx(mos, abs=0.01)


# Idd of G.107 worked out by hand where its logarithm is whole: x = 1 and x = 2.
@pytest.mark.parametrize(("delay_ms", "less"), [(0, 0), (100, 0), (200, 3.04), (400, 24.07)])
def test_delay_begins_to_hurt_beyond_100_ms(delay_ms: float, less: float) -> None:
    assert 93.2 - e_model_r(**{**CLEAN, "delay_ms": delay_ms}, codec="pcmu") == pytest.approx(less, abs=0.01)


def test_more_loss_longer_bursts_and_longer_delay_are_never_better() -> None:
    for codec in IMPAIRMENTS:
        by_loss = [e_model_mos(**{**CLEAN, "loss_fraction": part / 50}, codec=codec) for part in range(51)]
        by_bursts = [
            e_model_mos(loss_fraction=0.1, burst_ratio=bursts, delay_ms=0, codec=codec)
            for bursts in range(1, 9)
        ]
        by_delay = [e_model_mos(**{**CLEAN, "delay_ms": delay}, codec=codec) for delay in range(0, 900, 50)]
        for falling in (by_loss, by_bursts, by_delay):
            assert falling == sorted(falling, reverse=True)
            assert all(1.0 <= mos <= 4.5 for mos in falling)


def test_unknown_codecs_and_impossible_losses_are_refused() -> None:
    with pytest.raises(KeyError):
        e_model_mos(**CLEAN, codec="telepathy")
    for loss_fraction in (-0.01, 1.01, float("nan")):
        with pytest.raises(ValueError, match="loss_fraction"):
            e_model_mos(loss_fraction=loss_fraction, burst_ratio=1, delay_ms=0, codec="PCMU")


def test_runs_are_compared_with_random_loss() -> None:
    assert burst_ratio(np.zeros(0, dtype=np.int64), loss_fraction=0) == 1.0
    assert burst_ratio(np.array([4, 4, 4]), loss_fraction=0.25) == pytest.approx(3.0)
    assert burst_ratio(np.array([1]), loss_fraction=0.5) == 1.0
    lost = np.random.default_rng(3).random(200_000) < 0.1
    edges = np.flatnonzero(np.diff(lost.astype(np.int8), prepend=0, append=0))
    assert burst_ratio(edges[1::2] - edges[0::2], loss_fraction=lost.mean()) == pytest.approx(1.0, abs=0.02)
