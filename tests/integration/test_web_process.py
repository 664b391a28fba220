"""`recorder-archive serve` with [http]: a process of its own, over TLS, whose end stops no recording."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from recorderd.app.archive import main
from tests.support.bundles import Loopback
from tests.support.programs import Program, Programs, wait_until
from tests.support.web_archive import HTTP, PASSWORD, problem

SILENT_ROUTE = """
[[deliveries]]
name = "customer"
host = "127.0.0.1"
port = {port}
user = "recordings"
key_file = "recorder.key.pem"
host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq4Nn5Kk1rQ0tY0ZkXbTn5wq6p1g0m2c8u5sX9y3vZb"
"""


class Served:
    """An archive that runs, with its HTTP interface."""

    def __init__(self, folder: Path) -> None:
        self.loopback, self.programs = Loopback(folder), Programs(folder)
        with self.loopback.archive_toml.open("a") as file:
            file.write(HTTP.format(per_minute=100_000))
        subprocess.run(
            [
                *(
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-nodes",
                ),
                *("-keyout", "web.key.pem", "-out", "web.cert.pem", "-days", "2", "-subj", "/CN=archive"),
                *("-addext", "subjectAltName=IP:127.0.0.1"),
            ],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        (folder / "web.key.pem").chmod(0o600)
        (folder / "password").write_text(PASSWORD + "\n")
        (folder / "password").chmod(0o600)
        self.folder = folder

    def account(self, *arguments: str) -> int:
        """Run `recorder-archive account`; its exit code."""
        return main(["account", *arguments, "--config", str(self.loopback.archive_toml)])

    def start(self) -> Program:
        program = self.programs.archive(self.loopback.archive_toml)
        program.wait_for("http_ready", "subject=https://127.0.0.1:", timeout_s=60)
        return program

    def client(self, program: Program) -> httpx.Client:
        """Make a client of the newest HTTP process."""
        lines = [line for line in program.text().splitlines() if " http_ready " in line]
        address = lines[-1].partition("subject=")[2].split()[0]
        trust = ssl.create_default_context(cafile=self.folder / "web.cert.pem")
        return httpx.Client(base_url=address, verify=trust, timeout=30)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.programs.end()


def children(program: Program) -> list[int]:
    """Find the processes that a program has started."""
    found = []
    for task in Path(f"/proc/{program.process.pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += [int(word) for word in (task / "children").read_text().split()]
    return found


def test_an_account_made_on_the_command_line_comes_in_over_tls_and_its_end_stops_nothing(
    served: Served,
) -> None:
    served.account("add", "alice", "--role", "user", "--extension", "1001", "--password-file",
                   str(served.folder / "password"))  # fmt: skip
    program = served.start()
    with served.client(program) as client:
        told = client.post("/api/v1/session", json={"account": "alice", "password": PASSWORD})
        assert told.status_code == 200, told.text
        assert client.get("/api/v1/recordings").json()["recordings"] == []
    (child,) = children(program)
    os.kill(child, signal.SIGKILL)
    program.wait_for("http_ended")
    wait_until(lambda: program.text().count(" http_ready ") == 2, what="a new HTTP process", timeout_s=60)
    served.loopback.record()
    flush = served.programs.flush(served.loopback.recorder_toml)
    flush.wait_for("receipt_verified")
    with served.client(program) as client:  # the session outlived the process
        client.cookies = told.cookies
        (found,) = client.get("/api/v1/recordings").json()["recordings"]
        assert found["extension"] == "1001"
        audio = client.get(f"/api/v1/recordings/{found['recorder_id']}/{found['id']}/audio")
        assert audio.content[:4] == b"RIFF"
    (child,) = children(program)
    assert program.stop() == 0
    wait_until(lambda: not Path(f"/proc/{child}").exists(), what="the HTTP process to end with the archive")


def test_only_tls_is_spoken_and_the_process_ends_with_an_archive_that_is_killed(served: Served) -> None:
    program = served.start()
    with served.client(program) as client:
        address = str(client.base_url).rstrip("/")
        assert client.get("/api/v1/openapi.json").status_code == 200
    with pytest.raises(httpx.HTTPError):
        httpx.get(address.replace("https", "http"))
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{address}/api/v1/openapi.json", verify=old)
    (child,) = children(program)
    program.kill()
    wait_until(lambda: not Path(f"/proc/{child}").exists(), what="the HTTP process to end with the archive")


def test_a_password_is_never_taken_from_the_command_line(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert served.account("add", "bob", "--role", "user", "--password", PASSWORD) != 0
    assert served.account("add", "bob", "--role", "user") == 0
    assert served.account("password", "bob") != 0
    assert "no terminal to ask on" in capsys.readouterr().err
    (served.folder / "password").chmod(0o644)
    assert served.account("password", "bob", "--file", str(served.folder / "password")) == 78
    (served.folder / "password").chmod(0o600)
    assert served.account("password", "bob", "--file", str(served.folder / "password")) == 0
    assert PASSWORD not in capsys.readouterr().out
    assert served.account("token", "bob", "--label", "backup", "--scopes", "search,view") == 0
    assert capsys.readouterr().out.startswith("rat_")
    assert served.account("token", "bob", "--label", "backup", "--scopes", "everything") == 64
    assert served.account("totp", "bob") == 0
    assert "otpauth://totp/" in capsys.readouterr().out


def test_an_account_whose_password_is_unfit_is_not_made(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    file = served.folder / "password"
    file.write_text("carol's own, and long\n")
    words = ("add", "carol", "--role", "user", "--password-file", str(file))
    assert served.account(*words) != 0
    assert "account's name" in capsys.readouterr().err
    assert served.account("list") == 0
    assert "carol" not in capsys.readouterr().out
    file.write_text(f"{PASSWORD}\n")
    assert served.account(*words) == 0


def test_upkeep_over_http_reaches_the_daemon_and_survives_the_end_of_its_process(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, served.loopback.archive_toml.open("a") as file:
        file.write(SILENT_ROUTE.format(port=silent.getsockname()[1]))
        file.flush()
        served.account("add", "chief", "--role", "administrator", "--recorder", "*")
        capsys.readouterr()
        served.account("token", "chief", "--label", "upkeep", "--scopes", "check,maintain")
        headers = {"Authorization": f"Bearer {capsys.readouterr().out.split()[0]}", "X-Reason": "request 17"}
        served.loopback.record()
        program = served.start()
        served.programs.flush(served.loopback.recorder_toml).wait_for("receipt_verified")
        with served.client(program) as client:
            client.headers = headers
            told = client.put("/api/v1/intake", json={"drained": True, "reason": "a new disk"})
            assert told.json() == {"drained": True}, told.text
            wait_until(lambda: not client.get("/api/v1/intake").json()["takes"], what="the drain")
            refused = client.post("/api/v1/reindex")
            assert (refused.status_code, problem(refused)) == (409, "served")
            begun = client.post("/api/v1/deliveries").json()
            assert client.get(f"/api/v1/jobs/{begun['number']}").json()["state"] == "running"
            (child,) = children(program)
            os.kill(child, signal.SIGKILL)
        wait_until(lambda: program.text().count(" http_ready ") == 2, what="a new process", timeout_s=60)
        with served.client(program) as client:
            client.headers = headers
            assert client.get(f"/api/v1/jobs/{begun['number']}").json()["state"] == "cut"
        assert program.stop() == 0
        words = ["web", "--config", served.loopback.archive_toml]
        alone = served.programs.start("recorderd.app.archive", words, name="web")
        alone.wait_for("http_ready", timeout_s=60)
        with served.client(alone) as client:
            client.headers = headers
            refused = client.put("/api/v1/intake", json={"drained": False})
            assert (refused.status_code, problem(refused)) == (503, "not-running")
            job = client.post("/api/v1/reindex").headers["location"]
            wait_until(lambda: client.get(job).json()["state"] == "done", what="the reindex")
            assert client.get(job).json()["result"]["rows"] == 1
        assert alone.stop() == 0
