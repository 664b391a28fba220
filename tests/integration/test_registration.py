"""A registration at a registrar that is odd, and over a connection."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from tests.support.house import House
from tests.support.programs import wait_until
from tests.support.sip_client import SipClient
from tests.support.sip_text import parse


class Registrar:
    """Answers each REGISTER with 200 and the next of some headers; the last holds for all further."""

    def __init__(self, answers: Sequence[str], *, over_tcp: bool = False) -> None:
        self.asked: list[str] = []  # the Expires of each
        self._answers = answers
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM if over_tcp else socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve if over_tcp else self._run, daemon=True)
        if over_tcp:
            self._socket.listen()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.hang_up()
        self._thread.join()
        self._socket.close()

    def hang_up(self) -> None:
        """Break the connection."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._connection, _ = self._socket.accept()
                with self._connection as connection:
                    while octets := connection.recv(65_536):
                        self._answer(octets, connection.sendall)

    def _run(self) -> None:
        while True:
            octets, peer = self._socket.recvfrom(65_536)
            if not octets:
                return

            def send(reply: bytes, peer: tuple[str, int] = peer) -> None:
                self._socket.sendto(reply, peer)

            self._answer(octets, send)

    def _answer(self, octets: bytes, send: Callable[[bytes], object]) -> None:
        if not re.match(rb"\s*REGISTER ", octets):
            return
        asked = parse(octets.lstrip())
        extra = self._answers[min(len(self.asked), len(self._answers) - 1)]
        self.asked.append(asked.header("Expires"))
        lines = ["SIP/2.0 200 OK", *(f"Via: {value}" for value in asked.all("Via"))]
        lines += [f"{name}: {asked.header(name)}" for name in ("From", "To", "Call-ID", "CSeq")]
        send("\r\n".join([*lines, extra, "Content-Length: 0", "", ""]).encode())


def _house(folder: Path, registrar: Registrar, *, transport: str = "udp") -> House:
    account = f'registrar = "127.0.0.1:{registrar.port}"\nuser = "recorder"\nretry_s = 1'
    secret = f"password_file = 'keys/account'\ntransport = '{transport}'\nexpires_s = 3600"
    house = House(folder, changes={"[rtp]": f"[sip.registration]\n{account}\n{secret}\n\n[rtp]"})
    (folder / "keys" / "account").write_text("secret")
    (folder / "keys" / "account").chmod(0o600)
    return house


def test_a_registrar_that_says_200_and_keeps_nothing_is_asked_again(tmp_path: Path) -> None:
    answers = ["Expires: 0", "Expires: 0", "Expires: 3600"]
    with Registrar(answers) as registrar, _house(tmp_path, registrar) as house:
        program = house.recorder()
        wait_until(lambda: " registered " in program.text(), what="registered", timeout_s=30)
        assert house.status()["recorder"]["sip"]["registration"] == "registered"
        assert registrar.asked == ["3600", "3600", "3600"]
        program.stop()
        assert registrar.asked[-1] == "0"
        assert "unregistered" in program.text()


def test_only_the_connection_to_the_exchange_is_worth_registering_anew(tmp_path: Path) -> None:
    with (
        Registrar(["Expires: 3600"], over_tcp=True) as registrar,
        _house(tmp_path, registrar, transport="tcp") as house,
    ):
        program = house.recorder()
        wait_until(lambda: " registered " in program.text(), what="registered", timeout_s=30)
        for _ in range(3):
            with SipClient(server=house.server, transport="tcp") as client:
                assert client.options().code == 200
            socket.create_connection(house.server).close()
        time.sleep(1.5)  # in which it would register anew
        assert registrar.asked == ["3600"]
        registrar.hang_up()
        wait_until(lambda: len(registrar.asked) > 1, what="registering anew", timeout_s=30)
