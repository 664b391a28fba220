"""An object that comes over a line that spoils octets is an OSError, as every failure of a bucket is."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from recorderd.archive.bucket import Bucket, BucketSettings
from tests.support.signing_material import loopback_tls

SIZE_BYTES = 100_000
HEAD = f'HTTP/1.1 206 Partial Content\r\nContent-Length: {SIZE_BYTES}\r\nETag: "x"\r\n\r\n'.encode()


class SpoilingServer:
    """Answers over TLS, and flips an octet of its second record on the way."""

    def __init__(self, folder: Path) -> None:
        self.ca_file = folder / "ca.pem"
        self._context = loopback_tls(certificate_file=self.ca_file, key_file=folder / "tls.key")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                with connection:
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secured = self._context.wrap_bio(incoming, outgoing, server_side=True)

        def until_done(work: Callable[[], object]) -> None:
            while True:
                try:
                    work()
                    break
                except ssl.SSLWantReadError:
                    connection.sendall(outgoing.read())
                    incoming.write(connection.recv(1 << 14))

        until_done(secured.do_handshake)
        until_done(lambda: secured.read(1 << 14))
        secured.write(HEAD + bytes(1000))
        connection.sendall(outgoing.read())
        secured.write(bytes(5000))
        record = bytearray(outgoing.read())
        record[50] ^= 1
        connection.sendall(record)
        connection.recv(1 << 14)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SpoilingServer]:
    running = SpoilingServer(tmp_path)
    yield running
    running.close()


def test_a_record_that_is_spoilt_within_an_object_is_an_error_of_the_store(server: SpoilingServer) -> None:
    settings = BucketSettings(
        name="recordings",
        endpoint=f"https://127.0.0.1:{server.port}",
        access_key="us",
        secret_key="a secret",
        ca_file=server.ca_file,
    )
    with pytest.raises(OSError, match="a\\.wav: SSLError") as failed:
        Bucket(settings).read("a.wav", offset_bytes=0, size_bytes=SIZE_BYTES)
    assert "a secret" not in str(failed.value)
