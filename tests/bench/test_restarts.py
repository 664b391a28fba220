"""Calls while recorderd is killed again and again, restarted, upgraded, and long after: nothing is lost."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final

import pytest

from tests.support.asterisk import Exchange
from tests.support.phone import Phone
from tests.support.restarts import Talk, registered_unit, unit
from tests.support.sip_client import SipClient

CALLS: Final = int(os.environ.get("RESTART_CALLS", "20"))
SECONDS: Final = int(os.environ.get("RESTART_SECONDS", "120"))
EVERY_S: Final = 7.0
REFRESH_S: Final = 50  # the exchange asks after 45


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


@pytest.mark.soak
def test_an_exchange_that_asks_for_its_legs_finds_them_after_a_kill(tmp_path: Path) -> None:
    """It refreshes its dialogs each 45 s (session timers); the process that opened them is long gone."""
    with (
        Exchange() as exchange,
        registered_unit(tmp_path, exchange) as running,
        Phone("1001", exchange, 400) as caller,
        Phone("1002", exchange, 1000) as callee,
    ):
        caller.call("1002")
        callee.wait("confirmed")
        time.sleep(2)
        legs = exchange.channels()
        running.signal(signal.SIGKILL)
        time.sleep(REFRESH_S)
        assert exchange.channels() == legs
        assert not running.events("stream_ended")
        caller.hangup()
        callee.wait("ended")
        (recorded,) = running.sealed(1).values()
    assert recorded.manifest["recovered"] is False
    for entry in recorded.streams():
        assert entry["packets_received"] > 50 * REFRESH_S
        assert entry["packets_lost"] == entry["packets_late"] == 0, entry
