"""Avaya SBCE: +sip.src inside the Contact URI, a made-up participant, empty stream ids.

The call's id is in User-to-User. Who is really on the call comes later, by an UPDATE with metadata alone.
"""

from __future__ import annotations

from tests.support.field.request import METADATA, SDP, FieldRequest, Scene, audio, crlf, multipart, sdp

BOUNDARY = "----=_Part_1_1573550781"
LABELS = ("10", "20")


def invite(scene: Scene) -> FieldRequest:
    """Start recording."""
    media = [
        audio(
            scene.ports[place],
            "8 103",
            "rtpmap:8 PCMA/8000",
            "rtpmap:103 telephone-event/8000",
            f"label:{scene.label(place, LABELS)}",
            "sendonly",
            "ptime:20",
        )
        for place in range(2)
    ]
    body = multipart(
        BOUNDARY,
        (f"Content-Type: {SDP}", sdp(scene, media, name="SipCall", address=scene.address)),
        (f"Content-Type: {METADATA}\nContent-Disposition: recording-session", document(scene, known=False)),
    )
    content_type = f'multipart/mixed;boundary="{BOUNDARY}"'
    return FieldRequest(method="INVITE", headers=_headers(scene), content_type=content_type, body=body)


def update(scene: Scene) -> FieldRequest:
    """Say who is on the call: metadata alone."""
    headers = (*_headers(scene), ("Content-Disposition", "recording-session"))
    return FieldRequest(
        method="UPDATE", headers=headers, content_type=METADATA, body=document(scene, known=True)
    )


def document(scene: Scene, *, known: bool) -> bytes:
    """Describe the call, before or after the SBC knows who is on it."""
    session = scene.key("session")
    callee = f"sip:{scene.callee}@{scene.address}" if known else "sip:"
    rows = [
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>',
        '<recording xmlns="urn:ietf:params:xml:ns:recording:1">',
        "<datamode>complete</datamode>",
        f'<group group_id="{scene.key("group")}"><associate-time>2026-11-12T12:33:01Z</associate-time>',
        "</group>",
        f'<session session_id="{session}"><group-ref>{scene.key("group")}</group-ref></session>',
        f'<participant participant_id="{scene.key("party0")}">',
        f'<nameID aor="sip:{scene.caller}@{scene.address}">',
        f'<name xml:lang="en">{scene.caller}</name></nameID></participant>',
        f'<participant participant_id="{scene.key("party1")}"><nameID aor="{callee}"/></participant>',
    ]
    if not known:
        rows.append(f'<participant participant_id="{scene.key("fake")}"><nameID aor="sip:"/></participant>')
    for place in range(2):
        stream = scene.key(f"stream{place}") if known else ""
        rows += [
            f'<stream stream_id="{stream}" session_id="{session}">',
            f"<label>{scene.label(place, LABELS)}</label></stream>",
            f'<participantstreamassoc participant_id="{scene.key(f"party{place}")}"><send>{stream}</send>',
            "</participantstreamassoc>",
        ]
    return crlf("\n".join([*rows, "</recording>"]) + "\n")


def universal_call_id(scene: Scene) -> str:
    """Give the call's id as User-to-User carries it."""
    return f"00FA0800{scene.hex('ucid')[:16].upper()}"


def _headers(scene: Scene) -> tuple[tuple[str, str], ...]:
    uri = f"sip:{scene.caller}@{scene.address}:{scene.sip_port};transport={scene.transport};+sip.src"
    return (
        (
            "From",
            f'"{scene.caller}" <sip:{scene.caller}@{scene.address};user=phone>;tag={scene.hex("from")[:12]}',
        ),
        ("To", "<sip:srs@192.0.2.99>"),
        ("Contact", f"<{uri}>"),
        ("Require", "siprec"),
        ("User-Agent", "Avaya-SBCE/8.1"),
        ("User-to-User", f"{universal_call_id(scene)};encoding=hex"),
        ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE"),
    )
