"""What the tests of the link share: a client that says whatever a test wants, and a look at the archive."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import zmq

from recorderd.app.control import ask
from recorderd.archive.catalogue import Catalogue, Entry
from recorderd.archive.verification import verify_bundle
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.verify import TrustStore
from recorderd.flush.curve import public_key_of
from recorderd.flush.parcel import list_files
from recorderd.wire import frames as f
from tests.support.bundles import Loopback
from tests.support.programs import ROOT


class RawClient:
    """A DEALER with the recorder's key that says whatever a test wants."""

    def __init__(self, loopback: Loopback, *, secret: str = "") -> None:
        secret = secret or loopback.recorder_secret
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 10_000)
        self._socket.setsockopt(zmq.SNDTIMEO, 30_000)
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

    def receive(self, *, timeout_ms: int = 30_000) -> f.FlushMessage | None:
        """Take the next message that answers something, or None when none comes."""
        while self._socket.poll(timeout_ms):
            message = f.parse_message(self._socket.recv_multipart())
            if not isinstance(message, f.Allowance):
                return message
        return None

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


def archive_command(loopback: Loopback, *arguments: str | Path, check: bool = True) -> str:
    """Run one of recorder-archive's commands for people."""
    code = "import sys; from recorderd.app.archive import main; sys.exit(main())"
    head, *rest = map(str, arguments)
    command = [sys.executable, "-c", code, head, "--config", str(loopback.archive_toml), *rest]
    return subprocess.run(
        command, check=check, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, timeout=30
    ).stdout


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
