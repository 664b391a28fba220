"""A real exchange while recorderd is killed and restarted: it notices nothing, the recording is whole."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.support.asterisk import Exchange
from tests.support.audio import tone_level_dbfs
from tests.support.phone import Phone
from tests.support.programs import wait_until
from tests.support.restarts import registered_unit

TONES_HZ = (1000, 400)  # of the recorded extension, of the other


def test_the_exchange_keeps_its_legs_over_a_kill_and_a_restart_and_ends_them_itself(tmp_path: Path) -> None:
    with (
        Exchange() as exchange,
        registered_unit(tmp_path, exchange) as running,
        Phone("1001", exchange, TONES_HZ[1]) as caller,
        Phone("1002", exchange, TONES_HZ[0]) as callee,
    ):
        caller.call("1002")
        start_ns = callee.wait("confirmed")["at_mono_ns"]
        time.sleep(1.5)
        legs = exchange.channels()
        running.signal(signal.SIGKILL)
        time.sleep(1)
        running.restart()
        time.sleep(1)
        assert exchange.channels() == legs  # none was hung up
        caller.hangup()
        end_ns = callee.wait("ended")["at_mono_ns"]
        (recorded,) = running.sealed(1).values()
        wait_until(lambda: exchange.channels() == 0, what="the exchange's BYEs were answered")
        assert [row["RECORDERD_CAUSE"] for row in running.events("stream_ended")] == ["bye", "bye"]
    manifest = recorded.manifest
    assert manifest["recovered"] is False
    assert [row["reason"] for row in manifest["controls"]] == ["0 samples lost"] * 2
    samples, rate_hz = recorded.samples()
    assert samples.shape[0] / rate_hz == pytest.approx(
        (end_ns - start_ns) / 1e9, abs=0.5
    )  # the exchange is busy, too
    for entry in recorded.streams():
        assert entry["packets_lost"] == entry["packets_late"] == entry["packets_duplicate"] == 0, entry
        # A busy machine lets the exchange stutter, which it says; what we had lost would be another cause.
        assert {gap["cause"] for gap in entry["gaps"]} <= {"before_first", "after_last", "silence_suppressed"}
        heard = samples[entry["first_sample"] :, entry["channel"]]
        hz = TONES_HZ[entry["channel"]]
        assert tone_level_dbfs(heard[: -rate_hz // 4], rate_hz, hz) > -20
