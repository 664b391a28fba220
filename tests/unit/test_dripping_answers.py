"""Systems that the archive asks over HTTP and that drip their answer octet by octet hold nobody for long."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.archive import oidc, webhooks
from recorderd.archive.catalogue import Catalogue
from recorderd.core.clock import SystemClock
from recorderd.core.errors import ProviderFailed
from recorderd.core.events import EventLog
from tests.support.catalogues import add, entry

OCTETS = 200  # ten seconds of them: many times what is waited for here
PAUSE_S = 0.05


class Dripping:
    """A server that begins an answer and then sends an octet of it now and then."""

    def __init__(self, beginning: bytes) -> None:
        self._beginning = beginning
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.was_left = threading.Event()
        threading.Thread(target=self._drip, daemon=True).start()

    def _drip(self) -> None:
        with contextlib.suppress(OSError):
            peer, _ = self._server.accept()
            with peer:
                peer.sendall(self._beginning)
                try:
                    for _ in range(OCTETS):
                        time.sleep(PAUSE_S)
                        peer.sendall(b"x")
                except OSError:
                    self.was_left.set()

    def close(self) -> None:
        """Take no more."""
        self._server.close()


@pytest.fixture(params=[b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
def dripping(request: pytest.FixtureRequest) -> Iterator[Dripping]:
    server = Dripping(request.param)
    yield server
    server.close()


def test_a_webhook_that_drips_is_left_and_told_again_later(
    tmp_path: Path, dripping: Dripping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_TIMEOUT_S", 0.5)
    catalogue = Catalogue(tmp_path / "c.sqlite3")
    hook = webhooks.Hook(name="crm", url=dripping.url, secret="s", kinds=frozenset(webhooks.KINDS))
    log = EventLog(logger=logging.getLogger("test.hooks"), clock=SystemClock())
    teller = webhooks.Teller(catalogue.database, hook, archive_id="arc-1", clock=SystemClock(), log=log)
    teller.begin()
    add(catalogue, entry(1))
    assert teller.step() == webhooks.FIRST_WAIT_S
    assert log.counters() == {"webhook_failed": 1}
    assert dripping.was_left.wait(30)


def test_a_provider_that_drips_keeps_nobody_waiting_at_the_door(
    tmp_path: Path, dripping: Dripping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "_TIMEOUT_S", 0.5)
    settings = oidc.ProviderSettings(
        issuer=dripping.url, client_id="c", client_secret="s", return_url="https://archive.example/back"
    )
    door = oidc.Oidc(Catalogue(tmp_path / "c.sqlite3").database, settings, clock=SystemClock())
    with pytest.raises(ProviderFailed):
        door.begin()
    assert dripping.was_left.wait(30)
