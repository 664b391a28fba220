"""A customer's own SFTP server: OpenSSH's sshd, an ordinary process of the test's user, stopped by its id."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from recorderd.archive.sftp import SftpSettings
from tests.support.free_ports import free_ports

SSHD = Path("/usr/sbin/sshd")
READY_S = 30


class SftpServer:
    """One server with a folder that recordings are delivered to.

    Errors: AssertionError when there is no sshd: that is a failure, not a reason to skip.
    """

    def __init__(self, folder: Path) -> None:
        assert SSHD.exists(), "no sshd: apt-get install openssh-server"
        self.folder, self.there = folder, folder / "there"
        self.there.mkdir(parents=True)
        self.port = 0
        for name in ("host", "other", "client", "stranger"):
            self._run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name))
        (folder / "authorized").write_text((folder / "client.pub").read_text())
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # which Debian's unit makes
        self._process: subprocess.Popen[bytes] | None = None
        while not self._is_begun():
            pass

    def _is_begun(self) -> bool:
        """Begin on a port that was free a moment ago; tell whether it still was."""
        self.port, folder = free_ports(1, kind=socket.SOCK_STREAM), self.folder
        (folder / "sshd_config").write_text(
            f"""
Port {self.port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PidFile none
Subsystem sftp internal-sftp
"""
        )
        try:
            self.start()
        except AssertionError as problem:
            if "Address already in use" not in str(problem):
                raise
            return False
        return True

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", self.folder / "sshd_config"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + READY_S
        while True:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < end, (self.folder / "log").read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        """Kill it with the sessions that it has."""
        if self._process is not None:
            for child in self._children(self._process.pid):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def settings(self, **more: Any) -> SftpSettings:
        """Say how it is reached."""
        told: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "folder": str(self.there),
            "private_key": self.key("client"),
            "host_key": self.public("host"),
        }
        return SftpSettings(**(told | more))

    def key(self, name: str) -> str:
        """Give a private key."""
        return (self.folder / name).read_text()

    def public(self, name: str) -> str:
        """Give a public key, without a comment."""
        return " ".join((self.folder / f"{name}.pub").read_text().split()[:2])

    def _children(self, pid: int) -> list[int]:
        """List the processes below one, the deepest first."""
        try:
            listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:  # it has ended by itself
            return []
        return [row for child in map(int, listed) for row in (*self._children(child), child)]

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, check=False, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
