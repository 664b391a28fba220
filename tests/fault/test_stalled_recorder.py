"""A recorder that gets no processor for many seconds: the kernel keeps what came, nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.integration.test_codecs import MATERIALS, add_all, decoded, format_of, sealed
from tests.integration.test_srtp import check_exact, srtp_call, srtp_stream
from tests.support.codec_calls import PacketStream, codec_call, send_packets
from tests.support.house import House
from tests.support.load_run import LoadRun, judge, roomy, wait_all_sealed
from tests.support.programs import Program
from tests.support.rtp_sender import send_streams
from tests.support.sip_client import SipClient
from tests.support.srtp_sender import SrtpSender

CALLS = int(os.environ.get("STALL_CALLS", "30"))
PER_SECOND = 15
SECONDS = 24 + CALLS // PER_SECOND  # all are up when it begins, and for a while after it
ENDING = SECONDS - 8  # half of them end while it lasts, the others while the recorder catches up


@pytest.mark.parametrize(
    ("stalls_s", "pause_ms", "seconds"),
    [  # the ring holds four seconds, of which the recording needs two
        ((15.0,), 4500, SECONDS),
        ((4.0, 6.0), 0, SECONDS),
        ((15.0,), 0, ENDING),
    ],
    ids=["once, and people pause", "again while it catches up", "and calls end"],
)
def test_calls_lose_nothing_while_the_recorder_gets_no_turn(
    tmp_path: Path, stalls_s: Sequence[float], pause_ms: int, seconds: int
) -> None:
    with House(tmp_path) as house:
        recorder = roomy(house).recorder()
        with LoadRun(
            house.server, calls=CALLS, seconds=seconds, per_second=PER_SECOND, jitter_ms=40, pause_ms=pause_ms
        ) as run:
            run.wait_full()
            time.sleep(3)
            for stall_s in stalls_s:
                recorder.process.send_signal(signal.SIGSTOP)
                time.sleep(stall_s)
                recorder.process.send_signal(signal.SIGCONT)
                time.sleep(0.4)
            run.report()
            wait_all_sealed(house, CALLS)
            verdict = judge(run, recorder, house.sealed)
        assert verdict.recordings == CALLS
        assert verdict.problems == []
        assert "tap_behind" in recorder.text()


def _stall(recorder: Program, *, after_s: float, for_s: float) -> None:
    time.sleep(after_s)
    recorder.process.send_signal(signal.SIGSTOP)
    time.sleep(for_s)
    recorder.process.send_signal(signal.SIGCONT)


def test_neither_frames_nor_encrypted_packets_are_lost_in_a_stall(tmp_path: Path) -> None:
    """Every codec that there is, in a call of its own, and one call under SRTP, all at once."""
    materials = {name: replace(one, packets=one.packets * 6) for name, one in MATERIALS.items()}
    senders = [SrtpSender(suite=suite) for suite in ("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM")]
    with House(tmp_path) as house, SipClient(server=house.server) as client:
        recorder = house.recorder()
        calls = {
            name: codec_call(client, [[format_of(material)]], call_id=name)
            for name, material in materials.items()
        }
        secret = srtp_call(client, [[sender.crypto()] for sender in senders])
        framed = [PacketStream(port=call.lines[0].port) for call in calls.values()]
        for stream, material in zip(framed, materials.values(), strict=True):
            add_all(stream, material)
        encrypted = [
            srtp_stream(line.port, sender, packets=600, first_sequence=65_200)
            for line, sender in zip(secret.lines, senders, strict=True)
        ]
        stalling = threading.Thread(target=_stall, args=(recorder,), kwargs={"after_s": 2.0, "for_s": 7.0})
        stalling.start()
        with ThreadPoolExecutor(2) as pool:
            for sending in (pool.submit(send_packets, framed), pool.submit(send_streams, encrypted)):
                sending.result()
        stalling.join()
        recordings = sealed(house, recorder, [*calls.values(), secret])
    for name, material in materials.items():
        recorded = recordings.pop(name)
        samples, (entry,) = recorded.samples()[0], recorded.streams()
        wanted, start = decoded(material), entry["first_sample"]
        assert np.array_equal(samples[start : start + wanted.size, 0], wanted), name
        assert entry["packets_lost"] == 0, name
    check_exact(recordings.popitem()[1], encrypted)
    assert "tap_behind" in recorder.text()
