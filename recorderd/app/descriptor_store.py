"""systemd's descriptor store: what is given to it outlives this process, and comes back to the next one.

Contract: ``keep`` is done when it returns: systemd has the descriptors in its queue, whatever becomes of us.
It waits at most ``WAIT_S`` for a systemd that does not read. Where there is no store nothing is kept and
``is_there`` says so. ``take`` gives what came back at the start, once.
Thread: ``keep`` and ``let_go`` any.
Source: sd_notify(3) FDSTORE, FDNAME, FDPOLL, FDSTOREREMOVE; sd_listen_fds(3).
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import threading
from collections.abc import Iterable, MutableMapping
from typing import Final

from recorderd.core.events import Ev, EventLog

FIRST_DESCRIPTOR: Final = 3
WAIT_S: Final = 0.5


class DescriptorStore:
    """The store of this service, if it has one."""

    def __init__(self, environment: MutableMapping[str, str], *, log: EventLog) -> None:
        """Find the store; its variables are taken from the environment."""
        self._log = log
        self._lock = threading.Lock()
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._max = _number(environment.get("FDSTORE", "0"))  # set by systemd 254, else by our unit
        self._came = _listened(environment)
        self._socket: socket.socket | None = None

    @property
    def is_there(self) -> bool:
        """Tell whether anything outlives us."""
        return bool(self._address) and self._max > 0

    def take(self) -> dict[str, list[int]]:
        """Give what an earlier process has left, by name; the descriptors are the caller's."""
        came, self._came = self._came, {}
        return came

    def keep(self, name: str, descriptors: Iterable[int]) -> bool:
        """Let descriptors outlive this process."""
        numbers = array.array("i", descriptors)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)]
        return self._send(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", name, rights)

    def let_go(self, name: str) -> None:
        """Keep those of a name no longer."""
        self._send(f"FDSTOREREMOVE=1\nFDNAME={name}", name, [])

    def _send(self, text: str, name: str, rights: list[tuple[int, int, array.array[int]]]) -> bool:
        if not self.is_there:
            return False
        try:
            with self._lock:
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                    self._socket.settimeout(WAIT_S)
                    self._socket.connect(self._address)
                self._socket.sendmsg([text.encode()], rights)
        except OSError as problem:
            self._log.error(Ev.STORE_FAILED, subject=name, reason=problem)
            return False
        return True


def _listened(environment: MutableMapping[str, str]) -> dict[str, list[int]]:
    pid = _number(environment.pop("LISTEN_PID", "0"))
    count = _number(environment.pop("LISTEN_FDS", "0"))
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if pid != os.getpid():
        return {}
    came: dict[str, list[int]] = {}
    for number in range(count):
        descriptor = FIRST_DESCRIPTOR + number
        fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        came.setdefault(names[number] if number < len(names) else "", []).append(descriptor)
    return came


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
