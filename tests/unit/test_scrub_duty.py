"""The daemon's scrub: when a round is due, whatever the clock was at the one before."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from recorderd.app import scrub_duty
from recorderd.app.archive_configuration import load_archive_configuration
from recorderd.app.retention_parts import retention_parts
from recorderd.app.scrub_configuration import ScrubSection
from recorderd.app.scrub_duty import ScrubDuty
from recorderd.archive.scrub import Scrubber
from recorderd.core.conditions import Power, PowerState
from tests.support.programs import wait_until
from tests.support.retention_house import RetentionHouse
from tests.support.shifted_clock import YEAR_S, ShiftedClock


def test_a_round_that_was_read_when_the_clock_was_years_ahead_puts_no_other_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub_duty, "_LOOK_S", 0.01)
    house = RetentionHouse(tmp_path, "")
    parts = retention_parts(load_archive_configuration(house.toml), log=house.archive.log)
    scrubber = Scrubber(parts.store, parts.database, clock=ShiftedClock(10 * YEAR_S), log=house.archive.log)
    assert scrubber.run(advance=lambda _: None).number == 1
    power = Power(state=PowerState.ON_LINE, reason="the mains are there")
    duty = ScrubDuty(ScrubSection(every_days=7), parts, power=lambda: power, log=house.archive.log)
    stop = threading.Event()
    thread = threading.Thread(target=duty.loops()["scrub"], args=(stop,))
    thread.start()
    try:
        wait_until(lambda: duty.picture()["scrub"]["round"]["number"] == 2, what="another round is read")
        wait_until(lambda: duty.picture()["scrub"]["round"]["ended_utc_s"] > 0, what="to its end")
    finally:
        stop.set()
        thread.join(20)
    assert scrubber.newest().number == 2
