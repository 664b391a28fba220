"""Who holds a program's descriptors while it is dead, as systemd's descriptor store does.

It takes what the program hands over by sd_notify(3) (FDSTORE, FDNAME, FDSTOREREMOVE) and gives it to the next
one at descriptor 3 and up. The tests of ``integration/test_restart`` run under the real systemd; where there
are hundreds of kills this one starts the next program at once.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
from pathlib import Path
from typing import Final

FIRST: Final = 3
ASIDE: Final = 700  # above whatever the program has open, below the usual limit of 1024
STORE_MAX: Final = 4000
MESSAGE_BYTES: Final = 8192
RIGHTS_MAX: Final = 64


class DescriptorKeeper:
    """The store of one program."""

    def __init__(self, address: Path) -> None:
        self._address = str(address)
        self._kept: list[tuple[str, int]] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.socket.setblocking(False)
        self.socket.bind(self._address)

    def take(self) -> None:
        """Do what programs have asked for so far."""
        while True:
            try:
                octets, rights, _, _ = self.socket.recvmsg(
                    MESSAGE_BYTES, socket.CMSG_SPACE(RIGHTS_MAX * 4), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            came = array.array("i")
            for _, _, content in rights:
                came.frombytes(content)
            told = dict(line.split("=", 1) for line in octets.decode().splitlines() if "=" in line)
            name = told.get("FDNAME", "stored")
            if "FDSTOREREMOVE" in told:
                for row in [row for row in self._kept if row[0] == name]:
                    os.close(row[1])
                    self._kept.remove(row)
            if "FDSTORE" in told:
                self._kept += [(name, number) for number in came]

    def hand_over(self) -> None:
        """Become what a program is started with; in the process that will be it."""
        aside = [fcntl.fcntl(number, fcntl.F_DUPFD, ASIDE) for _, number in self._kept]
        for place, number in enumerate(aside, FIRST):
            os.dup2(number, place, inheritable=False)
            os.close(number)
        os.environ |= {
            "NOTIFY_SOCKET": self._address,
            "FDSTORE": str(STORE_MAX),
            "LISTEN_PID": str(os.getpid()),
            "LISTEN_FDS": str(len(aside)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in self._kept),
        }
