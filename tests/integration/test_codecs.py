"""Codecs over real SIP and RTP: recorded is what a decoder of the codec gives for the packets, in place."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from recorderd.record.decoding import make_decoder
from tests.support import g711_reference
from tests.support.codec_calls import Format, PacketStream, codec_call, offer, send_packets
from tests.support.codec_libraries import I16
from tests.support.codec_material import Material, all_materials
from tests.support.house import House, Recorded
from tests.support.programs import Program
from tests.support.sip_client import Call, SipClient

MATERIALS = {material.name: material for material in all_materials()}
PCMU = Format(payload_type=0, rtpmap="PCMU/8000")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Program]]:
    with House(tmp_path_factory.mktemp("codecs")) as house:
        yield house, house.recorder()


def format_of(material: Material) -> Format:
    codec = material.codec
    return Format(payload_type=codec.payload_type, rtpmap=material.rtpmap, fmtp=codec.fmtp)


def add_all(stream: PacketStream, material: Material, *, leave_out: frozenset[int] = frozenset()) -> None:
    for number, payload in enumerate(material.packets):
        stream.add(
            payload,
            payload_type=material.codec.payload_type,
            ticks=material.packet_ticks,
            clock_rate_hz=material.codec.clock_rate_hz,
        )
        if number in leave_out:
            stream.waiting.pop()


def decoded(material: Material, *, leave_out: frozenset[int] = frozenset()) -> I16:
    """Decode with digital silence for each packet that is left out."""
    decoder = make_decoder(material.codec)
    length = material.packet_ticks * material.codec.sample_rate_hz // material.codec.clock_rate_hz
    return np.concatenate(
        [
            np.zeros(length, dtype=np.int16) if number in leave_out else decoder.decode(payload).samples
            for number, payload in enumerate(material.packets)
        ]
    )


def sealed(house: House, program: Program, calls: list[Call]) -> dict[str, Recorded]:
    """End the calls and open their recordings, by the caller's number."""
    before = program.text().count("recording_sealed")
    assert [call.bye().code for call in calls] == [200] * len(calls)
    ids = house.wait_sealed(program, before + len(calls))[before:]
    found = [house.sealed(recording_id) for recording_id in ids]
    return {recorded.manifest["call"]["call_id"]: recorded for recorded in found}


def test_every_codec_is_recorded_to_the_sample(house: tuple[House, Program]) -> None:
    """All at once, a call each; one packet in the middle of each does not come."""
    lost = frozenset({40})
    invited_s, calls = dict[str, float](), dict[str, Call]()
    with SipClient(server=house[0].server) as client:
        for name, material in MATERIALS.items():
            invited_s[name] = time.monotonic()
            calls[name] = codec_call(client, [[format_of(material)]], call_id=name)
        assert {name: call.response.code for name, call in calls.items() if call.response} == dict.fromkeys(
            MATERIALS, 200
        )
        streams = [PacketStream(port=call.lines[0].port) for call in calls.values()]
        for stream, material in zip(streams, MATERIALS.values(), strict=True):
            add_all(stream, material, leave_out=lost)
        begun_s = send_packets(streams)
        recordings = sealed(*house, list(calls.values()))
    for name, material in MATERIALS.items():
        samples, rate_hz = recordings[name].samples()
        (entry,) = recordings[name].streams()
        wanted, start = decoded(material, leave_out=lost), entry["first_sample"]
        assert rate_hz == material.codec.sample_rate_hz, name
        assert entry["encoding"] == material.codec.encoding.value
        assert np.array_equal(samples[start : start + wanted.size, 0], wanted), name
        assert not samples[:start].any() and not samples[start + wanted.size :].any(), name
        silent_s = begun_s - invited_s[name]  # the calls begin one after the other, and then talk together
        assert entry["packets_lost"] == 1 and start < (silent_s + 0.25) * rate_hz, name


def test_a_client_may_change_the_codec_at_any_packet(house: tuple[House, Program]) -> None:
    """A second of G.722, then PCMU, then G.722 again, without a word; the rate stays that of the best."""
    wide = MATERIALS["g722"]
    octets = np.random.default_rng(2).integers(0, 256, (25, 160), dtype=np.uint8)
    with SipClient(server=house[0].server) as client:
        call = codec_call(client, [[format_of(wide), PCMU]], call_id="change")
        assert [line.payload_types for line in call.lines] == [(9, 0)]
        stream = PacketStream(port=call.lines[0].port)
        for payload in wide.packets[:50]:
            stream.add(payload, payload_type=9, ticks=160, clock_rate_hz=8000)
        for row in octets:
            stream.add(row.tobytes(), payload_type=0, ticks=160, clock_rate_hz=8000)
        for payload in wide.packets[:25]:
            stream.add(payload, payload_type=9, ticks=160, clock_rate_hz=8000)
        send_packets([stream])
        (recorded,) = sealed(*house, [call]).values()
    samples, rate_hz = recorded.samples()
    (entry,) = recorded.streams()
    start, wanted = entry["first_sample"], decoded(wide)
    assert rate_hz == 16_000 and entry["packets_lost"] == 0
    assert np.array_equal(samples[start : start + 16_000, 0], wanted[:16_000])
    last = start + 16_000 + 8000  # a decoder of its own: the encoder, too, has begun anew
    assert np.array_equal(samples[last : last + 8000, 0], wanted[:8000])
    between = samples[start + 16_000 : last : 2, 0].astype(float)
    reference = g711_reference.decode(octets.tobytes(), law="PCMU").astype(float)
    inner = slice(100, -100)
    assert np.corrcoef(between[inner], reference[inner])[0, 1] > 0.9


def test_streams_of_one_session_have_rates_of_their_own(house: tuple[House, Program]) -> None:
    """Opus beside GSM: recorded at 48 kHz, Opus to the sample, GSM resampled and at its time."""
    best, narrow = MATERIALS["opus"], MATERIALS["gsm"]
    with SipClient(server=house[0].server) as client:
        call = codec_call(client, [[format_of(best)], [format_of(narrow)]], call_id="rates")
        assert [line.port > 0 for line in call.lines] == [True, True]
        streams = [PacketStream(port=line.port) for line in call.lines]
        for stream, material in zip(streams, (best, narrow), strict=True):
            add_all(stream, material)
        send_packets(streams)
        (recorded,) = sealed(*house, [call]).values()
    samples, rate_hz = recorded.samples()
    entries = recorded.streams()
    assert rate_hz == 48_000
    start, wanted = entries[0]["first_sample"], decoded(best)
    assert np.array_equal(samples[start : start + wanted.size, 0], wanted)
    start, wanted = entries[1]["first_sample"], decoded(narrow).astype(float)
    every_sixth = samples[start : start + 6 * wanted.size : 6, 1].astype(float)
    inner = slice(200, -200)
    assert np.abs(every_sixth - wanted)[inner].max() < 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["amr-aligned", "ilbc20", "opus"])
def test_a_reinvite_holds_and_resumes_a_line_of_any_codec(house: tuple[House, Program], name: str) -> None:
    formats = [[format_of(MATERIALS[name])]]
    with SipClient(server=house[0].server) as client:
        call = codec_call(client, formats, call_id=f"hold-{name}")
        assert call.response is not None and call.response.code == 200
        port = call.lines[0].port
        for direction, answered in (
            ("inactive", "inactive"),
            ("recvonly", "inactive"),
            ("sendonly", "recvonly"),
        ):
            sdp = offer(client.address, formats, direction=direction)
            assert call.invite(sdp, "application/sdp").code == 200
            assert [(line.port, line.direction) for line in call.lines] == [(port, answered)]
        sealed(*house, [call])
