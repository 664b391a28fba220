"""Cisco's built-in bridge (CUCM): two dialogs per call, near end and far end, each with a late offer.

What belongs together is said only in the parameters of the From URI; the offer comes in the 200 OK that we
send, its answer in the ACK.
"""

from __future__ import annotations

from tests.support.field.request import FieldRequest, Scene, audio, sdp


def invite(scene: Scene, *, end: str = "near") -> FieldRequest:
    """Start one of the two dialogs; ``end`` is near or far. There is no body."""
    near, far = scene.number("near"), scene.number("far")
    parameters = (
        f"x-{end}end;x-refci={near};x-nearendclusterid=cluster1;x-nearenddevice=SEP001795BDD16B;"
        f"x-nearendaddr={scene.callee};x-farendrefci={far};x-farendclusterid=cluster1;"
        f"x-farenddevice=SEP0018195AA209;x-farendaddr={scene.caller};x-sessionid={scene.hex('session')}"
    )
    return FieldRequest(
        method="INVITE",
        headers=(
            (
                "From",
                f'"Agent" <sip:{scene.callee}@{scene.address};{parameters}>;'
                f"tag=73601~{scene.hex(end)[:12]}-{near + (4 if end == 'near' else 5)}",
            ),
            ("To", "<sip:8675309@192.0.2.99>"),
            ("Contact", f"<sip:{scene.callee}@{scene.address}:{scene.sip_port}>;isFocus"),
            ("User-Agent", "Cisco-CUCM12.5"),
            ("Supported", "timer,resource-priority,replaces"),
            ("Min-SE", "1800"),
            ("Allow", "INVITE, OPTIONS, INFO, BYE, CANCEL, ACK, PRACK, UPDATE, REFER, SUBSCRIBE, NOTIFY"),
            ("Allow-Events", "presence"),
            ("Call-Info", f'<sip:{scene.address}:5060>;method="NOTIFY;Event=telephone-event;Duration=500"'),
            ("Remote-Party-ID", f"<sip:{scene.callee}@{scene.address}>;party=calling;screen=yes;privacy=off"),
            ("Session-Expires", "1800"),
        ),
    )


def ack_answer(scene: Scene, *, end: str = "near", codec: int = 8) -> bytes:
    """Write the SDP of the ACK."""
    port = scene.ports[0 if end == "near" else 1]
    name = {8: "PCMA/8000", 0: "PCMU/8000", 9: "G722/8000"}[codec]
    media = audio(port, f"{codec}", f"rtpmap:{codec} {name}", "ptime:20", "sendonly")
    return sdp(scene, [media], user="CiscoSystemsCCM-SIP", name="SIP Call", address=scene.address)


def transferred(scene: Scene, *, end: str = "near") -> FieldRequest:
    """The far end became somebody else: an UPDATE of the From parameters, without a body."""
    later = invite(scene, end=end)
    headers = [
        (name, value.replace(f"x-farendaddr={scene.caller}", f"x-farendaddr={scene.third}"))
        for name, value in later.headers
    ]
    return FieldRequest(method="UPDATE", headers=tuple(headers))
