"""A real systemd and a real journal for one test: a user manager in a mount namespace with its own /run.

The units under test are those of systemd/, with paths of the test and without what only PID 1 can grant
(users, capabilities, sandboxing, scheduling).
Rule: one at a time on a machine, as managers started from one control group end each other's services.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from tests.support.asterisk import cache_dir
from tests.support.programs import ROOT

# Shared within the namespace only: a unit's credentials are mounted by a child that has its own.
_START = """
mount --make-rshared / && mount -t tmpfs tmpfs /run || exit 1
mkdir -p /run/systemd/system /run/systemd/journal /run/log /run/u
/lib/systemd/systemd-journald &
for _ in $(seq 100); do [ -S /run/systemd/journal/stdout ] && break; sleep 0.05; done
exec /lib/systemd/systemd --user --log-target=journal
"""
_ONLY_PID_1 = re.compile(
    r"^(User|Group|AmbientCapabilities|CapabilityBoundingSet|Protect\w+|Private\w+|Restrict(Namespaces|Address\w+)"
    r"|NoNewPrivileges|LockPersonality|MemoryDenyWriteExecute|SystemCall\w+|CPUScheduling\w+|OOMScoreAdjust"
    r"|IOScheduling\w+|Nice|InaccessiblePaths|ReadWritePaths|UMask)=.*\n",
    re.MULTILINE,
)


class UserManager:
    """One systemd user manager; ends with its test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"},
            "XDG_RUNTIME_DIR": "/run/u",
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_STATE_HOME": str(folder / "state"),
            "HOME": str(folder),
            "SYSTEMD_CREDENTIAL_SECRET": str(folder / "credential.secret"),  # not this machine's own
        }

    def __enter__(self) -> Self:
        self._turn = (cache_dir().parent / "user-manager.lock").open("w")
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        (self.folder / "config" / "systemd" / "user").mkdir(parents=True)
        self._log = (self.folder / "systemd.log").open("wb")
        self._process = subprocess.Popen(
            [*self._namespace, "bash", "-c", _START],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        deadline_s = time.monotonic() + 15
        while self.systemctl("list-units", check=False).returncode != 0:
            if time.monotonic() > deadline_s or self._process.poll() is not None:
                self.__exit__()
                raise AssertionError((self.folder / "systemd.log").read_text(errors="replace"))
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.systemctl("stop", "*.service", check=False)
            journald = self.run("pidof", "systemd-journald", check=False).stdout.split()
            ours = {
                pid for pid in journald if _mount_namespace(pid) == _mount_namespace(str(self._process.pid))
            }
            self.systemctl("exit", check=False)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            for pid in ours:
                os.kill(int(pid), 15)
        self._log.close()
        self._turn.close()

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command where the manager lives."""
        enter = ["nsenter", "--mount", "--target", str(self._process.pid)]
        if os.geteuid() != 0:
            enter[1:1] = ["--user", "--preserve-credentials"]
        return subprocess.run(
            [*enter, *command], env=self._environment, capture_output=True, text=True, check=check, timeout=60
        )

    def systemctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run systemctl --user."""
        return self.run("systemctl", "--user", "--no-pager", *words, check=check)

    def show(self, unit: str, name: str) -> str:
        """Read one property of a unit."""
        return self.systemctl("show", unit, "--value", "-p", name).stdout.strip()

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """Read the journal's entries that match."""
        self.run("journalctl", "--sync", check=False)
        found = self.run("journalctl", "--no-pager", "-o", "json", *matches, check=False).stdout
        return [json.loads(line) for line in found.splitlines() if line.startswith("{")]

    def encrypt(self, name: str, plain: Path) -> Path:
        """Make an encrypted credential of a file, and remove the file."""
        path = self.folder / f"{name}.cred"
        self.run("systemd-creds", "encrypt", "--with-key=host", f"--name={name}", str(plain), str(path))
        plain.unlink()
        return path

    def install(
        self,
        name: str,
        *,
        config: Path,
        installed_config: str,
        changes: dict[str, str] | None = None,
        code: Path = ROOT,
    ) -> None:
        """Put one of our units into the manager; it runs what stands in ``code``."""
        text = _ONLY_PID_1.sub("", (ROOT / "systemd" / name).read_text())
        text = text.replace("/opt/recorderd/bin", str(ROOT / ".venv" / "bin"))
        text = text.replace(installed_config, str(config))
        text = text.replace("[Service]\n", f"[Service]\nEnvironment=PYTHONPATH={code}\n")
        for old, new in (changes or {}).items():
            assert old in text, old
            text = text.replace(old, new)
        (self.folder / "config" / "systemd" / "user" / name).write_text(text)
        self.systemctl("daemon-reload")


def _mount_namespace(pid: str) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/mnt").readlink())
    except OSError:
        return ""
