"""A recorder under a real systemd that is killed, started anew and upgraded while calls go on."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np

from tests.support.asterisk import Exchange
from tests.support.g711_reference import decode
from tests.support.house import House, Recorded
from tests.support.programs import ROOT, wait_until
from tests.support.registered import RegisteredHouse
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import SipClient, siprec_call
from tests.support.user_manager import UserManager

RECORDER = "recorderd.service"
PCMA = 8


class Unit:
    """recorderd as a unit of a manager, of a copy of the code that can be replaced."""

    def __init__(self, manager: UserManager, house: House, *, changes: dict[str, str] | None = None) -> None:
        self.manager, self.house = manager, house
        self._code = house.folder / "code"
        self._copy(version="0.1.0")
        manager.install(
            RECORDER,
            config=house.recorder_toml,
            installed_config="/etc/recorderd/recorderd.toml",
            changes={
                "Wants=network-online.target recorderd-flush.service\n": "",
                **(changes or {"WatchdogSec=20": "WatchdogSec=3", "RestartSec=2": "RestartSec=200ms"}),
            },
            code=self._code,
        )
        manager.systemctl("start", RECORDER)

    @property
    def pid(self) -> int:
        """Its process; 0 = none."""
        return int(self.manager.show(RECORDER, "MainPID"))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal that the process does not outlive; wait until there is another one."""
        pid = self.pid
        os.kill(pid, number)
        wait_until(
            lambda: self.pid not in (0, pid) and self.manager.show(RECORDER, "ActiveState") == "active",
            what="the recorder started anew",
            timeout_s=60,
        )

    def restart(self) -> None:
        """Restart it, as an operator does."""
        self.manager.systemctl("restart", RECORDER)

    def upgrade(self, version: str) -> None:
        """Put another release in its place and restart it, as a package does."""
        shutil.rmtree(self._code)
        self._copy(version=version)
        self.restart()

    def events(self, name: str) -> list[dict[str, str]]:
        """Read its events of a kind."""
        return self.manager.journal(f"RECORDERD_EVENT={name}")

    def sealed(self, count: int) -> dict[str, Recorded]:
        """Wait for so many recordings; give them by the call's id."""
        ready = self.house.folder / "spool" / "ready"
        wait_until(
            lambda: len(list(ready.glob("*/*.manifest.json"))) >= count, what="all sealed", timeout_s=60
        )
        found = [Recorded(folder) for folder in ready.iterdir()]
        assert len(found) == count, [recorded.manifest["call"] for recorded in found]
        return {str(recorded.manifest["call"]["call_id"]): recorded for recorded in found}

    def _copy(self, *, version: str) -> None:
        for package in ("recorderd", "dsp"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, self._code / package, ignore=ignored)
        path = self._code / "recorderd" / "__init__.py"
        path.write_text(path.read_text().replace('"0.1.0"', f'"{version}"'))


@contextmanager
def unit(folder: Path, *, extra: str = "") -> Iterator[Unit]:
    """Run recorderd as a unit; its journal is printed when the test fails."""
    (folder / "house").mkdir()
    house = House(folder / "house", extra=f"\n[restart]\norphan_silence_s = 8\n{extra}")
    with UserManager(folder) as manager:
        running = Unit(manager, house)
        try:
            yield running
        finally:
            for row in manager.journal():
                print(row.get("_COMM", ""), str(row.get("MESSAGE"))[:300])


@contextmanager
def registered_unit(folder: Path, exchange: Exchange) -> Iterator[Unit]:
    """Run recorderd as a unit with an account at an exchange, which hands both legs of its calls over."""
    (folder / "house").mkdir()
    exchange.set_global("REC_MODE", "legs")
    with UserManager(folder) as manager:
        running = Unit(manager, RegisteredHouse(folder / "house", exchange))
        exchange.registered("recorder", timeout_s=20)
        yield running


def speech(seed: int, packets: int) -> bytes:
    """Payload of which no two stretches are alike."""
    return np.random.default_rng(seed).integers(0, 256, 160 * packets, dtype=np.uint8).tobytes()


class Talk:
    """Calls of two parties that send known audio while the recorder comes and goes."""

    def __init__(self, house: House, client: SipClient, *, calls: int, seconds: float) -> None:
        self.ids = [f"{number:032x}" for number in range(calls)]
        self.calls = [siprec_call(client, session_id=name) for name in self.ids]
        packets = round(50 * seconds)
        self.streams = [
            [
                RtpStream(port=line.port, payload_type=PCMA, payload=speech(100 * number + leg, packets))
                for leg, line in enumerate(call.lines)
            ]
            for number, call in enumerate(self.calls)
        ]
        self._sender = threading.Thread(
            target=send_streams, args=([stream for pair in self.streams for stream in pair],)
        )

    def __enter__(self) -> Self:
        self._sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._sender.join()

    def assert_exact(self, recorded: Recorded, number: int) -> None:
        """Compare a recording with what was sent, sample by sample."""
        samples, rate_hz = recorded.samples()
        assert rate_hz == 8000
        for entry, stream in zip(recorded.streams(), self.streams[number], strict=True):
            sent = decode(stream.payload, law="PCMA")
            first = int(entry["first_sample"])
            heard = samples[first : first + sent.size, int(entry["channel"])]
            assert heard.size == sent.size, (entry, samples.shape)
            wrong = np.flatnonzero(heard != sent)
            assert not wrong.size, f"{wrong.size} samples of {sent.size} differ, first {wrong[:1]}: {entry}"
            assert entry["packets_received"] == stream.packets, entry
            assert entry["packets_lost"] == entry["packets_late"] == entry["packets_duplicate"] == 0, entry
            assert {gap["cause"] for gap in entry["gaps"]} <= {"before_first", "after_last"}
