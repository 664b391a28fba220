"""Clients that differ in one thing each: OpenSIPS, NetSapiens, jambonz, AudioCodes, SEMS."""

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


def opensips(scene: Scene) -> FieldRequest:
    """Labels 0 and 1; without their echo it hangs up. The associations carry nothing when nobody answered."""
    boundary = "OSS-unique-boundary-42"
    document = _metadata(scene, ("0", "1"), names=False)
    return _request(scene, boundary, ("0", "1"), document, user=scene.address, agent="OpenSIPS (3.4.5)")


def netsapiens(scene: Scene) -> FieldRequest:
    """Labels 0 and 1, and no RTP for as long as the call is not answered."""
    document = _metadata(scene, ("0", "1"), names=True)
    return _request(scene, "boundary-ns", ("0", "1"), document, user="ns-siprec", agent="NetSapiens/44")


def jambonz(scene: Scene) -> FieldRequest:
    """A multipart answer would break it; labels 1 and 2; session level direction."""
    document = _metadata(scene, ("1", "2"), names=True)
    return _request(
        scene, "uniqueBoundary", ("1", "2"), document, user="jambonz", agent="jambonz sbc-inbound"
    )


def audiocodes(scene: Scene, *, contact: str = ";src", require: bool = False) -> FieldRequest:
    """Contact ;+sip.src or ;src, and Require left out."""
    document = _metadata(scene, ("1", "2"), names=True)
    return _request(
        scene,
        "boundary_ac1fffff",
        ("1", "2"),
        document,
        user="Mediant",
        agent="Mediant VE SBC/v.7.40A",
        contact=contact,
        require=require,
    )


def sems(scene: Scene) -> FieldRequest:
    """Labels are words, a=direction:both, addresses without scheme."""
    labels = ("caller", "callee")
    document = _metadata(scene, labels, names=True, scheme="")
    return _request(
        scene, "SEMS-rec-1", labels, document, user="sems", agent="SEMS", attributes=("direction:both",)
    )


def _request(
    scene: Scene,
    boundary: str,
    labels: tuple[str, str],
    document: bytes,
    *,
    user: str,
    agent: str,
    contact: str = ";+sip.src",
    require: bool = True,
    attributes: tuple[str, ...] = ("sendonly",),
) -> FieldRequest:
    media = [
        audio(
            scene.ports[place],
            "8 101",
            f"label:{scene.label(place, labels)}",
            "rtpmap:8 PCMA/8000",
            "rtpmap:101 telephone-event/8000",
            *attributes,
            "ptime:20",
        )
        for place in range(2)
    ]
    body = multipart(
        boundary,
        (f"Content-Type: {SDP}", sdp(scene, media, address=scene.address)),
        (f"Content-Type: {METADATA}\nContent-Disposition: recording-session", document),
    )
    uri = f"sip:{user}@{scene.address}:{scene.sip_port};transport={scene.transport}"
    headers = siprec(scene, user=user, contact=f"<{uri}>{contact}", agent=agent, require=require)
    content_type = f"multipart/mixed;boundary={boundary}"
    return FieldRequest(method="INVITE", headers=headers, content_type=content_type, body=body)


def _metadata(scene: Scene, labels: tuple[str, str], *, names: bool, scheme: str = "sip:") -> bytes:
    session = scene.key("session")
    rows = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        "<recording xmlns='urn:ietf:params:xml:ns:recording:1'>",
        "\t<datamode>complete</datamode>",
        f'\t<session session_id="{session}">',
        f"\t\t<sipSessionID>{scene.hex('b2b')}@{scene.address}</sipSessionID>",
        "\t</session>",
    ]
    for place, number in enumerate((scene.caller, scene.callee)):
        party, own, other = (
            scene.key(name) for name in (f"party{place}", f"stream{place}", f"stream{1 - place}")
        )
        name = f"<name>{number}</name>" if names else ""
        rows += [
            f'\t<participant participant_id="{party}">',
            f'\t\t<nameID aor="{scheme}{number}@{scene.address}">{name}</nameID>',
            "\t</participant>",
            f'\t<stream stream_id="{own}" session_id="{session}">',
            f"\t\t<label>{scene.label(place, labels)}</label>",
            "\t</stream>",
            f'\t<participantsessionassoc participant_id="{party}" session_id="{session}">',
            "\t\t<associate-time>2026-06-20T15:04:17+0000</associate-time>",
            "\t</participantsessionassoc>",
            f'\t<participantstreamassoc participant_id="{party}">',
            f"\t\t<send>{own}</send>",
            f"\t\t<recv>{other}</recv>",
            "\t</participantstreamassoc>",
        ]
    return crlf("\n".join([*rows, "</recording>"]) + "\n")
