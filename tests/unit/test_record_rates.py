"""Streams of several rates in one recording: at the highest, each in its place, silent where it must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recorderd.core.ids import SessionId
from recorderd.core.messages import Codec, Encoding, RecordingState
from recorderd.core.terms import Mode, RecordingTerms
from tests.support import g711_reference
from tests.support.bundles import make_signer
from tests.support.studio import PCMA, Studio

WIDE = Codec(payload_type=96, encoding=Encoding.L16, clock_rate_hz=16_000)
FULL = Codec(payload_type=97, encoding=Encoding.L16, clock_rate_hz=48_000)
RIPPLE = 12  # A-law's least is 8; and what the filter makes of its steps
PAUSABLE = RecordingTerms(mode=Mode.ALWAYS_PAUSABLE)
END_MS = 4000


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path, make_signer(tmp_path, "recorder"))


def _octets(samples: np.ndarray, codec: Codec) -> bytes:
    if codec.encoding is Encoding.L16:
        return np.rint(samples).astype(">i2").tobytes()
    codes = {int(sample): g711_reference.a_law_code(int(sample)) for sample in np.unique(np.rint(samples))}
    return bytes(codes[int(sample)] for sample in np.rint(samples))


def _pulse(codec: Codec, *, at_ms: float, lasts_ms: int) -> np.ndarray:
    """Silence, and a short burst of 700 Hz under a bell around an instant."""
    at = np.arange(codec.clock_rate_hz * lasts_ms // 1000) / codec.clock_rate_hz - at_ms / 1000
    return 12_000 * np.exp(-((at / 0.004) ** 2)) * np.cos(2 * np.pi * 700 * at)


def _tone(codec: Codec, hz: float, *, lasts_ms: int) -> np.ndarray:
    at = np.arange(codec.clock_rate_hz * lasts_ms // 1000) / codec.clock_rate_hz
    return 8000 * np.sin(2 * np.pi * hz * at)


def _speak(
    studio: Studio, session: SessionId, name: str, codec: Codec, samples: np.ndarray, *, ms: int = 0
) -> None:
    packets = samples.size * 50 // codec.clock_rate_hz
    payload = _octets(samples, codec)
    rank = int(name[-1]) - 1
    studio.voice(
        session, name, first_ms=ms, packets=packets, payload=payload, codec=codec, side_rank=rank, party=name
    )


def _lag_ms(one: np.ndarray, other: np.ndarray, *, rate_hz: int) -> float:
    """Where the cross-correlation of two channels is highest."""
    size = 2 * one.size
    product = np.fft.rfft(one.astype(float), size) * np.conj(np.fft.rfft(other.astype(float), size))
    shift = int(np.argmax(np.fft.irfft(product, size)))
    return (shift if shift < one.size else shift - size) * 1000 / rate_hz


def _beside_db(samples: np.ndarray, hz: float, *, rate_hz: int) -> float:
    """The strongest line that is not the tone's, against the tone."""
    part = samples[rate_hz // 2 : rate_hz // 2 + 2 * rate_hz].astype(float)
    spectrum = np.abs(np.fft.rfft(part * np.blackman(part.size)))
    at = round(hz * part.size / rate_hz)
    rest = np.delete(spectrum, slice(at - 20, at + 21))
    return 20 * np.log10(rest[20:].max() / spectrum[at])


def test_the_highest_rate_of_the_first_streams_is_the_recordings(studio: Studio) -> None:
    session = studio.session("s")
    codecs = (PCMA, WIDE, FULL)
    for number, codec in enumerate(codecs, start=1):
        pulse = _pulse(codec, at_ms=1300.25, lasts_ms=END_MS)
        _speak(studio, session, f"s/{number}", codec, pulse)
    studio.end(session, ms=END_MS)
    studio.run(END_MS + 2500)
    rate_hz = 48_000
    samples = studio.samples(session, rate_hz=rate_hz)
    assert samples.shape == (48 * END_MS, 3)
    for channel in (0, 1):
        assert abs(_lag_ms(samples[:, channel], samples[:, 2], rate_hz=rate_hz)) < 0.05
    told = studio.manifest(session)
    for stream in told.streams:
        assert stream.gaps == ()
        assert stream.first_sample == 0


def test_what_is_brought_up_has_no_images(studio: Studio) -> None:
    session = studio.session("s")
    rows = ((WIDE, 3400.0), (FULL, 1000.0))
    for number, (codec, hz) in enumerate(rows, start=1):
        _speak(studio, session, f"s/{number}", codec, _tone(codec, hz, lasts_ms=END_MS))
    studio.end(session, ms=END_MS)
    studio.run(END_MS + 2500)
    samples = studio.samples(session, rate_hz=48_000)
    assert _beside_db(samples[:, 0], 3400.0, rate_hz=48_000) < -60
    wanted = _tone(FULL, 1000.0, lasts_ms=END_MS)
    assert np.array_equal(samples[:, 1], np.rint(wanted).astype(np.int16))  # its own rate: bit by bit


def test_the_telephones_rate_has_no_images_either(studio: Studio) -> None:
    session = studio.session("s")
    _speak(studio, session, "s/1", PCMA, _tone(PCMA, 3000.0, lasts_ms=END_MS))
    _speak(studio, session, "s/2", WIDE, _tone(WIDE, 1000.0, lasts_ms=END_MS))
    studio.end(session, ms=END_MS)
    studio.run(END_MS + 2500)
    samples = studio.samples(session, rate_hz=16_000)[:, 0].astype(float)
    spectrum = np.abs(np.fft.rfft(samples[8000:40_000] * np.blackman(32_000)))
    above = spectrum[4200 * 2 :]  # beyond its Nyquist frequency; below is A-law's own noise
    assert 20 * np.log10(above.max() / spectrum.max()) < -60


def test_who_joins_later_at_a_higher_rate_is_brought_down_to_the_recordings(studio: Studio) -> None:
    session = studio.session("s")
    _speak(studio, session, "s/1", PCMA, _pulse(PCMA, at_ms=2500, lasts_ms=END_MS))
    late_ms = 2000
    pulse = _pulse(FULL, at_ms=2500 - late_ms, lasts_ms=END_MS - late_ms)
    hiss = _tone(FULL, 9000.0, lasts_ms=END_MS - late_ms)  # cannot be held at 8 kHz, must not fold
    _speak(studio, session, "s/2", FULL, pulse + hiss, ms=late_ms)
    studio.end(session, ms=END_MS)
    studio.run(END_MS + 2500)
    samples = studio.samples(session)
    assert samples.shape == (8 * END_MS, 2)
    assert abs(_lag_ms(samples[:, 0], samples[:, 1], rate_hz=8000)) <= 0.125
    quiet = samples[8 * 2800 : 8 * 3800, 1]
    assert np.abs(quiet).max() <= 8  # 60 dB below the hiss
    first, second = studio.manifest(session).streams
    assert first.gaps == ()
    [gap] = second.gaps
    assert (gap.start_samples, gap.length_samples, gap.cause) == (0, 8 * late_ms, "before_first")


@pytest.mark.parametrize("put_ms", [1500, 1990])
def test_a_pause_cuts_exactly_at_every_rate(studio: Studio, put_ms: int) -> None:
    """What is said from the pause on is loud, what is said before is silence: nothing of it is heard."""
    session = studio.session("s", terms=PAUSABLE)
    from_ms, to_ms = 2003, 2701
    for number, codec in enumerate((PCMA, WIDE, FULL), start=1):
        per_ms = codec.clock_rate_hz // 1000
        samples = np.zeros(per_ms * END_MS)
        loud = np.random.default_rng(1).choice([-20_000, 20_000], per_ms * (to_ms - from_ms))
        samples[per_ms * from_ms : per_ms * to_ms] = loud
        _speak(studio, session, f"s/{number}", codec, samples)
    studio.change(session, RecordingState.PAUSED, ms=from_ms, put_ms=put_ms)
    studio.change(session, RecordingState.ON, ms=to_ms)
    studio.end(session, ms=END_MS)
    studio.run(END_MS + 2500)
    samples = studio.samples(session, rate_hz=48_000)
    assert samples.shape == (48 * END_MS, 3)
    assert np.abs(samples[: 48 * from_ms]).max() <= RIPPLE
    assert not samples[48 * from_ms : 48 * to_ms].any()
    assert np.abs(samples[48 * to_ms :]).max() <= RIPPLE
    for stream in studio.manifest(session).streams:
        [gap] = stream.gaps
        assert (gap.start_samples, gap.length_samples, gap.cause) == (
            48 * from_ms,
            48 * (to_ms - from_ms),
            "paused",
        )


def test_an_estimate_of_how_it_sounds_does_not_hang_on_the_recordings_rate(studio: Studio) -> None:
    for name, other in (("narrow", PCMA), ("wide", FULL)):
        session = studio.session(name)
        lost = range(5, 150, 20)
        studio.voice(session, f"{name}/1", first_ms=0, packets=150, lost=lost, side_rank=0, party="a")
        studio.voice(session, f"{name}/2", first_ms=0, packets=150, codec=other, side_rank=1, party="b")
        studio.end(session, ms=3000)
    studio.run(5500)
    narrow, wide = (studio.manifest(name).streams[0] for name in ("narrow", "wide"))
    assert studio.manifest("wide").sample_rate_hz == 48_000
    assert wide.packets_lost == narrow.packets_lost == 8
    assert wide.quality.mos_x100 == narrow.quality.mos_x100 > 200
