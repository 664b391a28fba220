"""recorderd-flush and recorder-archive as processes over loopback TCP with CURVE; nothing is simulated."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from recorderd.app.control import ask
from recorderd.archive.catalogue import Catalogue, Entry
from recorderd.archive.verification import verify_bundle
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.verify import TrustStore
from recorderd.flush.curve import make_keypair, public_key_of
from recorderd.flush.parcel import list_files
from recorderd.spool.layout import Place
from recorderd.wire import frames as f
from recorderd.wire.manifest import audio_name, manifest_name, signature_name
from tests.support.bundles import Loopback, folder_digests, make_recording, seal
from tests.support.programs import ROOT, Program, Programs, wait_until

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def loopback(tmp_path: Path) -> Loopback:
    return Loopback(tmp_path / "set-up")


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    started = Programs(tmp_path)
    yield started
    started.end()


class RawClient:
    """A DEALER with the recorder's key that says whatever a test wants."""

    def __init__(self, loopback: Loopback, *, secret: str = "") -> None:
        secret = secret or loopback.recorder_secret
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 2000)
        self._socket.setsockopt(zmq.SNDTIMEO, 5000)
        self._socket.setsockopt(zmq.CURVE_SERVERKEY, loopback.archive_public.encode())
        self._socket.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())
        self._socket.setsockopt(zmq.CURVE_PUBLICKEY, public_key_of(secret).encode())
        self._socket.connect(f"tcp://127.0.0.1:{loopback.port}")

    def send(self, message: f.FlushMessage) -> None:
        """Send a message."""
        self._socket.send_multipart(f.encode_message(message))

    def send_raw(self, *parts: bytes) -> None:
        """Send any frames."""
        self._socket.send_multipart(parts)

    def receive(self, *, timeout_ms: int = 5000) -> f.FlushMessage | None:
        """Take the next message, or None when none comes."""
        if not self._socket.poll(timeout_ms):
            return None
        return f.parse_message(self._socket.recv_multipart())

    def offer(self, folder: Path) -> f.Offer:
        """Offer a recording's folder."""
        offer = f.Offer(recording_id=folder.name, files=list_files(folder))
        self.send(offer)
        return offer

    def send_piece(self, folder: Path, credit: f.Credit, *, size_bytes: int = 1 << 20) -> None:
        """Send the next piece that the archive asks for."""
        content = (folder / credit.name).read_bytes()[credit.offset_bytes :][:size_bytes]
        self.send(chunk_of(credit, content))

    def deliver(self, folder: Path) -> f.FlushMessage | None:
        """Offer and send everything; return the answer that is no credit."""
        offer = self.offer(folder)
        sizes = {entry.name: entry.size_bytes for entry in offer.files}
        while isinstance(answer := self.receive(), f.Credit):
            if answer.offset_bytes < sizes[answer.name]:
                self.send_piece(folder, answer)
        return answer

    def close(self) -> None:
        """Leave, once what was sent is on its way."""
        self._socket.close()
        self._context.term()


def chunk_of(credit: f.Credit, content: bytes, **changes: Any) -> f.Chunk:
    """Make the chunk that a credit asks for, with some fields changed."""
    fields: dict[str, Any] = {
        "recording_id": credit.recording_id,
        "name": credit.name,
        "offset_bytes": credit.offset_bytes,
        "sha256": sha256_bytes(content),
        "payload": content,
    }
    return f.Chunk(**{**fields, **changes})


def entries(loopback: Loopback) -> list[Entry]:
    path = loopback.data_dir / "catalogue.sqlite3"
    return Catalogue(path, read_only=True).all() if path.exists() else []


def archived(loopback: Loopback) -> list[str]:
    return sorted(entry.id for entry in entries(loopback))


def events(loopback: Loopback, program: str) -> dict[str, int]:
    sock = {"flush": "run/flush.sock", "archive": "run-archive/archive.sock"}[program]
    counters: dict[str, int] = ask(loopback.root / sock, {"command": "status"})["events"]
    return counters


def assert_kept(loopback: Loopback, ids: list[str]) -> None:
    """Every recording stands in the store exactly once and verifies."""
    trust = TrustStore.from_files([loopback.root / "recorder.cert.pem"])
    assert archived(loopback) == sorted(ids)
    folders = sorted((loopback.data_dir / "store").glob("*/*/*/*"))
    assert sorted(folder.name for folder in folders) == sorted(ids)
    for folder in folders:
        assert verify_bundle(folder, trust).findings == ()


def archive_command(loopback: Loopback, *arguments: str | Path) -> str:
    """Run one of recorder-archive's commands for people."""
    code = "import sys; from recorderd.app.archive import main; sys.exit(main())"
    head, *rest = map(str, arguments)
    command = [sys.executable, "-c", code, head, "--config", str(loopback.archive_toml), *rest]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, timeout=30
    ).stdout


# --- the way it should be ---------------------------------------------------------------------------


def test_recordings_arrive_once_verified_and_leave_the_spool(loopback: Loopback, programs: Programs) -> None:
    archive = programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    ids = loopback.record(5)
    ids += loopback.record(1, duration_s=30)
    before = folder_digests(loopback.spool.path(Place.READY, ids[-1]))
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, ids)
    assert {entry.chain for entry in entries(loopback)} == {"linked"}
    rows = json.loads(archive_command(loopback, "list", "--json"))
    row = next(row for row in rows if row["id"] == ids[-1])
    assert (row["duration_s"], row["channels"], row["sample_rate_hz"], row["state"]) == (
        30,
        2,
        8000,
        "archived",
    )
    assert (row["caller"], row["callee"], row["call_id"]) == ("1001", "1002", f"call-{ids[-1]}")
    assert ids[-1] in archive_command(loopback, "show", ids[-1])
    archive_command(loopback, "export", ids[-1], "--out", loopback.root / "export")
    assert folder_digests(loopback.root / "export") == before
    assert flush.stop() == 0
    assert archive.stop() == 0


def test_a_copy_stays_for_the_local_grace_with_its_receipt(tmp_path: Path, programs: Programs) -> None:
    loopback = Loopback(tmp_path / "set-up", local_grace_s=1000)
    programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    (recording_id,) = loopback.record()
    flush.wait_for("receipt_verified", recording_id)
    flush.stop()
    stored = loopback.spool.path(Place.CLAIMED, recording_id) / "receipt.json"
    written_ns = stored.stat().st_mtime_ns
    again = programs.flush(loopback.recorder_toml)
    again.wait_for("link_up")
    wait_until(lambda: status(loopback).get("states") == {"archived": 1}, what="adopted as archived")
    assert stored.read_bytes() == entries(loopback)[0].receipt
    assert stored.stat().st_mtime_ns == written_ns  # the grace does not begin again
    assert again.text().count("offered") == 0


def status(loopback: Loopback) -> dict[str, Any]:
    return ask(loopback.root / "run/flush.sock", {"command": "status"})


# --- keys -------------------------------------------------------------------------------------------


def test_an_unknown_client_key_is_refused_until_it_is_listed(loopback: Loopback, programs: Programs) -> None:
    listed = loopback.recorder_secret
    _, loopback.recorder_secret = make_keypair()
    (loopback.root / "recorder.curve").write_text(loopback.recorder_secret)
    archive = programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    ids = loopback.record(2)
    flush.wait_for("link_refused", "does not know our key")
    archive.wait_for("client_refused", "not listed")
    assert events(loopback, "flush")["link_refused"] >= 1
    assert events(loopback, "archive")["client_refused"] >= 1
    assert status(loopback)["link"] == "down"
    assert not archived(loopback)
    flush.stop()
    assert sum(loopback.left_in_spool().values()) == 2
    (loopback.root / "recorder.curve").write_text(listed)
    programs.flush(loopback.recorder_toml)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, ids)


def test_a_server_that_is_not_our_archive_gets_nothing(loopback: Loopback, programs: Programs) -> None:
    archive = programs.archive(loopback.archive_toml)
    right = loopback.archive_public
    loopback.archive_public, _ = make_keypair()
    loopback.write()
    flush = programs.flush(loopback.recorder_toml)
    ids = loopback.record(1)
    flush.wait_for("link_refused")
    archive.wait_for("client_refused", "handshake")
    assert loopback.left_in_spool() == {"ready": 1}
    flush.stop()
    loopback.archive_public = right
    loopback.write()
    programs.flush(loopback.recorder_toml)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, ids)


def test_a_key_speaks_for_one_recorder_only(loopback: Loopback, programs: Programs) -> None:
    archive = programs.archive(loopback.archive_toml)
    foreign = make_recording(loopback.spool, loopback.recorder_signer, recorder_id="rec-2")
    client = RawClient(loopback)
    client.send(f.Hello(recorder_id="rec-2"))
    assert isinstance(client.receive(), f.Unwelcome)
    client.send(f.Hello(recorder_id="rec-1"))
    assert client.receive() == f.Welcome(archive_id="arc-1")
    answer = client.deliver(loopback.spool.path(Place.READY, foreign))
    assert isinstance(answer, f.Refused) and (answer.code, answer.retryable) == ("not_yours", False)
    archive.wait_for("recording_rejected", foreign, "not_yours")
    client.close()
    assert not archived(loopback)


# --- evidence that does not hold ----------------------------------------------------------------------


def test_bad_evidence_is_rejected_kept_and_disturbs_nothing_else(
    loopback: Loopback, programs: Programs
) -> None:
    altered, resigned, reordered, *good = loopback.record(5, duration_s=1)
    flip(loopback.spool.path(Place.READY, altered) / audio_name(altered), -1)
    flip(loopback.spool.path(Place.READY, resigned) / signature_name(audio_name(resigned)), -1)
    folder = loopback.spool.path(Place.READY, reordered)
    manifest = folder / manifest_name(reordered)
    manifest.write_bytes(manifest.read_bytes().replace(b'"caller":"1001"', b'"caller":"1009"'))
    originals = {name: folder_digests(loopback.spool.path(Place.READY, name)) for name in (altered, resigned)}
    archive = programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    for name, code in ((altered, "digest"), (resigned, "signature"), (reordered, "signature")):
        archive.wait_for("recording_rejected", name, f"code={code}")
        flush.wait_for("recording_quarantined", name, code)
    wait_until(lambda: loopback.left_in_spool() == {"quarantine": 3}, what="the good ones have gone")
    assert_kept(loopback, good)
    for name, original in originals.items():
        quarantined = folder_digests(loopback.spool.path(Place.QUARANTINE, name))
        assert quarantined.pop("reason.txt")
        assert quarantined == original
    rejected = folder_digests(loopback.data_dir / "rejected" / "rec-1" / f"{resigned}.1")
    assert rejected.pop("reason.txt")
    assert rejected == originals[resigned]
    assert events(loopback, "archive")["recording_rejected"] == 3


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_an_unknown_signer_waits_for_his_certificate(loopback: Loopback, programs: Programs) -> None:
    recording_id = make_recording(loopback.spool, loopback.stranger_signer)
    archive = programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    flush.wait_for("offer_refused", recording_id, "signer_unknown", "retryable=True")
    assert not archived(loopback)
    assert loopback.left_in_spool() == {"claimed": 1}
    archive.stop()
    shutil.copy(loopback.root / "stranger.cert.pem", loopback.root / "recorder.cert.pem")
    second = programs.archive(loopback.archive_toml)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert "found_bytes=0" not in second.text()  # the parts of the first offer were used
    assert_kept(loopback, [recording_id])


def test_a_broken_chain_is_recorded_and_the_recording_kept(loopback: Loopback, programs: Programs) -> None:
    archive = programs.archive(loopback.archive_toml)
    ids = loopback.record(2)
    loopback.chain.manifest_sha256 = "f" * 64  # as if one manifest had been exchanged
    ids += loopback.record(1)
    loopback.chain.sequence += 1  # as if one recording had been removed
    ids += loopback.record(1)
    programs.flush(loopback.recorder_toml)
    archive.wait_for("chain_broken", ids[2])
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, ids)
    chains = {entry.id: entry.chain for entry in entries(loopback)}
    assert [chains[name] for name in ids] == ["linked", "linked", "broken", "pending"]


def test_a_receipt_by_a_stranger_releases_nothing(loopback: Loopback, programs: Programs) -> None:
    receipt = loopback.archive_toml.read_text().replace("archive.key", "stranger.key")
    loopback.archive_toml.write_text(receipt.replace("archive.cert", "stranger.cert"))
    programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    (recording_id,) = loopback.record()
    flush.wait_for("receipt_refused", recording_id)
    wait_until(lambda: events(loopback, "flush").get("receipt_refused", 0) >= 2, what="offered again")
    flush.stop()
    assert loopback.left_in_spool() == {"claimed": 1}
    assert loopback.spool.receipt(recording_id) is None


def test_a_broken_folder_goes_to_quarantine_and_the_rest_goes_on(
    loopback: Loopback, programs: Programs
) -> None:
    empty, short, surplus, strange, good = loopback.record(5)
    ready = {name: loopback.spool.path(Place.READY, name) for name in (empty, short, surplus, strange)}
    (ready[empty] / manifest_name(empty)).unlink()
    audio = ready[short] / audio_name(short)
    audio.write_bytes(audio.read_bytes()[:-1])
    (ready[surplus] / "notes.txt").write_text("not in the manifest")
    (ready[strange] / manifest_name(strange)).write_bytes(b'{"manifest_version":"\\ud800"}')
    loopback.spool.claim(short)  # as an earlier process would have left it
    programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    for name in ready:
        flush.wait_for("recording_quarantined", name)
    wait_until(lambda: loopback.left_in_spool() == {"quarantine": 4}, what="four in quarantine")
    assert_kept(loopback, [good])


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
    if how == "at start":
        archive.stop()
    with sqlite3.connect(loopback.data_dir / "catalogue.sqlite3") as database:  # as the cut would leave it
        database.execute("DELETE FROM recordings")
    note = loopback.data_dir / "incoming" / "rec-1" / f"{recording_id}.target"
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
        assert twin.process.wait(20) == 75
        assert "Another process holds" in twin.text()
