"""An exchange's manager interface, as far as tests need it: events come in, actions go out.

``TransferLink`` is what an exchange needs beside its dialplan so that the recorder learns of attended
transfers: the two calls that became one had an id each, and only the manager interface tells both.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from types import TracebackType
from typing import Final, Self

from tests.support.asterisk import Exchange
from tests.support.free_ports import LOOPBACK

USER: Final = "tester"
SECRET: Final = "tester-secret"
TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.2
CALL_VARIABLE: Final = "REC_CALL"  # the dialplan keeps the id of the call there

Message = dict[str, str]  # a channel variable's key ends with its name: "TransfereeChanVariable(REC_CALL)"


class Ami:
    """One connection; messages are read by whoever calls ``receive``."""

    def __init__(self, exchange: Exchange) -> None:
        self._socket = socket.create_connection((LOOPBACK, exchange.ami_port), TIMEOUT_S)
        self._pending = b""
        greeting_ends = self._read_until(b"\r\n")
        if not greeting_ends.startswith(b"Asterisk Call Manager"):
            raise ConnectionError(f"not a manager interface: {greeting_ends!r}")
        self.send({"Action": "Login", "Username": USER, "Secret": SECRET})

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def send(self, action: Message) -> None:
        """Send an action; its response comes with the events."""
        lines = "".join(f"{key}: {value}\r\n" for key, value in action.items())
        self._socket.sendall(f"{lines}\r\n".encode())

    def receive(self, timeout_s: float) -> Message | None:
        """Return the next event or response; None = nothing came in this time."""
        if b"\r\n\r\n" not in self._pending and not select.select([self._socket], [], [], timeout_s)[0]:
            return None
        return parse_message(self._read_until(b"\r\n\r\n").decode(errors="replace"))

    def _read_until(self, end: bytes) -> bytes:
        while end not in self._pending:
            data = self._socket.recv(65_536)
            if not data:
                raise ConnectionError("the exchange closed the manager interface")
            self._pending += data
        found, _, self._pending = self._pending.partition(end)
        return found


def parse_message(text: str) -> Message:
    """Read one message; a channel's variables become keys of their own."""
    message: Message = {}
    for line in text.splitlines():
        key, _, value = line.partition(": ")
        if key.endswith("ChanVariable"):
            name, _, value = value.partition("=")
            key = f"{key}({name})"
        message[key] = value
    return message


def link_action(first: str, second: str) -> Message:
    """Build the action that tells the recorder, by a SIP MESSAGE, that two calls became one."""
    return {
        "Action": "MessageSend",
        "Destination": "pjsip:recorder",
        "From": "<sip:exchange@exchange.invalid>",
        "Body": f"action=link call={first} linked={second}",
        "Variable": f"X-Call-ID={first},X-Call-Linked={second}",
    }


def linked_calls(event: Message) -> tuple[str, str] | None:
    """Return the ids of the two calls that an attended transfer made one; None = some other event."""
    if event.get("Event") != "AttendedTransfer" or event.get("Result") != "Success":
        return None
    first = event.get(f"OrigTransfererChanVariable({CALL_VARIABLE})", "")
    second = event.get(f"SecondTransfererChanVariable({CALL_VARIABLE})", "")
    return (first, second) if first and second and first != second else None


class TransferLink:
    """Listens while it is open, and links the calls of each attended transfer."""

    def __init__(self, exchange: Exchange) -> None:
        self.linked: list[tuple[str, str]] = []
        self._ami = Ami(exchange)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="transfer-link", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(TIMEOUT_S)
        self._ami.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            event = self._ami.receive(POLL_S)
            if event is not None and (calls := linked_calls(event)) is not None:
                self._ami.send(link_action(*calls))
                self.linked.append(calls)

    def wait(self, count: int, timeout_s: float = 5.0) -> list[tuple[str, str]]:
        """Wait until so many transfers have been linked; return the pairs of ids."""
        deadline_s = time.monotonic() + timeout_s
        while len(self.linked) < count:
            if time.monotonic() > deadline_s:
                raise AssertionError(f"{count} attended transfers expected, saw {self.linked}")
            time.sleep(0.02)
        return self.linked
