"""The documents of RFC 7865 section 8.1 and RFC 8068: a complete one, and partial ones that change it."""

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

BOUNDARY = "foobar"
NAMESPACE = "urn:ietf:params:xml:ns:recording:1"


def invite(scene: Scene, *, direction: str = "sendonly", metadata_type: str = METADATA) -> FieldRequest:
    """Start recording: two lines, a complete document."""
    return _request(
        scene, "INVITE", offer(scene, lines=2, direction=direction), complete(scene), metadata_type
    )


def third_joins(scene: Scene) -> FieldRequest:
    """A third participant with a third line, in a partial document."""
    return _request(scene, "INVITE", offer(scene, lines=3), partial_joined(scene), METADATA)


def update_alone(scene: Scene, document: bytes, *, metadata_type: str = METADATA) -> FieldRequest:
    """Send a document by itself: an UPDATE without SDP and without multipart."""
    headers = (*_headers(scene), ("Content-Disposition", "recording-session"))
    return FieldRequest(method="UPDATE", headers=headers, content_type=metadata_type, body=document)


def offer(scene: Scene, *, lines: int, direction: str = "sendonly") -> bytes:
    """Write the SDP."""
    media = [
        audio(
            scene.ports[place],
            "8",
            "rtpmap:8 PCMA/8000",
            f"label:{scene.label(place, ('96', '97', '98'))}",
            direction,
        )
        for place in range(lines)
    ]
    return sdp(scene, media, user="SRC", address=scene.address)


def complete(scene: Scene) -> bytes:
    """Describe two participants, each sending a stream of its own."""
    session, group = scene.key("session"), scene.key("group")
    rows = [
        f'<group group_id="{group}"><associate-time>2010-12-16T23:41:07Z</associate-time>',
        "<call-center xmlns='urn:ietf:params:xml:ns:callcenter'>",
        "<supervisor>sip:alice@atlanta.com</supervisor>",
        "</call-center><mydata xmlns='http://example.com/my'><structure>FOO!</structure></mydata></group>",
        f'<session session_id="{session}">',
        f"<sipSessionID>{scene.hex('a')};remote={scene.hex('b')}</sipSessionID>",
        f"<group-ref>{group}</group-ref></session>",
        *_participant(scene, 0, scene.caller, "Bob B"),
        *_participant(scene, 1, scene.callee, "Paul"),
        _stream(scene, 0),
        _stream(scene, 1),
        f'<sessionrecordingassoc session_id="{session}">',
        "<associate-time>2010-12-16T23:41:07Z</associate-time></sessionrecordingassoc>",
        _streams_of(scene, 0, receives=(1,)),
        _streams_of(scene, 1, receives=(0,)),
    ]
    return _document("complete", rows)


def partial_joined(scene: Scene) -> bytes:
    """Say that a third participant came, and what it sends."""
    rows = [
        *_participant(scene, 2, scene.third, "Carol"),
        _stream(scene, 2),
        _streams_of(scene, 2, receives=(0, 1)),
    ]
    return _document("partial", rows)


def partial_left(scene: Scene, *, place: int = 1) -> bytes:
    """Say that a participant is off the call and its stream no longer sent."""
    party, session = scene.key(f"party{place}"), scene.key("session")
    rows = [
        f'<participantsessionassoc participant_id="{party}" session_id="{session}">'
        "<associate-time>2010-12-16T23:41:07Z</associate-time>"
        "<disassociate-time>2010-12-16T23:45:00Z</disassociate-time></participantsessionassoc>",
        f'<participantstreamassoc participant_id="{party}"><send>{scene.key(f"stream{place}")}</send>'
        "<disassociate-time>2010-12-16T23:45:00Z</disassociate-time></participantstreamassoc>",
    ]
    return _document("partial", rows)


def partial_renamed(scene: Scene, *, name: str, number: str, place: int = 1) -> bytes:
    """Say who a participant really is."""
    return _document("partial", [_participant(scene, place, number, name)[0]])


def partial_unknown(scene: Scene) -> bytes:
    """Name a participant and a stream that no document has described."""
    rows = [
        f'<participantstreamassoc participant_id="{scene.key("nobody")}">'
        f"<send>{scene.key('nothing')}</send></participantstreamassoc>"
    ]
    return _document("partial", rows)


def _document(datamode: str, rows: list[str]) -> bytes:
    head = ['<?xml version="1.0" encoding="UTF-8"?>', f"<recording xmlns='{NAMESPACE}'>"]
    return crlf("\n".join([*head, f"<datamode>{datamode}</datamode>", *rows, "</recording>"]) + "\n")


def _participant(scene: Scene, place: int, number: str, name: str) -> list[str]:
    party = scene.key(f"party{place}")
    return [
        f'<participant participant_id="{party}"><nameID aor="sip:{number}@example.com">'
        f'<name xml:lang="it">{name}</name></nameID></participant>',
        f'<participantsessionassoc participant_id="{party}" session_id="{scene.key("session")}">'
        "<associate-time>2010-12-16T23:41:07Z</associate-time></participantsessionassoc>",
    ]


def _stream(scene: Scene, place: int) -> str:
    label = scene.label(place, ("96", "97", "98"))
    return (
        f'<stream stream_id="{scene.key(f"stream{place}")}" session_id="{scene.key("session")}">'
        f"<label>{label}</label></stream>"
    )


def _streams_of(scene: Scene, place: int, *, receives: tuple[int, ...]) -> str:
    received = "".join(f"<recv>{scene.key(f'stream{other}')}</recv>" for other in receives)
    return (
        f'<participantstreamassoc participant_id="{scene.key(f"party{place}")}">'
        f"<send>{scene.key(f'stream{place}')}</send>{received}"
        "<associate-time>2010-12-16T23:41:07Z</associate-time></participantstreamassoc>"
    )


def _headers(scene: Scene) -> tuple[tuple[str, str], ...]:
    return siprec(
        scene,
        user="2000",
        contact=f"<sip:2000@{scene.address}:{scene.sip_port};transport={scene.transport}>;+sip.src",
        agent="SRC/1.0",
        extra=("Accept: application/sdp, application/rs-metadata, application/rs-metadata-request",),
    )


def _request(scene: Scene, method: str, sdp_body: bytes, metadata: bytes, metadata_type: str) -> FieldRequest:
    body = multipart(
        BOUNDARY,
        (f"Content-Type: {SDP}", sdp_body),
        (f"Content-Type: {metadata_type}\nContent-Disposition: recording-session", metadata),
    )
    content_type = f"multipart/mixed;boundary={BOUNDARY}"
    return FieldRequest(method=method, headers=_headers(scene), content_type=content_type, body=body)
