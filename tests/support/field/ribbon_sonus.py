"""Ribbon (Sonus): every element with a prefix, associations that look swapped, times of 1970.

The original From, To and Call-ID are in an extension of the group; addresses have no scheme. What is said is
right: the first participant sends the stream with the second label.
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

BOUNDARY = "sonus-content-delim"


def invite(scene: Scene) -> FieldRequest:
    """Start recording."""
    media = [
        audio(
            scene.ports[place],
            "0",
            f"label:{scene.label(place, '12')}",
            "rtpmap:0 PCMU/8000",
            "sendonly",
            "maxptime:20",
            address=scene.address,
        )
        for place in range(2)
    ]
    offer = sdp(scene, media, user="Sonus_UAC", name="SIP Media Capabilities")
    body = multipart(
        BOUNDARY,
        (f"Content-Disposition: session; handling=required\nContent-Type: {SDP}", offer),
        (f"Content-Disposition: recording-session\nContent-Type: {METADATA}", _metadata(scene)),
    )
    headers = siprec(
        scene,
        user="SIPREC-SRC",
        contact=f'"SIPREC-SRC" <sip:SIPREC-SRC@{scene.address}:{scene.sip_port}>;+sip.src',
        agent="Sonus",
        extra=("Accept: application/sdp, application/rs-metadata-request", "Supported: timer,100rel"),
    )
    content_type = f"multipart/mixed;boundary={BOUNDARY}"
    return FieldRequest(method="INVITE", headers=headers, content_type=content_type, body=body)


def original_call_id(scene: Scene) -> str:
    """Give the Call-ID of the call that is recorded."""
    return f"{scene.number('gcid')}-original@{scene.address}"


def _metadata(scene: Scene) -> bytes:
    epoch = "<tns:associate-time>1970-05-15T00:41:05Z</tns:associate-time>"
    session = scene.key("session")
    rows = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        "<tns:recording xmlns:tns='urn:ietf:params:xml:ns:recording'>",
        "<tns:datamode>complete</tns:datamode>",
        f'<tns:group group_id="{scene.key("group")}">{epoch}',
        "<callData xmlns='urn:ietf:params:xml:ns:callData'>",
        f'<fromhdr>"{scene.caller}" &lt;sip:{scene.caller}@{scene.address}&gt;;tag=BKH9F7r61c3Fj</fromhdr>',
        f"<tohdr>&lt;sip:{scene.callee}@{scene.address}&gt;;tag=gK04802798</tohdr>",
        f"<callid>{original_call_id(scene)}</callid><gcid>{scene.number('gcid')}</gcid></callData></tns:group>",
        f'<tns:session session_id="{session}"><tns:group-ref>{scene.key("group")}</tns:group-ref>',
        "<tns:start-time>1970-05-15T00:41:05Z</tns:start-time></tns:session>",
    ]
    for place, number in enumerate((scene.caller, scene.callee)):
        name = number if place == 0 else " "
        rows.append(
            f'<tns:participant participant_id="{scene.key(f"party{place}")}">'
            f'<tns:nameID aor="{number}@{scene.address}"><tns:name xml:lang="en">{name}</tns:name>'
            "</tns:nameID></tns:participant>"
        )
    for place in range(2):
        party, own, other = (
            scene.key(f"{kind}") for kind in (f"party{place}", f"stream{1 - place}", f"stream{place}")
        )
        rows += [
            f'<tns:stream stream_id="{other}" session_id="{session}">'
            f"<tns:label>{scene.label(place, '12')}</tns:label>{epoch}</tns:stream>",
            f'<tns:participantsessionassoc participant_id="{party}" session_id="{session}">{epoch}'
            "</tns:participantsessionassoc>",
            f'<tns:participantstreamassoc participant_id="{party}"><tns:send>{own}</tns:send>'
            f"<tns:recv>{other}</tns:recv></tns:participantstreamassoc>",
        ]
    return crlf("\n".join([*rows, "</tns:recording>"]) + "\n")
