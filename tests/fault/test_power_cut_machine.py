"""The power of the machine goes while calls run, with a real process and a real file system."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support import g711_reference
from tests.support.house import House, run_program
from tests.support.lossy_disk import lossy_disk
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import SipClient, siprec_call

CALLS = 4
PACKETS = 260
MB = 1 << 20
SLOW_DISK_S = 0.5  # what a loaded machine takes beyond the second that is promised


@pytest.mark.timeout(120)
def test_a_cut_leaves_all_but_the_last_second_of_every_call(tmp_path: Path) -> None:
    changes = {"[spool]\n": "[spool]\nreserve_bytes = 0\n", "[evidence]": "[evidence]\ncheckpoint_s = 1"}
    with (
        House(tmp_path / "house", changes=changes) as house,
        lossy_disk(house.folder / "spool", size_bytes=64 * MB) as disk,
    ):
        recorder = house.recorder()
        with SipClient(server=house.server) as client:
            calls = [siprec_call(client) for _ in range(CALLS)]
            streams = [
                [
                    RtpStream(port=line.port, payload_type=8, payload=os.urandom(160 * PACKETS))
                    for line in call.lines
                ]
                for call in calls
            ]
            cut_mono_s: list[float] = []

            def cut() -> None:
                cut_mono_s.append(time.monotonic())
                recorder.kill()
                disk.cut()

            timer = threading.Timer(4.7, cut)
            timer.start()
            sent = send_streams([stream for both in streams for stream in both])
            timer.join()
        went_on_s = cut_mono_s[0] - sent.started_mono_s
        recorder = house.recorder()
        ready = sorted((house.folder / "spool" / "ready").iterdir())
        assert len(ready) == CALLS
        assert recorder.text().count("draft_extended") == CALLS
        voices = {
            stream.payload: g711_reference.decode(stream.payload, law="PCMA")
            for both in streams
            for stream in both
        }
        for folder in ready:
            recorded = house.sealed(folder.name)
            assert recorded.manifest["recovered"] and recorded.manifest["end_cause"] == "crash"
            assert run_program("recorderctl", "verify", folder).returncode == 0
            samples, rate_hz = recorded.samples()
            for channel, entry in zip(samples.T, recorded.streams(), strict=True):
                heard = channel[entry["first_sample"] :]
                voice = next(voice for voice in voices.values() if np.array_equal(voice[:800], heard[:800]))
                end = max(at for at in range(0, heard.size, 80) if heard[at]) + 1
                assert np.array_equal(heard[:end], voice[:end])
                assert end / rate_hz > went_on_s - 1 - SLOW_DISK_S
