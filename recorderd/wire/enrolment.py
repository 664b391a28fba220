"""What a recorder and an archive say to each other once, to know each other from then on.

    recorder -> archive   Q length MAC request
    archive -> recorder   A length MAC answer       or R length refusal, which nobody vouches for

Length: 32 bits, of what follows it.
Rule: bodies are JSON, and the MACs are over their very octets (``evidence.enrolment_code``); the archive's is
over the request, too. Keys and certificates are public: whoever listens learns nothing of use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from recorderd.core.errors import EnrolmentFormatError
from recorderd.core.ids import is_safe_id
from recorderd.wire.canonical import JsonReader, canonical_json

ENROLMENT_VERSION: Final = 1
MESSAGE_LIMIT_BYTES: Final = 64 << 10
MAC_BYTES: Final = 32
LENGTH_BYTES: Final = 4
HEAD_BYTES: Final = 1 + LENGTH_BYTES
_PEM_LIMIT: Final = 32 << 10
_ENDPOINTS_LIMIT: Final = 16
_CURVE_KEY: Final = re.compile(r"[0-9a-zA-Z.:+=^!/*?&<>()\[\]{}@%$#-]{40}")  # Z85
_CODE_ID: Final = re.compile(r"[0-9A-Z]{4}")
_ENDPOINT: Final = re.compile(r"tcp://[^/\s'\"\\]{1,255}:\d{1,5}")


class Kind(Enum):
    """What a message is."""

    REQUEST = b"Q"
    ANSWER = b"A"
    REFUSAL = b"R"


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest:
    """A recorder's keys."""

    code_id: str  # the part of the code that says which one it is
    recorder_id: str  # who it is by its own configuration
    curve_public_key: str
    certificates_pem: str  # that its recordings may be signed with


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinAnswer:
    """An archive's keys, and who the recorder is there."""

    archive_id: str
    recorder_id: str
    server_public_key: str
    receipt_certificate_pem: str
    endpoints: tuple[str, ...]  # empty = the host that was asked, at ``port``
    port: int


def encode_request(request: JoinRequest) -> bytes:
    """Write a request's body."""
    return canonical_json({"enrolment_version": ENROLMENT_VERSION, **_fields(request)})


def parse_request(raw: bytes) -> JoinRequest:
    """Read a request's body; its MAC is not looked at here.

    Errors: EnrolmentFormatError.
    """
    reader = _reader(raw)
    request = JoinRequest(
        code_id=_fitting(reader, "code_id", _CODE_ID),
        recorder_id=_id(reader, "recorder_id"),
        curve_public_key=_fitting(reader, "curve_public_key", _CURVE_KEY),
        certificates_pem=_pem(reader, "certificates_pem"),
    )
    reader.done()
    return request


def encode_answer(answer: JoinAnswer) -> bytes:
    """Write an answer's body."""
    return canonical_json({"enrolment_version": ENROLMENT_VERSION, **_fields(answer)})


def parse_answer(raw: bytes) -> JoinAnswer:
    """Read an answer's body; its MAC is not looked at here.

    Errors: EnrolmentFormatError.
    """
    reader = _reader(raw)
    endpoints = reader.texts("endpoints", limit=_ENDPOINTS_LIMIT)
    if not all(_ENDPOINT.fullmatch(row) for row in endpoints):
        raise reader.bad("endpoints", "not tcp://HOST:PORT")
    answer = JoinAnswer(
        archive_id=_id(reader, "archive_id"),
        recorder_id=_id(reader, "recorder_id"),
        server_public_key=_fitting(reader, "server_public_key", _CURVE_KEY),
        receipt_certificate_pem=_pem(reader, "receipt_certificate_pem"),
        endpoints=endpoints,
        port=reader.integer("port", maximum=65_535),
    )
    reader.done()
    return answer


def encode_refusal(reason: str) -> bytes:
    """Write a refusal."""
    return canonical_json({"enrolment_version": ENROLMENT_VERSION, "reason": reason})


def parse_refusal(raw: bytes) -> str:
    """Read a refusal's reason.

    Errors: EnrolmentFormatError.
    """
    reader = _reader(raw)
    reason = reader.text("reason", limit=300)
    reader.done()
    return reason if reason.isprintable() else repr(reason)


def encode_message(kind: Kind, body: bytes, mac: bytes = b"") -> bytes:
    """Put a message together as it goes over the line."""
    return kind.value + len(mac + body).to_bytes(LENGTH_BYTES, "big") + mac + body


def parse_head(head: bytes) -> tuple[Kind, int]:
    """Read kind and length of what comes.

    Errors: EnrolmentFormatError.
    """
    size_bytes = int.from_bytes(head[1:], "big")
    kind = next((one for one in Kind if one.value == head[:1]), None)
    if len(head) != HEAD_BYTES or kind is None or size_bytes > MESSAGE_LIMIT_BYTES:
        raise EnrolmentFormatError(what="message", field="head", reason="not one of an enrolment")
    return kind, size_bytes


def split_message(message: bytes) -> tuple[bytes, bytes]:
    """Give body and MAC of what came behind the head of a request or an answer.

    Errors: EnrolmentFormatError.
    """
    if len(message) <= MAC_BYTES:
        raise EnrolmentFormatError(what="message", field="mac", reason="missing")
    return message[MAC_BYTES:], message[:MAC_BYTES]


def _reader(raw: bytes) -> JsonReader:
    reader = JsonReader.parse(raw, error=EnrolmentFormatError, limit_bytes=MESSAGE_LIMIT_BYTES)
    version = reader.integer("enrolment_version")
    if version != ENROLMENT_VERSION:
        raise reader.bad("enrolment_version", f"{version} is not {ENROLMENT_VERSION}")
    return reader


def _fields(message: JoinRequest | JoinAnswer) -> dict[str, object]:
    return {name: getattr(message, name) for name in message.__slots__}


def _fitting(reader: JsonReader, key: str, form: re.Pattern[str]) -> str:
    value = reader.text(key)
    if form.fullmatch(value) is None:
        raise reader.bad(key, "not of its form")
    return value


def _id(reader: JsonReader, key: str) -> str:
    value = reader.text(key)
    if not is_safe_id(value):
        raise reader.bad(key, "not an id")
    return value


def _pem(reader: JsonReader, key: str) -> str:
    value = reader.text(key, limit=_PEM_LIMIT)
    if not value.isascii() or "PRIVATE KEY" in value:
        raise reader.bad(key, "not certificates in PEM")
    return value
