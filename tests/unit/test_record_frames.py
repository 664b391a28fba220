"""Whole packets at their place: windows join, gaps are named, a change of codec moves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from recorderd.core.messages import Codec, Encoding
from recorderd.record.decoding import make_decoder
from recorderd.record.frames import FrameReader, FramesRead
from tests.support.codec_libraries import G729, I16
from tests.support.codec_material import Material, all_materials, chopped, voice

MATERIALS = {material.name: material for material in all_materials()}
PCMU = Codec(payload_type=0, encoding=Encoding.PCMU, clock_rate_hz=8000)


@dataclass(frozen=True, kw_only=True)
class Packet:
    position_ticks: int
    payload_type: int
    payload: bytes


def packets_of(material: Material, *, start: int = 0) -> list[Packet]:
    return [
        Packet(
            position_ticks=start + number * material.packet_ticks,
            payload_type=material.codec.payload_type,
            payload=payload,
        )
        for number, payload in enumerate(material.packets)
    ]


def decoded(material: Material) -> I16:
    decoder = make_decoder(material.codec)
    return np.concatenate([decoder.decode(packet).samples for packet in material.packets])


def windows(
    reader: FrameReader, packets: Sequence[Packet], edges: Sequence[int], *, ahead_ticks: int = 0
) -> list[FramesRead]:
    """Read adjoining windows, each with the packets that begin in it (or a bit later), as the tap does."""
    behind = [edges[0], *(edge + ahead_ticks for edge in edges[1:])]
    given = dict(zip(edges, pairwise(behind), strict=False))
    return [
        reader.read(
            [packet for packet in packets if given[low][0] <= packet.position_ticks < given[low][1]],
            start_ticks=low,
            end_ticks=high,
        )
        for low, high in pairwise(edges)
    ]


def joined(parts: Sequence[FramesRead]) -> I16:
    return np.concatenate([part.samples for part in parts])


@pytest.mark.parametrize("name", sorted(MATERIALS))
def test_windows_cut_anywhere_join_to_the_stream(name: str) -> None:
    material = MATERIALS[name]
    rate_hz = material.codec.clock_rate_hz
    end = len(material.packets) * material.packet_ticks
    chance = np.random.default_rng(4)
    edges = [0, *sorted(chance.integers(1, end, 12).tolist()), end]
    reader = FrameReader([material.codec], position_rate_hz=rate_hz)
    parts = windows(reader, packets_of(material), edges)
    assert reader.rate_hz == material.codec.sample_rate_hz
    per_tick = reader.rate_hz // rate_hz
    assert [part.samples.size for part in parts] == [(high - low) * per_tick for low, high in pairwise(edges)]
    assert np.array_equal(joined(parts), decoded(material))
    assert all(part.absent == () and part.refused == 0 for part in parts)


def test_what_did_not_come_is_silent_and_named() -> None:
    material = MATERIALS["g722"]
    lost = {3, 4, 9}
    packets = [packet for number, packet in enumerate(packets_of(material)[:20]) if number not in lost]
    part = FrameReader([material.codec], position_rate_hz=8000).read(packets, start_ticks=0, end_ticks=3200)
    assert part.absent == ((960, 1600), (2880, 3200))
    assert all(not part.samples[low:high].any() for low, high in part.absent)
    decoder = make_decoder(material.codec)  # which goes on with the next packet
    wanted = np.concatenate([decoder.decode(packet.payload).samples for packet in packets])
    assert np.array_equal(np.delete(part.samples, [*range(960, 1600), *range(2880, 3200)]), wanted)


def test_the_order_in_which_packets_are_given_does_not_matter() -> None:
    material = MATERIALS["gsm"]
    packets = packets_of(material)[:20]
    part = FrameReader([material.codec], position_rate_hz=8000).read(
        packets[::-1], start_ticks=0, end_ticks=3200
    )
    assert np.array_equal(part.samples, decoded(material)[:3200])


def test_a_packet_that_is_no_payload_is_counted_and_absent() -> None:
    material = MATERIALS["gsm"]
    packets = packets_of(material)[:5]
    packets[2] = Packet(position_ticks=320, payload_type=3, payload=b"nonsense")
    packets[3] = Packet(position_ticks=480, payload_type=77, payload=packets[3].payload)
    part = FrameReader([material.codec], position_rate_hz=8000).read(packets, start_ticks=0, end_ticks=800)
    assert (part.refused, part.absent) == (2, ((320, 640),))


def test_silence_that_the_sender_stated_is_told_apart_from_loss() -> None:
    encoder = G729(annex_b=True)
    loud = [encoder.encode(part) for part in chopped(voice(8000), 80)][20]
    payloads = {0: loud + loud, 160: loud + b"\x12\x34", 480: loud + loud}
    reader = FrameReader([MATERIALS["g729"].codec], position_rate_hz=8000)
    part = reader.read(
        [Packet(position_ticks=at, payload_type=18, payload=payload) for at, payload in payloads.items()],
        start_ticks=0,
        end_ticks=640,
    )
    assert (part.silent, part.absent) == (((240, 320),), ((320, 480),))


def test_what_is_skipped_is_neither_heard_nor_in_the_way() -> None:
    material = MATERIALS["opus"]
    packets, wanted = packets_of(material), decoded(material)
    reader = FrameReader([material.codec], position_rate_hz=48_000)
    first, second = 10_000, 30_000  # within packets
    before = windows(reader, packets, [0, first])
    reader.skip(
        [packet for packet in packets if first <= packet.position_ticks < second],
        start_ticks=first,
        end_ticks=second,
    )
    after = windows(reader, packets, [second, 96_000])
    assert np.array_equal(joined(before), wanted[:first])
    assert after[0].absent == ()  # the packet that reaches out of the pause is heard from its end on
    difference = np.abs(joined(after)[48_000:].astype(int) - wanted[second + 48_000 :])
    assert difference.max() <= np.abs(wanted.astype(int)).max() / 50  # the decoder finds its way again


def test_a_change_of_codec_and_of_clock_moves_nothing() -> None:
    """PCMU, then G.722, then Opus; each part lies where its positions say, at the best codec's rate."""
    wide, best = MATERIALS["g722"], MATERIALS["opus"]
    tone = np.tile(np.array([0xFF, 0x90, 0xFF, 0x10] * 40, dtype=np.uint8), 1).tobytes()  # 2 kHz
    packets = [Packet(position_ticks=at * 960, payload_type=0, payload=tone) for at in range(25)]
    packets += [
        Packet(position_ticks=24_000 + at * 960, payload_type=9, payload=payload)
        for at, payload in enumerate(wide.packets[:25])
    ]
    packets += packets_of(best, start=48_000)[:25]
    reader = FrameReader([PCMU, wide.codec, best.codec], position_rate_hz=48_000)
    assert reader.rate_hz == 48_000
    found = joined(windows(reader, packets, [0, 11_111, 24_000, 39_000, 50_000, 72_000]))
    assert np.array_equal(found[48_000:], decoded(best)[:24_000])
    spectrum = np.abs(np.fft.rfft(found[2400:21_600] * np.hanning(19_200)))
    assert int(spectrum.argmax()) * 48_000 // 19_200 == 2000
    middle, reference = found[24_000:48_000:3].astype(float), decoded(wide)[:8000].astype(float)
    inner = slice(200, -200)
    assert np.abs(middle - reference)[inner].max() < 0.02 * np.abs(reference).max()


@pytest.mark.parametrize(("ahead_ticks", "part_of_full"), [(160, 1000), (0, 16)])
def test_resampled_windows_have_no_seams(ahead_ticks: int, part_of_full: int) -> None:
    """With the packets of the next 20 ms nobody can tell; without them the edge is guessed."""
    material = MATERIALS["gsm"]
    codecs = [material.codec, MATERIALS["g722"].codec]
    packets = packets_of(material)
    whole = joined(windows(FrameReader(codecs, position_rate_hz=8000), packets, [0, 16_000]))
    edges = [0, 1600, 3333, 4800, 9999, 16_000]
    parts = windows(FrameReader(codecs, position_rate_hz=8000), packets, edges, ahead_ticks=ahead_ticks)
    assert whole.size == joined(parts).size == 32_000
    difference = np.abs(whole.astype(int) - joined(parts)).max()
    assert difference < np.abs(whole.astype(int)).max() / part_of_full


def test_a_rate_that_was_given_holds_for_every_codec() -> None:
    material = MATERIALS["g722"]
    reader = FrameReader([material.codec], position_rate_hz=8000, rate_hz=8000)
    part = reader.read(packets_of(material)[:10], start_ticks=0, end_ticks=1600)
    assert part.samples.size == 1600 and part.absent == ()


def test_codecs_that_are_agreed_upon_later_are_known_from_then_on() -> None:
    material = MATERIALS["gsm"]
    reader = FrameReader([MATERIALS["g722"].codec], position_rate_hz=8000)
    packets = packets_of(material)
    assert reader.read(packets[:1], start_ticks=0, end_ticks=160).refused == 1
    reader.set_codecs([material.codec])
    assert reader.read(packets[1:2], start_ticks=160, end_ticks=320).absent == ()
