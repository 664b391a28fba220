"""The signed head of a recorder's chain: how far it goes, stated every hour and at stop; canonical JSON.

{"body": {...}, "signature": "<base64 of a detached CAdES signature over the body's canonical JSON>"}

Heads form a chain of their own (`number`, `previous_head_sha256`), so that none can be left out unseen. What
has no place in the chain of manifests is at least counted here: calls of strangers, and entries beyond the
configured rate.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Final

from recorderd.core.errors import HeadFormatError
from recorderd.core.ids import is_safe_id
from recorderd.wire.canonical import JsonReader, canonical_json

HEAD_VERSION: Final = 1
HEAD_LIMIT_BYTES: Final = 128 * 1024
HEAD_ENDING: Final = ".head.json"
CAUSES: Final = ("start", "hour", "stop")
_SIGNATURE_LIMIT: Final = 64 * 1024  # base64 characters, as in a receipt
_GROUP: Final = 4
_GROUPS: Final = 8  # 128 bits: nobody finds another chain for a fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """So many calls that left no entry, by why."""

    reason: str
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadBody:
    """What a recorder signs of its chain."""

    recorder_id: str
    number: int  # of this head, from 1
    previous_head_sha256: str  # of the body before this one; zeros before the first
    sequence: int  # of the newest manifest; 0 = there is none yet
    manifest_sha256: str
    count: int  # manifests since the head before
    cause: str  # one of CAUSES
    stated_at: str  # RFC 3339, UTC
    counted: tuple[Counted, ...] = ()  # since the head before
    head_version: int = HEAD_VERSION

    @property
    def sha256(self) -> str:
        """The digest that the next head names."""
        return hashlib.sha256(encode_head_body(self)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """A head with its signature, not yet verified."""

    body: HeadBody
    signature: bytes = field(repr=False)

    @property
    def signed_bytes(self) -> bytes:
        """The octets that the signature covers."""
        return encode_head_body(self.body)


def head_name(recorder_id: str, number: int) -> str:
    """Name the file of a head; names sort as the numbers do."""
    return f"{recorder_id}.{number:08d}{HEAD_ENDING}"


def fingerprint(manifest_sha256: str) -> str:
    """Shorten a chain's newest digest for people to compare: eight groups of four hexadecimal digits.

    The newest manifest names the one before, and so on: one digest stands for the whole chain.
    """
    return " ".join(manifest_sha256[at : at + _GROUP] for at in range(0, _GROUP * _GROUPS, _GROUP))


def encode_head_body(body: HeadBody) -> bytes:
    """Write the part of a head that is signed."""
    return canonical_json(asdict(body))


def encode_head(head: SignedHead) -> bytes:
    """Write a head as one document."""
    signature = base64.b64encode(head.signature).decode("ascii")
    return canonical_json({"body": asdict(head.body), "signature": signature})


def parse_head(raw: bytes) -> SignedHead:
    """Read a head; the signature is not verified here.

    Errors: HeadFormatError, also when the octets are not in canonical form.
    """
    reader = JsonReader.parse(raw, error=HeadFormatError, limit_bytes=HEAD_LIMIT_BYTES)
    body = reader.child("body")
    version = body.integer("head_version")
    if version != HEAD_VERSION:
        raise body.bad("head_version", f"{version} is not {HEAD_VERSION}")
    head = SignedHead(body=_body(body), signature=_signature(reader))
    body.done()
    reader.done()
    if encode_head(head) != raw:
        raise reader.bad("document", "not in canonical form")
    return head


def _body(reader: JsonReader) -> HeadBody:
    recorder_id, cause, stated_at = (reader.text(key) for key in ("recorder_id", "cause", "stated_at"))
    if not is_safe_id(recorder_id):
        raise reader.bad("recorder_id", "not an id")
    if cause not in CAUSES:
        raise reader.bad("cause", f"{cause!r} is unknown")
    try:
        if datetime.fromisoformat(stated_at).tzinfo is None:
            raise ValueError("no zone")
    except ValueError:
        raise reader.bad("stated_at", "no RFC 3339 time") from None
    return HeadBody(
        recorder_id=recorder_id,
        number=reader.integer("number", minimum=1),
        previous_head_sha256=reader.sha256("previous_head_sha256"),
        sequence=reader.integer("sequence"),
        manifest_sha256=reader.sha256("manifest_sha256"),
        count=reader.integer("count"),
        cause=cause,
        stated_at=stated_at,
        counted=tuple(_counted(row) for row in reader.children("counted", limit=100)),
    )


def _counted(reader: JsonReader) -> Counted:
    row = Counted(reason=reader.text("reason", limit=64), calls=reader.integer("calls", minimum=1))
    reader.done()
    return row


def _signature(reader: JsonReader) -> bytes:
    try:
        return base64.b64decode(reader.text("signature", limit=_SIGNATURE_LIMIT), validate=True)
    except (binascii.Error, ValueError):
        raise reader.bad("signature", "not base64") from None
