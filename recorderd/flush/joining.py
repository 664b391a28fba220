"""Joins an archive by a one-time code: one question, one answer, both proved by the code.

Contract: what comes back is believed only with its MAC. Nothing was changed here when it raises; whoever asks
again within the code's time with the same request gets the same answer.
"""

from __future__ import annotations

import socket
from typing import Final

from recorderd.core.errors import EnrolmentFormatError, EnrolmentRefused
from recorderd.evidence.enrolment_code import EnrolmentCode, answer_mac, holds, request_mac
from recorderd.wire.enrolment import (
    HEAD_BYTES,
    JoinAnswer,
    JoinRequest,
    Kind,
    encode_message,
    encode_request,
    parse_answer,
    parse_head,
    parse_refusal,
    split_message,
)

_PATIENCE_S: Final = 15.0


def join(address: tuple[str, int], code: EnrolmentCode, request: JoinRequest) -> JoinAnswer:
    """Exchange keys with the archive at an address.

    Errors: EnrolmentRefused, also when nobody answers, or somebody who does not know the code.
    """
    archive = f"{address[0]}:{address[1]}"
    key, raw = code.key(), encode_request(request)
    try:
        kind, message = _ask(address, encode_message(Kind.REQUEST, raw, request_mac(key, raw)))
        if kind is not Kind.ANSWER:
            raise EnrolmentRefused(archive=archive, reason=parse_refusal(message))
        body, mac = split_message(message)
        if not holds(mac, answer_mac(key, raw, body)):
            raise EnrolmentRefused(archive=archive, reason="whoever answers does not know the code")
        return parse_answer(body)
    except EnrolmentFormatError as problem:
        raise EnrolmentRefused(archive=archive, reason=problem) from None
    except OSError as problem:
        raise EnrolmentRefused(archive=archive, reason=problem.strerror or problem) from None


def _ask(address: tuple[str, int], message: bytes) -> tuple[Kind, bytes]:
    with socket.create_connection(address, timeout=_PATIENCE_S) as stream:
        stream.sendall(message)
        with stream.makefile("rb") as answer:
            kind, size_bytes = parse_head(answer.read(HEAD_BYTES))
            content = answer.read(size_bytes)
    if len(content) < size_bytes:
        raise ConnectionError("the connection ended in the midst of an answer")
    return kind, content
