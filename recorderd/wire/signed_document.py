"""A document that carries its signature: canonical JSON, `{"body": {...}, "signature": "<base64>"}`.

Contract: the signature is a detached CAdES one over the body's canonical JSON. Here it is split off and put
on; whether it holds is ``evidence``'s to say.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from recorderd.core.errors import FormatError
from recorderd.wire.canonical import JsonReader, canonical_json

SIGNATURE_LIMIT: Final = 64 * 1024  # base64 characters; ECDSA signatures with a chain take a few thousand


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedOctets:
    """The octets of a body and its signature, not yet verified."""

    body: bytes
    signature: bytes = field(repr=False)


def encode_signed(body: bytes, signature: bytes) -> bytes:
    """Write a body, which is canonical JSON, and its signature as one document."""
    text = base64.b64encode(signature).decode("ascii")
    return b'{"body":' + body + b',"signature":' + canonical_json(text) + b"}"


def read_signed(raw: bytes, *, error: type[FormatError], limit_bytes: int) -> tuple[JsonReader, SignedOctets]:
    """Split a document; give a reader of its body.

    Errors: the ``error`` class handed in, also when the octets are not in canonical form.
    """
    reader = JsonReader.parse(raw, error=error, limit_bytes=limit_bytes)
    body = reader.table("body")
    try:
        signature = base64.b64decode(reader.text("signature", limit=SIGNATURE_LIMIT), validate=True)
    except (binascii.Error, ValueError):
        raise reader.bad("signature", "not base64") from None
    reader.done()
    octets = _octets(body)
    if encode_signed(octets, signature) != raw:
        raise reader.bad("document", "not in canonical form")
    return JsonReader(body, error=error, path="body."), SignedOctets(body=octets, signature=signature)


def _octets(body: Mapping[str, Any]) -> bytes:
    try:
        return canonical_json(body)
    except (UnicodeError, ValueError):  # half a surrogate pair, NaN
        return b""
