"""Oracle (ACME Packet): namespace without :1, attributes id and session, <send> inside <participant>.

Labels like 16777227, times without zone, apkt: extensions. The second stream may come by a later re-INVITE.
"""

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

BOUNDARY = "unique-boundary-1"
LABELS = ("16777227", "16777228")


def invite(scene: Scene, *, lines: int = 2) -> FieldRequest:
    """Start recording with one line or two."""
    return _request(scene, lines=lines)


def second_stream(scene: Scene) -> FieldRequest:
    """The callee answered: the second line is added."""
    return _request(scene, lines=2)


def _request(scene: Scene, *, lines: int) -> FieldRequest:
    media = [
        audio(
            scene.ports[place],
            "0 101",
            "rtpmap:0 PCMU/8000",
            "rtpmap:101 telephone-event/8000",
            "fmtp:101 0-15",
            "maxptime:20",
            f"label:{scene.label(place, LABELS)}",
            "sendonly",
        )
        for place in range(lines)
    ]
    body = multipart(
        BOUNDARY,
        (f"Content-Type: {SDP}", sdp(scene, media, address=scene.address)),
        (f"Content-Type: {METADATA}\nContent-Disposition: recording-session", _metadata(scene, lines)),
    )
    headers = siprec(
        scene,
        user="SBC-SRC",
        contact=f"<sip:{scene.address}:{scene.sip_port};transport={scene.transport}>;+sip.src",
        agent="oracle-sbc",
        extra=("MIME-Version: 1.0",),
    )
    content_type = f"multipart/mixed; boundary={BOUNDARY}"
    return FieldRequest(method="INVITE", headers=headers, content_type=content_type, body=body)


def _metadata(scene: Scene, lines: int) -> bytes:
    session = scene.key("session")
    extension = '<extensiondata xmlns:apkt="http://acmepacket.com/siprec/extensiondata">'
    rows = [
        "<?xml version='1.0' encoding='UTF-8'?>",
        "<recording xmlns='urn:ietf:params:xml:ns:recording'>",
        "<datamode>complete</datamode>",
        f'<session id="{session}">',
        "<associate-time>2026-04-28T10:40:29</associate-time>",
        f"{extension}<apkt:ucid>{scene.hex('ucid')[:22].upper()};encoding=hex</apkt:ucid>",
        "<apkt:callerOrig>true</apkt:callerOrig></extensiondata>",
        "</session>",
    ]
    for place, number in enumerate((scene.caller, scene.callee)):
        send = f"<send>{scene.key(f'stream{place}')}</send>" if place < lines else ""
        rows += [
            f'<participant id="{scene.key(f"party{place}")}" session="{session}">',
            f'<nameID aor="sip:{number}@{scene.address}"><name>{number}</name></nameID>{send}',
            "<associate-time>2026-04-28T10:40:29</associate-time>",
            f"{extension}<apkt:callingParty>{'false' if place else 'true'}</apkt:callingParty>",
            "</extensiondata>",
            "</participant>",
        ]
    for place in range(lines):
        rows += [
            f'<stream id="{scene.key(f"stream{place}")}" session="{session}">',
            f"<label>{scene.label(place, LABELS)}</label><mode>separate</mode>",
            "<associate-time>2026-04-28T10:40:29</associate-time></stream>",
        ]
    return crlf("\n".join([*rows, "</recording>"]) + "\n")
