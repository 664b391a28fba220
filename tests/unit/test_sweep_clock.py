"""An archive whose clock has leapt erases nothing by age until somebody answers for the clock."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from recorderd.app import retention_parts as parts_module
from recorderd.app.archive_configuration import load_archive_configuration
from recorderd.app.archive_retention import retention_lines
from recorderd.app.retention_configuration import RetentionSection
from recorderd.app.retention_duty import RetentionDuty
from recorderd.app.retention_parts import RetentionParts, retention_parts
from recorderd.app.sweep_clock import LEAP_NS, NOTE_NAME, VOUCHED_NS
from recorderd.archive.audit_log import AuditFilter
from recorderd.core.clock import NS_PER_S, SystemClock
from recorderd.core.conditions import Power, PowerState
from recorderd.policy.retention import RetentionClass
from recorderd.wire.manifest_entries import ClockStatement
from tests.support.golden import FIRST
from tests.support.retention import WHO
from tests.support.retention_house import RetentionHouse

DAY_NS = 86_400 * NS_PER_S
GOLDEN_UTC_S = 1_795_415_466  # when the golden calls were
PAST_ALL_NS = 20 * DAY_NS  # the certificate that signs tombstones is valid for a month


class Moved(SystemClock):
    """The machine's clocks, which a test moves."""

    ahead_ns = run_ns = 0

    def mono_ns(self) -> int:
        return super().mono_ns() + Moved.run_ns

    def utc_ns(self) -> int:
        return super().utc_ns() + Moved.run_ns + Moved.ahead_ns


class Host:
    """An archive's house on a host whose clock a test moves, and who vouches for it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        age_days = (time.time_ns() // NS_PER_S - GOLDEN_UTC_S) // 86_400
        days = age_days + 10
        self.house = RetentionHouse(
            folder,
            f"[retention.classes.default]\nmaximum_days = {days}\n",
            RetentionClass(name="default", maximum_days=days),
        )
        self.vouched = False
        Moved.ahead_ns = Moved.run_ns = 0
        monkeypatch.setattr(parts_module, "SystemClock", Moved)
        monkeypatch.setattr(
            parts_module, "ask_time_sources", lambda **_: ClockStatement(synchronised=self.vouched)
        )

    def start(self) -> RetentionParts:
        """Give the parts of a process that begins now."""
        return retention_parts(load_archive_configuration(self.house.toml), log=self.house.archive.log)

    @property
    def is_kept(self) -> bool:
        """Whether the audio is still there."""
        return f"{FIRST}.wav" in self.house.archive.names(FIRST)

    @property
    def told(self) -> int:
        """How often it was told that the clock has leapt."""
        return self.house.archive.log.counters().get("retention_clock_leapt", 0)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_clock_that_has_leapt_erases_nothing_and_it_is_told_once(host: Host, is_restarted: bool) -> None:
    parts = host.start()
    Moved.ahead_ns = PAST_ALL_NS
    if is_restarted:
        parts = host.start()
    swept = [parts.sweeper.sweep(WHO) for _ in range(2)][-1]
    assert (swept.erased, swept.left) == (0, swept.due)
    assert swept.due > 0
    assert "20.0 days ahead" in swept.stopped_for
    assert host.is_kept
    assert host.told == 1


def test_what_an_archive_with_a_wrong_clock_notes_itself_does_not_make_it_right(host: Host) -> None:
    host.start().sweep_clock.look()
    Moved.ahead_ns = PAST_ALL_NS
    host.start().audit.note(WHO, "archive_started", "arc-1")
    assert host.start().sweeper.sweep(WHO).erased == 0
    assert host.is_kept


def test_a_clock_that_is_set_right_counts_at_once(host: Host) -> None:
    parts = host.start()
    Moved.ahead_ns = PAST_ALL_NS
    assert parts.sweep_clock.look()
    Moved.ahead_ns = 0
    assert not parts.sweep_clock.look()
    Moved.ahead_ns = PAST_ALL_NS
    assert parts.sweep_clock.look()
    assert host.told == 2


def test_a_clock_that_is_vouched_for_a_day_long_counts_and_a_wrong_answer_in_between_does_not(
    host: Host,
) -> None:
    host.start().sweep_clock.look()
    Moved.ahead_ns, host.vouched = PAST_ALL_NS, True  # off for long, or a wrong answer
    parts = host.start()
    assert "not yet" in parts.sweep_clock.look()
    Moved.run_ns += VOUCHED_NS // 2
    host.vouched = False
    assert "nobody" in parts.sweep_clock.look()
    host.vouched = True
    Moved.run_ns += VOUCHED_NS // 2
    assert parts.sweep_clock.look()
    Moved.run_ns += VOUCHED_NS
    assert parts.sweeper.sweep(WHO).erased > 0
    assert not host.is_kept
    assert host.told == 1


def test_an_archive_that_runs_for_years_or_was_off_for_a_weekend_goes_on(host: Host) -> None:
    parts = host.start()
    Moved.run_ns = PAST_ALL_NS
    assert not parts.sweep_clock.look()
    Moved.run_ns += LEAP_NS - DAY_NS
    assert host.start().sweeper.sweep(WHO).erased > 0
    assert host.told == 0


def test_the_first_start_goes_by_the_newest_receipt_and_audit_row(host: Host) -> None:
    Moved.ahead_ns = PAST_ALL_NS
    assert not (host.house.root / NOTE_NAME).exists()
    assert host.start().sweeper.sweep(WHO).erased == 0
    assert host.is_kept


def test_an_operators_word_counts_for_the_daemon_too_and_is_in_the_audit_log(host: Host) -> None:
    daemon = host.start()
    Moved.ahead_ns = PAST_ALL_NS
    assert daemon.sweep_clock.look()
    done = host.house.run("retention", "sweep", check=False)
    assert (done.returncode, "--clock-is-right" in done.stderr) == (75, True)
    assert host.is_kept
    done = host.house.run("retention", "sweep", "--clock-is-right", "--json")
    assert json.loads(done.stdout)["erased"] > 0
    assert not daemon.sweep_clock.look()
    assert len(list(host.house.archive.audit_log.rows(AuditFilter(what="clock_trusted")))) == 1
    host.house.fsck()


def test_the_status_shows_why_nothing_is_erased(host: Host) -> None:
    parts = host.start()
    duty = RetentionDuty(
        RetentionSection(),
        parts,
        power=lambda: Power(state=PowerState.ON_LINE, reason=""),
        log=host.house.archive.log,
    )
    assert not dict(retention_lines(duty.picture()))
    Moved.ahead_ns = PAST_ALL_NS
    parts.sweep_clock.look()
    assert "nobody vouches" in dict(retention_lines(duty.picture()))["retention"]
