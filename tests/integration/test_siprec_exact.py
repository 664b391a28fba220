"""SIPREC over real SIP with known payload: each recorded sample is the decoded sample that was sent."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import g711_reference
from tests.support.house import House, Recorded
from tests.support.programs import Program
from tests.support.rtp_sender import (
    NTP_EPOCH_S,
    REPORT_SLOTS,
    RtpStream,
    network_script,
    send_streams,
)
from tests.support.sip_client import Call, SipClient, siprec_call

PACKETS = 150  # three seconds
TYPES = {"PCMU": 0, "PCMA": 8, "L16/16000": 96}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Program]]:
    with House(tmp_path_factory.mktemp("exact")) as house:
        yield house, house.recorder()


def _streams(call: Call, codecs: tuple[str, ...], **how: Any) -> list[RtpStream]:
    streams = []
    for number, (line, codec) in enumerate(zip(call.lines, codecs, strict=True)):
        wide = codec.startswith("L16")
        octets = 640 if wide else 160
        streams.append(
            RtpStream(
                port=line.port,
                payload_type=TYPES[codec],
                payload=os.urandom(octets * PACKETS),
                octets_per_packet=octets,
                ticks_per_packet=320 if wide else 160,
                script=network_script(PACKETS, seed=number, **how),
            )
        )
    return streams


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """What was sent into a call, and how long after its INVITE that began: a busy machine takes its time."""

    streams: list[RtpStream]
    after_s: float


def _speak(call: Call, streams: list[RtpStream], *, invited_mono_s: float) -> Spoken:
    sent = send_streams(streams)
    assert call.bye().code == 200
    return Spoken(streams=streams, after_s=sent.started_mono_s - invited_mono_s)


def _record(
    house: House, program: Program, codecs: tuple[str, ...], *, transport: str = "udp", **how: Any
) -> tuple[Recorded, Spoken]:
    before = program.text().count("recording_sealed")
    with SipClient(server=house.server, transport=transport) as client:
        invited_mono_s = time.monotonic()
        call = siprec_call(client, codecs=codecs)
        assert call.response is not None and call.response.code == 200
        spoken = _speak(call, _streams(call, codecs, **how), invited_mono_s=invited_mono_s)
    recording_id = house.wait_sealed(program, before + 1)[-1]
    return house.sealed(recording_id), spoken


def _decoded(stream: RtpStream, codec: str) -> np.ndarray:
    if codec.startswith("L16"):
        return np.frombuffer(stream.payload, dtype=">i2").astype(np.int16)
    return g711_reference.decode(stream.payload, law=codec)


def _check_exact(recorded: Recorded, spoken: Spoken, codecs: tuple[str, ...]) -> None:
    samples, rate_hz = recorded.samples()
    entries = recorded.streams()
    assert samples.shape[1] == len(spoken.streams)
    for channel, (stream, codec, entry) in enumerate(zip(spoken.streams, codecs, entries, strict=True)):
        assert stream.script is not None
        expected = np.zeros(samples.shape[0], dtype=np.int16)
        start, decoded = entry["first_sample"], _decoded(stream, codec)
        expected[start : start + decoded.size] = decoded
        for number in stream.script.lost:
            at = start + number * stream.ticks_per_packet
            expected[at : at + stream.ticks_per_packet] = 0
        assert np.array_equal(samples[:, channel], expected), f"channel {channel} differs"
        lost = [gap for gap in entry["gaps"] if gap["cause"] == "network_loss"]
        assert sum(gap["length_samples"] for gap in lost) == len(stream.script.lost) * stream.ticks_per_packet
        assert entry["packets_lost"] == len(stream.script.lost)
        assert entry["packets_received"] == PACKETS - len(stream.script.lost)
        assert entry["packets_late"] == entry["packets_foreign"] == 0
        assert (
            start < (0.25 + spoken.after_s) * rate_hz
        )  # where it was sent, give or take what reordering moved


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    "codecs", [("PCMA", "PCMA"), ("PCMU", "PCMA"), ("L16/16000", "L16/16000"), ("PCMU",)]
)
def test_every_sample_is_the_decoded_sample_that_was_sent(
    house: tuple[House, Program], codecs: tuple[str, ...], transport: str
) -> None:
    recorded, spoken = _record(*house, codecs, transport=transport)
    _check_exact(recorded, spoken, codecs)
    assert all(entry["packets_duplicate"] == 0 for entry in recorded.manifest["streams"])
    _samples, rate_hz = recorded.samples()
    firsts = [entry["first_sample"] for entry in recorded.manifest["streams"]]
    assert max(firsts) - min(firsts) < 0.020 * rate_hz  # both began in the same instant


@pytest.mark.parametrize("codecs", [("PCMA", "PCMU"), ("L16/16000",)])
def test_loss_reordering_and_duplicates_silence_exactly_what_was_lost(
    house: tuple[House, Program], codecs: tuple[str, ...]
) -> None:
    recorded, spoken = _record(*house, codecs, loss=0.05, reorder_packets=10, duplicate=0.05)
    assert all(stream.script is not None and stream.script.lost for stream in spoken.streams)
    _check_exact(recorded, spoken, codecs)
    assert all(entry["packets_duplicate"] > 0 for entry in recorded.manifest["streams"])


def test_what_senders_report_of_their_clocks_stands_in_the_manifest(house: tuple[House, Program]) -> None:
    codecs, (program_house, program) = ("PCMA", "PCMA"), house
    before = program.text().count("recording_sealed")
    with SipClient(server=program_house.server) as client:
        invited_mono_s = time.monotonic()
        call = siprec_call(client, codecs=codecs)
        slow, silly = streams = _streams(call, codecs)
        slow.wall_s, slow.reported_ppm = time.time() + NTP_EPOCH_S - 2.5, 100.0
        silly.wall_s = 0.0
        spoken = _speak(call, streams, invited_mono_s=invited_mono_s)
    recorded = program_house.sealed(program_house.wait_sealed(program, before + 1)[-1])
    _check_exact(recorded, spoken, codecs)
    told, nothing = (entry["clock"] for entry in recorded.streams())
    assert told["reports"] == PACKETS // REPORT_SLOTS
    assert abs(told["reported_skew_ppb"] - 100_000) <= 5_000
    late_us = 100_000 + spoken.after_s * 1e6  # by the way to us, and by our start
    assert -2_500_000 - late_us < told["wall_offset_us"] < -2_499_000
    assert (nothing["reports"], nothing["reported_skew_ppb"], nothing["wall_offset_us"]) == (0, 0, 0)
    assert recorded.manifest["streams"][1]["packets_malformed"] == 0


def test_a_recording_knows_who_was_on_which_channel_and_keeps_the_offer(
    house: tuple[House, Program],
) -> None:
    recorded, _ = _record(*house, ("PCMA", "PCMA"))
    manifest = recorded.manifest
    assert (manifest["call"]["caller"], manifest["call"]["callee"]) == ("+442079460101", "2002")
    numbers = {entry["participant_id"]: entry["number"] for entry in manifest["participants"]}
    by_channel = {entry["channel"]: entry["participant_ids"] for entry in manifest["streams"]}
    assert [numbers[by_channel[channel][0]] for channel in (0, 1)] == ["+442079460101", "2002"]
    offer = next(recorded.folder.glob("*.offer-1.sip")).read_bytes()
    assert offer.startswith(b"INVITE sip:recorder@")
    assert b"<recording xmlns=" in offer
    assert {entry["role"] for entry in manifest["files"]} == {"audio", "offer"}


def test_the_answer_is_receive_only_and_echoes_labels(
    house: tuple[House, Program],
) -> None:
    with SipClient(server=house[0].server) as client:
        call = siprec_call(client, codecs=("PCMA", "PCMU"), labels=("left-17", "right"))
        assert [line.label for line in call.lines] == ["left-17", "right"]
        assert {line.direction for line in call.lines} == {"recvonly"}
        assert call.response is not None
        assert "+sip.srs" in call.response.header("Contact")
        assert call.response.header("Content-Type") == "application/sdp"
        assert call.bye().code == 200


def test_options_tells_health(house: tuple[House, Program], tmp_path: Path) -> None:
    with SipClient(server=house[0].server) as client:
        assert client.options().code == 200
