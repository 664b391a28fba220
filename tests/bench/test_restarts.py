"""Twenty calls while recorderd is killed every seven seconds, restarted and upgraded: nothing is lost."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final

import pytest

from tests.support.restarts import Talk, unit
from tests.support.sip_client import SipClient

CALLS: Final = int(os.environ.get("RESTART_CALLS", "20"))
SECONDS: Final = int(os.environ.get("RESTART_SECONDS", "120"))
EVERY_S: Final = 7.0


@pytest.mark.soak
def test_calls_outlive_kills_a_restart_and_an_upgrade(tmp_path: Path) -> None:
    with unit(tmp_path) as running, SipClient(server=running.house.server) as client:
        with Talk(running.house, client, calls=CALLS, seconds=SECONDS + 20) as talk:
            began, kills = time.monotonic(), 0
            while time.monotonic() - began < SECONDS:
                due = began + (kills + 1) * EVERY_S
                time.sleep(max(0.0, due - time.monotonic()))
                running.signal(signal.SIGKILL)
                kills += 1
            running.restart()
            running.upgrade("0.1.1")
        for call in talk.calls:
            assert call.bye().code == 200
        recordings = running.sealed(CALLS)
        packets = 0
        for number, name in enumerate(talk.ids):
            recorded = recordings[name]
            talk.assert_exact(recorded, number)
            assert recorded.manifest["recovered"] is False
            assert len(recorded.manifest["controls"]) == kills + 2
            packets += sum(row["packets_received"] for row in recorded.streams())
        print(f"{CALLS} calls, {kills} kills, a restart, an upgrade: {packets} packets, none lost")
