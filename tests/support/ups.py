"""Real UPS programs for tests: NUT's upsd with its dummy driver, each a process of the test on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Final, Self

from tests.support.programs import wait_until

NUT: Final = Path("/lib/nut")
USER, PASSWORD = "recorder", 'let me "see" \\ it'


def free_tcp_port() -> int:
    """Find a TCP port that nobody holds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Nut:
    """One upsd and a dummy driver for each of its UPSes."""

    def __init__(self, folder: Path, names: tuple[str, ...] = ("ups",), *, extra: str = "") -> None:
        self.folder = folder
        self.port = free_tcp_port()
        self.names = names
        self._extra = extra
        self._drivers: dict[str, subprocess.Popen[bytes]] = {}
        self._server: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            self._write(name, "OL CHRG", runtime_s=1800, charge_percent=100)

    def __enter__(self) -> Self:
        sections = [
            f'[{name}]\n driver = dummy-ups\n port = "{self._values(name)}"\n mode = dummy-once\n'
            for name in self.names
        ]
        self._config("ups.conf", "maxretry = 1\npollinterval = 1\n" + "".join(sections))
        self._config("upsd.conf", f"LISTEN 127.0.0.1 {self.port}\nMAXAGE 3\n{self._extra}")
        quoted = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
        users = f'[{USER}]\n password = "{quoted}"\n upsmon secondary\n'
        users += f'[main]\n password = "{quoted}"\n upsmon primary\n actions = SET FSD\n instcmds = ALL\n'
        self._config("upsd.users", users)
        for name in self.names:
            self.start_driver(name)
        self.start_server()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_server()
        for name in self.names:
            self.kill_driver(name)

    def start_server(self) -> None:
        """Start upsd and wait until it knows of every UPS."""
        self._server = self._run("upsd", "-F", "-u", "root")
        for name in self.names:
            question = f"GET VAR {name} ups.status"
            wait_until(lambda question=question: "OL" in self.ask(question), what=f"upsd knows {name}")

    def stop_server(self) -> None:
        """End upsd; the next one has no FSD any more."""
        server, self._server = self._server, None
        if server is not None:
            server.kill()
            server.wait()

    def start_driver(self, name: str) -> None:
        """Start the driver of a UPS."""
        self._drivers[name] = self._run("dummy-ups", "-a", name, "-F", "-u", "root")

    def kill_driver(self, name: str) -> None:
        """Kill it: upsd has stale data from now on."""
        driver = self._drivers.pop(name, None)
        if driver is not None:
            driver.kill()
            driver.wait()

    def say(
        self, status: str, *, ups: str = "", runtime_s: int | str = 1800, charge_percent: int = 100
    ) -> None:
        """Let a UPS say something, and wait until upsd does."""
        name = ups or self.names[0]
        self._write(name, status, runtime_s=runtime_s, charge_percent=charge_percent)
        wait_until(
            lambda: f'"{status}"' in self.ask(f"GET VAR {name} ups.status"), what=f"{name} says {status}"
        )

    def say_stale(self, status: str, *, ups: str = "") -> None:
        """Let it say something when its driver runs again."""
        self._write(ups or self.names[0], status, runtime_s=1800, charge_percent=100)

    def force_shutdown(self, ups: str = "") -> None:
        """Do what the primary upsmon does before it shuts the machine down."""
        name = ups or self.names[0]
        quoted = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
        login = ("USERNAME main", f'PASSWORD "{quoted}"', f"LOGIN {name}")
        said = self.ask(*login, f"PRIMARY {name}", f"FSD {name}")
        assert "OK FSD-SET" in said, said

    def logins(self, ups: str = "") -> int:
        """Say how many are logged in to a UPS: so many does a shutdown wait for."""
        return int(self.ask(f"GET NUMLOGINS {ups or self.names[0]}").split()[-1])

    def ask(self, *lines: str) -> str:
        """Talk to upsd as somebody else."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=3) as talk:
                talk.sendall("".join(f"{line}\n" for line in (*lines, "LOGOUT")).encode())
                pieces = []
                while piece := talk.recv(65_536):
                    pieces.append(piece)
        except OSError:
            return ""
        return b"".join(pieces).decode().replace("OK Goodbye\n", "")

    def _values(self, name: str) -> Path:
        return self.folder / f"{name}.dev"

    def _write(self, name: str, status: str, *, runtime_s: int | str, charge_percent: int) -> None:
        path = self._values(name)
        draft = path.with_suffix(".new")
        rows = {"ups.status": status, "battery.runtime": runtime_s, "battery.charge": charge_percent}
        draft.write_text("".join(f"{key}: {value}\n" for key, value in rows.items()))
        stamp = time.time_ns() + 2_000_000_000 * (1 + path.exists())  # the driver looks at whole seconds
        draft.replace(path)
        os.utime(path, ns=(stamp, stamp))

    def _config(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o640)

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        for name in ("NUT_CONFPATH", "NUT_STATEPATH", "NUT_ALTPIDPATH", "NUT_PIDPATH"):
            environment[name] = str(self.folder)
        with (self.folder / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                [NUT / program, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


class NssAuthority:
    """An authority and a certificate for upsd, in the database that Debian's upsd (NSS) wants."""

    def __init__(self, folder: Path, *, name: str = "ups.example") -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.ca_file = folder / "ca.pem"
        (folder / "pin").write_text("database-pin\n")
        (folder / "noise").write_bytes(os.urandom(64))
        self._certutil("-N")
        noise = ("-z", str(folder / "noise"))
        authority = ("-n", "ca", "-s", "CN=Test UPS CA", "-t", "CT,C,C", "-x", "-m", "1", "-2")
        self._certutil("-S", *noise, *authority, answers="y\n\ny\n")
        server = ("-n", "upsd", "-s", f"CN={name}", "-8", name, "-c", "ca", "-t", ",,", "-m", "2")
        self._certutil("-S", *noise, *server)
        self.ca_file.write_text(self._certutil("-L", "-n", "ca", "-a"))

    @property
    def upsd_conf(self) -> str:
        """What upsd.conf says of it."""
        return f'CERTPATH "{self.folder}"\nCERTIDENT "upsd" "database-pin"\nCERTREQUEST 0\n'

    def _certutil(self, command: str, *arguments: str, answers: str = "") -> str:
        database = ("-d", str(self.folder), "-f", str(self.folder / "pin"))
        return subprocess.run(
            ["certutil", command, *database, *arguments],
            input=answers, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
