"""Webex Calling: BroadWorks' document, two lines with Opus, G.722 and two telephone-event payload types.

A conference comes by a re-INVITE that makes both lines inactive, then one with a third participant.
"""

from __future__ import annotations

from tests.support.field import broadworks
from tests.support.field.request import FieldRequest, Scene, audio, multipart, sdp

BOUNDARY = "UniqueBroadWorksBoundary"


def invite(scene: Scene) -> FieldRequest:
    """Start recording."""
    return _request(scene, parties=2, direction="sendonly")


def before_conference(scene: Scene) -> FieldRequest:
    """The call is about to become a conference: both lines rest."""
    return _request(scene, parties=2, direction="inactive")


def conference(scene: Scene) -> FieldRequest:
    """A third participant is heard on the second line."""
    return _request(scene, parties=3, direction="sendonly")


def _request(scene: Scene, *, parties: int, direction: str) -> FieldRequest:
    plain = broadworks.invite(scene, mixed=False, originating=False)
    metadata = plain.body.split(b"\r\n\r\n", 1)[1].split(b"\r\n--", 1)[0]
    if parties == 3:
        extra = (
            f'<participant id="{scene.urn("party2")}" session="{scene.urn("session")}">'
            f"<aor>sip:{scene.third}@example.com</aor><send><id>{scene.urn('stream2')}</id></send></participant>"
        )
        metadata = metadata.replace(b"<stream ", extra.encode() + b"<stream ", 1)
    media = [
        audio(
            scene.ports[place],
            "99 9 0 8 101 100",
            "rtpmap:99 opus/48000/2",
            "fmtp:99 maxplaybackrate=16000;useinbandfec=1",
            "rtpmap:9 G722/8000",
            "rtpmap:0 PCMU/8000",
            "rtpmap:8 PCMA/8000",
            "rtpmap:101 telephone-event/8000",
            "fmtp:101 0-15",
            "rtpmap:100 telephone-event/48000",
            "fmtp:100 0-15",
            f"label:{scene.label(place, '12')}",
            direction,
        )
        for place in range(2)
    ]
    offer = sdp(scene, media, user="WebexCalling", address=scene.address)
    body = multipart(
        BOUNDARY,
        ("Content-Type: application/sdp", offer),
        ("Content-Type: application/rs-metadata+xml\nContent-Disposition: recording-session", metadata),
    )
    headers = (
        ("From", f"<sip:{scene.caller}@{scene.address}>;tag={scene.hex('from')[:10]}"),
        ("To", "<sip:srs@192.0.2.99>"),
        ("Contact", f"<sip:{scene.address}:{scene.sip_port};transport={scene.transport}>;+sip.src"),
        ("Require", "siprec"),
        ("User-Agent", "BroadWorks"),
        ("MIME-Version", "1.0"),
    )
    content_type = f"multipart/mixed;boundary={BOUNDARY}"
    return FieldRequest(method="INVITE", headers=headers, content_type=content_type, body=body)
