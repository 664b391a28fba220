"""Many connections, slow clients: each is left after its time and counted; others are answered meanwhile."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from recorderd.archive.audit_log import AuditFilter
from recorderd.archive.web.application import PREFIX, make_application, put_desk
from recorderd.archive.web.limits import Patience
from recorderd.archive.web.patience import OF_ONE_ADDRESS_MAX
from recorderd.archive.web.serving import serve_https
from recorderd.core.clock import SystemClock
from recorderd.policy.access import Role
from tests.support.programs import wait_until
from tests.support.web_archive import WebArchive, at

PATIENCE = Patience(headers_s=2.0, body_s=1.0, slowest_bytes_per_s=1 << 20, answer_s=2.0)


@dataclass
class Besieged:
    """An archive that listens, and its address."""

    archive: WebArchive
    address: str
    trust: ssl.SSLContext
    connected_when_ready: int

    def connect(self) -> ssl.SSLSocket:
        """Open a connection."""
        host, _, port = self.address.removeprefix("https://").rpartition(":")
        return self.trust.wrap_socket(socket.create_connection((host, int(port)), 30), server_hostname=host)

    def answers(self) -> bool:
        """Tell whether somebody who behaves is served."""
        with httpx.Client(base_url=self.address, verify=self.trust, timeout=30) as client:
            headers = {"Authorization": f"Bearer {self.archive.tokens[Role.USER, False]}"}
            return client.get(f"{PREFIX}/recordings", headers=headers).status_code == 200

    def limited(self) -> int:
        """Count those who were left."""
        return self.archive.events().get("http_limited", 0)


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    folder = tmp_path_factory.mktemp("siege")
    archive = WebArchive(folder)
    archive.add_accounts()
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout web.key.pem -out "
    make += "web.cert.pem -days 2 -subj /CN=archive -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(make.split(), cwd=folder, check=True, capture_output=True)
    key = folder / "web.key.pem"
    key.chmod(0o600)
    app = make_application(
        log=archive.log, clock=SystemClock(), requests_per_minute=10_000, patience=PATIENCE
    )
    put_desk(app, archive.desk)
    addresses: list[str] = []
    accepted: list[int] = []
    stop = threading.Event()

    def ready(address: str) -> None:
        host, _, port = address.removeprefix("https://").rpartition(":")
        with socket.socket() as early:
            accepted.append(early.connect_ex((host, int(port))))
        addresses.append(address)

    server = threading.Thread(
        target=lambda: serve_https(
            app,
            address="127.0.0.1",
            port=0,
            certificate_file=folder / "web.cert.pem",
            key_file=key,
            stop=stop,
            ready=ready,
            log=archive.log,
            patience=PATIENCE,
        )
    )
    server.start()
    wait_until(lambda: bool(addresses), what="the server to listen")
    trust = ssl.create_default_context(cafile=folder / "web.cert.pem")
    yield Besieged(archive, addresses[0], trust, accepted[0])
    stop.set()
    server.join(30)


def is_closed(connection: ssl.SSLSocket) -> bool:
    """Wait for the other side's end."""
    connection.settimeout(60)
    try:
        while connection.recv(65_536):
            pass
    except (ConnectionResetError, ssl.SSLEOFError):
        return True
    except TimeoutError:
        return False
    return True


def test_whoever_reads_that_it_is_ready_can_connect(besieged: Besieged) -> None:
    assert besieged.connected_when_ready == 0


@pytest.mark.parametrize(
    ("sent", "counted"),
    [
        (b"", 10),
        (b"GET /api/v1/status HTTP/1.1\r\nHost: a", 10),
        (b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: a\r\n\r\nGET /", 0),  # kept open for a while, as any
    ],
    ids=["nothing", "half a header", "a request, then half of one"],
)
def test_who_does_not_ask_to_the_end_is_left(besieged: Besieged, sent: bytes, counted: int) -> None:
    before = besieged.limited()
    connections = []
    for _ in range(10):  # none waits until the others are there: its time runs
        connections.append(besieged.connect())
        connections[-1].sendall(sent)
    assert besieged.answers()
    assert all(is_closed(connection) for connection in connections)
    assert besieged.limited() - before == counted
    assert besieged.answers()


def test_a_body_that_comes_a_letter_at_a_time_is_given_up(besieged: Besieged) -> None:
    entry, token = besieged.archive.record("own"), besieged.archive.tokens[Role.USER, False]
    before = besieged.limited()
    connection = besieged.connect()
    head = f"POST {at(entry, '/notes')} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
    connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 9000\r\n\r\n{{".encode())
    for _ in range(3):
        connection.sendall(b" ")
        assert besieged.answers()
    connection.settimeout(60)
    assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert besieged.limited() - before == 1
    assert besieged.archive.known(Role.USER).get(at(entry, "/notes")).json() == []
    connection.close()


def test_who_leaves_in_the_midst_of_a_file_is_noted_and_no_mistake_of_ours(besieged: Besieged) -> None:
    archive = besieged.archive
    archive.chief()
    before = archive.events().get("internal_error", 0)
    connection = besieged.connect()
    head = f"POST {PREFIX}/call-records?source=Master.csv HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n"
    connection.sendall(f"{head}Authorization: Bearer {archive.chief_token}\r\n\r\n1001,1002".encode())
    connection.close()
    noted = AuditFilter(what="call_records_imported")
    wait_until(lambda: _ended(archive, before, noted), what="the request ends")
    (row,) = archive.desk.audit_log.rows(noted)
    assert (row.outcome, row.detail) == ("refused", "the client left")
    assert archive.events().get("internal_error", 0) == before


def _ended(archive: WebArchive, before: int, noted: AuditFilter) -> bool:
    return bool(archive.desk.audit_log.rows(noted)) or archive.events().get("internal_error", 0) > before


def test_who_does_not_read_the_answer_holds_no_encoder_and_no_file_for_long(besieged: Besieged) -> None:
    entry = besieged.archive.record("own", duration_s=400)  # more than sockets hold
    token, before = besieged.archive.tokens[Role.USER, False], besieged.limited()
    connections = []
    for form in ("wav", "wav", "flac"):
        connection = besieged.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"GET {at(entry, f'/audio?format={form}')} HTTP/1.1\r\nHost: a\r\n"
        connection.sendall(f"{head}Authorization: Bearer {token}\r\n\r\n".encode())
        connections.append(connection)
    assert besieged.answers()
    wait_until(
        lambda: besieged.limited() - before >= 2, what="those who do not read to be left", timeout_s=60
    )
    assert besieged.archive.events().get("internal_error", 0) == 0
    for connection in connections:
        connection.close()
    assert besieged.answers()


def test_one_address_has_so_many_connections_and_no_more(besieged: Besieged) -> None:
    before = besieged.limited()
    connections = [besieged.connect() for _ in range(OF_ONE_ADDRESS_MAX + 10)]
    wait_until(lambda: besieged.limited() - before >= 10, what="the eleventh hour", timeout_s=60)
    assert sum(is_closed(connection) for connection in connections[OF_ONE_ADDRESS_MAX:]) == 10
    for connection in connections:
        connection.close()
    wait_until(besieged.answers, what="room for others", timeout_s=60)


def test_connections_that_never_begin_tls_keep_nobody_out(besieged: Besieged) -> None:
    host, _, port = besieged.address.removeprefix("https://").rpartition(":")
    connections = [socket.create_connection((host, int(port)), 30) for _ in range(300)]
    for connection in connections[::2]:
        connection.sendall(b"\x16\x03\x01")  # the beginning of a greeting
    assert besieged.answers()
    for connection in connections:
        connection.close()
