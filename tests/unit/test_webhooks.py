"""Webhooks: told in order, signed, again after an outage, each thing at least once and none left out."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from recorderd.app.webhooks_configuration import WebhookSection, webhooks_problems
from recorderd.archive.audit_log import AuditLog
from recorderd.archive.catalogue import Catalogue
from recorderd.archive.missing_calls import note_missing
from recorderd.archive.webhooks import FIRST_WAIT_S, KINDS, Hook, Teller
from recorderd.core.clock import SystemClock
from recorderd.core.events import EventLog
from recorderd.policy.reconciliation import CallRecord
from recorderd.wire.urls import is_safe_url
from tests.support.audit_logs import ALICE
from tests.support.catalogues import add, entry

SECRET = "between the two of us"
CALL = CallRecord(
    record_id=7,
    call_ids=("1795415.1",),
    caller="+442079460123",
    callee="1001",
    extension="",
    trunk="",
    queue="",
    direction="",
    started_ms=1_795_414_920_000,
    answered_ms=1_795_414_924_000,
    ended_ms=1_795_414_984_000,
    is_answered=True,
)


class Listener:
    """An HTTP server that keeps what it is told, and answers what a test wants."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bytes]] = []
        self.answers: list[int] = []
        self.elsewhere = "/hook"
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                code = listener.answers.pop(0) if listener.answers else 200
                if code == 200:
                    listener.told.append((self.headers["X-Recorder-Signature"], body))
                self.send_response(code)
                if code == 302:
                    self.send_header("Location", listener.elsewhere)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kinds(self) -> list[str]:
        return [json.loads(body)["kind"] for _, body in self.told]


class Scene:
    """A catalogue with a hook."""

    def __init__(self, folder: Path, listener: Listener, *, kinds: tuple[str, ...] = KINDS) -> None:
        self.catalogue = Catalogue(folder / "c.sqlite3")
        self.log = AuditLog(self.catalogue.database, clock=SystemClock())
        self.events = EventLog(logger=logging.getLogger("test.hooks"), clock=SystemClock())
        self.hook = Hook(name="crm", url=listener.url, secret=SECRET, kinds=frozenset(kinds))
        self.number = 0

    def teller(self) -> Teller:
        """Make one as a start of the archive does."""
        teller = Teller(
            self.catalogue.database, self.hook, archive_id="arc-1", clock=SystemClock(), log=self.events
        )
        teller.begin()
        return teller

    def archive(self) -> None:
        self.number += 1
        add(self.catalogue, entry(self.number))


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.server.shutdown()
    listener.server.server_close()


def test_each_deed_is_told_once_signed_and_without_numbers_of_people(
    tmp_path: Path, listener: Listener
) -> None:
    scene = Scene(tmp_path, listener)
    scene.archive()  # before the hook was configured
    teller = scene.teller()
    scene.archive()
    scene.log.note(ALICE, "hold_added", "hold 1", reason="a dispute with +44 1234")
    scene.log.note(ALICE, "recording_erased", "id-1", outcome="refused")
    scene.log.note(ALICE, "recording_played", "id-2")
    scene.log.note(ALICE, "hold_released", "hold 1")
    scene.log.note(ALICE, "recording_erased", "id-1")
    assert teller.step() == 0
    assert teller.step() == 0
    assert listener.kinds() == ["archived", "held", "released", "erased"]
    for header, body in listener.told:
        seconds, digest = (part.partition("=")[2] for part in header.split(","))
        expected = hmac.new(SECRET.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
        assert digest == expected
        assert b"1234" not in body
    first = json.loads(listener.told[0][1])
    assert (first["id"], first["recording"], first["recorder"]) == ("arc-1/recordings/2", "id-2", "rec-1")


@pytest.mark.parametrize("code", [500, 404, 302])
def test_what_was_not_taken_is_told_again_in_order_by_the_next_process_too(
    tmp_path: Path, listener: Listener, code: int
) -> None:
    scene = Scene(tmp_path, listener)
    teller = scene.teller()
    for _ in range(3):
        scene.archive()
    listener.answers = [200, code, code]
    assert teller.step() == FIRST_WAIT_S
    assert teller.step() == 2 * FIRST_WAIT_S
    assert scene.events.counters()["webhook_failed"] == 2
    assert scene.teller().step() == 0
    ids = [json.loads(body)["id"] for _, body in listener.told]
    assert ids == [f"arc-1/recordings/{number}" for number in (1, 2, 3)]


def test_a_hook_that_sends_on_to_nonsense_is_told_again_later(tmp_path: Path, listener: Listener) -> None:
    scene = Scene(tmp_path, listener)
    teller = scene.teller()
    scene.archive()
    listener.answers, listener.elsewhere = [302], "http://[nowhere"
    assert teller.step() == FIRST_WAIT_S
    assert teller.step() == 0
    assert listener.kinds() == ["archived"]


def test_a_hook_that_takes_some_is_not_waited_for_longer_and_longer(
    tmp_path: Path, listener: Listener
) -> None:
    scene = Scene(tmp_path, listener)
    teller = scene.teller()
    for _ in range(6):
        scene.archive()
    listener.answers = [200, 500, 200, 500, 200, 500, 500]
    waits_s = [teller.step() for _ in range(5)]
    assert waits_s == [FIRST_WAIT_S, FIRST_WAIT_S, FIRST_WAIT_S, 2 * FIRST_WAIT_S, 0]
    assert len(listener.told) == 6


def test_a_hook_that_is_away_loses_nothing(tmp_path: Path, listener: Listener) -> None:
    scene = Scene(tmp_path, listener)
    teller = scene.teller()
    listener.server.shutdown()
    listener.server.server_close()
    scene.archive()
    assert teller.step() > 0
    back = Listener()
    scene.hook = Hook(name="crm", url=back.url, secret=SECRET, kinds=frozenset(KINDS))
    assert scene.teller().step() == 0
    back.server.shutdown()
    back.server.server_close()
    assert back.kinds() == ["archived"]


def test_a_hook_hears_only_what_it_wants(tmp_path: Path, listener: Listener) -> None:
    scene = Scene(tmp_path, listener, kinds=("erased",))
    teller = scene.teller()
    scene.archive()
    scene.log.note(ALICE, "recording_erased", "id-1")
    teller.step()
    assert listener.kinds() == ["erased"]


def test_a_call_that_is_found_missing_is_told_once_and_names_nobody(
    tmp_path: Path, listener: Listener
) -> None:
    scene = Scene(tmp_path, listener)
    teller = scene.teller()
    for _ in range(2):  # a report that is made again
        with scene.catalogue.database.write() as connection:
            note_missing(connection, [CALL], found_at="2026-11-24T01:00:00.000Z")
    listener.answers = [503]
    assert teller.step() == FIRST_WAIT_S
    assert scene.teller().step() == 0
    (told,) = (json.loads(body) for _, body in listener.told)
    assert told == {
        "id": "arc-1/missing/1",
        "kind": "missing",
        "at": "2026-11-24T01:00:00.000Z",
        "call": "1795415.1",
        "call_record": 7,
        "started_at": "2026-11-23T06:22:00.000Z",
    }


def test_a_hook_has_a_name_of_its_own() -> None:
    hook = WebhookSection(name="crm", url="https://crm.example/x", secret_file=Path("s"))
    assert list(webhooks_problems([hook])) == []
    assert [problem.key for problem in webhooks_problems([hook, hook])] == ["webhooks[1].name"]


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("https://crm.example/x", True),
        ("http://127.0.0.1:99/x", True),
        ("http://[::1]/x", True),
        ("http://crm.example/x", False),
        ("https://user:word@crm.example/x", False),
        ("http://127.0.0.1@crm.example/x", False),
        ("https://crm.example:99999/", False),
        ("https:///x", False),
        ("file:///etc/passwd", False),
        ("https://crm.example/ x", False),
    ],
)
def test_nothing_is_said_in_clear_over_a_network(url: str, is_safe: bool) -> None:
    assert is_safe_url(url) is is_safe
