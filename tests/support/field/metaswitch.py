"""Metaswitch: one mixed line, both participants send the same stream, an extension that says which call."""

from __future__ import annotations

from tests.support.field.request import (
    METADATA,
    SDP,
    FieldRequest,
    Scene,
    audio,
    crlf,
    multipart,
    sdp,
    siprec,
)

BOUNDARY = "boundary-mcp"


def invite(scene: Scene, *, call_type: str = "Terminating", parties: int = 2) -> FieldRequest:
    """Start recording; ``call_type`` is Originating or Terminating, three parties are a three-way call."""
    media = audio(
        scene.ports[0],
        "0 8 101",
        "rtpmap:0 PCMU/8000",
        "rtpmap:8 PCMA/8000",
        "rtpmap:101 telephone-event/8000",
        f"label:{scene.label(0, '1')}",
        "sendonly",
    )
    body = multipart(
        BOUNDARY,
        (f"Content-Type: {SDP}", sdp(scene, [media], user="MetaSwitch", address=scene.address)),
        (
            f"Content-Type: {METADATA}\nContent-Disposition: recording-session;handling=required",
            _metadata(scene, call_type, parties),
        ),
    )
    headers = siprec(
        scene,
        user=scene.caller,
        contact=f"<sip:{scene.address}:{scene.sip_port};transport={scene.transport}>;+sip.src",
        agent="MetaSwitch",
    )
    content_type = f"multipart/mixed; boundary={BOUNDARY}"
    return FieldRequest(method="INVITE", headers=headers, content_type=content_type, body=body)


def _metadata(scene: Scene, call_type: str, parties: int) -> bytes:
    session, stream = scene.urn("session"), scene.urn("stream")
    rows = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<recording xmlns="urn:ietf:params:xml:ns:recording:1">',
        "<datamode>complete</datamode>",
        f'<session session_id="{session}"><start-time>2026-02-03T10:00:00Z</start-time>',
        '<extensiondata xmlns:ms="http://www.metaswitch.com/ems/soap/sh/recording">',
        f"<ms:CallType>{call_type}</ms:CallType><ms:RecordedParty>{scene.callee}</ms:RecordedParty>",
        f"<ms:DialedDigits>{scene.callee}</ms:DialedDigits>",
        f"<ms:TrackingID>{scene.number('track')}</ms:TrackingID></extensiondata></session>",
        f'<stream stream_id="{stream}" session_id="{session}"><label>{scene.label(0, "1")}</label></stream>',
    ]
    for place, number in enumerate((scene.caller, scene.callee, scene.third)[:parties]):
        party = scene.urn(f"party{place}")
        rows += [
            f'<participant participant_id="{party}"><nameID aor="sip:{number}@example.com"/></participant>',
            f'<participantsessionassoc participant_id="{party}" session_id="{session}"/>',
            f'<participantstreamassoc participant_id="{party}"><send>{stream}</send>',
            "</participantstreamassoc>",
        ]
    return crlf("\n".join([*rows, "</recording>"]) + "\n")
