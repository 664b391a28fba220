"""SIP messages taken apart as far as a client needs. Written without any code of the recorder."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Message:
    """A SIP message, taken apart as far as a client needs."""

    start_line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def code(self) -> int:
        """Status code; 0 for a request."""
        return int(self.start_line.split()[1]) if self.start_line.startswith("SIP/") else 0

    @property
    def method(self) -> str:
        """Method of a request."""
        return "" if self.code else self.start_line.split()[0]

    def header(self, name: str) -> str:
        """First header of a name, or empty."""
        return next((value for known, value in self.headers if known.lower() == name.lower()), "")

    def all(self, name: str) -> list[str]:
        """All headers of a name."""
        return [value for known, value in self.headers if known.lower() == name.lower()]


def parse(raw: bytes) -> Message:
    """Take a message apart."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode(errors="replace").split("\r\n")
    headers = tuple((n.strip(), v.strip()) for n, _, v in (line.partition(":") for line in lines[1:]))
    return Message(start_line=lines[0], headers=headers, body=body)


@dataclass(frozen=True, kw_only=True)
class AnswerLine:
    """One m= line of the recorder's answer."""

    port: int
    payload_types: tuple[int, ...]
    direction: str
    label: str


def answer_lines(sdp: bytes) -> list[AnswerLine]:
    """Read the recorder's answer."""
    lines = []
    for section in re.split(r"(?m)^m=", sdp.decode())[1:]:
        words = section.split("\r\n")[0].split()
        direction = re.search(r"(?m)^a=(sendrecv|sendonly|recvonly|inactive)\r?$", section)
        label = re.search(r"(?m)^a=label:(\S+)", section)
        lines.append(
            AnswerLine(
                port=int(words[1]),
                payload_types=tuple(int(word) for word in words[3:]),
                direction=direction.group(1) if direction else "",
                label=label.group(1) if label else "",
            )
        )
    return lines
