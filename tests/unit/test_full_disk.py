"""A disk that is full: the reserve, patience, and silence with its cause when neither is left."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recorderd.core.clock import SystemClock
from recorderd.core.errors import DraftFailed
from recorderd.core.events import Ev, EventLog
from recorderd.core.messages import ControlAction, RecordingState, SessionEnded, StreamEnd
from recorderd.core.terms import AudioFormat, RecordingTerms
from recorderd.evidence.envelope import CertificateRecipients
from recorderd.evidence.recipients import load_certificate
from recorderd.record.disk import Disk, InlineDisk
from recorderd.record.space import Space, is_no_space
from recorderd.spool.reserve import RESERVE_NAME, Reserve, free_bytes
from tests.support.bundles import audio_of, make_signer
from tests.support.programs import wait_until
from tests.support.recipients import make_recipient, openssl_opens
from tests.support.small_disk import FILLER, fill, small_disk
from tests.support.studio import BEGIN_MONO_NS, RATE_HZ, Studio, Voice

MB = 1 << 20
PACKETS = 500  # ten seconds, 160 kB of 16-bit mono


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", size_bytes=8 * MB) as folder:
        yield folder


@pytest.fixture
def log() -> EventLog:
    return EventLog(logger=logging.getLogger("full"), clock=SystemClock())


def make_space(root: Path, log: EventLog, *, reserve_bytes: int) -> tuple[Space, Reserve]:
    root.mkdir(exist_ok=True)
    reserve = Reserve(root, size_bytes=reserve_bytes)
    if reserve_bytes:
        reserve.prepare()
    return Space(reserve, clock=SystemClock(), log=log), reserve


# --- the reserve ------------------------------------------------------------------------------------


def test_the_reserve_is_space_that_nobody_else_can_have(disk: Path) -> None:
    before = free_bytes(disk)
    reserve = Reserve(disk, size_bytes=4 * MB)
    reserve.prepare()
    assert (reserve.held_bytes, reserve.missing_bytes) == (4 * MB, 0)
    assert before - free_bytes(disk) == pytest.approx(4 * MB, abs=1 << 14)
    fill(disk)
    given = 0
    while reserve.give():
        given += 1
        fill(disk)  # somebody takes it at once
    assert given == 14
    assert reserve.held_bytes == 4 * MB // 8
    assert [reserve.give(last=True), fill(disk), reserve.give(last=True), fill(disk)][::2] == [True, True]
    assert not reserve.give(last=True)
    assert not reserve.fill()
    (disk / FILLER).unlink()
    assert reserve.fill()
    assert reserve.missing_bytes == 0


def test_a_reserve_gives_nothing_while_its_disk_has_room(disk: Path) -> None:
    reserve = Reserve(disk, size_bytes=MB)
    reserve.prepare()
    assert not reserve.give(last=True)
    assert reserve.held_bytes == MB


def test_the_next_process_takes_over_what_is_left_and_another_size(disk: Path) -> None:
    first = Reserve(disk, size_bytes=2 * MB)
    first.prepare()
    fill(disk)
    assert first.give()
    again = Reserve(disk, size_bytes=2 * MB)
    again.prepare()
    assert again.held_bytes == first.held_bytes
    smaller = Reserve(disk, size_bytes=MB)
    smaller.prepare()
    assert smaller.held_bytes == MB == (disk / RESERVE_NAME).stat().st_size


@pytest.mark.parametrize(
    ("problem", "full"),
    [
        (OSError(errno.ENOSPC, "no"), True),
        (OSError(errno.EDQUOT, "no"), True),
        (OSError(errno.EIO, "no"), False),
        (DraftFailed(path="x", reason=OSError(errno.ENOSPC, "no")), True),
        (DraftFailed(path="x", reason="another size"), False),
        (ValueError("no"), False),
    ],
)
def test_only_want_of_space_is_met_with_patience(problem: Exception, full: bool) -> None:
    assert is_no_space(problem) is full


# --- calls on a full disk ---------------------------------------------------------------------------


def talk(studio: Studio, name: str, *, packets: int = PACKETS) -> Voice:
    session = studio.session(name, ms=studio.now_ms)
    voice = studio.voice(session, f"{name}/a", first_ms=studio.now_ms + 20, packets=packets)
    studio.end(session, ms=studio.now_ms + 20 * packets + 20)
    return voice


def run_all(disk: Disk) -> None:
    stop = threading.Event()
    stop.set()
    disk.run(stop)


def check_whole(studio: Studio, name: str, voice: Voice, *, session_ms: int = 0) -> None:
    samples = studio.samples(name)[:, 0]
    assert np.array_equal(samples, voice.into(np.zeros(samples.size, np.int16), session_ms=session_ms))
    assert {gap.cause for gap in studio.manifest(name).streams[0].gaps} <= {"before_first", "after_last"}


@pytest.mark.parametrize("after_ms", [0, 300, 1500, 4000, 9900])
def test_whenever_the_disk_fills_the_reserve_lets_a_call_end_whole(
    disk: Path, log: EventLog, after_ms: int
) -> None:
    space, reserve = make_space(disk / "spool", log, reserve_bytes=2 * MB)
    studio = Studio(
        disk,
        make_signer(disk, "recorder"),
        audio=InlineDisk(space=space),
        sealing=InlineDisk(space=space, waits=False),
    )
    voice = talk(studio, "a")
    studio.run(after_ms)
    fill(disk)
    assert free_bytes(disk) == 0
    studio.run(14_000)
    check_whole(studio, "a", voice)
    assert reserve.missing_bytes > 0
    assert log.counters()[Ev.RESERVE_USED.value] >= 1


def test_without_a_reserve_a_full_disk_loses_nothing_that_memory_can_hold(disk: Path, log: EventLog) -> None:
    space, _ = make_space(disk / "spool", log, reserve_bytes=0)
    writing = Disk(space=space)
    studio = Studio(disk, make_signer(disk, "recorder"), audio=writing)
    stop = threading.Event()
    thread = threading.Thread(target=writing.run, args=(stop,))
    thread.start()
    try:
        voice = talk(studio, "a")
        studio.run(2000)
        wait_until(lambda: not writing.waiting_bytes, what="everything so far is written")
        fill(disk)
        studio.run(12_500)
        wait_until(lambda: space.is_waiting, what="the disk's thread waits")
        (disk / FILLER).unlink()
        wait_until(lambda: not writing.waiting_bytes and not space.is_waiting, what="everything is written")
    finally:
        stop.set()
        thread.join()
    studio.run(14_000)
    check_whole(studio, "a", voice)
    assert (log.counters()[Ev.DISK_FULL.value], log.counters()[Ev.DISK_WAITED.value]) == (1, 1)


def test_what_neither_disk_nor_memory_can_hold_is_silence_with_its_cause(disk: Path, log: EventLog) -> None:
    space, _ = make_space(disk / "spool", log, reserve_bytes=0)
    writing = Disk(space=space, limit_bytes=64 << 10)  # four seconds of this call
    studio = Studio(disk, make_signer(disk, "recorder"), audio=writing)
    stop = threading.Event()
    thread = threading.Thread(target=writing.run, args=(stop,))
    thread.start()
    try:
        voice = talk(studio, "a", packets=1500)
        studio.run(4000)
        wait_until(lambda: not writing.waiting_bytes, what="everything so far is written")
        fill(disk)
        studio.run(6000)  # its first window finds the disk full
        wait_until(lambda: space.is_waiting, what="the disk's thread waits")
        studio.run(18_000)
        assert writing.is_choked
        (disk / FILLER).unlink()
        wait_until(lambda: not writing.waiting_bytes and not space.is_waiting, what="everything is written")
        studio.run(34_000)
    finally:
        stop.set()
        thread.join()
    manifest, samples = studio.manifest("a"), studio.samples("a")[:, 0]
    gaps = [gap for gap in manifest.streams[0].gaps if gap.cause == "disk_full"]
    assert 1 <= len(gaps) <= 2  # room that the tail gives back comes at any time
    wanted = voice.into(np.zeros(samples.size, np.int16))
    for gap in gaps:
        wanted[gap.start_samples : gap.start_samples + gap.length_samples] = 0
    assert np.array_equal(samples, wanted)
    assert RATE_HZ * 8 < sum(gap.length_samples for gap in gaps) < RATE_HZ * 12
    assert samples.size >= 1500 * 160


@pytest.mark.parametrize("late", ["a pause", "a stop"])
def test_a_change_that_is_late_finds_room_later_and_the_encrypted_call_goes_on(
    disk: Path, log: EventLog, late: str
) -> None:
    make_recipient(disk, "customer")
    customer = CertificateRecipients(recipients=(load_certificate(disk / "customer.pem"),))
    space, reserve = make_space(disk / "spool", log, reserve_bytes=2 * MB)
    studio = Studio(
        disk,
        make_signer(disk, "recorder"),
        audio=InlineDisk(space=space),
        sealing=InlineDisk(space=space, waits=False),
        encryption={"bank": customer},
    )
    session = studio.session("a", terms=RecordingTerms(rule="bank", encrypt="bank"))
    voice = studio.voice(session, "a/a", first_ms=20, packets=PACKETS)
    studio.end(session, ms=10_100)
    if late == "a pause":
        studio.change(session, RecordingState.PAUSED, ms=2110, put_ms=5000)
        studio.change(session, RecordingState.ON, ms=6500, action=ControlAction.RESUME)
    else:  # nothing more is wanted, but what is there is
        studio.change(session, RecordingState.OFF, ms=2110, put_ms=5000, action=ControlAction.STOP)
    studio.run(4500)
    fill(disk)
    studio.run(8000)
    (disk / FILLER).unlink()
    studio.run(14_000)
    manifest = studio.manifest("a")
    assert reserve.missing_bytes > 0
    assert (manifest.recovered, manifest.end_cause) == (False, "bye")
    assert [row.encryption for row in manifest.files if row.role == "audio"] == ["cms"]
    opened = openssl_opens(audio_of(studio.folder("a")), disk / "customer.pem")
    assert opened is not None
    samples = np.frombuffer(opened[-2 * manifest.duration_samples :], "<i2")
    wanted = voice.into(np.zeros(samples.size, np.int16))
    wanted[int(2.11 * RATE_HZ) : int(6.5 * RATE_HZ)] = 0
    assert np.array_equal(samples, wanted)
    assert samples.size == int(2.11 * RATE_HZ) or late == "a pause"


def test_a_recording_of_an_odd_length_that_found_no_room_is_proven_once_more(
    disk: Path, log: EventLog
) -> None:
    space, _ = make_space(disk / "spool", log, reserve_bytes=0)
    sealing = Disk(space=space, waits=False)
    studio = Studio(disk, make_signer(disk, "recorder"), sealing=sealing)
    session = studio.session("a", terms=RecordingTerms(audio_format=AudioFormat.NATIVE))
    at_ns = BEGIN_MONO_NS + 2_000_125_000  # 16,001 samples
    studio.voice(session, "a/a", first_ms=20, packets=90)
    studio.put(SessionEnded(session=session, cause=StreamEnd.BYE, at_mono_ns=at_ns, at_utc_ns=0), ms=2010)
    studio.run(4000)
    fill(disk)
    run_all(sealing)
    assert (studio.recorder.closing.waiting_for_room, studio.places()) == (1, {"drafts": ["a"]})
    (disk / FILLER).unlink()
    studio.recorder.closing.seal_where_room_is()
    manifest = studio.manifest("a")
    assert (manifest.duration_samples, manifest.recovered, manifest.end_cause) == (16_001, False, "bye")


def test_a_key_that_comes_back_to_a_full_disk_finds_its_recordings_when_there_is_room(
    disk: Path, log: EventLog
) -> None:
    space, _ = make_space(disk / "spool", log, reserve_bytes=0)
    sealing = Disk(space=space, waits=False)
    studio = Studio(disk, make_signer(disk, "recorder"), sealing=sealing)
    voices = {name: talk(studio, name, packets=100) for name in ("a", "b")}
    studio.run(4000)
    closing, signer = studio.recorder.closing, studio.sealer._signer
    studio.sealer._signer = None  # the token is away
    run_all(sealing)
    assert closing.waiting == 2
    studio.sealer._signer = signer
    fill(disk)
    closing.seal_waiting()
    assert (closing.waiting, studio.places()) == (2, {"drafts": ["a", "b"]})
    (disk / FILLER).unlink()
    closing.seal_waiting()
    assert closing.waiting == 0
    for name, voice in voices.items():
        check_whole(studio, name, voice)
        assert not studio.manifest(name).recovered


def test_other_troubles_of_the_disk_are_not_waited_for(
    tmp_path: Path, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, _ = make_space(tmp_path / "spool", log, reserve_bytes=0)
    studio = Studio(tmp_path, make_signer(tmp_path, "recorder"), audio=InlineDisk(space=space))
    talk(studio, "a")
    studio.run(2000)

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("recorderd.durable.write_at", broken)
        studio.run(3000)
    assert studio.recorder.sessions_open == 1
    assert not space.is_waiting
    studio.run(14_000)
    assert studio.places() == {"drafts": ["a"]}


def test_a_program_that_stops_does_not_wait_for_ever(
    tmp_path: Path, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorderd.record.space.STOP_WAIT_NS", 0)
    space, _ = make_space(tmp_path, log, reserve_bytes=0)
    space.stop()

    def full() -> None:
        raise OSError(errno.ENOSPC, "no")

    with pytest.raises(OSError, match="no"):
        space.patiently(full, waits=True)
    assert not space.is_waiting
