"""Everything is read again in rounds that a stop does not lose; what differs is told until it is mended."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator

import pytest

from recorderd.app.scrub_duty import Pace
from recorderd.archive.database import Database
from recorderd.archive.scrub import Scrubber
from recorderd.core.clock import NS_PER_S
from recorderd.core.events import EventLog
from tests.support.golden import FIRST, GOLDEN, IDS, SECOND, THIRD
from tests.support.housing import Housing
from tests.support.retention import AT_ONCE, Archive


@pytest.fixture
def archive(housed: Housing) -> Iterator[Archive]:
    database = Database(housed.url)
    yield Archive(housed.folder, AT_ONCE, database=database, published=housed.published)
    database.close()


@pytest.fixture
def scrubber(archive: Archive) -> Scrubber:
    log = EventLog(logger=logging.getLogger("scrub"), clock=archive.clock)
    return Scrubber(archive.store, archive.database, clock=archive.clock, log=log)


def nobody(_: int) -> None:
    return None


def change(archive: Archive, name: str) -> str:
    """Let one octet of a recording's audio be another; gives the audio's name."""
    path = archive.entry(name).path
    audio = next(file for file in archive.names(name) if file.endswith(".wav"))
    content = bytearray(archive.store.group(path).read(audio))
    content[99] ^= 1
    archive.store.published.remove(path, [audio])
    archive.store.published.put(path, audio, bytes(content))
    return audio


def test_a_round_reads_every_octet_of_every_recording(archive: Archive, scrubber: Scrubber) -> None:
    archive.anonymise(FIRST)
    archive.erase(SECOND)
    read: list[int] = []
    done = scrubber.run(advance=read.append)
    assert (done.recordings, done.differences, bool(done.ended_utc_s)) == (3, 0, True)
    stored = [archive.store.group(archive.entry(name).path).rows() for name in IDS]
    assert sum(read) == done.read_bytes == sum(row.size_bytes for rows in stored for row in rows)
    assert scrubber.differences() == []


def test_what_differs_is_told_until_it_is_mended(
    archive: Archive, scrubber: Scrubber, caplog: pytest.LogCaptureFixture
) -> None:
    audio, path = change(archive, THIRD), archive.entry(THIRD).path
    assert scrubber.run(advance=nobody).differences == 1
    (found,) = scrubber.differences()
    assert (found.recording_id, found.reason) == (THIRD, f"{audio} is not what was signed for")
    assert f"scrub_differs subject={THIRD}" in caplog.text
    archive.store.published.remove(path, [audio])
    assert scrubber.run(advance=nobody).number == 2
    assert [row.reason for row in scrubber.differences()] == [f"{audio} is missing"]
    whole = next(file for file in (GOLDEN / THIRD).iterdir() if file.suffix == ".wav")
    archive.store.published.put(path, audio, whole.read_bytes())
    archive.store.published.put(path, "more", b"?")
    scrubber.run(advance=nobody)
    assert [row.reason for row in scrubber.differences()] == ["more is there, and was not signed for"]
    archive.store.published.remove(path, ["more"])
    assert scrubber.run(advance=nobody).differences == 0
    assert scrubber.differences() == []


def test_a_recording_that_is_gone_is_told(archive: Archive, scrubber: Scrubber) -> None:
    path = archive.entry(FIRST).path
    archive.store.published.remove(path, sorted(archive.names(FIRST)))
    folder = archive.root / path
    if folder.exists():
        shutil.rmtree(folder)
    scrubber.run(advance=nobody)
    assert [row.reason for row in scrubber.differences()] == [f"{path} is missing"]


def test_a_round_that_was_stopped_goes_on_where_it_stood(archive: Archive, scrubber: Scrubber) -> None:
    looked: list[int] = []

    def stopped() -> bool:
        looked.append(1)
        return len(looked) > 2  # once for the group, once for the first of it

    first = scrubber.run(advance=nobody, stopped=stopped)
    assert (first.recordings, first.ended_utc_s) == (1, 0)
    log = EventLog(logger=logging.getLogger("scrub"), clock=archive.clock)
    again = Scrubber(archive.store, archive.database, clock=archive.clock, log=log)
    done = again.run(advance=nobody)
    assert (done.number, done.recordings, bool(done.ended_utc_s)) == (1, 3, True)


def test_what_is_erased_while_it_is_read_is_no_difference(
    archive: Archive, scrubber: Scrubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Scrubber._compare
    erased: list[str] = []

    def compare(self: Scrubber, entry: object, advance: object) -> tuple[str, int]:
        if not erased:
            erased.append(FIRST)
            archive.erase(FIRST)
        return real(self, entry, advance)  # type: ignore[arg-type]

    monkeypatch.setattr(Scrubber, "_compare", compare)
    assert scrubber.run(advance=nobody).differences == 0
    assert erased == [FIRST]


def test_the_pace_is_kept_and_idle_time_is_not_saved_up() -> None:
    class Clock:
        now_ns = 0

        def mono_ns(self) -> int:
            return self.now_ns

        def utc_ns(self) -> int:
            return self.now_ns

    clock, rests = Clock(), list[float]()
    pace = Pace(1000, clock=clock, wait=rests.append)
    pace.advance(500)
    assert rests == [0.5]
    clock.now_ns += 100 * NS_PER_S
    pace.advance(250)
    assert rests == [0.5, 0.25]
    Pace(0, clock=clock, wait=rests.append).advance(1 << 40)
    assert len(rests) == 2
