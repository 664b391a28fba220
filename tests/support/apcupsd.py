"""The real apcupsd for tests, at a Smart-UPS that is played on a pseudo terminal.

The device speaks APC's serial protocol: one character asks, a line answers, `NA` is what it does not know.
apcupsd runs our ``apccontrol``, which writes down what it would have done, and shuts nothing down.
"""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import threading
import tty
from pathlib import Path
from typing import Final, Self

from tests.support.asterisk import cache_dir
from tests.support.ups import free_tcp_port

ON_LINE, ON_BATTERY, BATTERY_LOW = "08", "10", "50"  # the answer to Q: bits of the UPS's status register
_ANSWERS: Final = {
    "Y": "SM",
    "\x01": "Smart-UPS 1000",
    "Q": ON_LINE,
    "f": "100.0",  # charge, percent
    "j": "0045:",  # minutes left
    "L": "230.0",
    "O": "230.0",
    "F": "50.00",
    "B": "27.2",
    "P": "020.0",
    "n": "AS000",
    "b": "70.9.I",
}
_CONFIGURATION: Final = """## apcupsd.conf v1.1 ##
UPSCABLE smart
UPSTYPE apcsmart
DEVICE {device}
POLLTIME 1
LOCKFILE {folder}
SCRIPTDIR {folder}
PWRFAILDIR {folder}
NOLOGINDIR {folder}
EVENTSFILE {folder}/events
STATFILE {folder}/status
ONBATTERYDELAY 0
BATTERYLEVEL 5
MINUTES 3
TIMEOUT 0
NETSERVER on
NISIP 127.0.0.1
NISPORT {port}
UPSCLASS standalone
UPSMODE disable
"""


class Apcupsd:
    """One apcupsd and its UPS."""

    def __init__(self, folder: Path) -> None:
        cache = cache_dir().parent / "apcupsd"
        subprocess.run([Path(__file__).with_name("apcupsd.sh"), cache], check=True)
        self._root = cache / "root"
        self.folder, self.port = folder, free_tcp_port()
        self._answers = dict(_ANSWERS)
        folder.mkdir(parents=True)
        self._ours, self._theirs = pty.openpty()
        tty.setraw(self._theirs)
        threading.Thread(target=self._play, name="smart-ups", daemon=True).start()
        control = folder / "apccontrol"
        control.write_text(f'#!/bin/sh\necho "$1" >> "{folder}/done"\n')
        control.chmod(0o755)
        text = _CONFIGURATION.format(device=os.ttyname(self._theirs), folder=folder, port=self.port)
        (folder / "apcupsd.conf").write_text(text)

    def __enter__(self) -> Self:
        folder, library = self.folder, next(self._root.rglob("libusb-0.1.so.4")).parent
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._root / "sbin/apcupsd", "-b", "-f", folder / "apcupsd.conf", "-P", folder / "pid"],
                env={**os.environ, "LD_LIBRARY_PATH": str(library)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._theirs)
        os.close(self._ours)

    def say(self, status: str, *, minutes_left: int = 45, charge_percent: float = 100.0) -> None:
        """Let the UPS answer so from now on."""
        self._answers |= {"Q": status, "j": f"{minutes_left:04}:", "f": f"{charge_percent:05.1f}"}

    def did(self) -> list[str]:
        """What apcupsd would have done to the machine."""
        done = self.folder / "done"
        return done.read_text().split() if done.exists() else []

    def _play(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                for character in os.read(self._ours, 64).decode("latin-1"):
                    os.write(self._ours, self._answers.get(character, "NA").encode() + b"\r\n")
