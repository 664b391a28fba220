"""The machine is shut down while recorderd is being restarted: whichever process it is seals every call.

The restart hands calls over to the next process; FSD comes before it, with it, and while the next one starts.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from tests.support.restarts import RECORDER, Unit, unit
from tests.support.sip_client import SipClient, siprec_call
from tests.support.talking import OCTETS, Talker, Talking
from tests.support.ups import Nut

CALLS: Final = 8
POWER: Final = """
[power]
poll_s = 1
battery_poll_s = 1
[[power.ups]]
name = "ups"
port = {port}
"""
AFTER_S: Final = (-1.0, 0.0, 0.3, 0.6, 1.0, 1.5) if os.environ.get("FAULT_ALL") else (-1.0, 0.0)


def _strike(running: Unit, nut: Nut, *, after_s: float) -> None:
    """Restart, and say so much later that the machine goes down; where it is less than nothing, before."""
    if after_s < 0:
        nut.force_shutdown()
        deadline_s = time.monotonic() + 60
        while not any("forced_shutdown" in str(row) for row in running.events("power_changed")):
            assert time.monotonic() < deadline_s, "it has not seen the shutdown"
            time.sleep(0.02)
    running.manager.systemctl("restart", "--no-block", RECORDER)
    if after_s >= 0:
        time.sleep(after_s)
        nut.force_shutdown()


@pytest.mark.parametrize("after_s", AFTER_S)
@pytest.mark.timeout(180)
def test_a_shutdown_in_the_middle_of_a_restart_seals_every_call(tmp_path: Path, after_s: float) -> None:
    talking, talkers = Talking(), dict[str, list[Talker]]()
    with (
        Nut(tmp_path / "nut") as nut,
        unit(tmp_path, extra=POWER.format(port=nut.port)) as running,
        SipClient(server=running.house.server) as client,
    ):
        for number in range(CALLS):
            call = siprec_call(client, session_id=f"{number:032x}")
            assert call.response is not None
            assert call.response.code == 200
            talkers[f"{number:032x}"] = [
                talking.add(line.port, seed=10 * number + side) for side, line in enumerate(call.lines)
            ]
        time.sleep(1.5)
        promised = {call_id: [one.sent for one in pair] for call_id, pair in talkers.items()}
        _strike(running, nut, after_s=after_s)
        recordings = running.sealed(CALLS)
        talking.close()
    for call_id, pair in talkers.items():
        recorded = recordings[call_id]
        assert recorded.manifest["end_cause"] == "power"
        assert not recorded.manifest["recovered"]
        samples, _ = recorded.samples()
        for talker, least, entry in zip(pair, promised[call_id], recorded.streams(), strict=True):
            assert {gap["cause"] for gap in entry["gaps"]} <= {"before_first", "after_last"}, entry["gaps"]
            first, packets = entry["first_sample"], entry["packets_received"]
            assert entry["packets_lost"] == 0
            assert packets >= least
            heard = samples[first : first + packets * OCTETS, entry["channel"]]
            assert np.array_equal(heard, talker.samples()[: packets * OCTETS][: heard.size])
            assert heard.size >= least * OCTETS
