"""Many calls at once when the machine is shut down: what the recorder says it took, and what was kept."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.support.house import House
from tests.support.load_run import LoadRun, roomy, sealed_by_call, wait_all_sealed
from tests.support.load_traffic import Expectation, number_of, stream_number
from tests.support.ups import Nut

UPS_TOML = """
[power]
[[power.ups]]
name = "rack"
port = {port}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of the calls."""

    took_ms: int  # by the recorder's own word
    sealed: int
    whole: bool
    seconds_kept: tuple[float, float]  # of the shortest and the longest recording
    refusals: int  # of the load's calls that were still to come


def shut_down(folder: Path, *, calls: int, seconds: float, compared: int, per_second: float = 20.0) -> Ended:
    """Let calls talk for so long, then force a shutdown; compare every sample of some with what was sent."""
    with Nut(folder / "nut") as nut, House(folder / "house", extra=UPS_TOML.format(port=nut.port)) as house:
        program = roomy(house).recorder()
        program.wait_for("ups_status")
        options = {"calls": calls, "seconds": int(seconds + 120), "per_second": per_second}
        with LoadRun(house.server, **options) as run:
            run.wait_full()
            time.sleep(seconds)
            nut.force_shutdown()
            line = program.wait_for("power_shutdown", timeout_s=90)
            wait_all_sealed(house, calls, timeout_s=60)
        packets = options["seconds"] * 50
        expectation, kept = Expectation(1), []
        recordings = sealed_by_call(program)
        assert len(recordings) == calls
        for number, (call, recording) in enumerate(sorted(recordings.items())):
            recorded = house.sealed(recording)
            manifest = recorded.manifest
            assert manifest["end_cause"] == "power", manifest["end_cause"]
            kept.append(manifest["duration_samples"] / 8000)
            if number >= compared:
                continue
            samples, _ = recorded.samples()
            assert len(samples) == manifest["duration_samples"]
            assert recorded.openssl_verifies(recorded.wav)
            for entry in recorded.streams():
                sent = expectation.samples(stream_number(number_of(call), int(entry["label"]) - 1), packets)
                heard = samples[entry["first_sample"] :, entry["channel"]]
                end = entry["packets_received"] * 160
                assert abs(heard.size - end) <= 400 * 8  # what was under way when it ended
                end = min(end, heard.size)
                assert np.array_equal(heard[:end], sent[:end])
                assert not heard[end:].any()
        assert program.process.poll() is None
        found = dict(re.findall(r"(\w+)=(\S+)", line))
        return Ended(
            took_ms=int(found["took_ms"]),
            sealed=int(found["sealed"]),
            whole=found["whole"] == "True",
            seconds_kept=(min(kept), max(kept)),
            refusals=program.text().count("session_refused"),
        )
