"""Decoders: each packet gives the samples of its codec's own decoder, as many as it lasts, in place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.core.errors import PayloadFormatError
from recorderd.core.messages import Codec, Encoding
from recorderd.record.decoding import delay_samples, make_decoder
from recorderd.wire.payloads import duration_ticks
from tests.support.codec_libraries import (
    G729,
    I16,
    OPUS_AUDIO,
    OPUS_SET_DTX,
    FfmpegEncoder,
    Opus,
    Speex,
    amr_payload,
)
from tests.support.codec_material import Material, all_materials, chopped, voice

MATERIALS = {material.name: material for material in all_materials()}
NAMES = sorted(MATERIALS)
EVERY_CODEC = [material.codec for material in all_materials()] + [
    Codec(payload_type=0, encoding=Encoding.PCMU, clock_rate_hz=8000),
    Codec(payload_type=8, encoding=Encoding.PCMA, clock_rate_hz=8000),
    Codec(payload_type=96, encoding=Encoding.L16, clock_rate_hz=16_000, channels=2),
]


def decoded(material: Material, packets: tuple[bytes, ...] | None = None) -> I16:
    decoder = make_decoder(material.codec)
    return np.concatenate([decoder.decode(packet).samples for packet in packets or material.packets])


def snr_db(wanted: I16, found: I16) -> float:
    error = (wanted.astype(float) - found) ** 2
    return float(10 * np.log10((wanted.astype(float) ** 2).sum() / max(error.sum(), 1)))


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_those_of_another_decoder_of_the_codec(name: str) -> None:
    material = MATERIALS[name]
    found = decoded(material)
    assert found.shape == material.reference.shape
    if material.tolerance >= 0:
        difference = np.abs(found.astype(int) - material.reference)
        assert difference.max() <= material.tolerance
        # A sample is off here and there at most, but where one decoder computes in floating point.
        assert material.codec.encoding is Encoding.SPEEX or np.count_nonzero(difference) < found.size / 1000
    else:  # these decoders are allowed to differ in what they do after decoding
        assert snr_db(material.reference, found) > 10
        powers = [np.abs(np.fft.rfft(one.astype(float))) for one in (found, material.reference)]
        bands = [power[: power.size // 8 * 8].reshape(8, -1).sum(axis=1) for power in powers]
        strong = bands[1] > bands[1].max() / 100
        assert np.all(np.abs(20 * np.log10(bands[0] / bands[1]))[strong] < 1.0)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("ilbc")])
def test_speech_stands_at_its_packet_but_for_the_delay_that_is_stated(name: str) -> None:
    material = MATERIALS[name]
    found, delay = decoded(material).astype(float), delay_samples(material.codec)
    spoken = material.spoken[: found.size].astype(float)
    reach, end = 400, found.size - 1000
    scores = {lag: float(spoken[500:end] @ found[500 + lag : end + lag]) for lag in range(-100, reach)}
    assert abs(max(scores, key=scores.__getitem__) - delay) <= material.codec.sample_rate_hz // 8000 * 2


@pytest.mark.parametrize("name", NAMES)
def test_a_packet_gives_as_many_samples_as_it_lasts(name: str) -> None:
    material = MATERIALS[name]
    decoder = make_decoder(material.codec)
    per_tick = material.codec.sample_rate_hz // material.codec.clock_rate_hz
    for packet in material.packets:
        assert duration_ticks(packet, codec=material.codec) == material.packet_ticks
        assert decoder.decode(packet).samples.shape == (material.packet_ticks * per_tick,)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_refused_changes_nothing_of_what_follows(name: str) -> None:
    material = MATERIALS[name]
    decoder = make_decoder(material.codec)
    found = []
    for packet in material.packets[:20]:
        with pytest.raises(PayloadFormatError):
            decoder.decode(b"")
        found.append(decoder.decode(packet).samples)
    assert np.array_equal(np.concatenate(found), decoded(material, material.packets[:20]))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(EVERY_CODEC), st.lists(st.binary(max_size=200), max_size=4))
def test_any_payload_lasts_as_long_as_it_says_or_is_refused(codec: Codec, payloads: list[bytes]) -> None:
    decoder = make_decoder(codec)
    for payload in payloads:
        try:
            samples = decoder.decode(payload).samples
        except PayloadFormatError:
            continue
        ticks = duration_ticks(payload, codec=codec)
        assert samples.shape == (ticks * codec.sample_rate_hz // codec.clock_rate_hz,)


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_recovers_from_a_packet_of_chance(name: str) -> None:
    material = MATERIALS[name]
    decoder, chance = make_decoder(material.codec), np.random.default_rng(3)
    for packet in material.packets[:30]:
        decoder.decode(packet)
    for _ in range(20):
        try:
            decoder.decode(chance.bytes(len(material.packets[0])))
        except PayloadFormatError:
            continue
    found = np.concatenate([decoder.decode(packet).samples for packet in material.packets[30:]])
    wanted = decoded(material)[-found.size :]
    assert snr_db(wanted[found.size // 2 :], found[found.size // 2 :]) > 8


def test_g729_silence_is_silent_and_told() -> None:
    codec = MATERIALS["g729"].codec
    encoder = G729(annex_b=True)
    loud = [encoder.encode(part) for part in chopped(voice(8000), 80)][:40]
    quiet = [encoder.encode(np.zeros(80, dtype=np.int16)) for _ in range(300)]
    sid = next(frame for frame in quiet if len(frame) == 2)
    decoder = make_decoder(codec)
    for frame in loud:
        decoder.decode(frame)
    both = decoder.decode(loud[20] + sid)
    assert both.silent == ((80, 160),)
    assert not both.samples[80:].any() and both.samples[:80].any()
    assert not both.is_silence and decoder.decode(sid).is_silence
    assert duration_ticks(loud[20] + sid, codec=codec) == 160
    assert decoder.decode(loud[21]).samples.any()


def test_amr_silence_is_silent_and_told() -> None:
    codec = MATERIALS["amr-aligned"].codec
    decoder = make_decoder(codec)
    frame = FfmpegEncoder("libopencore_amrnb", rate_hz=8000, bit_rate=7950).encode(voice(8000)[4000:4160])
    sid, nothing = bytes([8 << 3 | 4]) + bytes(5), bytes([15 << 3 | 4])
    packet = amr_payload([frame, sid, nothing, frame], octet_aligned=True)
    found = decoder.decode(packet)
    assert found.silent == ((160, 480),) and found.samples.shape == (640,)
    assert not found.samples[160:480].any() and found.samples[480:].any()


def test_opus_pauses_are_silent_and_told() -> None:
    encoder = Opus()
    encoder.set(OPUS_SET_DTX, 1)
    parts = [*chopped(voice(48_000), 960)[:20], *[np.zeros(960, dtype=np.int16)] * 40]
    packets = [encoder.encode(part) for part in parts]
    assert min(map(len, packets)) <= 2
    decoder = make_decoder(MATERIALS["opus"].codec)
    for packet in packets:
        found = decoder.decode(packet)
        assert found.samples.shape == (960,)
        assert found.is_silence == (len(packet) <= 2)
        assert not (found.is_silence and found.samples.any())


def test_an_empty_ilbc_frame_is_silent_and_told() -> None:
    material = MATERIALS["ilbc20"]
    decoder = make_decoder(material.codec)
    frame = material.packets[0]
    found = decoder.decode(frame + frame[:-1] + bytes([frame[-1] | 1]))
    assert found.silent == ((160, 320),) and not found.samples[160:].any() and found.samples[:160].any()


def test_speex_that_transmits_nothing_is_silent_and_told() -> None:
    decoder = make_decoder(MATERIALS["speex"].codec)
    encoder = Speex(dtx=True)
    packets = [encoder.encode(np.zeros(160, dtype=np.int16)) for _ in range(60)]
    pauses = [decoder.decode(packet) for packet in packets]
    assert pauses[-1].is_silence and not pauses[-1].samples.any()


@pytest.mark.parametrize("frame_samples", [120, 240, 480, 960, 1920, 2880])
def test_opus_frames_of_every_length_last_as_long_as_they_were_made(frame_samples: int) -> None:
    encoder, reference = Opus(application=OPUS_AUDIO), Opus()
    decoder = make_decoder(MATERIALS["opus"].codec)
    for part in chopped(voice(48_000)[:28_800], frame_samples):
        packet = encoder.encode(part)
        found = decoder.decode(packet).samples
        assert found.shape == (frame_samples,)
        assert np.abs(found.astype(int) - reference.decode(packet)).max() <= 1


def test_stereo_opus_holds_both_sides_in_one_channel() -> None:
    time_s = np.arange(48_000) / 48_000
    left, right = (
        np.where(part, 8000 * np.sin(2 * np.pi * hz * time_s), 0).astype(np.int16)
        for hz, part in ((440, time_s < 0.5), (2000, time_s >= 0.5))
    )
    encoder = Opus(channels=2, application=OPUS_AUDIO)
    both = np.stack([left, right], axis=1).reshape(-1)
    decoder = make_decoder(MATERIALS["opus-stereo"].codec)
    found = np.concatenate([decoder.decode(encoder.encode(part)).samples for part in chopped(both, 1920)])
    for start, hz in ((10_000, 440), (34_000, 2000)):
        spectrum = np.abs(np.fft.rfft(found[start : start + 4800] * np.hanning(4800))) / 1200
        assert int(spectrum.argmax()) * 10 == hz
        assert 3500 < spectrum.max() < 4500  # half of one side


@pytest.mark.parametrize("mode", [20, 30])
def test_ilbc_frames_of_the_other_mode_are_understood(mode: int) -> None:
    material = MATERIALS[f"ilbc{mode}"]
    other = MATERIALS[f"ilbc{50 - mode}"].codec
    decoder = make_decoder(other)
    found = np.concatenate([decoder.decode(packet).samples for packet in material.packets])
    assert np.array_equal(found, material.reference)


def test_pcm_decodes_without_memory() -> None:
    law = make_decoder(EVERY_CODEC[-3])
    assert law.decode(bytes([0xFF, 0x80])).samples.tolist() == [0, 32_124]
    pairs = make_decoder(EVERY_CODEC[-1])
    assert pairs.decode(bytes([0x10, 0, 0x20, 0])).samples.tolist() == [0x1800]
