"""The session recording client leaves the connections of its neighbours alone."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.evidence.keys import create_self_signed
from tests.support.sip_client import SipClient

CLIENTS = 20
TRIES = 1000


@pytest.fixture(name="tls_server")
def _tls_server(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A TLS server that takes connections and says nothing."""
    key, certificate = create_self_signed(common_name="recorder.example")
    (tmp_path / "sip.key").write_bytes(key)
    (tmp_path / "sip.pem").write_bytes(certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "sip.pem", tmp_path / "sip.key")
    with contextlib.ExitStack() as taken, socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):  # the test is over
                while True:
                    accepted, _ = listener.accept()
                    taken.enter_context(context.wrap_socket(accepted, server_side=True))

        server = threading.Thread(target=serve, name="tls-server")
        server.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
        server.join()


@pytest.fixture(name="close_quarters")
def _close_quarters() -> Iterator[None]:
    """Let this thread and those it starts share one processor, and take turns at it all the time."""
    ours, interval_s = os.sched_getaffinity(0), sys.getswitchinterval()
    os.sched_setaffinity(0, {min(ours)})
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval_s)
    os.sched_setaffinity(0, ours)


@pytest.mark.usefixtures("close_quarters")
def test_a_client_that_closes_leaves_a_connection_alone_that_takes_its_descriptor(
    tls_server: tuple[str, int],
) -> None:
    for _ in range(CLIENTS):
        before = threading.enumerate()
        descriptor = _next_descriptor()  # the client's
        client = SipClient(server=tls_server, transport="tls")
        (reader,) = [one for one in threading.enumerate() if one.name == "sip-client" and one not in before]
        assert reader.native_id is not None
        # a reader that comes last finds its descriptor in other hands, if that was closed before
        os.sched_setscheduler(reader.native_id, os.SCHED_IDLE, os.sched_param(0))
        closing = threading.Thread(target=client.close, name="closing")
        closing.start()
        with contextlib.ExitStack() as stack:
            neighbour = [stack.enter_context(end) for end in _pair_with(descriptor)]
            closing.join()
            assert not reader.is_alive(), "it reads what is meant for a neighbour"
            assert [octets for end in neighbour if (octets := _waiting(end))] == []


def _next_descriptor() -> int:
    """Say which descriptor the next socket gets."""
    with socket.socket() as probe:
        return probe.fileno()


def _pair_with(descriptor: int) -> tuple[socket.socket, ...]:
    """Open connections until one has a certain descriptor; nothing if it does not become free."""
    for _ in range(TRIES):
        pair = socket.socketpair()
        if descriptor in [end.fileno() for end in pair]:
            return pair
        for end in pair:
            end.close()
    return ()


def _waiting(end: socket.socket) -> bytes:
    """Take what came, if anything did."""
    try:
        return end.recv(1024, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""
