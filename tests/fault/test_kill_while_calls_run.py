"""SIGKILL while calls go on: each is sealed at the next start, and says how far it is proved."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from pathlib import Path

import pytest

from tests.support.house import House, run_program
from tests.support.programs import wait_until
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import SipClient, siprec_call

CALLS = 10
PACKETS = 250  # five seconds
PROVED_SAMPLES = 8000  # by each draft when the kill comes, or more


def _proved(draft: Path) -> int:
    """Say up to which sample the last checkpoint of a draft goes."""
    path, proved = draft / "journal.jsonl", 0
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        if '"checkpoint"' in line and line.endswith("\n"):
            proved = int(json.loads(line)["checkpoint"]["samples"])
    return proved


@pytest.mark.parametrize("seed", [1, 2])
def test_a_kill_leaves_drafts_that_are_sealed_and_proved_up_to_a_checkpoint(
    tmp_path: Path, seed: int
) -> None:
    changes = {"[evidence]": "[evidence]\ncheckpoint_s = 1"}
    with House(tmp_path, changes=changes) as house:
        recorder = house.recorder()
        with SipClient(server=house.server) as client:
            calls = [siprec_call(client) for _ in range(CALLS)]
            streams = [
                RtpStream(port=line.port, payload_type=8, payload=os.urandom(160 * PACKETS))
                for call in calls
                for line in call.lines
            ]
            sending = threading.Thread(target=send_streams, args=(streams,))
            sending.start()
            drafts = house.folder / "spool" / "drafts"
            wait_until(
                lambda: sum(_proved(draft) >= PROVED_SAMPLES for draft in drafts.iterdir()) == CALLS,
                what="a checkpoint of each",
                timeout_s=60,
            )
            time.sleep(random.Random(seed).uniform(0.0, 0.7))
            recorder.kill()
            sending.join()
        recorder = house.recorder()
        ready = sorted((house.folder / "spool" / "ready").iterdir())
        assert len(ready) == CALLS
        for folder in ready:
            recorded = house.sealed(folder.name)
            manifest = recorded.manifest
            assert manifest["recovered"] and manifest["end_cause"] == "crash"
            assert PROVED_SAMPLES <= manifest["proof"]["checked_samples"] <= manifest["duration_samples"]
            assert recorded.openssl_verifies(recorded.wav)
            assert run_program("recorderctl", "verify", folder).returncode == 0
