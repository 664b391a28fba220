"""BroadWorks: no Require, Contact ;src, metadata first, a root element of its own, plain ids, <send><id>.

Dual streams send two lines, mixed mode one that both participants send. No a=sendonly. Pause is a re-INVITE
with plain SDP and the address 0.0.0.0.
"""

from __future__ import annotations

from tests.support.field.request import FieldRequest, Scene, audio, crlf, multipart, sdp

BOUNDARY = "uniqueBoundary"


def invite(scene: Scene, *, mixed: bool = True, originating: bool = True) -> FieldRequest:
    """Start recording; a user's own call is originating, one that rings at the user terminating."""
    return _request(scene, _offer(scene, mixed=mixed), _metadata(scene, mixed=mixed, originating=originating))


def pause(scene: Scene, *, mixed: bool = True) -> FieldRequest:
    """Pause: the same lines, nowhere to be heard."""
    return FieldRequest(
        method="INVITE",
        headers=_headers(scene),
        content_type="application/sdp",
        body=_offer(scene, mixed=mixed, address="0.0.0.0"),
    )


def resume(scene: Scene, *, mixed: bool = True) -> FieldRequest:
    """Go on after a pause."""
    return FieldRequest(
        method="INVITE",
        headers=_headers(scene),
        content_type="application/sdp",
        body=_offer(scene, mixed=mixed),
    )


def _request(scene: Scene, offer: bytes, metadata: bytes) -> FieldRequest:
    first = "Content-Type:application/rs-metadata+xml\nContent-Disposition:recording-session\n"
    body = multipart(
        BOUNDARY,
        (f"{first}Content-Length:{len(metadata)}", metadata),
        (f"Content-Type:application/sdp\nContent-Length:{len(offer)}", offer),
    )
    return FieldRequest(
        method="INVITE",
        headers=_headers(scene),
        content_type=f"multipart/mixed;boundary={BOUNDARY}",
        body=body,
    )


def _headers(scene: Scene) -> tuple[tuple[str, str], ...]:
    return (
        ("From", f"<sip:{scene.caller}@{scene.address};user=phone>;tag={scene.number('from')}-1480524740-"),
        ("To", "<sip:srs@192.0.2.99>"),
        ("Contact", f"<sip:{scene.address}:{scene.sip_port};transport={scene.transport}>;src"),
        ("Privacy", "none"),
        ("Recv-Info", "x-broadworks-client-session-info"),
        ("Accept", "application/media_control+xml,application/sdp,application/x-broadworks-call-center+xml"),
        ("Allow", "ACK,BYE,CANCEL,INFO,INVITE,OPTIONS,PRACK,REFER,NOTIFY"),
        ("Supported", ""),
        ("MIME-Version", "1.0"),
    )


def _offer(scene: Scene, *, mixed: bool, address: str = "") -> bytes:
    media = [
        audio(
            scene.ports[place],
            "8 0 101",
            f"label:{scene.label(place, '12')}",
            "rtpmap:101 telephone-event/8000",
            "fmtp:101 0-15",
            "ptime:20",
        )
        for place in range(1 if mixed else 2)
    ]
    return sdp(scene, media, user="BroadWorks", address=address or scene.address)


def _metadata(scene: Scene, *, mixed: bool, originating: bool) -> bytes:
    session, streams = (
        scene.urn("session"),
        [scene.urn("stream1"), scene.urn("stream1" if mixed else "stream2")],
    )
    mode = "mixed" if mixed else "separate"
    parties = [f"sip:{scene.caller}@example.com;user=phone", f"sip:{scene.callee}@example.com"]
    rows = [
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<recording_metadata xmlns="urn:ietf:params:xml:ns:siprec"><dataMode>complete</dataMode>'
        f'<recording id="{scene.urn("recording")}"><requestor>SRC</requestor>'
        "<type>selective</type></recording>"
        f'<group id="{scene.urn("group")}" recording="{scene.urn("recording")}">'
        f"<initiator>{parties[0]}</initiator></group>"
        f'<session id="{session}" group="{scene.urn("group")}">'
        "<start-time>2026-03-29T13:56:13-04:00</start-time></session>"
    ]
    for place, (party, stream) in enumerate(zip(parties, streams, strict=True)):
        rows.append(
            f'<participant id="{scene.urn(f"party{place}")}" session="{session}"><aor>{party}</aor>'
            f"<send><id>{stream}</id></send></participant>"
        )
    rows += [
        f'<stream id="{stream}" session="{session}"><label>{scene.label(place, "12")}</label>'
        f"<mode>{mode}</mode></stream>"
        for place, stream in enumerate(dict.fromkeys(streams))
    ]
    kind = "origCall" if originating else "termCall"
    dialled = f"<dialedDigits>sip:{scene.callee}@example.com</dialedDigits>" if originating else ""
    rows.append(
        f'<extensiondata id="{scene.urn("ext")}" parent="{session}"><broadWorksRecordingMetadata '
        'xmlns="http://schema.broadsoft.com/broadworksCallRecording" version="3.0">'
        f"<extTrackingID>{scene.number('track')}:1</extTrackingID><serviceProviderID>SP</serviceProviderID>"
        "<groupID>Sales</groupID><userID>agent1@example.com</userID>"
        f"<callID>callhalf-{scene.number('half')}:0</callID><callType><{kind}>"
        f"<callingPartyNumber>{parties[0]}</callingPartyNumber>"
        f"<calledPartyNumber>{parties[1]}</calledPartyNumber>{dialled}</{kind}></callType>"
        "<recordingType>on</recordingType></broadWorksRecordingMetadata></extensiondata></recording_metadata>"
    )
    return crlf("".join(rows))
