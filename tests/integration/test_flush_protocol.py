"""The link under misuse, loss and cuts: real processes over loopback TCP with CURVE."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from pathlib import Path

import pytest
import zmq

from recorderd.spool.layout import Place
from recorderd.wire import frames as f
from recorderd.wire.manifest import manifest_name
from tests.support.bundles import Loopback, seal
from tests.support.link import RawClient, assert_kept, chunk_of, entries, events, flip
from tests.support.programs import Program, Programs, wait_until

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def loopback(tmp_path: Path) -> Loopback:
    return Loopback(tmp_path / "set-up")


# --- messages that do not fit -------------------------------------------------------------------------


def test_wrong_chunks_are_counted_and_answered_with_where_we_stand(
    loopback: Loopback, programs: Programs
) -> None:
    archive = programs.archive(loopback.archive_toml)
    (recording_id,) = loopback.record(duration_s=1)
    folder = loopback.spool.path(Place.READY, recording_id)
    client = RawClient(loopback)
    client.offer(folder)
    credit = client.receive()
    assert isinstance(credit, f.Credit) and (credit.name, credit.offset_bytes) == (
        manifest_name(recording_id),
        0,
    )
    client.send_piece(folder, credit, size_bytes=100)
    credit = client.receive()
    assert isinstance(credit, f.Credit) and credit.offset_bytes == 100
    rest = (folder / credit.name).read_bytes()[100:]
    wrong = [
        chunk_of(credit, rest[:50], payload=rest[:49]),  # truncated
        chunk_of(credit, rest[:50], sha256="0" * 64),
        chunk_of(credit, rest + b"more"),
        chunk_of(credit, b""),
        chunk_of(credit, rest[:50], offset_bytes=2**62),
    ]
    for number, chunk in enumerate(wrong, start=1):
        client.send(chunk)
        answer = client.receive()
        assert isinstance(answer, f.Credit) and (answer.offset_bytes, answer.rewind) == (100, True)
        assert events(loopback, "archive")["malformed_frame"] == number
    client.send(chunk_of(credit, rest[20:50], offset_bytes=120))  # a gap: not repeated since the last rewind
    client.send(chunk_of(credit, rest[:50], name=f"{recording_id}.other"))
    client.send(chunk_of(credit, rest[:10], offset_bytes=90, payload=rest[:10]))  # came twice: ignored
    archive.wait_for("malformed_frame", recording_id)
    client.send(chunk_of(credit, rest))
    answer = client.receive()
    assert isinstance(answer, f.Credit) and answer.name != credit.name
    answer = client.deliver(folder)
    assert isinstance(answer, f.ReceiptMessage)
    client.close()
    assert_kept(loopback, [recording_id])


def test_malformed_frames_are_counted_and_disturb_nobody(loopback: Loopback, programs: Programs) -> None:
    archive = programs.archive(loopback.archive_toml)
    programs.flush(loopback.recorder_toml)
    client = RawClient(loopback)
    rubbish = [
        (b"",),
        (b"{}",),
        (b"\xff\xfe", b"x"),
        (b"[]",),
        (b"{}", b"", b""),
        (b"[" * 100_000,),
        (b"\x00" * 9,),
    ]
    for parts in rubbish:
        client.send_raw(*parts)
    for message in (f.Pong(number=1), f.Welcome(archive_id="arc-2")):
        client.send(message)
    ids = loopback.record(3)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    client.send(f.Ping(number=7))
    assert client.receive() == f.Pong(number=7)
    archive.wait_for("malformed_frame", "rec-1")
    assert events(loopback, "archive")["malformed_frame"] == len(rubbish) + 2
    client.close()
    assert_kept(loopback, ids)


# --- lost and repeated --------------------------------------------------------------------------------


def test_an_offer_that_comes_again_gets_the_same_receipt(loopback: Loopback, programs: Programs) -> None:
    programs.archive(loopback.archive_toml)
    (recording_id,) = loopback.record()
    folder = loopback.spool.path(Place.READY, recording_id)
    client = RawClient(loopback)
    first = client.deliver(folder)
    assert isinstance(first, f.ReceiptMessage) and first.receipt == entries(loopback)[0].receipt
    for _ in range(2):
        assert client.deliver(folder) == first
    loopback.chain.sequence = 0
    seal(folder, loopback.recorder_signer, recorder_id="rec-1", samples=801, chain=loopback.chain)
    other = client.deliver(folder)
    assert isinstance(other, f.Refused) and (other.code, other.retryable) == ("differs", False)
    client.close()
    assert len(entries(loopback)) == 1


def test_a_receipt_lost_after_the_commit_is_given_again(loopback: Loopback, programs: Programs) -> None:
    archive = programs.archive(loopback.archive_toml)
    (recording_id,) = loopback.record(duration_s=1)
    folder = loopback.spool.path(Place.READY, recording_id)
    client = RawClient(loopback)
    offer = client.offer(folder)
    for entry in offer.files:  # everything at once, and gone before any answer
        if entry.size_bytes:
            credit = f.Credit(
                recording_id=recording_id, name=entry.name, offset_bytes=0, window_chunks=1, rewind=False
            )
            client.send_piece(folder, credit)
    client.close()
    archive.wait_for("recording_archived", recording_id)
    receipt = entries(loopback)[0].receipt
    programs.flush(loopback.recorder_toml).wait_for("receipt_verified", recording_id)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, [recording_id])
    assert entries(loopback)[0].receipt == receipt


@pytest.mark.parametrize("how", ["at start", "at the next offer", "without a note"])
def test_a_cut_between_publish_and_commit_is_repaired(
    loopback: Loopback, programs: Programs, how: str
) -> None:
    archive = programs.archive(loopback.archive_toml)
    (recording_id,) = loopback.record()
    kept = shutil.copytree(loopback.spool.path(Place.READY, recording_id), loopback.root / recording_id)
    programs.flush(loopback.recorder_toml).wait_for("local_copy_deleted")
    path = entries(loopback)[0].path
    note = loopback.data_dir / "incoming" / "rec-1" / f"{recording_id}.target"
    wait_until(lambda: not list(note.parent.iterdir()), what="what no receipt waits for is tidied up")
    if how == "at start":
        archive.stop()
    with sqlite3.connect(loopback.data_dir / "catalogue.sqlite3") as database:  # as the cut would leave it
        database.execute("DELETE FROM recordings")
    if how != "without a note":
        note.write_text(path)
    client = RawClient(loopback)
    if how == "at start":
        programs.archive(loopback.archive_toml, name="second")
    elif how == "at the next offer":
        client.offer(kept)
        assert isinstance(client.receive(), f.ReceiptMessage)
    else:
        assert isinstance(client.deliver(kept), f.ReceiptMessage)
    client.close()
    assert_kept(loopback, [recording_id])
    assert not list(note.parent.iterdir())


def test_a_part_that_a_power_cut_spoilt_is_sent_again(loopback: Loopback, programs: Programs) -> None:
    archive = programs.archive(loopback.archive_toml)
    (recording_id,) = loopback.record()
    folder = loopback.spool.path(Place.READY, recording_id)
    client = RawClient(loopback)
    client.offer(folder)
    credit = client.receive()
    assert isinstance(credit, f.Credit)
    client.send_piece(folder, credit, size_bytes=500)
    assert isinstance(client.receive(), f.Credit)
    client.close()
    archive.kill()
    flip(loopback.data_dir / "incoming" / "rec-1" / recording_id / credit.name, 250)
    programs.archive(loopback.archive_toml, name="second")
    programs.flush(loopback.recorder_toml)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, [recording_id])


def test_an_archive_that_answers_no_more_is_left_and_asked_again(
    loopback: Loopback, programs: Programs
) -> None:
    (recording_id,) = loopback.record()
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)  # its I/O thread lives, so ZeroMQ's own heartbeats go on
    router.setsockopt(zmq.CURVE_SERVER, 1)
    router.setsockopt(zmq.CURVE_SECRETKEY, loopback.archive_secret.encode())
    router.bind(f"tcp://127.0.0.1:{loopback.port}")
    flush = programs.flush(loopback.recorder_toml)
    try:
        assert router.poll(10_000)
        peer, _ = router.recv_multipart()
        router.send_multipart([peer, *f.encode_message(f.Welcome(archive_id="arc-1"))])
        flush.wait_for("offered", recording_id)
        flush.wait_for("link_down", "no answer")
    finally:
        router.close(linger=0)
        context.term()
    programs.archive(loopback.archive_toml)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, [recording_id])


def test_an_archive_that_falls_silent_is_noticed_and_found_again(
    loopback: Loopback, programs: Programs
) -> None:
    archive = programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    flush.wait_for("link_up")
    archive.process.send_signal(signal.SIGSTOP)
    try:
        ids = loopback.record(2)
        flush.wait_for("link_down")
    finally:
        archive.process.send_signal(signal.SIGCONT)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, ids)


def test_a_second_process_on_the_same_folder_is_refused(loopback: Loopback, programs: Programs) -> None:
    programs.archive(loopback.archive_toml)
    programs.flush(loopback.recorder_toml).wait_for("link_up")
    twins: list[Program] = [
        programs.flush(loopback.recorder_toml, name="twin"),
        programs.start(
            "recorderd.app.archive", ["serve", "--config", loopback.archive_toml], name="twin-archive"
        ),
    ]
    for twin in twins:
        assert twin.process.wait(60) == 75
        assert "Another process holds" in twin.text()
