"""Requests that control a recording: feature codes, MESSAGE, INFO, NOTIFY, digits; and what is none."""

from __future__ import annotations

import pytest

from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import FormatError, SipFormatError
from recorderd.core.messages import ControlAction
from recorderd.wire.control_request import (
    ControlRequest,
    ControlScope,
    Digit,
    read_control,
    read_feature_code,
)
from recorderd.wire.digits import DigitCollector
from recorderd.wire.offer import LegHeaderNames
from recorderd.wire.sip_message import parse_sip
from recorderd.wire.snapshot import read_snapshot_request, snapshot_request
from tests.support.field import asterisk
from tests.support.field.request import Scene

CODES = {"*44": ControlAction.START, "*48": ControlAction.PAUSE, "*49": ControlAction.RESUME}
NAMES = LegHeaderNames()


def _request(
    method: str, *headers: str, body: str = "", content_type: str = "", uri: str = "sip:r@x"
) -> bytes:
    lines = [f"{method} {uri} SIP/2.0", "Call-ID: 7", "From: <sip:1001@x>;tag=a", *headers]
    if not any(line.startswith("To:") for line in headers):
        lines.append("To: <sip:r@x>")
    lines += [f"Content-Type: {content_type}"] if content_type else []
    return "\r\n".join([*lines, "", body]).encode()


def _read(
    method: str, *headers: str, body: str = "", content_type: str = ""
) -> ControlRequest | Digit | None:
    raw = _request(method, *headers, body=body, content_type=content_type)
    return read_control(parse_sip(raw), leg_headers=NAMES)


def _in_leg(
    method: str, *headers: str, body: str = "", content_type: str = ""
) -> ControlRequest | Digit | None:
    return _read(method, "To: <sip:r@x>;tag=b", *headers, body=body, content_type=content_type)


# --- feature codes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("uri", ["sip:*48@recorder", "sip:%2A48@recorder:5060;transport=tcp", "sips:*48@r"])
def test_a_call_to_a_feature_code_is_a_request_of_the_user_who_calls(uri: str) -> None:
    found = read_feature_code(parse_sip(_request("INVITE", uri=uri)), codes=CODES, leg_headers=NAMES)
    assert found == ControlRequest(
        action=ControlAction.PAUSE, by="1001", call_id="", via="feature_code", scope=ControlScope.USER
    )


def test_a_feature_call_may_name_the_call_and_who_asks() -> None:
    raw = _request(
        "INVITE",
        "X-Call-ID: exchange-1.2",
        "X-Call-Extension: 1002",
        "P-Asserted-Identity: <sip:1003@x>",
        uri="sip:*49@r",
    )
    found = read_feature_code(parse_sip(raw), codes=CODES, leg_headers=NAMES)
    assert found is not None
    assert (found.action, found.by, found.call_id, found.scope) == (
        ControlAction.RESUME,
        "1002",
        "exchange-1.2",
        ControlScope.CALL,
    )


@pytest.mark.parametrize("uri", ["sip:*47@r", "sip:r@x", "sip:x", "sip:*4@r", "sip:*48"])
def test_a_call_to_anything_else_is_no_feature_call(uri: str) -> None:
    assert read_feature_code(parse_sip(_request("INVITE", uri=uri)), codes=CODES, leg_headers=NAMES) is None


# --- MESSAGE, NOTIFY, INFO ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("action=pause call=c-1 by=1002", "text/plain"),
        ("action=Pause\r\ncall=c-1\r\nby=1002\r\n", "text/plain;charset=UTF-8"),
        ('by="1002";call="c-1";action="pause"', ""),
        ('{"action": "pause", "call": "c-1", "by": "1002"}', "application/json"),
        ('{"action": "pause", "call_id": "c-1", "by": "1002"}', "text/plain"),
    ],
)
@pytest.mark.parametrize("method", ["MESSAGE", "NOTIFY", "INFO"])
def test_a_body_may_say_what_for_which_call_and_for_whom(method: str, body: str, content_type: str) -> None:
    expected = ControlRequest(
        action=ControlAction.PAUSE, by="1002", call_id="c-1", via=method.lower(), scope=ControlScope.CALL
    )
    assert _read(method, body=body, content_type=content_type) == expected
    inside = _in_leg(method, body=body, content_type=content_type)
    assert isinstance(inside, ControlRequest)
    assert inside.scope is ControlScope.DIALOG


def test_one_word_is_enough_when_headers_say_the_rest() -> None:
    found = _read("MESSAGE", "X-Call-ID: c-9", body="resume", content_type="text/plain")
    assert isinstance(found, ControlRequest)
    assert (found.action, found.by, found.call_id) == (ControlAction.RESUME, "1001", "c-9")


@pytest.mark.parametrize(
    ("word", "action"),
    [("on", ControlAction.START), ("off", ControlAction.STOP), ("Pause", ControlAction.PAUSE),
     ("resume", ControlAction.RESUME)],
)  # fmt: skip
def test_the_record_key_of_a_phone_is_an_info_with_a_header(word: str, action: ControlAction) -> None:
    found = _in_leg("INFO", f"Record: {word}")
    assert isinstance(found, ControlRequest)
    assert (found.action, found.via, found.scope) == (action, "info", ControlScope.DIALOG)
    assert _in_leg("NOTIFY", f"Record: {word}") is None


def test_a_notify_may_say_it_in_a_header() -> None:
    found = _in_leg("NOTIFY", "Event: recording", "X-Recording-Control: stop")
    assert isinstance(found, ControlRequest)
    assert (found.action, found.via) == (ControlAction.STOP, "notify")


@pytest.mark.parametrize("method", ["INFO", "MESSAGE", "NOTIFY", "UPDATE", "INVITE"])
def test_consent_and_objection_come_in_a_header(method: str) -> None:
    for word, action in (("yes", ControlAction.CONSENT), ("No", ControlAction.OBJECT)):
        found = _in_leg(method, f"X-Recording-Consent: {word}")
        assert isinstance(found, ControlRequest)
        assert (found.action, found.via) == (action, "header")
    with pytest.raises(SipFormatError, match="neither"):
        _in_leg(method, "X-Recording-Consent: perhaps")


@pytest.mark.parametrize(
    ("method", "body", "content_type"),
    [
        ("MESSAGE", "please pause the recording", "text/plain"),
        ("MESSAGE", "on", "text/plain"),
        ("MESSAGE", '{"text": "pause"}', "application/json"),
        ("MESSAGE", "", ""),
        ("NOTIFY", "SIP/2.0 200 OK", "message/sipfrag"),
        ("NOTIFY", "Messages-Waiting: yes", "application/simple-message-summary"),
        ("INFO", "<media_control/>", "application/media_control+xml"),
        ("INFO", "Signal=!\r\nDuration=100", "application/dtmf-relay"),
        ("UPDATE", "action=pause", "text/plain"),
        ("BYE", "action=pause", "text/plain"),
        ("INVITE", "", ""),
    ],
)
def test_what_is_about_something_else_is_nothing_to_us(method: str, body: str, content_type: str) -> None:
    assert _in_leg(method, body=body, content_type=content_type) is None


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("action=", "text/plain"),
        ("action=explode call=7", "text/plain"),
        ("action=pause " + "x" * 5_000, "text/plain"),
        ('{"action": "pause"', "application/json"),
        ('{"action": 7}', "application/json"),
        ('{"action": "pause", "by": [1]}', "application/json"),
        (r'{"action": "pause", "by": "\ud800"}', "application/json"),
        (r'{"action": "pause", "call": "c\udfff1"}', "application/json"),
        ("[" * 4_000, "application/json"),
        ("Duration=160", "application/dtmf-relay"),
        ("Signal=99", "application/dtmf-relay"),
        ("*48", "application/dtmf"),
    ],
)
def test_what_means_to_control_and_cannot_be_understood_raises(body: str, content_type: str) -> None:
    with pytest.raises(FormatError):
        _in_leg("INFO", body=body, content_type=content_type)
    with pytest.raises(FormatError):
        _in_leg("INFO", "X-Recording-Control: dance", body=body, content_type=content_type)


# --- digits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type", "digit"),
    [
        ("Signal=4\r\nDuration=160\r\n", "application/dtmf-relay", "4"),
        ("Duration=160\nSignal= *\n", "application/dtmf-relay", "*"),
        ("signal=11\r\n", "Application/DTMF-Relay", "#"),
        ("10", "application/dtmf", "*"),
        ("d\r\n", "application/dtmf", "D"),
    ],
)
def test_an_info_brings_one_digit(body: str, content_type: str, digit: str) -> None:
    assert _in_leg("INFO", body=body, content_type=content_type) == Digit(digit=digit)


def _press(collector: DigitCollector, digits: str, *, every_ns: int, from_ns: int = 0) -> list[ControlAction]:
    taken = [collector.add(digit, now_ns=from_ns + n * every_ns) for n, digit in enumerate(digits)]
    return [action for action in taken if action is not None]


def test_digits_make_a_code_when_they_come_close_enough() -> None:
    near, far = 2_900_000_000, 3_100_000_000
    assert _press(DigitCollector(codes=CODES), "*48", every_ns=near) == [ControlAction.PAUSE]
    assert _press(DigitCollector(codes=CODES), "*48", every_ns=far) == []
    assert _press(DigitCollector(codes=CODES), "*48*49", every_ns=near) == [
        ControlAction.PAUSE,
        ControlAction.RESUME,
    ]


def test_a_code_with_a_star_is_found_after_other_digits() -> None:
    assert _press(DigitCollector(codes=CODES), "12**4*44x", every_ns=1) == [ControlAction.START]


def test_a_consent_digit_counts_only_when_it_stands_alone() -> None:
    codes = {**CODES, "1": ControlAction.CONSENT}
    assert _press(DigitCollector(codes=codes), "1", every_ns=1) == [ControlAction.CONSENT]
    collector = DigitCollector(codes=codes)
    assert _press(collector, "31", every_ns=1) == []  # a number meant for somebody else
    assert _press(collector, "1", every_ns=1, from_ns=4 * NS_PER_S) == [ControlAction.CONSENT]


# --- snapshots ---------------------------------------------------------------------------------------


def test_a_snapshot_request_gives_its_reason_as_xml_on_one_line() -> None:
    body = snapshot_request("restarted <& \r\n forgot")
    assert body.endswith(b"</requestsnapshot>\r\n")
    assert body.count(b"\n") == 1
    assert read_snapshot_request(body) == "restarted <& forgot"
    assert read_snapshot_request(b"SRS internal error\r\n") == "SRS internal error"


@pytest.mark.parametrize(
    "body", [b"<recording/>", b"<requestsnapshot>", b"<!DOCTYPE x []><requestsnapshot/>"]
)
def test_another_document_is_no_snapshot_request(body: bytes) -> None:
    with pytest.raises(FormatError):
        read_snapshot_request(body)


# --- as Asterisk sends them --------------------------------------------------------------------------

SCENE = Scene()
LEG = "<sip:recorder@192.0.2.99>;tag=ours"


def test_asterisk_s_requests_are_understood() -> None:
    raw = asterisk.feature_call(SCENE, by="1002", code="*44").write(uri="sip:*44@192.0.2.99:5060")
    called = read_feature_code(parse_sip(raw), codes=CODES, leg_headers=NAMES)
    sent = read_control(
        parse_sip(asterisk.message(SCENE, action="pause", by="1002").write()), leg_headers=NAMES
    )
    noted = read_control(
        parse_sip(asterisk.notify(SCENE, action="resume", by="1002").write(to=LEG)), leg_headers=NAMES
    )
    pressed = read_control(parse_sip(asterisk.info_record(SCENE, "off").write(to=LEG)), leg_headers=NAMES)
    found = [called, sent, noted, pressed]
    assert all(isinstance(entry, ControlRequest) for entry in found)
    assert [(entry.action.value, entry.by, entry.scope.value) for entry in found if entry is not None] == [
        ("start", "1002", "call"),
        ("pause", "1002", "call"),
        ("resume", "1002", "dialog"),
        ("stop", "+15551230001", "dialog"),
    ]
    assert [entry.call_id for entry in (called, sent) if entry is not None] == [asterisk.call_id(SCENE)] * 2


def test_digits_that_asterisk_passes_on_make_a_code() -> None:
    collector, actions = DigitCollector(codes=CODES), []
    for place, key in enumerate("*48"):
        found = read_control(
            parse_sip(asterisk.info_digit(SCENE, key).write(to=LEG, cseq=place + 2)), leg_headers=NAMES
        )
        assert isinstance(found, Digit)
        actions.append(collector.add(found.digit, now_ns=place * NS_PER_S))
    assert actions == [None, None, ControlAction.PAUSE]
