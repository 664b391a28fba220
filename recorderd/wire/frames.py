"""Flush messages as frames: a canonical JSON header frame, at times a payload frame.

Contract: any frames give a message (see ``flush_messages``) or a FrameFormatError; every field has a limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from recorderd.core.errors import FrameFormatError
from recorderd.core.ids import is_safe_id
from recorderd.wire.canonical import JsonReader, canonical_json, field_values
from recorderd.wire.chain_head import HEAD_LIMIT_BYTES
from recorderd.wire.flush_messages import (
    CHUNK_LIMIT_BYTES,
    DEPOSIT_LIMIT_BYTES,
    DEPOSIT_NAME,
    FILES_LIMIT,
    HEADER_LIMIT_BYTES,
    HEADS_SINCE,
    MESSAGE_LIMIT_BYTES,
    PACKINGS_LIMIT,
    PROTOCOL_VERSION,
    PROTOCOLS,
    REASON_LIMIT,
    RECEIPT_LIMIT_BYTES,
    RECORDINGS_LIMIT,
    WINDOW_LIMIT_BYTES,
    WINDOW_LIMIT_CHUNKS,
    WINDOWS_SINCE,
    ZSTD,
    Allowance,
    Chunk,
    Credit,
    Deposit,
    Deposited,
    Farewell,
    FlushMessage,
    HeadAnswer,
    HeadOffer,
    Hello,
    HostPower,
    HostReport,
    Offer,
    OfferedFile,
    Ping,
    Pong,
    ReceiptMessage,
    Refused,
    Unwelcome,
    Welcome,
)
from recorderd.wire.names import (
    NAME_LIMIT,
    audio_among,
    index_name,
    is_own_name,
    manifest_name,
    required_names,
    signature_name,
)

__all__ = [
    "CHUNK_LIMIT_BYTES",
    "DEPOSIT_LIMIT_BYTES",
    "DEPOSIT_NAME",
    "FILES_LIMIT",
    "HEADER_LIMIT_BYTES",
    "HEADS_SINCE",
    "MESSAGE_LIMIT_BYTES",
    "PACKINGS_LIMIT",
    "PROTOCOLS",
    "PROTOCOL_VERSION",
    "REASON_LIMIT",
    "RECEIPT_LIMIT_BYTES",
    "RECORDINGS_LIMIT",
    "WINDOWS_SINCE",
    "WINDOW_LIMIT_BYTES",
    "WINDOW_LIMIT_CHUNKS",
    "ZSTD",
    "Allowance",
    "Chunk",
    "Credit",
    "Deposit",
    "Deposited",
    "Farewell",
    "FlushMessage",
    "HeadAnswer",
    "HeadOffer",
    "Hello",
    "HostPower",
    "HostReport",
    "Offer",
    "OfferedFile",
    "Ping",
    "Pong",
    "ReceiptMessage",
    "Refused",
    "Unwelcome",
    "Welcome",
    "encode_message",
    "parse_message",
    "plain_reason",
]

_KINDS: Final[dict[type, str]] = {
    Hello: "hello",
    Welcome: "welcome",
    Unwelcome: "unwelcome",
    Offer: "offer",
    Credit: "credit",
    Chunk: "chunk",
    ReceiptMessage: "receipt",
    Refused: "refused",
    HeadOffer: "head",
    HeadAnswer: "head_answer",
    Deposit: "deposit",
    Deposited: "deposited",
    Ping: "ping",
    Pong: "pong",
    Allowance: "allowance",
    Farewell: "farewell",
}
_ABSENT: Final = (None, "")  # what an older version does not know is not written where it says nothing
_OMITTED: Final[dict[str, tuple[str, ...]]] = {
    "chunk": ("sha256", "packing", "size_bytes"),
    "ping": ("host",),
    "pong": ("host",),
}
_PAYLOAD: Final[dict[str, tuple[str, int]]] = {  # kind -> attribute and limit of its payload frame
    "chunk": ("payload", CHUNK_LIMIT_BYTES),
    "deposit": ("payload", DEPOSIT_LIMIT_BYTES),
    "receipt": ("receipt", RECEIPT_LIMIT_BYTES),
    "head": ("document", HEAD_LIMIT_BYTES),
}


def plain_reason(text: object) -> str:
    """Make a reason that fits a refusal, out of any text."""
    letters = (letter if letter.isprintable() else "?" for letter in str(text)[:REASON_LIMIT])
    return "".join(letters)


def encode_message(message: FlushMessage) -> list[bytes | memoryview]:
    """Write a message as the frames of one multipart message."""
    kind = _KINDS[type(message)]
    header = field_values(message)
    for name in _OMITTED.get(kind, ()):
        if header[name] in _ABSENT:
            del header[name]
    if header.get("host") is not None:
        header["host"] = _without_none(asdict(header["host"]))
    payload = header.pop(_PAYLOAD[kind][0]) if kind in _PAYLOAD else None
    first = canonical_json({"type": kind, **header})
    return [first] if payload is None else [first, payload]


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    rows = {name: value for name, value in table.items() if value is not None}
    return {name: _without_none(value) if isinstance(value, dict) else value for name, value in rows.items()}


def parse_message(frames: Sequence[bytes | memoryview]) -> FlushMessage:
    """Read the frames of one multipart message (without the routing id).

    Errors: FrameFormatError on any bytes that are no message of this protocol.
    """
    if not 1 <= len(frames) <= 2:
        raise FrameFormatError(what="message", field="frames", reason=f"{len(frames)} of them")
    reader = JsonReader.parse(bytes(frames[0]), error=FrameFormatError, limit_bytes=HEADER_LIMIT_BYTES)
    kind = reader.text("type", limit=16)
    read = _READERS.get(kind)
    if read is None:
        raise reader.bad("type", f"{kind!r} is unknown")
    if (len(frames) == 2) != (kind in _PAYLOAD):
        raise reader.bad("frames", f"{len(frames)} of them for {kind}")
    payload = frames[1] if len(frames) == 2 else b""
    limit_bytes = _PAYLOAD[kind][1] if kind in _PAYLOAD else 0
    if len(payload) > limit_bytes:
        raise reader.bad("payload", f"longer than {limit_bytes} bytes")
    message = read(reader, payload)
    reader.done()
    return message


def _recording(reader: JsonReader) -> str:
    value = reader.text("recording_id", limit=64)
    if not is_safe_id(value):
        raise reader.bad("recording_id", "not an id")
    return value


def _id(reader: JsonReader, key: str) -> str:
    value = reader.text(key, limit=64)
    if not is_safe_id(value):
        raise reader.bad(key, "not an id")
    return value


def _name(reader: JsonReader, recording_id: str) -> str:
    value = reader.text("name", limit=NAME_LIMIT)
    if not is_own_name(value, recording_id):
        raise reader.bad("name", "not a file name of this recording")
    return value


def _reason(reader: JsonReader, key: str = "reason") -> str:
    value = reader.text(key, limit=REASON_LIMIT)
    if not value.isprintable():
        raise reader.bad(key, "not printable")
    return value


def _hello(reader: JsonReader, _: bytes | memoryview) -> Hello:
    return Hello(recorder_id=_id(reader, "recorder_id"), protocol=reader.integer("protocol"))


def _welcome(reader: JsonReader, _: bytes | memoryview) -> Welcome:
    return Welcome(archive_id=_id(reader, "archive_id"), protocol=reader.integer("protocol"))


def _unwelcome(reader: JsonReader, _: bytes | memoryview) -> Unwelcome:
    return Unwelcome(reason=_reason(reader))


def _offer(reader: JsonReader, _: bytes | memoryview) -> Offer:
    recording_id = _recording(reader)
    files = []
    for row in reader.children("files", limit=FILES_LIMIT):
        files.append(
            OfferedFile(
                name=_name(row, recording_id),
                size_bytes=row.integer("size_bytes"),
                sha256=row.sha256("sha256"),
            )
        )
        row.done()
    names = {entry.name for entry in files}
    if len(names) != len(files):
        raise reader.bad("files", "a name stands twice")
    audio = (*audio_among(names, recording_id), "")[0]
    required = required_names(recording_id, audio=audio)
    if index_name(recording_id) in names:  # the manifest is in an envelope, which the index names
        index = (index_name(recording_id), signature_name(index_name(recording_id)))
        required = (*index, *(name for name in required if name != manifest_name(recording_id)))
    missing = [name for name in required if name not in names]
    if missing:
        raise reader.bad("files", f"{missing[0]} is missing")
    return Offer(recording_id=recording_id, files=tuple(files))


def _credit(reader: JsonReader, _: bytes | memoryview) -> Credit:
    recording_id = _recording(reader)
    return Credit(
        recording_id=recording_id,
        name=_name(reader, recording_id),
        offset_bytes=reader.integer("offset_bytes"),
        window_chunks=reader.integer("window_chunks", maximum=WINDOW_LIMIT_CHUNKS),
        rewind=reader.boolean("rewind"),
    )


def _chunk(reader: JsonReader, payload: bytes | memoryview) -> Chunk:
    recording_id = _recording(reader)
    return Chunk(
        recording_id=recording_id,
        name=_name(reader, recording_id),
        offset_bytes=reader.integer("offset_bytes"),
        sha256=reader.sha256("sha256") if reader.has("sha256") else "",
        packing=_packing(reader.text("packing", limit=16), reader) if reader.has("packing") else "",
        size_bytes=reader.integer("size_bytes", maximum=CHUNK_LIMIT_BYTES) if reader.has("packing") else None,
        payload=payload,
    )


def _packing(value: str, reader: JsonReader) -> str:
    if re.fullmatch(r"[a-z0-9]{1,16}", value) is None:
        raise reader.bad("packing", "not the name of one")
    return value


def _allowance(reader: JsonReader, _: bytes | memoryview) -> Allowance:
    packings = reader.texts("packings", limit=PACKINGS_LIMIT)
    return Allowance(
        recordings=reader.integer("recordings", maximum=RECORDINGS_LIMIT),
        window_bytes=reader.integer("window_bytes", maximum=WINDOW_LIMIT_BYTES),
        reason=_reason(reader),
        packings=tuple(_packing(value, reader) for value in packings),
    )


def _farewell(reader: JsonReader, _: bytes | memoryview) -> Farewell:
    return Farewell(reason=_reason(reader))


def _receipt(reader: JsonReader, payload: bytes | memoryview) -> ReceiptMessage:
    return ReceiptMessage(recording_id=_recording(reader), receipt=bytes(payload))


def _refused(reader: JsonReader, _: bytes | memoryview) -> Refused:
    return Refused(
        recording_id=_recording(reader),
        code=_code(reader),
        reason=_reason(reader),
        retryable=reader.boolean("retryable"),
    )


def _code(reader: JsonReader) -> str:
    value = reader.text("code", limit=32)
    if re.fullmatch(r"[a-z_]{1,32}", value) is None:
        raise reader.bad("code", "not a refusal code")
    return value


def _head(_: JsonReader, payload: bytes | memoryview) -> HeadOffer:
    return HeadOffer(document=bytes(payload))


def _head_answer(reader: JsonReader, _: bytes | memoryview) -> HeadAnswer:
    return HeadAnswer(sha256=reader.sha256("sha256"), kept=reader.boolean("kept"), reason=_reason(reader))


def _deposit(reader: JsonReader, payload: bytes | memoryview) -> Deposit:
    return Deposit(name=_deposit_name(reader), sha256=reader.sha256("sha256"), payload=payload)


def _deposited(reader: JsonReader, _: bytes | memoryview) -> Deposited:
    return Deposited(
        name=_deposit_name(reader), sha256=reader.sha256("sha256"), refusal=_reason(reader, "refusal")
    )


def _deposit_name(reader: JsonReader) -> str:
    value = reader.text("name", limit=64)
    if DEPOSIT_NAME.fullmatch(value) is None:
        raise reader.bad("name", "not a name of a deposit")
    return value


def _ping(reader: JsonReader, _: bytes | memoryview) -> Ping:
    return Ping(number=reader.integer("number"), host=_host(reader))


def _pong(reader: JsonReader, _: bytes | memoryview) -> Pong:
    return Pong(number=reader.integer("number"), host=_host(reader))


def _host(reader: JsonReader) -> HostReport | None:
    if not reader.has("host"):
        return None
    row = reader.child("host")
    report = HostReport(
        clock_utc_ns=row.integer("clock_utc_ns"),
        used_permille=row.integer("used_permille", maximum=1000),
        power=_power(row.child("power")) if row.has("power") else None,
    )
    row.done()
    return report


def _power(row: JsonReader) -> HostPower:
    power = HostPower(
        state=row.integer("state", maximum=3),
        reason=_reason(row),
        runtime_s=row.integer("runtime_s", maximum=10**9) if row.has("runtime_s") else None,
        charge_percent=row.integer("charge_percent", maximum=100) if row.has("charge_percent") else None,
        contact=row.boolean("contact"),
    )
    row.done()
    return power


_READERS: Final[dict[str, Callable[[JsonReader, bytes | memoryview], FlushMessage]]] = {
    "hello": _hello,
    "welcome": _welcome,
    "unwelcome": _unwelcome,
    "offer": _offer,
    "credit": _credit,
    "chunk": _chunk,
    "receipt": _receipt,
    "refused": _refused,
    "head": _head,
    "head_answer": _head_answer,
    "deposit": _deposit,
    "deposited": _deposited,
    "ping": _ping,
    "pong": _pong,
    "allowance": _allowance,
    "farewell": _farewell,
}
