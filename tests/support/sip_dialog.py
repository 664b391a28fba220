"""A dialog of a recording client as the field writes it: requests come from tests.support.field.

Where `sip_client.Call` knows one polite client, this one can be impolite: late offers, overlapping requests,
old CSeq numbers, CANCEL, requests without a body. Written without any code of the recorder.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.support.field.request import FieldRequest
from tests.support.sip_client import AnswerLine, Message, SipClient, Transaction, answer_lines

DIALOG_HEADERS = ("from", "to", "contact")


@dataclass(kw_only=True)
class Dialog:
    """One dialog; ``send`` takes whatever a client may send in it."""

    client: SipClient
    user: str = "srs"
    call_id: str = field(default_factory=lambda: secrets.token_hex(10))
    cseq: int = 0
    to: str = ""
    target: str = ""
    first: FieldRequest | None = None
    lines: list[AnswerLine] = field(default_factory=list)
    response: Message | None = None
    is_over: bool = False

    def send(self, request: FieldRequest, *, ack: bytes = b"", cseq: int = 0) -> Message:
        """Send a request and return its final response; an INVITE is acknowledged with the SDP ``ack``."""
        transaction = self.begin(request, cseq=cseq)
        reply = transaction.final()
        if request.method == "INVITE":
            self.acknowledge(transaction, reply, body=ack)
        return reply

    def begin(self, request: FieldRequest, *, cseq: int = 0) -> Transaction:
        """Send a request and wait for nothing; without ``cseq`` it takes the next number."""
        if self.first is None:
            self.first = request
        if not cseq:
            self.cseq += 1
        headers = [(name, self._to(value) if name == "To" else value) for name, value in request.headers]
        if request.content_type:
            headers.append(("Content-Type", request.content_type))
        return self.client.begin(
            request.method,
            call_id=self.call_id,
            cseq=cseq or self.cseq,
            headers=headers,
            body=request.body,
            uri=self._uri(),
        )

    def acknowledge(self, transaction: Transaction, reply: Message, *, body: bytes = b"") -> None:
        """Take the response to an INVITE and send its ACK."""
        self.response = reply
        if reply.code < 300:
            contact = re.search(r"<([^>]+)>", reply.header("Contact"))
            self.target = contact.group(1) if contact else ""
            self.lines = answer_lines(reply.body)
        if not self.to or reply.code < 300:
            self.to = reply.header("To")
        headers = [*self._dialog(), *([("Content-Type", "application/sdp")] if body else [])]
        ack = self.client.build(
            "ACK",
            call_id=self.call_id,
            cseq=int(transaction.key[1].split()[0]),
            headers=headers,
            body=body,
            uri=self._uri(),
            branch="" if reply.code < 300 else transaction.branch,
        )
        self.client.send_raw(ack)

    def cancel(self, transaction: Transaction) -> Transaction:
        """Cancel an INVITE that was sent."""
        return self.client.begin(
            "CANCEL",
            call_id=self.call_id,
            cseq=int(transaction.key[1].split()[0]),
            headers=self._dialog(),
            uri=self._uri(),
            branch=transaction.branch,
        )

    def ask(
        self,
        method: str,
        *,
        body: bytes = b"",
        content_type: str = "",
        headers: Sequence[tuple[str, str]] = (),
    ) -> Message:
        """Send a request of the dialog that no fixture writes: INFO, NOTIFY, MESSAGE, UPDATE, BYE."""
        return self.send(
            FieldRequest(
                method=method, headers=(*self._dialog(), *headers), content_type=content_type, body=body
            )
        )

    def bye(self) -> Message:
        """End the dialog."""
        self.is_over = True
        return self.ask("BYE")

    def _dialog(self) -> list[tuple[str, str]]:
        known = self.first.headers if self.first is not None else ()
        return [
            (name, self._to(value) if name == "To" else value)
            for name, value in known
            if name.lower() in DIALOG_HEADERS
        ]

    def _to(self, value: str) -> str:
        return self.to or value

    def _uri(self) -> str:
        return self.target or f"sip:{self.user}@{self.client.server[0]}:{self.client.server[1]}"
