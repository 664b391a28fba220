"""Flush throughput against rsync of the same files on the same disk, the disk and bare ZeroMQ, in one run.

All of them end with their files synced. rsync goes over TCP to a daemon, without a cipher, and over SSH, with
one; the flush encrypts, verifies every digest and signature, writes rows and receipts, and deletes what was
sent.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import subprocess
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import zmq

from recorderd.core.ids import new_session_id
from recorderd.flush.curve import make_keypair, public_key_of
from recorderd.spool.layout import Place
from recorderd.wire.manifest import offer_name
from tests.bench.figures import cpu_s
from tests.support.bundles import STARTED_UTC_NS, Loopback, seal, titled
from tests.support.free_ports import free_port
from tests.support.link import archived
from tests.support.programs import Programs, wait_until
from tests.support.sftp_server import SftpServer

LOADS: Final = {"1,000 of 1 MB": (1000, 1_000_000), "one of 2 GB": (1, 2_000_000_000)}
FRAME_BYTES: Final = 4
BLOCK_BYTES: Final = 1 << 20
RAW_BYTES: Final = 1 << 30
CHUNK_BYTES: Final = 1 << 20  # the default of archive.chunk_bytes
GRACE_S: Final = 300.0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder whose gigabytes go when the test ends."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def record(loopback: Loopback, size_bytes: int) -> None:
    """Seal a recording of noise, no two blocks alike."""
    recording_id = new_session_id(STARTED_UTC_NS)
    folder = loopback.spool.begin_draft(recording_id, synced=False)
    noise, left_bytes, number = random.Random(recording_id).randbytes(BLOCK_BYTES), size_bytes, 0
    with wave.open(str(folder / titled(recording_id)), "wb") as audio:
        audio.setparams((2, 2, 8000, 0, "NONE", "not compressed"))
        while left_bytes > 0:
            number += 1
            block = (number.to_bytes(8) + noise[8:])[:left_bytes]
            audio.writeframesraw(block)
            left_bytes -= len(block)
    (folder / offer_name(recording_id, 1)).write_bytes(b"INVITE sip:recorder SIP/2.0\r\n\r\n")
    samples = size_bytes // FRAME_BYTES
    seal(folder, loopback.recorder_signer, recorder_id="rec-1", samples=samples, chain=loopback.chain)
    loopback.spool.publish(recording_id)


def copied(source: Path, target: Path) -> float:
    """Copy files with nothing but read, write and one sync at the end: what the disk gives."""
    begun_s = time.monotonic()
    shutil.copytree(source, target)
    subprocess.run(["sync", "--file-system", str(target)], check=True)
    return time.monotonic() - begun_s


def _answers(address: str) -> bool:
    return subprocess.run(["rsync", address], capture_output=True, check=False).returncode == 0


def rsynced(source: Path, target: Path, *, folder: Path) -> float:
    """Copy files with rsync to a daemon over loopback, every file synced."""
    target.mkdir()
    port, config = free_port(), folder / "rsyncd.conf"
    config.write_text(f"use chroot = no\n[in]\npath = {target}\nread only = no\nuid = {os.getuid()}\n")
    daemon = subprocess.Popen(
        ["rsync", "--daemon", "--no-detach", f"--config={config}", f"--port={port}", "--address=127.0.0.1"]
    )
    address = f"rsync://127.0.0.1:{port}/in/"
    try:
        wait_until(lambda: _answers(address), what="rsyncd listens")
        begun_s = time.monotonic()
        subprocess.run(["rsync", "-a", "-W", "--fsync", f"{source}/", address], check=True)
        return time.monotonic() - begun_s
    finally:
        daemon.terminate()
        daemon.wait(10)


def rsynced_over_ssh(source: Path, target: Path, *, folder: Path) -> float:
    """Copy files with rsync through OpenSSH over loopback, every file synced."""
    target.mkdir()
    server = SftpServer(folder / "sshd")
    shell = f"ssh -p {server.port} -i {server.folder}/client -o StrictHostKeyChecking=no"
    shell += " -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    try:
        begun_s = time.monotonic()
        subprocess.run(
            ["rsync", "-a", "-W", "--fsync", "-e", shell, f"{source}/", f"127.0.0.1:{target}"], check=True
        )
        return time.monotonic() - begun_s
    finally:
        server.stop()


def _pour(port: int, server_public: str, secret: str) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.CURVE_SERVERKEY, server_public.encode())
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())
    socket.setsockopt(zmq.CURVE_PUBLICKEY, public_key_of(secret).encode())
    socket.connect(f"tcp://127.0.0.1:{port}")
    block = os.urandom(CHUNK_BYTES)
    for _ in range(RAW_BYTES // CHUNK_BYTES):
        socket.send_multipart([b"{}", block])
    socket.recv()


def raw_rate() -> float:
    """Measure ZeroMQ with CURVE alone, in the flush's chunks, in bytes per second: nothing is kept."""
    public, server_secret = make_keypair()
    _, client_secret = make_keypair()
    context, port = zmq.Context(), free_port()
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.CURVE_SERVER, 1)
    router.setsockopt(zmq.CURVE_SECRETKEY, server_secret.encode())
    router.bind(f"tcp://127.0.0.1:{port}")
    sender = multiprocessing.get_context("spawn").Process(target=_pour, args=(port, public, client_secret))
    sender.start()
    peer = router.recv_multipart()[0]
    begun_s = time.monotonic()
    for _ in range(RAW_BYTES // CHUNK_BYTES - 1):
        router.recv_multipart(copy=False)
    took_s = time.monotonic() - begun_s
    router.send_multipart([peer, b"done"])
    sender.join(30)
    router.close(linger=0)
    context.term()
    return RAW_BYTES / took_s


def flushed(loopback: Loopback, programs: Programs, count: int) -> tuple[float, float, float]:
    """Flush all; seconds until the last local copy is gone, and the CPU seconds of both programs."""
    archive = programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    flush.wait_for("link_up")
    pids = (flush.process.pid, archive.process.pid)
    before = [cpu_s(pid) for pid in pids]
    begun_s = time.monotonic()
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty", timeout_s=GRACE_S)
    took_s = time.monotonic() - begun_s
    spent = [cpu_s(pid) - already for pid, already in zip(pids, before, strict=True)]
    assert len(archived(loopback)) == count
    return took_s, spent[0], spent[1]


@pytest.mark.parametrize("load", LOADS)
def test_flush_against_rsync_the_disk_and_bare_zeromq(folder: Path, load: str) -> None:
    count, size_bytes = LOADS[load]
    loopback = Loopback(folder / "set-up", chunk_bytes=CHUNK_BYTES, heartbeat_s=5)
    loopback.spool.quota_bytes = 1 << 40
    for _ in range(count):
        record(loopback, size_bytes)
    source = loopback.spool.root / Place.READY
    total_bytes = count * size_bytes
    rows: list[tuple[str, float]] = []
    os.sync()
    copy = folder / "copy"
    for name, work in (
        ("the disk: copy, one sync", lambda: copied(source, copy)),
        ("rsync over TCP, each file synced", lambda: rsynced(source, copy, folder=folder)),
        ("rsync over SSH, each file synced", lambda: rsynced_over_ssh(source, copy, folder=folder)),
    ):
        rows.append((name, total_bytes / work()))
        shutil.rmtree(copy)
        os.sync()
    rows.append(("ZeroMQ with CURVE, nothing kept", raw_rate()))
    programs = Programs(folder)
    try:
        took_s, flush_s, archive_s = flushed(loopback, programs, count)
    finally:
        programs.end()
    rows.append(("flush: encrypted, verified, receipted", total_bytes / took_s))
    print(f"\n{load}: CPU of flush {flush_s:.1f} s, of archive {archive_s:.1f} s")
    for name, rate in rows:
        share = 100 * rows[-1][1] / rate
        print(f"  {name:40} {rate / 1e6:7.0f} MB/s   flush is {share:4.0f} % of it")
