"""Cisco CUBE: network-based forking (plain SDP, participants in headers) and SIPREC with three parts.

Network-based: X-Cisco-Recording-Participant twice, Cisco-Guid for the call, comfort noise as payload 19; a
transfer is a re-INVITE with new participants and a new port. SIPREC: hold makes both lines inactive.
"""

from __future__ import annotations

from tests.support.field.request import METADATA, SDP, FieldRequest, Scene, audio, crlf, multipart, sdp

BOUNDARY = "uniqueBoundary"


def guid(scene: Scene) -> str:
    """Give the Cisco-Guid of a call: four decimal words."""
    octets = scene.octets("guid")
    return "-".join(str(int.from_bytes(octets[at : at + 4])) for at in range(0, 16, 4))


def invite(scene: Scene) -> FieldRequest:
    """Start forking: the caller on the first line, the callee on the second."""
    return _forked(scene, (scene.caller, scene.callee), scene.ports)


def transferred(scene: Scene) -> FieldRequest:
    """The callee was replaced by the third party, whose voice comes from another port."""
    return _forked(scene, (scene.caller, scene.third), (scene.ports[0], scene.ports[2]))


def siprec_invite(scene: Scene, *, direction: str = "sendonly", third_part: bool = True) -> FieldRequest:
    """Start a SIPREC session; the third part is a copy of the call's own headers."""
    media = [_line(scene, place, scene.ports[place], direction) for place in range(2)]
    parts = [
        (f"Content-Type: {SDP}\nContent-Disposition: session;handling=required", _sdp(scene, media)),
        (f"Content-Type: {METADATA}\nContent-Disposition: recording-session", _metadata(scene)),
    ]
    if third_part:
        note = f'{{"cisco-guid":"{guid(scene)}","gtd":"IAM"}}'
        other = (
            "Content-Type: application/x-cisco-call-info+json\nContent-Disposition: signal;handling=optional"
        )
        parts.append((other, note.encode()))
    return FieldRequest(
        method="INVITE",
        headers=(
            *_headers(scene, contact=";+sip.src"),
            ("Require", "siprec"),
            ("Session-ID", f"{scene.hex('session-a')};remote={scene.hex('session-b')}"),
            ("Mime-Version", "1.0"),
        ),
        content_type=f"multipart/mixed;boundary={BOUNDARY}",
        body=multipart(BOUNDARY, *parts),
    )


def siprec_hold(scene: Scene) -> FieldRequest:
    """The call is on hold: both lines rest."""
    return siprec_invite(scene, direction="inactive", third_part=False)


def _forked(scene: Scene, numbers: tuple[str, str], ports: tuple[int, ...]) -> FieldRequest:
    media = [
        audio(
            port,
            "8 101 19",
            "rtpmap:8 PCMA/8000",
            "rtpmap:101 telephone-event/8000",
            "fmtp:101 0-16",
            "rtpmap:19 CN/8000",
            "ptime:20",
            *((f"label:{scene.labels[place]}",) if scene.labels else ()),
            "sendonly",
            address=scene.address,
        )
        for place, port in enumerate(ports[:2])
    ]
    participants = [
        ("X-Cisco-Recording-Participant", f'sip:{number}@{scene.address};media-index="{place}"')
        for place, number in enumerate(numbers)
    ]
    return FieldRequest(
        method="INVITE",
        headers=(*participants, *_headers(scene)),
        content_type=SDP,
        body=_sdp(scene, media),
    )


def _headers(scene: Scene, *, contact: str = "") -> tuple[tuple[str, str], ...]:
    return (
        ("From", f"<sip:{scene.address}>;tag={scene.hex('from')[:7].upper()}-1E1A"),
        ("To", "<sip:595959@192.0.2.99>"),
        ("Contact", f"<sip:{scene.address}:{scene.sip_port};transport={scene.transport}>{contact}"),
        ("Supported", "100rel,timer,resource-priority,replaces,sdp-anat"),
        ("Min-SE", "1800"),
        ("Cisco-Guid", guid(scene)),
        ("User-Agent", "Cisco-SIPGateway/IOS-16.12.2"),
        (
            "Allow",
            "INVITE, OPTIONS, BYE, CANCEL, ACK, PRACK, UPDATE, REFER, SUBSCRIBE, NOTIFY, INFO, REGISTER",
        ),
        ("Expires", "180"),
        ("Allow-Events", "telephone-event"),
    )


def _line(scene: Scene, place: int, port: int, direction: str) -> str:
    return audio(
        port,
        "0 101 19",
        "rtpmap:0 PCMU/8000",
        "rtpmap:101 telephone-event/8000",
        "fmtp:101 0-16",
        "rtpmap:19 CN/8000",
        "ptime:20",
        f"label:{scene.label(place, '12')}",
        direction,
        address=scene.address,
    )


def _sdp(scene: Scene, media: list[str]) -> bytes:
    return sdp(scene, media, user="CiscoSystemsSIP-GW-UserAgent", name="SIP Call", address=scene.address)


def _metadata(scene: Scene) -> bytes:
    session = scene.key("session")
    rows = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<recording xmlns="urn:ietf:params:xml:ns:recording:1">',
        "<datamode>complete</datamode>",
        f'<session session_id="{session}">'
        f"<sipSessionID>{scene.hex('session-a')};remote={scene.hex('session-b')}</sipSessionID>"
        "<start-time>2026-06-12T09:01:24.500Z</start-time></session>",
    ]
    for place, number in enumerate((scene.caller, scene.callee)):
        party = scene.key(f"party{place}")
        rows += [
            f'<participant participant_id="{party}"><nameID aor="sip:{number}@{scene.address}">'
            f'<name xml:lang="en">{number}</name></nameID></participant>',
            f'<participantsessionassoc participant_id="{party}" session_id="{session}">'
            "<associate-time>2026-06-12T09:01:24.500Z</associate-time></participantsessionassoc>",
            f'<stream stream_id="{scene.key(f"stream{place}")}" session_id="{session}">'
            f"<label>{scene.label(place, '12')}</label></stream>",
            f'<participantstreamassoc participant_id="{party}"><send>{scene.key(f"stream{place}")}</send>'
            f"<recv>{scene.key(f'stream{1 - place}')}</recv></participantstreamassoc>",
        ]
    return crlf("\n".join([*rows, "</recording>"]) + "\n")
