"""A week without an archive, in a minute: the operator sees hours left, alarms in order, each once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.app.backpressure import Backpressure, Limits, patience
from recorderd.app.spool_configuration import SpoolSection
from recorderd.core.clock import NS_PER_S
from recorderd.core.conditions import POWER_UNKNOWN, ArchiveLink, ArchiveState, Power, PowerState
from recorderd.core.events import EventLog
from recorderd.core.terms import RecordingTerms
from recorderd.flush.delivery import Delivery, State
from recorderd.flush.early_release import EarlyRelease
from recorderd.policy.admission import FlushOrder, SpoolPolicy
from recorderd.record.disk import Disks
from recorderd.spool.layout import RECEIPT_NAME, Place, Spool, receipt_name
from recorderd.spool.link_state import write_link_state
from recorderd.spool.stance import USUAL, FlushStance, read_stance, write_stance
from recorderd.wire.frames import OfferedFile

STEP_S = 300
HOUR_S = 3600
QUOTA = 1 << 30
PER_HOUR = QUOTA // 144  # full after six days


class House:
    """A spool with real folders, and a clock that is moved by hand."""

    def __init__(self, root: Path, *, receipts_needed: int = 1, **changes: object) -> None:
        known: dict[str, object] = {"dir": root, "quota_bytes": QUOTA, "reserve_bytes": 1 << 16, **changes}
        self.section = SpoolSection(**known)  # type: ignore[arg-type]
        self.now_s = 0
        self.power: Power = POWER_UNKNOWN
        self.seen: list[str] = []
        logger = logging.getLogger("backpressure-test")
        logger.setLevel(logging.INFO)
        logger.handlers = [self]  # type: ignore[list-item]
        logger.propagate = False
        self.level = logging.INFO
        self.log = EventLog(logger=logger, clock=self)
        self.spool = Spool(root, quota_bytes=QUOTA, receipts_needed=receipts_needed)
        self.spool.prepare()
        space, reserve = patience(self.section, clock=self, log=self.log)
        self.disks = Disks.patient(space)
        self.shed: list[int] = []
        self.backpressure = Backpressure(
            section=self.section,
            spool=self.spool,
            disks=self.disks,
            space=space,
            reserve=reserve,
            shedder=self,  # type: ignore[arg-type]
            power=lambda: self.power,
            limits=Limits(max_calls=10, queue_full=lambda: False, stopping=lambda: False, calls=lambda: 1),
            seal_where_room_is=lambda: None,
            clock=self,
            log=self.log,
        )
        self.shed_recordings = self.shed_bytes = 0
        self.backpressure.prepare()

    def handle(self, record: logging.LogRecord) -> None:
        text = record.getMessage().split()
        subject = next((word.removeprefix("subject=").strip("'") for word in text if "subject=" in word), "")
        self.seen.append(f"{text[0]} {subject}".strip())

    def mono_ns(self) -> int:
        return (1000 + self.now_s) * NS_PER_S

    def utc_ns(self) -> int:
        return 1_800_000_000 * NS_PER_S + self.mono_ns()

    def archive(self, state: ArchiveState, per_s: float = 0.0) -> None:
        link = ArchiveLink(state=state, reason="told", bytes_per_s=per_s, at_utc_ns=self.utc_ns())
        write_link_state(self.spool.root, link)

    def recording(self, number: int, *, place: Place = Place.READY, size: int = PER_HOUR) -> Path:
        folder = self.spool.root / place / f"r{number:05}"
        folder.mkdir()
        (folder / "a.wav").touch()
        os.truncate(folder / "a.wav", size)  # holds no disk
        return folder

    def pass_hours(self, hours: float, *, per_s: float = 0.0) -> None:
        for _ in range(int(hours * HOUR_S / STEP_S)):
            self.now_s += STEP_S
            self.disks.audio.taken_bytes += int(per_s * STEP_S)
            self.backpressure.look()

    def takes(self, **terms: object) -> str:
        """Name why a session would be refused; empty when it would be taken."""
        return self.backpressure.admit(1, RecordingTerms(**terms)).reason  # type: ignore[arg-type]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    yield House(tmp_path / "spool")
    logging.getLogger("backpressure-test").handlers = []


def test_a_week_without_an_archive(house: House) -> None:
    status = house.backpressure.describe_spool
    for hour in range(168):
        if hour < 145:
            house.recording(hour)
        house.pass_hours(1, per_s=PER_HOUR / HOUR_S if hour < 145 else 0.0)
        if hour in (10, 72, 100):
            assert status()["full_in_s"] / HOUR_S == pytest.approx(143 - hour, abs=2)
        if hour == 100:
            assert house.takes(priority=-1) == ""
            assert house.backpressure.describe()["held_back"] == [
                "recordings wait here: the archive is gone (the flush does not run)"
            ]
        if hour == 130:
            assert house.takes(priority=-1) == "spool high, low priority"
            assert house.takes() == ""
    assert house.seen == [
        *("archive_state gone", "spool_level high", "stance_changed usual"),
        *("spool_hours_left 24", "spool_hours_left 8", "spool_hours_left 2"),
        *("spool_level full", "stance_changed none"),
    ]
    assert house.backpressure.admit(1, RecordingTerms(mandatory=True)).mandatory_refused
    assert "all new calls are refused: spool full" in house.backpressure.describe()["held_back"]

    house.seen.clear()
    for number in range(145):  # the archive is back and takes four times what came
        folder = house.spool.root / "ready" / f"r{number:05}"
        (folder / "a.wav").unlink()
        folder.rmdir()
        house.archive(ArchiveState.UP, 4 * PER_HOUR / HOUR_S)
        house.backpressure.look()
        house.now_s += 900
        if number == 40:
            assert status()["empty_in_s"] / HOUR_S == pytest.approx(26, abs=2)
    assert house.seen == [
        *("archive_state up", "spool_level high", "stance_changed usual", "spool_level low"),
        "stance_changed all",
    ]
    assert house.backpressure.describe()["held_back"] == []
    assert house.takes(priority=-1) == ""


def test_power_and_archive_change_what_is_asked_of_the_flush(house: House) -> None:
    house.archive(ArchiveState.UP, 1e6)
    house.backpressure.look()
    asked = read_stance(house.spool.root, now_utc_ns=house.utc_ns())
    assert (asked.flush_percent, asked.order, asked.free_bytes) == (100, FlushOrder.FAIR, 0)
    house.power = Power(state=PowerState.LOW_BATTERY, reason="low")
    house.backpressure.look()
    asked = read_stance(house.spool.root, now_utc_ns=house.utc_ns())
    assert (asked.flush_percent, asked.order) == (50, FlushOrder.URGENT)
    assert house.takes() == "battery low, not mandatory"
    assert house.takes(mandatory=True) == ""
    assert house.backpressure.checkpoint_s(1.0) == 0.5
    assert house.seen[-1] == "stance_changed mandatory"
    assert read_stance(house.spool.root, now_utc_ns=house.utc_ns() + 61 * NS_PER_S) == USUAL


@pytest.mark.parametrize("octets", [b"", b"{", b"[]", b'{"flush_percent": 1}', b"\xff"])
def test_a_torn_word_asks_for_nothing_unusual(tmp_path: Path, octets: bytes) -> None:
    write_stance(tmp_path, FlushStance(flush_percent=0, at_utc_ns=5))
    assert read_stance(tmp_path, now_utc_ns=6).flush_percent == 0
    (tmp_path / "stance.json").write_bytes(octets)
    assert read_stance(tmp_path, now_utc_ns=6) == USUAL


def test_keep_recording_asks_for_copies_until_the_spool_is_low(tmp_path: Path) -> None:
    house = House(tmp_path / "spool", policy=SpoolPolicy.KEEP_RECORDING, shed_unreceipted=True)
    for number in range(9):
        folder = house.recording(number, place=Place.CLAIMED, size=QUOTA // 8)
        if number < 4:
            (folder / RECEIPT_NAME).write_bytes(b"{}")
    house.pass_hours(0.1)
    status = house.backpressure.describe_spool()
    assert (status["level"], status["receipted_bytes"] // (QUOTA // 8)) == ("full", 4)
    assert house.takes() == ""  # there is something to delete
    assert house.takes(priority=-1) == "spool full, low priority"
    stance = read_stance(house.spool.root, now_utc_ns=house.utc_ns())
    assert QUOTA // 4 < stance.free_bytes < QUOTA // 2
    for number in range(4):
        for path in (house.spool.root / "claimed" / f"r{number:05}").iterdir():
            path.unlink()
        (house.spool.root / "claimed" / f"r{number:05}").rmdir()
    house.pass_hours(0.1)
    assert house.backpressure.describe_spool()["level"] == "low"
    assert house.takes(priority=-1) == ""


def test_a_flush_that_starts_anew_is_asked_for_no_room_that_is_there_by_now(tmp_path: Path) -> None:
    house = House(tmp_path / "spool", policy=SpoolPolicy.KEEP_RECORDING)
    for number in range(9):
        (house.recording(number, place=Place.CLAIMED, size=QUOTA // 8) / RECEIPT_NAME).write_bytes(b"{}")
    house.pass_hours(0.1)
    asked = read_stance(house.spool.root, now_utc_ns=house.utc_ns())
    for number in range(8):
        for path in (house.spool.root / "claimed" / f"r{number:05}").iterdir():
            path.unlink()
        (house.spool.root / "claimed" / f"r{number:05}").rmdir()
    house.pass_hours(0.1)
    file = OfferedFile(name="a", size_bytes=100, sha256="0" * 64)
    copies = [Delivery(recording_id="a", files=(file,), chunk_bytes=1, state=State.ARCHIVED)]
    assert EarlyRelease().due(copies, asked) == ["a"]
    assert EarlyRelease().due(copies, read_stance(house.spool.root, now_utc_ns=house.utc_ns())) == []


def test_while_one_of_two_archives_is_down_copies_that_wait_for_it_count_as_unsent(tmp_path: Path) -> None:
    house = House(tmp_path / "spool", policy=SpoolPolicy.KEEP_RECORDING, receipts_needed=2)
    for number in range(9):
        folder = house.recording(number, place=Place.CLAIMED, size=QUOTA // 8)
        (folder / RECEIPT_NAME).write_bytes(b"{}")
    house.pass_hours(0.1)
    assert house.backpressure.describe_spool()["receipted_bytes"] == 0
    assert house.takes() == "spool full"  # nothing of it may be deleted
    for number in range(2):
        (house.spool.root / "claimed" / f"r{number:05}" / receipt_name("far")).write_bytes(b"{}")
    house.pass_hours(0.1)
    assert house.backpressure.describe_spool()["receipted_bytes"] // (QUOTA // 8) == 2
    assert house.takes() == ""


def test_where_any_receipt_is_enough_that_of_a_further_archive_is_one(tmp_path: Path) -> None:
    house = House(tmp_path / "spool", policy=SpoolPolicy.KEEP_RECORDING, shed_unreceipted=True)
    for number in range(9):
        folder = house.recording(number, place=Place.CLAIMED, size=QUOTA // 8)
        (folder / receipt_name("far")).write_bytes(b"{}")
    house.pass_hours(0.1)
    assert house.backpressure.describe_spool()["unreceipted_bytes"] == 0
    assert house.takes() == ""
    assert read_stance(house.spool.root, now_utc_ns=house.utc_ns()).free_bytes > 0


def test_the_flush_lets_the_oldest_copies_go_once_for_each_time_it_is_asked() -> None:
    def delivery(name: str, state: State) -> Delivery:
        file = OfferedFile(name="a", size_bytes=100, sha256="0" * 64)
        return Delivery(recording_id=name, files=(file,), chunk_bytes=1, state=state)

    rows = [
        *(delivery("d", State.ARCHIVED), delivery("b", State.ARCHIVED), delivery("a", State.SENDING)),
        *(delivery("c", State.ARCHIVED), delivery("e", State.READY)),
    ]
    early = EarlyRelease()
    assert early.due(rows, FlushStance(free_bytes=0, number=0)) == []
    assert early.due(rows, FlushStance(free_bytes=101, number=1)) == ["b", "c"]
    assert early.due(rows, FlushStance(free_bytes=101, number=1)) == []
    assert early.due(rows, FlushStance(free_bytes=1 << 40, number=2)) == ["b", "c", "d"]
