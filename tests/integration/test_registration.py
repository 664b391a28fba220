"""A registration at a registrar that is odd."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.support.house import House
from tests.support.programs import wait_until
from tests.support.sip_text import parse


class Registrar:
    """Answers each REGISTER with 200 and the next of some headers; the last holds for all further."""

    def __init__(self, answers: Sequence[str]) -> None:
        self.asked: list[str] = []  # the Expires of each
        self._answers = answers
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while True:
            raw, peer = self._socket.recvfrom(65_536)
            if not raw:
                return
            asked = parse(raw)
            if asked.method != "REGISTER":
                continue
            extra = self._answers[min(len(self.asked), len(self._answers) - 1)]
            self.asked.append(asked.header("Expires"))
            lines = ["SIP/2.0 200 OK", *(f"Via: {value}" for value in asked.all("Via"))]
            lines += [f"{name}: {asked.header(name)}" for name in ("From", "To", "Call-ID", "CSeq")]
            reply = "\r\n".join([*lines, extra, "Content-Length: 0", "", ""])
            self._socket.sendto(reply.encode(), peer)


def test_a_registrar_that_says_200_and_keeps_nothing_is_asked_again(tmp_path: Path) -> None:
    with Registrar(["Expires: 0", "Expires: 0", "Expires: 60"]) as registrar:
        account = f'registrar = "127.0.0.1:{registrar.port}"\nuser = "recorder"\nretry_s = 1'
        secret = "password_file = 'keys/account'"
        changes = {"[rtp]": f"[sip.registration]\n{account}\n{secret}\n\n[rtp]"}
        with House(tmp_path, changes=changes) as house:
            (tmp_path / "keys" / "account").write_text("secret")
            (tmp_path / "keys" / "account").chmod(0o600)
            program = house.recorder()
            wait_until(lambda: " registered " in program.text(), what="registered", timeout_s=30)
            assert house.status()["recorder"]["sip"]["registration"] == "registered"
            assert registrar.asked == ["60", "60", "60"]
            program.stop()
            assert registrar.asked[-1] == "0"
            assert "unregistered" in program.text()
