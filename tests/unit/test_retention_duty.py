"""The daemon's sweep: at its hour, never on battery, again after a failure; quotas that warn."""

from __future__ import annotations

import threading
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from recorderd.app import retention_duty
from recorderd.app.archive_configuration import ArchiveConfiguration, load_archive_configuration
from recorderd.app.archive_retention import retention_lines
from recorderd.app.retention_configuration import RetentionSection
from recorderd.app.retention_duty import RetentionDuty
from recorderd.app.retention_parts import retention_parts
from recorderd.core.conditions import Power, PowerState
from recorderd.policy.quota import Quotas, quota_levels
from recorderd.policy.retention import RetentionClass
from tests.support.golden import FIRST, THIRD
from tests.support.programs import wait_until
from tests.support.retention_house import RetentionHouse

DUE = RetentionClass(name="default", maximum_days=0)
AT_ONCE = "[retention.classes.default]\nmaximum_days = 0\n"
BEFORE = datetime(2026, 11, 29, 2, 59, 30)


class Night:
    """A duty whose clock and power the test holds."""

    def __init__(
        self,
        house: RetentionHouse,
        monkeypatch: pytest.MonkeyPatch,
        settings: RetentionSection,
        *,
        now: datetime = BEFORE,
    ) -> None:
        monkeypatch.setattr(retention_duty, "_LOOK_S", 0.01)
        self.now, self.state = now, PowerState.ON_LINE
        self.house, self.looks = house, 0
        parts = retention_parts(load_archive_configuration(house.toml), log=house.archive.log)
        self.duty = RetentionDuty(
            settings,
            parts,
            power=lambda: Power(state=self.state, reason="the mains are away"),
            log=house.archive.log,
            now=self._look,
        )
        self.stop = threading.Event()
        (work,) = self.duty.loops().values()
        self.thread = threading.Thread(target=work, args=(self.stop,))
        self.thread.start()

    def _look(self) -> datetime:
        self.looks += 1
        return self.now

    def count(self, event: str) -> int:
        """How often an event happened."""
        return self.house.archive.log.counters().get(event, 0)

    def end(self) -> None:
        """Stop the thread."""
        self.stop.set()
        self.thread.join(20)


def test_the_sweep_is_made_at_its_hour_and_not_on_battery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = RetentionHouse(tmp_path, AT_ONCE, DUE)
    house.archive.hold(recording_id=THIRD)
    night = Night(house, monkeypatch, RetentionSection(sweep_at="03:00"))
    try:
        night.state, night.now = PowerState.ON_BATTERY, BEFORE + timedelta(minutes=1)
        wait_until(lambda: night.count("retention_put_off") > 0, what="the sweep is put off")
        assert f"{FIRST}.wav" in house.archive.names(FIRST)
        night.state, night.now = PowerState.ON_LINE, BEFORE + timedelta(hours=1, minutes=2)
        wait_until(lambda: night.count("retention_swept") > 0, what="the sweep is made an hour later")
        wait_until(lambda: bool(night.duty.picture()["retention"]["sweep"]), what="it is told")
        assert night.duty.picture()["retention"]["sweep"]["erased"] == 2
    finally:
        night.end()
    assert house.archive.names(FIRST) == {f"{FIRST}.tombstone.json"}
    assert f"{THIRD}.wav" in house.archive.names(THIRD)
    assert house.archive.audit().troubles == []
    assert night.count("retention_swept") == 1


def test_a_clock_that_was_years_ahead_and_is_set_right_puts_no_sweep_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = RetentionHouse(tmp_path, AT_ONCE, DUE)
    night = Night(house, monkeypatch, RetentionSection(sweep_at="03:00"), now=BEFORE.replace(year=2036))
    try:
        wait_until(lambda: night.looks > 2, what="it has looked at the time")
        night.now, looked = BEFORE, night.looks
        wait_until(lambda: night.looks > looked + 2, what="it has seen that it was set right")
        assert night.count("retention_swept") == 0
        night.now = BEFORE + timedelta(minutes=1)
        wait_until(lambda: night.count("retention_swept") > 0, what="the sweep is made")
    finally:
        night.end()
    assert house.archive.names(FIRST) == {f"{FIRST}.tombstone.json"}


def test_where_nobody_has_said_how_long_nothing_is_erased_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = RetentionHouse(tmp_path, AT_ONCE, DUE)
    (absent,) = (row for row in fields(ArchiveConfiguration) if row.name == "retention")
    night = Night(house, monkeypatch, absent.default_factory())  # type: ignore[misc]
    try:
        night.now = BEFORE + timedelta(days=2)
        wait_until(lambda: night.looks > 2, what="it has looked at the time")
    finally:
        night.end()
    assert f"{FIRST}.wav" in house.archive.names(FIRST)
    assert night.count("retention_swept") == 0
    status = {"retention": night.duty.picture()["retention"]}
    assert dict(retention_lines(status)) == {"retention": "nothing is erased by itself"}


def test_a_quota_warns_before_it_is_used_up_and_erases_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = RetentionHouse(tmp_path, AT_ONCE, DUE)
    used = sum(house.archive.entry(name).size_bytes for name in (FIRST, THIRD))
    settings = RetentionSection(sweep_at="", total_quota_bytes=used)
    night = Night(house, monkeypatch, settings)
    try:
        night.now = BEFORE + timedelta(hours=5)
        wait_until(lambda: night.count("quota_exceeded") > 0, what="the quota is told")
        wait_until(lambda: bool(night.duty.picture()["retention"]["quotas"]), what="and shown")
        assert night.duty.picture()["retention"]["quotas"][0]["subject"] == "archive"
    finally:
        night.end()
    assert f"{FIRST}.wav" in house.archive.names(FIRST)
    assert night.count("retention_swept") == 0


def test_quotas_are_the_archives_and_each_users() -> None:
    quotas = Quotas(total_bytes=1000, user_bytes=100, warning_percent=80)
    used = {"1001": 79, "1002": 80, "1003": 101, "": 900}
    levels = {level.subject: (level.percent, level.is_exceeded) for level in quota_levels(quotas, used)}
    assert levels == {"archive": (116, True), "1002": (80, False), "1003": (101, True)}
    assert not list(quota_levels(Quotas(), used))
