"""What the fixtures of the field are made of: a scene, a request, and the bodies in it.

The modules beside this one write what real recording clients send. They were modelled on published traces
and manuals; every number, address and id is our own. Written without any code of the recorder.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

SDP: str = "application/sdp"
METADATA: str = "application/rs-metadata+xml"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One call that a client records; two scenes with one ``call`` have the same ids."""

    call: str = "one"
    address: str = "192.0.2.10"  # the client's, for SIP and RTP
    sip_port: int = 5060
    ports: tuple[int, ...] = (40_000, 40_002, 40_004)  # RTP, one per line
    caller: str = "+15551230001"
    callee: str = "1002"
    third: str = "1003"
    labels: tuple[str, ...] = ()  # empty = as the client numbers them
    transport: str = "udp"
    version: int = 1  # of the SDP; a later offer has a larger one

    def octets(self, name: str) -> bytes:
        """Give 16 octets that are always the same for one name of one call."""
        return hashlib.md5(f"{self.call}/{name}".encode(), usedforsecurity=False).digest()

    def key(self, name: str) -> str:
        """Name something the way RFC 7865 does: base64 of 16 octets."""
        return base64.b64encode(self.octets(name)).decode()

    def urn(self, name: str) -> str:
        """Name something by urn:uuid."""
        return f"urn:uuid:{uuid.UUID(bytes=self.octets(name))}"

    def hex(self, name: str) -> str:
        """Name something by 32 hexadecimal digits."""
        return self.octets(name).hex()

    def number(self, name: str) -> int:
        """Name something by a number of eight digits."""
        return 10_000_000 + int.from_bytes(self.octets(name)[:4]) % 90_000_000

    def label(self, place: int, given: Sequence[str]) -> str:
        """Give the label of a line."""
        return (self.labels or tuple(given))[place]


@dataclass(frozen=True, kw_only=True)
class FieldRequest:
    """A request without what belongs to its transaction (Via, Call-ID, CSeq, lengths)."""

    method: str
    headers: tuple[tuple[str, str], ...]  # a name may come twice
    content_type: str = ""
    body: bytes = b""

    def write(
        self,
        *,
        call_id: str = "field-1",
        cseq: int = 1,
        uri: str = "sip:srs@192.0.2.99:5060",
        to: str = "",
        via: str = "SIP/2.0/UDP 192.0.2.10:5060",
        branch: str = "z9hG4bK-field-1",
    ) -> bytes:
        """Write the whole request; ``to`` replaces the To header inside a dialog."""
        headers = [(name, to if to and name == "To" else value) for name, value in self.headers]
        if self.content_type:
            headers.append(("Content-Type", self.content_type))
        lines = [
            f"{self.method} {uri} SIP/2.0",
            f"Via: {via};branch={branch};rport",
            "Max-Forwards: 70",
            f"Call-ID: {call_id}",
            f"CSeq: {cseq} {self.method}",
            *(f"{name}: {value}" for name, value in headers),
            f"Content-Length: {len(self.body)}",
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body

    def without_body(self, method: str = "") -> FieldRequest:
        """Give the same request with no body: a late offer."""
        return FieldRequest(method=method or self.method, headers=self.headers)


def crlf(text: str) -> bytes:
    """Write text with the line ends of SIP."""
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode()


def audio(port: int, formats: str, *attributes: str, address: str = "", profile: str = "RTP/AVP") -> str:
    """Write one m=audio section."""
    lines = [f"m=audio {port} {profile} {formats}"]
    lines += [f"c=IN IP4 {address}"] if address else []
    return "\n".join([*lines, *(f"a={attribute}" for attribute in attributes)])


def sdp(scene: Scene, media: Sequence[str], *, user: str = "-", name: str = "-", address: str = "") -> bytes:
    """Write an SDP; without ``address`` the session has no connection line of its own."""
    lines = ["v=0", f"o={user} {scene.number('sdp')} {scene.version} IN IP4 {scene.address}", f"s={name}"]
    lines += [f"c=IN IP4 {address}"] if address else []
    return crlf("\n".join([*lines, "t=0 0", *media]) + "\n")


def multipart(boundary: str, *parts: tuple[str, bytes]) -> bytes:
    """Put parts into one body; each is (its header lines, its content)."""
    pieces = [
        b"--" + boundary.encode() + b"\r\n" + crlf(head) + b"\r\n\r\n" + content for head, content in parts
    ]
    return b"\r\n".join([*pieces, b"--" + boundary.encode() + b"--\r\n"])


def siprec(
    scene: Scene, *, user: str, contact: str, agent: str, require: bool = True, extra: Sequence[str] = ()
) -> tuple[tuple[str, str], ...]:
    """Write the headers that SIPREC clients have in common; ``extra`` are lines "Name: value"."""
    headers = [
        ("From", f"<sip:{user}@{scene.address}>;tag={scene.hex('from')[:12]}"),
        ("To", "<sip:srs@192.0.2.99>"),
        ("Contact", contact),
        ("User-Agent", agent),
        ("Allow", "INVITE,ACK,CANCEL,BYE,OPTIONS,UPDATE,INFO,PRACK"),
    ]
    headers += [("Require", "siprec")] if require else []
    return (*headers, *((name, value.strip()) for name, _, value in (line.partition(":") for line in extra)))
