"""The receipt: the archive's signed word that it holds a recording; one canonical JSON document on disk.

{"body": {...}, "signature": "<base64 of a detached CAdES signature over the body's canonical JSON>"}
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any, Final

from recorderd.core.errors import ReceiptFormatError
from recorderd.core.ids import is_safe_id
from recorderd.wire.canonical import JsonReader, canonical_json
from recorderd.wire.frames import FILES_LIMIT, RECEIPT_LIMIT_BYTES

RECEIPT_VERSION: Final = 1
RECEIPT_NAME: Final = "receipt.json"  # beside a recording
SIGNATURE_LIMIT: Final = 64 * 1024  # base64 characters; ECDSA signatures with a chain take a few thousand


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFile:
    """One archived file."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptBody:
    """What the archive signs."""

    recording_id: str
    recorder_id: str
    manifest_sha256: str
    files: tuple[ReceiptFile, ...]
    archive_id: str
    sequence: int  # row number in the archive's catalogue, from 1
    archived_at: str
    receipt_version: int = RECEIPT_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A receipt with its signature, not yet verified."""

    body: ReceiptBody
    signature: bytes = field(repr=False)

    @property
    def signed_bytes(self) -> bytes:
        """The bytes that the signature covers."""
        return encode_body(self.body)


def encode_body(body: ReceiptBody) -> bytes:
    """Write the part of a receipt that is signed."""
    return canonical_json(body)


def encode_receipt(receipt: Receipt) -> bytes:
    """Write a receipt as one document."""
    signature = base64.b64encode(receipt.signature).decode("ascii")
    return canonical_json({"body": receipt.body, "signature": signature})


def parse_receipt(raw: bytes) -> Receipt:
    """Read a receipt; the signature is not verified here.

    Errors: ReceiptFormatError, also when the bytes are not in canonical form.
    """
    reader = JsonReader.parse(raw, error=ReceiptFormatError, limit_bytes=RECEIPT_LIMIT_BYTES)
    body = reader.child("body")
    version = body.integer("receipt_version")
    if version != RECEIPT_VERSION:
        raise body.bad("receipt_version", f"{version} is not {RECEIPT_VERSION}")
    receipt = Receipt(
        body=ReceiptBody(
            recording_id=_safe_id(body, "recording_id"),
            recorder_id=_safe_id(body, "recorder_id"),
            manifest_sha256=body.sha256("manifest_sha256"),
            files=tuple(_file(row) for row in body.children("files", limit=FILES_LIMIT)),
            archive_id=_safe_id(body, "archive_id"),
            sequence=body.integer("sequence", minimum=1),
            archived_at=_plain(body, "archived_at", limit=40),
        ),
        signature=_signature(reader),
    )
    body.done()
    reader.done()
    if encode_receipt(receipt) != raw:
        raise reader.bad("document", "not in canonical form")
    return receipt


def _file(reader: JsonReader) -> ReceiptFile:
    entry = ReceiptFile(name=_plain(reader, "name", limit=128), sha256=reader.sha256("sha256"))
    reader.done()
    return entry


def _signature(reader: JsonReader) -> bytes:
    text: Any = reader.text("signature", limit=SIGNATURE_LIMIT)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise reader.bad("signature", "not base64") from None


def _safe_id(reader: JsonReader, key: str) -> str:
    value = reader.text(key)
    if not is_safe_id(value):
        raise reader.bad(key, "not an id")
    return value


def _plain(reader: JsonReader, key: str, *, limit: int) -> str:
    value = reader.text(key, limit=limit)
    if not (value.isascii() and value.isprintable()):
        raise reader.bad(key, "not printable ASCII")
    return value
