"""Requests that a scenario writes itself: plain lines, legs, fixtures of the field turned around."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from tests.support.field.request import METADATA, SDP, FieldRequest, Scene, audio, multipart, sdp

BOUNDARY = "interop-boundary"
CODECS = {"PCMA": ("8", "rtpmap:8 PCMA/8000"), "PCMU": ("0", "rtpmap:0 PCMU/8000")}


def offer(
    scene: Scene,
    *,
    labels: Sequence[str] = ("1", "2"),
    codecs: Sequence[str] = (),
    direction: str = "sendonly",
    closed: Sequence[int] = (),
    address: str = "",
    extra: Sequence[str] = (),
) -> bytes:
    """Write an SDP of G.711 lines; ``closed`` lines have port 0, ``extra`` are further media sections."""
    media = []
    for place, label in enumerate(labels):
        number, name = CODECS[codecs[place] if codecs else "PCMA"]
        given = (f"label:{label}",) if label else ()
        port = 0 if place in closed else 41_000 + 2 * place
        media.append(audio(port, f"{number} 101", name, "rtpmap:101 telephone-event/8000", *given, direction))
    return sdp(scene, [*media, *extra], user="SRC", address=address or scene.address)


def headers(
    scene: Scene, *, contact: str = ";+sip.src", require: str = "siprec"
) -> tuple[tuple[str, str], ...]:
    """Write the headers of a SIPREC client."""
    uri = f"sip:src@{scene.address}:{scene.sip_port};transport={scene.transport}"
    return (
        ("From", f"<sip:src@{scene.address}>;tag={scene.hex('from')[:12]}"),
        ("To", "<sip:srs@192.0.2.99>"),
        ("Contact", f"<{uri}>{contact}"),
        ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, MESSAGE, NOTIFY, PRACK"),
        *((("Require", require),) if require else ()),
    )


def with_body(
    known: Sequence[tuple[str, str]],
    *,
    method: str = "INVITE",
    offered: bytes = b"",
    metadata: bytes = b"",
    metadata_type: str = METADATA,
) -> FieldRequest:
    """Put SDP and metadata, either alone or both, under headers."""
    if offered and metadata:
        body = multipart(
            BOUNDARY,
            (f"Content-Type: {SDP}", offered),
            (f"Content-Type: {metadata_type}\nContent-Disposition: recording-session", metadata),
        )
        kind = f"multipart/mixed;boundary={BOUNDARY}"
    else:
        body, kind = offered or metadata, SDP if offered else metadata_type
    return FieldRequest(method=method, headers=tuple(known), content_type=kind if body else "", body=body)


def metadata_alone(
    request: FieldRequest, *, method: str = "UPDATE", multipart_body: bool = False
) -> FieldRequest:
    """Take a fixture's metadata and send it by itself, in a multipart of one part if so wished."""
    found = re.search(rb"(?s)(<\?xml.*?</(?:\w+:)?recording(?:_metadata)?>\s*)", request.body)
    assert found is not None
    document = found.group(1)
    if not multipart_body:
        return replace(request, method=method, content_type=METADATA, body=document)
    head = f"Content-Type: {METADATA}\nContent-Disposition: recording-session"
    body = multipart(BOUNDARY, (head, document))
    return replace(request, method=method, content_type=f"multipart/mixed;boundary={BOUNDARY}", body=body)


def metadata_of(request: FieldRequest) -> bytes:
    """Take the metadata out of a fixture's body."""
    return metadata_alone(request).body


def header_changed(request: FieldRequest, name: str, value: str | None) -> FieldRequest:
    """Set, add or (None) remove a header."""
    kept = tuple(pair for pair in request.headers if pair[0].lower() != name.lower())
    return replace(request, headers=kept if value is None else (*kept, (name, value)))


def body_changed(request: FieldRequest, old: bytes, new: bytes) -> FieldRequest:
    """Replace octets of the body; they must be there."""
    assert old in request.body, old
    return replace(request, body=request.body.replace(old, new))


def parts_swapped(request: FieldRequest) -> FieldRequest:
    """Put the last part of a multipart body of two first."""
    boundary = request.content_type.partition("boundary=")[2].strip('"').encode()
    first, second = request.body.split(b"--" + boundary + b"\r\n")[1:]
    second = second.partition(b"\r\n--" + boundary + b"--")[0] + b"\r\n"
    mark = b"--" + boundary + b"\r\n"
    return replace(request, body=mark + second + mark + first + b"--" + boundary + b"--\r\n")


def leg(
    scene: Scene, *, name: str = "", call_id: str = "", caller: str = "", callee: str = "", linked: str = ""
) -> FieldRequest:
    """Write the INVITE of a recording leg; without ``call_id`` it has no header of an exchange."""
    caller, callee = caller or scene.caller, callee or scene.callee
    party, other = (callee, caller) if name == "callee" else (caller, callee)
    told: tuple[tuple[str, str], ...] = ()
    if call_id:
        told = (("X-Call-ID", call_id), ("X-Call-Leg", name))
        told += (("X-Call-Caller", caller), ("X-Call-Callee", callee), ("X-Call-Linked", linked))
    return FieldRequest(
        method="INVITE",
        headers=(
            ("From", f"<sip:{party}@{scene.address}>;tag={scene.hex('leg' + name)[:10]}"),
            ("To", f"<sip:{other}@192.0.2.99>"),
            ("Contact", f"<sip:exchange@{scene.address}:{scene.sip_port};transport={scene.transport}>"),
            *((header, value) for header, value in told if value),
        ),
        content_type=SDP,
        body=offer(scene, labels=("",), direction="sendrecv"),
    )
