"""The signed head of an archive's audit log: how far it goes, stated every hour and at stop; canonical JSON.

{"body": {...}, "signature": "<base64 of a detached CAdES signature over the body's canonical JSON>"}

Heads form a chain of their own, so that none can be left out unseen.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import asdict, dataclass, field
from typing import Final

from recorderd.core.errors import AuditHeadFormatError
from recorderd.core.ids import is_safe_id
from recorderd.wire.canonical import JsonReader, canonical_json

AUDIT_HEAD_VERSION: Final = 1
AUDIT_HEAD_LIMIT_BYTES: Final = 128 * 1024
CAUSES: Final = ("start", "hour", "stop", "asked")
_SIGNATURE_LIMIT: Final = 64 * 1024  # base64 characters, as in a receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHeadBody:
    """What the archive signs of its audit log."""

    archive_id: str
    number: int  # of this head, from 1
    previous_head_sha256: str  # of the body before this one; zeros before the first
    rows: int  # the number of the newest row; 0 = there is none yet
    row_sha256: str  # its hash
    cause: str  # one of CAUSES
    stated_at: str  # RFC 3339, UTC
    audit_head_version: int = AUDIT_HEAD_VERSION

    @property
    def sha256(self) -> str:
        """The digest that the next head names."""
        return hashlib.sha256(canonical_json(asdict(self))).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedAuditHead:
    """A head with its signature, not yet verified."""

    body: AuditHeadBody
    signature: bytes = field(repr=False)

    @property
    def signed_bytes(self) -> bytes:
        """The octets that the signature covers."""
        return canonical_json(asdict(self.body))


def encode_audit_head(head: SignedAuditHead) -> bytes:
    """Write a head as one document."""
    signature = base64.b64encode(head.signature).decode("ascii")
    return canonical_json({"body": asdict(head.body), "signature": signature})


def parse_audit_head(raw: bytes) -> SignedAuditHead:
    """Read a head; the signature is not verified here.

    Errors: AuditHeadFormatError, also when the octets are not in canonical form.
    """
    reader = JsonReader.parse(raw, error=AuditHeadFormatError, limit_bytes=AUDIT_HEAD_LIMIT_BYTES)
    body = reader.child("body")
    if (version := body.integer("audit_head_version")) != AUDIT_HEAD_VERSION:
        raise body.bad("audit_head_version", f"{version} is not {AUDIT_HEAD_VERSION}")
    archive_id, cause = body.text("archive_id"), body.text("cause")
    if not is_safe_id(archive_id):
        raise body.bad("archive_id", "not an id")
    if cause not in CAUSES:
        raise body.bad("cause", f"{cause!r} is unknown")
    try:
        signature = base64.b64decode(reader.text("signature", limit=_SIGNATURE_LIMIT), validate=True)
    except (binascii.Error, ValueError):
        raise reader.bad("signature", "not base64") from None
    head = SignedAuditHead(
        body=AuditHeadBody(
            archive_id=archive_id,
            number=body.integer("number", minimum=1),
            previous_head_sha256=body.sha256("previous_head_sha256"),
            rows=body.integer("rows"),
            row_sha256=body.sha256("row_sha256"),
            cause=cause,
            stated_at=body.text("stated_at", limit=40),
        ),
        signature=signature,
    )
    body.done()
    reader.done()
    if encode_audit_head(head) != raw:
        raise reader.bad("document", "not in canonical form")
    return head
