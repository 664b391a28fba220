"""A session recording client: real SIP over UDP, TCP or TLS, written without any code of the recorder.

One socket serves many calls. A reader thread hands responses to whoever waits for them and answers what
the recorder sends (BYE, OPTIONS). Nothing here is shared with the product, so that both cannot be wrong
in the same way.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import re
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.sip_text import AnswerLine, Message, answer_lines, parse

RETRANSMIT_S: Final = 0.5
TRANSACTION_S: Final = 10.0

Headers = Mapping[str, str] | Sequence[tuple[str, str]]  # a sequence where a name comes twice


class Transaction:
    """A request that was sent: its responses, and its repetition over UDP until one comes."""

    def __init__(self, client: SipClient, raw: bytes, key: tuple[str, str], branch: str) -> None:
        self.raw, self.key, self.branch = raw, key, branch
        self.provisional: list[Message] = []
        self.replies: queue.Queue[Message] = queue.Queue()
        self._client = client

    def final(self, *, timeout_s: float = TRANSACTION_S) -> Message:
        """Wait for the final response."""
        deadline, wait_s = time.monotonic() + timeout_s, RETRANSMIT_S
        while time.monotonic() < deadline:
            try:
                reply = self.replies.get(timeout=wait_s)
            except queue.Empty:
                if self._client.transport == "udp" and not self.provisional:
                    self._client.send_raw(self.raw)
                    wait_s = min(2 * wait_s, 4.0)
                continue
            if reply.code >= 200:
                return reply
            self.provisional.append(reply)
        where = f"{self._client.transport} port {self._client.port}"  # the log names it, if octets were bad
        raise TimeoutError(f"no answer to {self.key[1]} of {self.key[0]} from {where}")


class SipClient:
    """One socket to one recorder; what the recorder asks is answered with ``answers`` or 200."""

    def __init__(
        self,
        *,
        server: tuple[str, int],
        transport: str = "udp",
        address: str = "127.0.0.1",
        certificate: tuple[Path, Path] | None = None,
        trusted: Path | None = None,
    ) -> None:
        self.server = server
        self.transport = transport
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.bind((address, 0))
        if transport != "udp":
            self._socket.connect(server)
        if transport == "tls":
            self._socket = _tls_context(certificate, trusted).wrap_socket(self._socket)
        self.address, self.port = self._socket.getsockname()
        self._waiting: dict[tuple[str, str], queue.Queue[Message]] = {}
        self._lock = threading.Lock()
        self.answers: dict[str, int] = {}  # by method
        self.patience_s = TRANSACTION_S  # with an answer
        self.requests: queue.Queue[Message] = queue.Queue()  # what the recorder sent by itself, each once
        self._answered: dict[tuple[str, str], bytes] = {}
        self._closed = False
        self._reader = threading.Thread(target=self._read, name="sip-client", daemon=True)
        self._reader.start()

    def __enter__(self) -> SipClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop.

        The reader goes first: TLS writes an alert when its peer is gone without a word, and by then a
        descriptor that was closed may be a neighbour's fresh connection, whose INVITE would follow the alert.
        """
        self._closed = True
        with contextlib.suppress(OSError):  # wakes the reader, also where there is no connection
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def send_raw(self, raw: bytes) -> None:
        """Send octets as they are."""
        with self._lock:
            if self.transport == "udp":
                self._socket.sendto(raw, self.server)
            else:
                self._socket.sendall(raw)

    def options(self) -> Message:
        """Ask for the recorder's health."""
        headers = {"From": f"<sip:client@{self.address}>;tag=o", "To": f"<sip:recorder@{self.server[0]}>"}
        return self.request("OPTIONS", call_id=secrets.token_hex(8), cseq=1, headers=headers)

    def request(
        self,
        method: str,
        *,
        call_id: str,
        cseq: int,
        headers: Headers,
        body: bytes = b"",
        uri: str = "",
        branch: str = "",
    ) -> Message:
        """Send a request and return its final response."""
        transaction = self.begin(
            method, call_id=call_id, cseq=cseq, headers=headers, body=body, uri=uri, branch=branch
        )
        return transaction.final(timeout_s=self.patience_s)

    def begin(
        self,
        method: str,
        *,
        call_id: str,
        cseq: int,
        headers: Headers,
        body: bytes = b"",
        uri: str = "",
        branch: str = "",
    ) -> Transaction:
        """Send a request and wait for nothing."""
        branch = branch or "z9hG4bK" + secrets.token_hex(8)
        key = (call_id, f"{cseq} {method}")
        raw = self.build(
            method, call_id=call_id, cseq=cseq, headers=headers, body=body, uri=uri, branch=branch
        )
        transaction = Transaction(self, raw, key, branch)
        self._waiting[key] = transaction.replies
        self.send_raw(raw)
        return transaction

    def wait_request(self, method: str, *, timeout_s: float = 10.0) -> Message:
        """Wait until the recorder asks for something; other requests are dropped."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                message = self.requests.get(timeout=left_s)
                if message.method == method:
                    return message
        raise TimeoutError(f"no {method} from the recorder")

    def build(
        self,
        method: str,
        *,
        call_id: str,
        cseq: int,
        headers: Headers,
        body: bytes = b"",
        uri: str = "",
        branch: str = "",
    ) -> bytes:
        """Write a request."""
        uri = uri or f"sip:recorder@{self.server[0]}:{self.server[1]}"
        via = f"SIP/2.0/{self.transport.upper()} {self.address}:{self.port}"
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: {via};rport;branch={branch or 'z9hG4bK' + secrets.token_hex(8)}",
            "Max-Forwards: 70",
            f"Call-ID: {call_id}",
            f"CSeq: {cseq} {method}",
            *(f"{name}: {value}" for name, value in pairs),
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def _read(self) -> None:
        buffered = b""
        while not self._closed:
            try:
                octets = self._socket.recv(65_536)
            except OSError:
                return
            if not octets and self.transport != "udp":
                return
            if self.transport == "udp":
                self._take(octets)
                continue
            buffered += octets
            while b"\r\n\r\n" in buffered:
                head, _, rest = buffered.partition(b"\r\n\r\n")
                stated = re.search(rb"(?im)^(?:content-length|l)\s*:\s*(\d+)", head)
                length = int(stated.group(1)) if stated else 0
                if len(rest) < length:
                    break
                self._take(head + b"\r\n\r\n" + rest[:length])
                buffered = rest[length:].lstrip(b"\r\n")

    def _take(self, raw: bytes) -> None:
        if b"SIP/2.0" not in raw:
            return
        message = parse(raw)
        if message.code:
            waiting = self._waiting.get((message.header("Call-ID"), message.header("CSeq")))
            if waiting is not None:
                waiting.put(message)
            return
        answered = self._answered.get(_transaction(message))
        if answered is not None:  # sent again over UDP, for our answer took its time
            self.send_raw(answered)
            return
        if message.method != "ACK":  # answered first: who waits for the request may then change ``answers``
            self.answer(message, self.answers.get(message.method, 200))
        self.requests.put(message)

    def answer(self, request: Message, code: int, *, sdp: bytes = b"") -> None:
        """Answer what the recorder asked; what comes of it once more is answered alike."""
        lines = [f"SIP/2.0 {code} {'OK' if code == 200 else 'No'}"]
        lines += [f"Via: {value}" for value in request.all("Via")]
        lines += [f"{name}: {request.header(name)}" for name in ("From", "To", "Call-ID", "CSeq")]
        if sdp:
            contact = f"<sip:client@{self.address}:{self.port};transport={self.transport}>"
            lines += [f"Contact: {contact}", "Content-Type: application/sdp"]
        answer = "\r\n".join([*lines, f"Content-Length: {len(sdp)}", "", ""]).encode() + sdp
        self._answered[_transaction(request)] = answer
        self.send_raw(answer)


def _transaction(request: Message) -> tuple[str, str]:
    """Tell requests apart; one that is sent again is the same. Source: RFC 3261 section 17.2.3."""
    return request.header("Via"), request.header("CSeq")


def _tls_context(certificate: tuple[Path, Path] | None, trusted: Path | None) -> ssl.SSLContext:
    """Show a certificate (file, key) when asked; believe ``trusted`` alone, or anybody."""
    context = ssl.create_default_context(cafile=trusted)
    context.check_hostname = False
    if trusted is None:  # a recorder of a test may show a certificate that nobody vouches for
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context


_numbers = itertools.count(1)


@dataclass(kw_only=True)
class Call:
    """One dialog with the recorder."""

    client: SipClient
    headers: dict[str, str]
    call_id: str = field(default_factory=lambda: secrets.token_hex(10))
    cseq: int = 1
    local_tag: str = field(default_factory=lambda: secrets.token_hex(6))
    to: str = ""
    target: str = ""
    response: Message | None = None
    answer_delay_s: float = 0.0
    lines: list[AnswerLine] = field(default_factory=list)

    def invite(self, body: bytes, content_type: str) -> Message:
        """Send the INVITE or a re-INVITE, and the ACK; return the final response."""
        branch = "z9hG4bK" + secrets.token_hex(8)
        started = time.monotonic()
        reply = self.client.request(
            "INVITE",
            call_id=self.call_id,
            cseq=self.cseq,
            headers={**self._dialog(), **self._extra(), "Content-Type": content_type},
            body=body,
            uri=self.target,
            branch=branch,
        )
        self.answer_delay_s = time.monotonic() - started
        self.response, self.to = reply, reply.header("To")
        if reply.code < 300:
            contact = re.search(r"<([^>]+)>", reply.header("Contact"))
            self.target = contact.group(1) if contact else ""
            self.lines = answer_lines(reply.body)
            branch = ""
        self.client.send_raw(
            self.client.build(
                "ACK",
                call_id=self.call_id,
                cseq=self.cseq,
                headers=self._dialog(),
                uri=self.target,
                branch=branch,
            )
        )
        self.cseq += 1
        return reply

    def bye(self) -> Message:
        """End the call."""
        reply = self.client.request(
            "BYE", call_id=self.call_id, cseq=self.cseq, headers=self._dialog(), uri=self.target
        )
        self.cseq += 1
        return reply

    def _extra(self) -> dict[str, str]:
        ours = ("From-User", "Contact-Parameters")
        return {name: value for name, value in self.headers.items() if name not in ours}

    def _dialog(self) -> dict[str, str]:
        caller = self.headers.get("From-User", "client")
        return {
            "From": f"<sip:{caller}@{self.client.address}>;tag={self.local_tag}",
            "To": self.to or f"<sip:recorder@{self.client.server[0]}>",
            "Contact": f"<sip:client@{self.client.address}:{self.client.port};transport="
            f"{self.client.transport}>{self.headers.get('Contact-Parameters', '')}",
        }


def sdp_offer(address: str, lines: Sequence[tuple[str, str]], *, direction: str = "sendonly") -> bytes:
    """Write an offer; each line is (label, codec), the codec PCMU, PCMA or L16/RATE."""
    number = next(_numbers)
    out = ["v=0", f"o=client {number} 1 IN IP4 {address}", "s=-", f"c=IN IP4 {address}", "t=0 0"]
    for place, (label, codec) in enumerate(lines):
        port = 50_000 + 2 * place
        payload_type, name = {"PCMU": (0, "PCMU/8000"), "PCMA": (8, "PCMA/8000")}.get(codec, (96, codec))
        out += [
            f"m=audio {port} RTP/AVP {payload_type} 101",
            f"a=rtpmap:{payload_type} {name}",
            "a=rtpmap:101 telephone-event/8000",
            "a=ptime:20",
        ]
        out += [f"a=label:{label}"] if label else []
        out.append(f"a={direction}")
    return ("\r\n".join(out) + "\r\n").encode()


def siprec_body(sdp: bytes, metadata: bytes, *, boundary: str = "recording-boundary") -> tuple[bytes, str]:
    """Put SDP and metadata into one multipart body; returns body and content type."""
    parts = [
        b"--" + boundary.encode() + b"\r\nContent-Type: application/sdp\r\n\r\n" + sdp,
        b"--" + boundary.encode() + b"\r\nContent-Type: application/rs-metadata+xml\r\n"
        b"Content-Disposition: recording-session\r\n\r\n" + metadata,
        b"--" + boundary.encode() + b"--\r\n",
    ]
    return b"\r\n".join(parts), f"multipart/mixed;boundary={boundary}"


def metadata_xml(*, session_id: str, parties: Sequence[tuple[str, str]], labels: Sequence[str]) -> bytes:
    """Write RFC 7865 metadata: each party is (AOR, name) and sends the stream of its label."""
    rows = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<recording xmlns="urn:ietf:params:xml:ns:recording:1">',
        "  <datamode>complete</datamode>",
        '  <group group_id="grp1"><associate-time>2026-11-23T06:22:36Z</associate-time></group>',
        f'  <session session_id="ses1"><sipSessionID>{session_id}</sipSessionID>',
        "    <group-ref>grp1</group-ref></session>",
    ]
    for number, (aor, name) in enumerate(parties):
        rows.append(
            f'  <participant participant_id="par{number}"><nameID aor="{aor}">'
            f"<name>{name}</name></nameID></participant>"
        )
    for number, label in enumerate(labels):
        rows.append(f'  <stream stream_id="str{number}" session_id="ses1"><label>{label}</label></stream>')
    for number in range(min(len(parties), len(labels))):
        rows.append(
            f'  <participantstreamassoc participant_id="par{number}">'
            f"<send>str{number}</send></participantstreamassoc>"
        )
    rows.append("</recording>")
    return "\n".join(rows).encode()


def siprec_call(
    client: SipClient,
    *,
    codecs: Sequence[str] = ("PCMA", "PCMA"),
    caller: str = "+442079460101",
    callee: str = "2002",
    session_id: str = "",
    labels: Sequence[str] = (),
) -> Call:
    """Start a SIPREC session; the response tells whether it was taken."""
    labels = labels or [str(number + 1) for number in range(len(codecs))]
    call = Call(
        client=client,
        headers={"Require": "siprec", "Supported": "siprec", "Contact-Parameters": ";+sip.src"},
    )
    sdp = sdp_offer(client.address, list(zip(labels, codecs, strict=True)))
    metadata = metadata_xml(
        session_id=session_id or secrets.token_hex(16),
        parties=[(f"sip:{caller}@example.com", "Caller"), (f"sip:{callee}@example.com", "Callee")],
        labels=labels,
    )
    call.invite(*siprec_body(sdp, metadata))
    return call
