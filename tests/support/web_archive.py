"""An archive with its HTTP interface for tests: recordings near and far, an account for each role."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from starlette.testclient import TestClient

from recorderd.app.archive_configuration import CONTROL_NAME, load_archive_configuration
from recorderd.app.archive_intake import take_drain
from recorderd.app.control import ControlServer
from recorderd.app.web_desk import make_desk
from recorderd.archive.accounts import EVERY_RECORDER, Reaching
from recorderd.archive.audit_log import Actor, AuditRow
from recorderd.archive.catalogue import Entry, entry_of
from recorderd.archive.receipts import make_receipt
from recorderd.archive.web.application import PREFIX, make_application, put_desk
from recorderd.archive.willingness import Willingness
from recorderd.core.clock import Clock, SystemClock
from recorderd.core.conditions import Power, PowerState
from recorderd.core.events import EventLog
from recorderd.evidence.digest import sha256_bytes
from recorderd.policy.access import Action, Role
from recorderd.wire.manifest import encode_manifest, manifest_name, parse_manifest
from tests.support.bundles import ChainHead, Loopback, folder_digests, make_recording
from tests.support.programs import wait_until

ROOT: Final = Actor(name="cli:root")
PASSWORD: Final = "correct horse battery"
ADDRESS: Final = "192.0.2.7"
# Whose recordings: by recorder, extension and queue.
PLACES: Final = {
    "own": ("rec-1", "1001", ""),
    "group": ("rec-1", "2001", ""),
    "queue": ("rec-1", "9001", "sales"),
    "site": ("rec-1", "3001", ""),
    "foreign": ("rec-2", "1001", "sales"),
}
ACCOUNTS: Final = {
    Role.USER: Reaching(extensions=("rec-1:1001",)),
    Role.SUPERVISOR: Reaching(extensions=("rec-1:1001",), groups=("sales",)),
    Role.ADMINISTRATOR: Reaching(recorders=("rec-1",)),
    Role.AUDITOR: Reaching(extensions=("rec-1:1001",), groups=("sales",), recorders=("rec-1",)),
}
HTTP: Final = """
[http]
address = "127.0.0.1"
port = 0
certificate_file = "web.cert.pem"
key_file = "web.key.pem"
requests_per_minute = {per_minute}
[access]
reason_tags = ["sensitive"]
"""


class WebArchive:
    """One archive, asked without a network."""

    def __init__(
        self, folder: Path, *, per_minute: int = 100_000, clock: Clock | None = None, extra: str = ""
    ) -> None:
        self.loopback = Loopback(folder)
        text = self.loopback.archive_toml.read_text()
        self.loopback.archive_toml.write_text(text + HTTP.format(per_minute=per_minute) + extra)
        configuration = load_archive_configuration(self.loopback.archive_toml)
        assert configuration.http is not None
        self.run_dir = configuration.archive.run_dir
        clock = clock or SystemClock()
        self.log = EventLog(logger=logging.getLogger("test.web"), clock=clock)
        self.desk = make_desk(configuration, configuration.http, clock=clock, log=self.log)
        self.app = make_application(log=self.log, clock=clock, requests_per_minute=per_minute)
        put_desk(self.app, self.desk)
        self.tokens: dict[tuple[Role, bool], str] = {}
        self.chief_token = ""
        self.chain = ChainHead()

    def client(self, token: str = "") -> TestClient:
        """Make a client; with a token it is known."""
        client = TestClient(
            self.app,
            base_url="https://archive",
            raise_server_exceptions=False,
            client=(ADDRESS, 50_000),
            follow_redirects=False,
        )
        if token:
            client.headers["Authorization"] = f"Bearer {token}"
        return client

    def add_accounts(self) -> None:
        """Make an account of each role, and one more of each with the second right; each has a token."""
        accounts = self.desk.accounts
        accounts.set_group(ROOT, "sales", extensions=["rec-1:2001"], queues=["rec-1:sales"])
        for role, reaching in ACCOUNTS.items():
            for second in (False, True):
                name = f"{role.value}{'-cleared' if second else ''}"
                accounts.add(ROOT, name, role, reaching, second_right=second)
                _, token = accounts.add_token(ROOT, name, name="test", scopes=list(Action), days=1)
                self.tokens[role, second] = token

    def known(self, role: Role, *, second: bool = False) -> TestClient:
        """Make a client of an account."""
        return self.client(self.tokens[role, second])

    def chief(self) -> TestClient:
        """Make a client of an administrator of every recorder, to whom nothing is restricted."""
        accounts = self.desk.accounts
        if not self.chief_token:
            reaching = Reaching(recorders=(EVERY_RECORDER,))
            accounts.add(ROOT, "chief", Role.ADMINISTRATOR, reaching, second_right=True)
            _, self.chief_token = accounts.add_token(ROOT, "chief", name="test", scopes=list(Action), days=1)
        return self.client(self.chief_token)

    def record(self, place: str = "own", *, tags: tuple[str, ...] = (), duration_s: float = 0.1) -> Entry:
        """Put a recording into store and catalogue."""
        recorder_id, extension, queue = PLACES[place]
        spool = self.loopback.spool
        recording_id = make_recording(
            spool,
            self.loopback.recorder_signer,
            recorder_id=recorder_id,
            chain=self.chain,
            duration_s=duration_s,
            seed=self.chain.sequence,
        )
        folder = next(spool.root.glob(f"ready/{recording_id}"))
        path = folder / manifest_name(recording_id)
        manifest = parse_manifest(path.read_bytes())
        manifest = replace(manifest, call=replace(manifest.call, extension=extension, queue=queue))
        path.write_bytes(encode_manifest(manifest))
        target = f"store/2026/11/23/{recording_id}"
        (self.desk.store.root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, self.desk.store.root / target)
        row = entry_of(
            manifest,
            manifest_sha256=sha256_bytes(encode_manifest(manifest)),
            size_bytes=1,
            path=target,
            archived_at=manifest.ended_at,
        )

        def receipt(number: int) -> bytes:
            return make_receipt(
                recording_id=recording_id,
                recorder_id=recorder_id,
                manifest_sha256=row.manifest_sha256,
                sha256s=folder_digests(self.desk.store.root / target),
                archive_id="arc-1",
                sequence=number,
                archived_utc_ns=SystemClock().utc_ns(),
                signer=self.loopback.archive_signer,
            )

        ((entry, _),) = self.desk.catalogue.add_all([(row, receipt)])
        for tag in tags:
            self.desk.annotations.add_tag(entry.row_id, tag, who="test", at=manifest.ended_at)
        return entry

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let jobs be done, and a daemon's control socket say what is taken."""
        stop, desk = threading.Event(), self.desk
        willingness = Willingness(
            desk.store.own,
            keep_free_bytes=0,
            power=lambda: Power(state=PowerState.ON_LINE, reason="mains"),
            log=self.log,
        )

        def answer(request: dict[str, Any]) -> dict[str, Any]:
            if request["command"] == "drain":
                return take_drain(request, willingness)
            willingness.look(time.monotonic_ns())
            return {"intake": willingness.describe()}

        control = ControlServer(self.run_dir / CONTROL_NAME, answer, log=self.log)
        threads = [control.start(stop)]
        for name, work in desk.jobs.loops().items():
            threads.append(threading.Thread(target=work, args=(stop,), name=name, daemon=True))
            threads[-1].start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
            control.close()

    def ended(self, response: Any) -> dict[str, Any]:
        """Wait for the job that an answer has begun; give it as it ended."""
        assert response.status_code == 202, response.text
        path, client = response.headers["location"], self.chief()
        wait_until(lambda: client.get(path).json()["state"] != "running", what=path, timeout_s=120)
        told: dict[str, Any] = client.get(path).json()
        return told

    def newest(self) -> AuditRow:
        """Give the newest row of the audit log."""
        (row,) = self.desk.audit_log.rows(limit=1)
        return row

    def events(self) -> dict[str, int]:
        """Count events."""
        return self.log.counters()


@contextmanager
def quick_folder() -> Iterator[Path]:
    """Give a folder in memory, where there is one: many small transactions, whose sync is not in question."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="archive-") as name:
        yield Path(name)


def at(entry: Entry, rest: str = "") -> str:
    """Give the path of a recording."""
    return f"{PREFIX}/recordings/{entry.recorder_id}/{entry.id}{rest}"


def problem(response: Any) -> str:
    """Read a problem's kind; whatever fails must be one."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    told = response.json()
    assert told["status"] == response.status_code
    return str(told["type"]).rpartition(":")[2]
