"""The request for a full metadata snapshot, which a recorder sends after it has lost what it knew.

It goes out as an UPDATE or re-INVITE with Content-Disposition ``recording-session``; the client answers with
metadata in a transaction of its own. That there is a request is said by the content type alone; the body
gives a reason. We write the document of RFC 7865 on one line, so that a client that expects the free text
line of RFC 7866 finds one. Source: RFC 7866 section 9.2, RFC 7865 section 10.
"""

from __future__ import annotations

from typing import Final
from xml.sax.saxutils import escape

from recorderd.core.errors import MetadataFormatError
from recorderd.wire.xml_document import parse_document

SNAPSHOT_TYPE: Final = "application/rs-metadata-request"
SNAPSHOT_DISPOSITION: Final = "recording-session"
REASON_MAX: Final = 200
_NAMESPACE: Final = "urn:ietf:params:xml:ns:recording:1"


def snapshot_request(reason: str) -> bytes:
    """Write the body of a request for a snapshot."""
    plain = "".join(letter if letter.isprintable() else " " for letter in reason)
    text = escape(" ".join(plain.split())[:REASON_MAX])
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><requestsnapshot xmlns="{_NAMESPACE}">'
        f'<requestreason xml:lang="en">{text}</requestreason></requestsnapshot>\r\n'
    ).encode()


def read_snapshot_request(body: bytes) -> str:
    """Give the reason of a request for a snapshot, from XML or from a line of text.

    Errors: MetadataFormatError when it begins like XML and is none, or is another document.
    """
    if not body.lstrip().startswith(b"<"):
        return " ".join(body.decode(errors="replace").split())[:REASON_MAX]
    root = parse_document(body).root
    if root.name != "requestsnapshot":
        raise MetadataFormatError(what="metadata", field="document", reason="is no requestsnapshot")
    texts = (element.text for element in root.inner if element.name == "requestreason")
    return " ".join(next(texts, "").split())[:REASON_MAX]
