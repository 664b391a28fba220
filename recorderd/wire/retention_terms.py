"""Retention terms as the archive signs them: classes and WORM, from which row of the catalogue on.

Contract: each change of `[retention]` becomes a document of its own, which names the one before; so nobody
can shorten a time, or take WORM back, by an edit of the configuration or of a table without a trace.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final

from recorderd.core.errors import TermsFormatError
from recorderd.core.ids import is_safe_id
from recorderd.policy.retention import Erase, RetentionClass, Terms
from recorderd.wire.canonical import JsonReader, canonical_json
from recorderd.wire.signed_document import SignedOctets, encode_signed, read_signed

TERMS_VERSION: Final = 1
TERMS_LIMIT_BYTES: Final = 1 << 20
CLASSES_LIMIT: Final = 1000
DAYS_LIMIT: Final = 36_525  # a hundred years


@dataclass(frozen=True, slots=True, kw_only=True)
class TermsBody:
    """What the archive signs."""

    number: int  # from 1
    previous_terms_sha256: str  # of the body before this one; zeros before the first
    archive_id: str
    stated_at: str  # RFC 3339, UTC
    by: str
    from_row: int
    worm: bool
    classes: tuple[RetentionClass, ...]
    terms_version: int = TERMS_VERSION

    @property
    def sha256(self) -> str:
        """The digest that the next ones name."""
        return sha256(encode_body(self)).hexdigest()

    @property
    def terms(self) -> Terms:
        """The terms themselves."""
        return Terms(classes=self.classes, worm=self.worm, from_row=self.from_row)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTerms:
    """Terms with their signature, not yet verified."""

    body: TermsBody
    signed: SignedOctets = field(repr=False)


def encode_body(body: TermsBody) -> bytes:
    """Write the part that is signed."""
    return canonical_json(body)


def encode_terms(body: TermsBody, signature: bytes) -> bytes:
    """Write terms and their signature as one document."""
    return encode_signed(encode_body(body), signature)


def parse_terms(raw: bytes) -> SignedTerms:
    """Read terms; the signature is not verified here.

    Errors: TermsFormatError, also when the octets are not in canonical form.
    """
    reader, signed = read_signed(raw, error=TermsFormatError, limit_bytes=TERMS_LIMIT_BYTES)
    version = reader.integer("terms_version")
    if version != TERMS_VERSION:
        raise reader.bad("terms_version", f"{version} is not {TERMS_VERSION}")
    archive_id, stated_at = reader.text("archive_id"), reader.text("stated_at", limit=40)
    if not is_safe_id(archive_id):
        raise reader.bad("archive_id", "not an id")
    try:
        datetime.fromisoformat(stated_at)
    except ValueError:
        raise reader.bad("stated_at", "no RFC 3339 time") from None
    body = TermsBody(
        number=reader.integer("number", minimum=1),
        previous_terms_sha256=reader.sha256("previous_terms_sha256"),
        archive_id=archive_id,
        stated_at=stated_at,
        by=reader.text("by"),
        from_row=reader.integer("from_row", minimum=1),
        worm=reader.boolean("worm"),
        classes=tuple(_class(row) for row in reader.children("classes", limit=CLASSES_LIMIT)),
    )
    reader.done()
    return SignedTerms(body=body, signed=signed)


def _class(reader: JsonReader) -> RetentionClass:
    name, erase = reader.text("name"), reader.text("erase")
    if not is_safe_id(name):
        raise reader.bad("name", "not an id")
    if erase not in set(Erase):
        raise reader.bad("erase", f"{erase!r} is unknown")
    row = RetentionClass(
        name=name,
        minimum_days=reader.integer("minimum_days", maximum=DAYS_LIMIT),
        maximum_days=reader.integer("maximum_days", maximum=DAYS_LIMIT),
        erase=Erase(erase),
        right_to_erasure=reader.boolean("right_to_erasure"),
    )
    reader.done()
    return row
