"""Authorities that answer, drip, lie or are not there."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest

from recorderd.core.errors import AuthorityRefused
from recorderd.evidence.timestamp import TIMESTAMP_MAX_BYTES
from recorderd.evidence.verify import TrustStore
from recorderd.flush.authority import Authority, ask_authority
from tests.support.free_ports import free_port
from tests.support.programs import ROOT
from tests.support.stamped import (
    QUERY,
    ask,
    authority,
    machine,
)
from tests.support.tsa import Answer, StampingMachine, TimeAuthority

pytestmark = pytest.mark.timeout(90)
__all__ = ["authority", "machine"]


def test_the_answer_comes_as_it_was_given(authority: TimeAuthority) -> None:
    assert ask(authority) == (authority.machine.folder / "r.tsr").read_bytes()
    assert authority.queries == [QUERY]


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (Answer(kind="text/html", body=b"<html>welcome to the hotel</html>"), "text/html"),
        (Answer(body=bytes(TIMESTAMP_MAX_BYTES + 1)), "longer than"),
        (Answer(body=bytes(50 << 20)), "longer than"),
        (Answer(status=302, headers=(("Location", "http://127.0.0.1:1/"),)), "302"),
        (Answer(status=503), "503"),
        (Answer(headers=(("Long", "x" * 70_000),)), "LineTooLong"),
        (None, "RemoteDisconnected"),
    ],
)
def test_what_is_no_answer_is_refused_in_clear_words(
    authority: TimeAuthority, answer: Answer | None, word: str
) -> None:
    authority.behave = lambda _: answer
    with pytest.raises(AuthorityRefused, match=word) as caught:
        ask(authority)
    assert authority.url in str(caught.value)
    assert len(authority.queries) == 1  # no redirect was followed


@pytest.mark.parametrize("pause_s", [0.1, 600.0])  # this test would be over before the second octet comes
def test_an_answer_that_drips_is_given_up_at_the_deadline(authority: TimeAuthority, pause_s: float) -> None:
    authority.behave = lambda _: Answer(body=bytes(2000), pause_s=pause_s)
    with pytest.raises(AuthorityRefused, match="within 1 s"):
        ask(authority, timeout_s=1)


def test_headers_that_drip_are_given_up_at_the_deadline(machine: StampingMachine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            peer, _ = server.accept()
            with peer, pytest.raises(OSError):
                peer.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while True:
                    peer.sendall(b"x")
                    time.sleep(0.1)

        thread = threading.Thread(target=drip)
        thread.start()
        asked = Authority(
            url=f"http://127.0.0.1:{server.getsockname()[1]}/", trust=TrustStore([]), timeout_s=1
        )
        with pytest.raises(AuthorityRefused, match="within 1 s"):
            ask_authority(asked, QUERY)
        thread.join(5)
        assert not thread.is_alive()


def test_nobody_there_is_said_plainly() -> None:
    asked = Authority(url=f"http://127.0.0.1:{free_port()}/", trust=TrustStore([]), timeout_s=1)
    with pytest.raises(AuthorityRefused, match="refused"):
        ask_authority(asked, QUERY)


def test_recorderd_does_not_even_load_what_asks_authorities() -> None:
    code = "import sys, recorderd.app.recorderd as _; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert "recorderd.app.stamps_configuration" in loaded
    assert not {"rfc3161_client", "recorderd.flush.authority", "recorderd.flush.stamping"} & set(loaded)


# --- recordings ---------------------------------------------------------------------------------------


def test_a_server_that_nobody_vouches_for_gets_no_password(machine: StampingMachine) -> None:
    with TimeAuthority(machine, user="bank", password="secret", tls=True) as authority:
        asked = Authority(
            url=authority.url,
            trust=TrustStore([]),
            timeout_s=5,
            user="bank",
            password="secret",
            tls=ssl.create_default_context(),
        )
        with pytest.raises(AuthorityRefused, match="CERTIFICATE_VERIFY_FAILED") as caught:
            ask_authority(asked, QUERY)
        assert "secret" not in repr(asked) + str(caught.value)
        assert authority.queries == []
