"""Asterisk: a recording leg per direction, and its ways to control a recording.

A leg's later re-INVITEs repeat none of the X- headers. See tests/support/exchange for the dialplan.
"""

from __future__ import annotations

from tests.support.field.request import SDP, FieldRequest, Scene, audio, sdp


def leg(scene: Scene, *, name: str = "caller", headers: dict[str, str] | None = None) -> FieldRequest:
    """Start a recording leg: caller, callee, mixed or conference; ``headers`` go beside the usual ones."""
    whose = scene.callee if name == "callee" else scene.caller
    stated = {
        "X-Call-ID": call_id(scene),
        "X-Call-Leg": name,
        "X-Call-Caller": scene.caller,
        "X-Call-Callee": scene.callee,
        "X-Call-Direction": "inbound",
        "X-Call-Extension": scene.callee,
        "X-Call-Trigger": "always",
        **(headers or {}),
    }
    body = _offer(scene, port=scene.ports[1 if name == "callee" else 0])
    return FieldRequest(
        method="INVITE",
        headers=(*_headers(scene, whose), *((key, value) for key, value in stated.items() if value)),
        content_type=SDP,
        body=body,
    )


def bare_leg(scene: Scene, *, caller: str = "", callee: str = "") -> FieldRequest:
    """Start a leg of an exchange that adds no header: only From and To say anything."""
    headers = [
        (name, f"<sip:{callee or scene.callee}@192.0.2.99>" if name == "To" else value)
        for name, value in _headers(scene, caller or scene.caller)
    ]
    return FieldRequest(
        method="INVITE",
        headers=tuple(headers),
        content_type=SDP,
        body=_offer(scene, port=scene.ports[0]),
    )


def reinvite(scene: Scene, *, name: str = "caller") -> FieldRequest:
    """Change nothing in mid-call: the offer again, without the headers."""
    whose = scene.callee if name == "callee" else scene.caller
    body = _offer(scene, port=scene.ports[1 if name == "callee" else 0])
    return FieldRequest(method="INVITE", headers=_headers(scene, whose), content_type=SDP, body=body)


def call_id(scene: Scene) -> str:
    """Give the exchange's id of the call."""
    return f"exchange-{scene.number('call')}.44"


def feature_call(scene: Scene, *, by: str, code: str, named: bool = True) -> FieldRequest:
    """Dial a feature code; write it to the URI sip:CODE@recorder. From hold the call is not named."""
    headers = [("X-Feature-Code", code), ("X-Call-Extension", by)]
    headers += [("X-Call-ID", call_id(scene))] if named else []
    return FieldRequest(
        method="INVITE",
        headers=(*_headers(scene, by), *headers),
        content_type=SDP,
        body=_offer(scene, port=scene.ports[0]),
    )


def message(scene: Scene, *, action: str, by: str) -> FieldRequest:
    """Ask by a MESSAGE outside any dialog."""
    return FieldRequest(
        method="MESSAGE",
        headers=(*_headers(scene, by), ("X-Call-ID", call_id(scene))),
        content_type="text/plain",
        body=f"action={action} call={call_id(scene)} by={by}".encode(),
    )


def info_digit(scene: Scene, digit: str) -> FieldRequest:
    """Pass on one digit in the leg."""
    return FieldRequest(
        method="INFO",
        headers=_headers(scene, scene.caller),
        content_type="application/dtmf-relay",
        body=f"Signal={digit}\r\nDuration=160\r\n".encode(),
    )


def info_record(scene: Scene, word: str) -> FieldRequest:
    """Press the record key of a phone: ``on`` or ``off``."""
    return FieldRequest(method="INFO", headers=(*_headers(scene, scene.caller), ("Record", word)))


def notify(scene: Scene, *, action: str, by: str) -> FieldRequest:
    """Ask by a NOTIFY in the leg, as the manager interface sends it."""
    return FieldRequest(
        method="NOTIFY",
        headers=(
            *_headers(scene, scene.caller),
            ("Event", "recording"),
            ("Subscription-State", "active"),
        ),
        content_type="text/plain",
        body=f"action={action} by={by}\r\n".encode(),
    )


def _headers(scene: Scene, user: str) -> tuple[tuple[str, str], ...]:
    return (
        ("From", f"<sip:{user}@{scene.address}>;tag={scene.hex(f'from-{user}')[:16]}"),
        ("To", "<sip:recorder@192.0.2.99>"),
        ("Contact", f"<sip:asterisk@{scene.address}:{scene.sip_port};transport={scene.transport}>"),
        (
            "Allow",
            "OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, PUBLISH, INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, INFO",
        ),
        ("Supported", "100rel, timer, replaces, norefersub, histinfo"),
        ("P-Asserted-Identity", f"<sip:{user}@{scene.address}>"),
        ("User-Agent", "exchange"),
    )


def _offer(scene: Scene, *, port: int) -> bytes:
    media = audio(
        port,
        "8 0 101",
        "rtpmap:8 PCMA/8000",
        "rtpmap:0 PCMU/8000",
        "rtpmap:101 telephone-event/8000",
        "fmtp:101 0-16",
        "ptime:20",
        "maxptime:140",
        "sendrecv",
    )
    return sdp(scene, [media], name="Asterisk", address=scene.address)
