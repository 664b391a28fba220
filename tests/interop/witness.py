"""A call that runs beside bad input and must come out whole, and what the recorder holds before and after."""

from __future__ import annotations

import re
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from typing import Self

from tests.interop.stage import Play, Stage, Talk, check_audio, say, talk
from tests.support.field import rfc7865
from tests.support.house import Recorded
from tests.support.programs import wait_until
from tests.support.sip_text import Message, parse


class Witness:
    """A SIPREC call that speaks while something else goes on; leaving the block judges it."""

    def __init__(self, stage: Stage, *, patience_s: float = 30.0) -> None:
        self._stage, self._patience_s = stage, patience_s
        self._play = Play(stage=stage, transport="udp")
        self._stop = threading.Event()
        self._talks: list[Talk] = []
        self._late_s = 0.0  # of our own packets, at most

    def __enter__(self) -> Self:
        self._descriptors = self._stage.descriptors()
        client = self._play.client()
        self._dialog = self._play.taken(rfc7865.invite(self._play.scene(client)), client)
        self._speaking = threading.Thread(target=self._speak, name="witness")
        self._speaking.start()
        return self

    def _speak(self) -> None:
        last: list[Talk | None] = [None for _ in self._dialog.lines]
        while not self._stop.is_set():
            now = [
                talk(line, after=old, packets=50) for line, old in zip(self._dialog.lines, last, strict=True)
            ]
            self._late_s = max(self._late_s, say(*now).lateness_max_s)
            self._talks += now
            last = list(now)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._speaking.join()
        with self._play.ending:
            if kind is not None:
                return
            assert self._dialog.bye().code == 200
            (recorded,) = self._stage.archived(self._dialog.call_id, timeout_s=self._patience_s)
            try:
                check_audio(recorded, *self._talks, channels=2)
            except AssertionError as problem:
                raise AssertionError(f"{problem}; {self._blame(recorded)}") from None
        wait_until(lambda: self._stage.open_dialogs() == 0, what="no dialog is left", timeout_s=40)
        assert self._stage.recorder.process.poll() is None, "the recorder ended"
        wait_until(
            lambda: self._stage.descriptors() <= self._descriptors + SLACK_DESCRIPTORS,
            what=f"no more than {self._descriptors + SLACK_DESCRIPTORS} descriptors, as before",
            timeout_s=CONNECTION_KEPT_S,
        )
        bad = [line for line in self._stage.recorder.text().splitlines() if "internal_error" in line]
        assert not bad, bad[:5]

    def _blame(self, recorded: Recorded) -> str:
        """Say who was late, for whoever has to find out why."""
        lost = ("packets_received", "packets_lost", "packets_late", "packets_kernel_dropped")
        counted = [{name: entry[name] for name in lost} for entry in recorded.streams()]
        tap_ms = self._stage.house.status()["recorder"]["rtp"]["lateness_max_ms"]
        sent = sum(entry.stream.packets for entry in self._talks)
        return f"we sent {sent}, late by {1000 * self._late_s:.0f} ms at most, the tap {tap_ms} ms: {counted}"


CONNECTION_KEPT_S = 120  # a transaction holds a closed connection for 32 s, the library it for 33 s more
ANSWER_S = 30  # for what must be answered: how soon is no matter here
SLACK_DESCRIPTORS = 4  # connections that the library has not closed yet


@dataclass(kw_only=True)
class Connection:
    """A TCP connection of its own for one message, so that one that breaks the framing breaks no other."""

    server: tuple[str, int]
    wait_s: float = ANSWER_S

    def ask(self, raw: bytes) -> list[Message]:
        """Send octets and return the final responses that come; whatever was accepted is ended."""
        with socket.create_connection(self.server, timeout=ANSWER_S) as sock:
            sock.sendall(raw)
            method = "INVITE" if raw.startswith(b"INVITE") else ""
            replies = self._replies(sock, method=method, wait_s=self.wait_s)
            for reply in replies:
                if reply.code < 300 and "INVITE" in reply.header("CSeq"):
                    self._end(sock, reply)
            return replies

    def _replies(self, sock: socket.socket, *, method: str, wait_s: float) -> list[Message]:
        """Read until a request of ``method`` has its final response, or nothing comes in time."""
        buffered, found = b"", []
        deadline = time.monotonic() + wait_s
        while (
            not any(method in one.header("CSeq") for one in found)
            and (left_s := deadline - time.monotonic()) > 0
        ):
            sock.settimeout(left_s)
            try:
                octets = sock.recv(65_536)
            except OSError:
                break
            if not octets:
                break
            buffered += octets
            while (whole := _first_whole(buffered)) is not None:
                message, buffered = parse(buffered[:whole]), buffered[whole:]
                if message.code >= 200:
                    found.append(message)
        return found

    def _end(self, sock: socket.socket, reply: Message) -> None:
        target = re.search(r"<([^>]+)>", reply.header("Contact"))
        uri = target.group(1) if target else "sip:recorder@127.0.0.1"
        number = int(reply.header("CSeq").split()[0])
        for method, cseq in (("ACK", number), ("BYE", number + 1)):
            lines = [
                f"{method} {uri} SIP/2.0",
                f"Via: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bK{secrets.token_hex(8)}",
                "Max-Forwards: 70",
                *(f"{name}: {reply.header(name)}" for name in ("From", "To", "Call-ID")),
                f"CSeq: {cseq} {method}",
                "Content-Length: 0",
                "",
                "",
            ]
            sock.sendall("\r\n".join(lines).encode(errors="surrogateescape"))
        assert self._replies(sock, method="BYE", wait_s=ANSWER_S), "no answer to BYE"


def _first_whole(buffered: bytes) -> int | None:
    """Length of the first message in a stream, if it is whole."""
    head, found, _ = buffered.partition(b"\r\n\r\n")
    if not found:
        return None
    stated = re.search(rb"(?im)^(?:content-length|l)\s*:\s*(\d+)", head)
    length = len(head) + 4 + (int(stated.group(1)) if stated else 0)
    return length if length <= len(buffered) else None
