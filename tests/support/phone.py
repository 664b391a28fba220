"""Real SIP phones for tests: register at the exchange, call, answer by themselves, say one pure tone.

Rule: a phone is one child process (``tests.support.softphone``); it ends with its stdin or its test run.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.support.asterisk import TRUNK_ADDR, Exchange, password, served_first
from tests.support.free_ports import LOOPBACK

CHECKOUT: Final = Path(__file__).parents[2]
POLL_S: Final = 0.01
QUIT_TIMEOUT_S: Final = 5.0

Event = dict[str, Any]


class PhoneError(Exception):
    """A phone did not do what a test needs; the message ends with the tail of its log."""


class Phone:
    """A phone of an exchange's account; ``registered`` is the first thing to wait for (``with`` does).

    With ``trunk`` it is the far end of the exchange's trunk instead: any number, no registration.
    Events: registered, unregistered, refused, ready (trunk), incoming (``raw``: the INVITE), confirmed,
    media, tone, ended, message (``raw``: a SIP MESSAGE; ``body``),
    recorded (``record``: a WAV file with what the peer said, complete; only with ``record_dir``).
    Each has ``at_mono_ns``; those of a call also ``call``, ``sip_call_id`` and ``remote``.
    """

    def __init__(
        self, name: str, exchange: Exchange, tone_hz: int, *, codec: str = "PCMA", transport: str = "udp",
        level_dbfs: float = -12.0, answer_after_ms: int = 0, answer_code: int = 200, expires_s: int = 120,
        record_dir: Path | None = None, trunk: bool = False, srtp: str = "off",
    ) -> None:  # fmt: skip
        self.name = name
        self.trunk = trunk
        self.events: list[Event] = []
        self._handed_out: dict[str, int] = {}
        self._dir = Path(tempfile.mkdtemp(prefix="rec-phone-"))
        self._read_octets = 0
        words = {
            "name": name, "password": "" if trunk else password(name), "dir": self._dir,
            "address": TRUNK_ADDR if trunk else LOOPBACK, "own-sip-port": exchange.trunk_port if trunk else 0,
            "sip-port": exchange.sip_port, "transport": transport,
            "codec": codec, "tone-hz": tone_hz, "level-dbfs": level_dbfs, "answer-after-ms": answer_after_ms,
            "since-mono-ns": exchange.since_mono_ns, "answer-code": answer_code,
            "srtp": srtp, "expires-s": expires_s, "record-dir": record_dir or "",
        }  # fmt: skip
        options = [f"--{key}={word}" for key, word in words.items()]
        with (self._dir / "events").open("wb") as events, (self._dir / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.softphone", *options],
                cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=events, stderr=log,
            )  # fmt: skip
        served_first(self._process)

    def __enter__(self) -> Self:
        try:
            self.wait("ready" if self.trunk else "registered")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> None:
        with (self._dir / "events").open("rb") as file:
            file.seek(self._read_octets)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read_octets += len(whole) + len(end)
        self.events += [json.loads(line) for line in whole.splitlines()]

    def seen(self, event: str) -> list[Event]:
        """Return every event of this name so far, without waiting."""
        self._read()
        return [entry for entry in self.events if entry["event"] == event]

    def wait(self, event: str, timeout_s: float = 10.0) -> Event:
        """Return the first event of this name that no earlier ``wait`` has returned."""
        deadline_s = time.monotonic() + timeout_s
        number = self._handed_out.get(event, 0)
        while len(entries := self.seen(event)) <= number:
            if (code := self._process.poll()) is not None:
                raise PhoneError(f"phone {self.name} ended with {code}\n{self.log_tail()}")
            if time.monotonic() > deadline_s:
                so_far = " ".join(entry["event"] for entry in self.events)
                problem = f"phone {self.name}: no {event} in {timeout_s} s, only: {so_far}"
                raise PhoneError(f"{problem}\n{self.log_tail()}")
            time.sleep(POLL_S)
        self._handed_out[event] = number + 1
        return entries[number]

    def catch_up(self) -> None:
        """Take what has happened as known: ``wait`` is for what comes after."""
        self._read()
        for entry in self.events:
            self._handed_out[entry["event"]] = len(self.seen(entry["event"]))

    def tell(self, cmd: str, **fields: Any) -> None:
        """Send a command to the phone's process."""
        if self._process.stdin is None:
            raise PhoneError(f"phone {self.name} has no stdin")
        try:
            self._process.stdin.write((json.dumps({"cmd": cmd, **fields}) + "\n").encode())
            self._process.stdin.flush()
        except OSError as error:
            raise PhoneError(f"phone {self.name} is gone\n{self.log_tail()}") from error

    def call(self, to: str, *, headers: dict[str, str] | None = None) -> None:
        """Call an extension; ``wait("confirmed")`` tells when it was answered."""
        self.tell("call", to=to, headers=headers or {})

    def answer(self) -> None:
        """Answer what rings (for a phone with ``answer_after_ms`` below zero)."""
        self.tell("answer")

    def hangup(self, **call: int) -> None:
        """End all calls of this phone, or with ``call`` (as its events have it) that one."""
        self.tell("hangup", **call)

    def dtmf(self, digits: str) -> None:
        """Dial digits inside the call as RFC 4733 events, for example a feature code."""
        self.tell("dtmf", digits=digits)

    def tone(self, on: bool) -> None:
        """Speak or fall silent (no RTP then); the event ``tone`` has the time."""
        self.tell("tone", on=on)

    def hold(self, on: bool, **call: int) -> None:
        """Put the peer on hold or take it back with a re-INVITE, in all calls or only in ``call``."""
        self.tell("hold" if on else "unhold", **call)

    def transfer(self, to: str) -> None:
        """Transfer the peer to another extension (blind)."""
        self.tell("transfer", to=to)

    def transfer_attended(self, *, call: int, to_call: int) -> None:
        """Join the peers of two calls of this phone (REFER with Replaces); the exchange ends both calls."""
        self.tell("attended", call=call, to_call=to_call)

    def close(self) -> None:
        """Hang up, unregister and end this phone's process."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it has ended already
                self._process.stdin.close()
        try:
            self._process.wait(QUIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._dir.is_dir():
            self._read()
            shutil.rmtree(self._dir, ignore_errors=True)

    def log_tail(self, lines: int = 60) -> str:
        """Return the last lines of what the phone's SIP library logged."""
        log = self._dir / "log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.is_file() else ""
