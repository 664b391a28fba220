"""Requests that start, stop, pause or resume a recording, or tell of the parties' consent.

Contract: a request that is about something else is None; one that means to control and cannot be understood
raises, so that nobody believes a pause was taken that was not. Reads only: who may do what is decided
elsewhere. Source: RFC 3428 (MESSAGE), RFC 6086 (INFO), RFC 3265 (NOTIFY); application/dtmf-relay has no RFC.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from recorderd.core.errors import SipFormatError
from recorderd.core.messages import ControlAction
from recorderd.wire.offered import (
    HEADER_MAX,
    LegHeaderNames,
    called_user,
    from_and_to,
    is_in_dialog,
    read_consent,
    read_header,
)
from recorderd.wire.sip_message import SipMessage, body_parts

BODY_MAX_BYTES: Final = 4_096
CONTROL_HEADER: Final = "X-Recording-Control"
ONE_TOUCH_HEADER: Final = "Record"  # Snom and Asterisk: INFO with Record: on or off
_WORDS: Final = {
    "start": ControlAction.START, "on": ControlAction.START, "record": ControlAction.START,
    "stop": ControlAction.STOP, "off": ControlAction.STOP,
    "pause": ControlAction.PAUSE, "paused": ControlAction.PAUSE,
    "resume": ControlAction.RESUME, "resumed": ControlAction.RESUME, "unpause": ControlAction.RESUME,
    "consent": ControlAction.CONSENT, "agree": ControlAction.CONSENT,
    "object": ControlAction.OBJECT, "objection": ControlAction.OBJECT,
}  # fmt: skip
_PLAIN_WORDS: Final = frozenset(_WORDS) - {"on", "off", "record"}  # these are said in a chat as well
_PAIR: Final = re.compile(r"""([A-Za-z][A-Za-z_-]{0,31})=(?:"([^"\r\n]*)"|([^\s;&"]*))""")
_SIGNAL: Final = re.compile(r"^[ \t]*signal[ \t]*=[ \t]*(\S*)[ \t]*$", re.IGNORECASE | re.MULTILINE)
_DIGITS: Final = {
    **{digit: digit for digit in "0123456789*#ABCD"},
    **{digit: digit.upper() for digit in "abcd"},
    "10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D",  # event numbers of RFC 4733
}  # fmt: skip
_NO_DIGITS: Final = ("!", "16", "flash", "hf")  # hook flash
_NOT_CONTROL: Final = ("application/sdp", "message/", "application/rs-metadata", "multipart/", "image/")


class ControlScope(StrEnum):
    """What a request is about."""

    DIALOG = "dialog"  # the session of the dialog that it came in
    CALL = "call"  # the call that it names
    USER = "user"  # the call of the user who asks


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRequest:
    """Somebody asks for something."""

    action: ControlAction
    by: str  # an extension; empty = nobody is named
    call_id: str  # the exchange's; empty = none is named
    via: str  # feature_code | message | info | notify | header
    scope: ControlScope


@dataclass(frozen=True, slots=True, kw_only=True)
class Digit:
    """A key was pressed in the dialog: one of 0-9, *, #, A-D."""

    digit: str


def read_feature_code(
    message: SipMessage, *, codes: Mapping[str, ControlAction], leg_headers: LegHeaderNames
) -> ControlRequest | None:
    """Read an INVITE to a feature code, such as sip:*48@recorder; None when it calls no code.

    Errors: SipFormatError when an INVITE has no request URI that could be read.
    """
    if message.method != "INVITE":
        return None
    action = codes.get(called_user(message))
    if action is None:
        return None
    call_id = read_header(message, leg_headers.call_id)
    return ControlRequest(
        action=action,
        by=_asking(message, leg_headers),
        call_id=call_id,
        via="feature_code",
        scope=ControlScope.CALL if call_id else ControlScope.USER,
    )


def read_control(message: SipMessage, *, leg_headers: LegHeaderNames) -> ControlRequest | Digit | None:
    """Read a MESSAGE, INFO, NOTIFY, UPDATE or re-INVITE for what it says of recording.

    Errors: SipFormatError when it means to control and is malformed.
    """
    if message.method not in ("MESSAGE", "INFO", "NOTIFY", "UPDATE", "INVITE"):
        return None
    stated = _by_header(message, leg_headers)
    if stated is not None or message.method in ("UPDATE", "INVITE"):
        return stated
    if message.method == "INFO" and (digit := _digit(message)) is not None:
        return digit
    return _by_body(message, leg_headers)


def _by_header(message: SipMessage, names: LegHeaderNames) -> ControlRequest | None:
    via = "header" if message.method in ("UPDATE", "INVITE") else message.method.lower()
    word = read_header(message, CONTROL_HEADER)
    if message.method == "INFO":
        word = word or read_header(message, ONE_TOUCH_HEADER)
    if word:
        return _request(message, names, action=_action(word, "control header"), via=via)
    consent_text = read_header(message, names.consent)
    if not consent_text or (message.method == "INVITE" and not is_in_dialog(message)):
        return None  # the first INVITE's consent is part of the offer
    consent = read_consent(consent_text, names)
    if consent is None:
        raise _bad(names.consent.lower(), f"{consent_text[:40]!r} is neither yes nor no")
    action = ControlAction.CONSENT if consent else ControlAction.OBJECT
    return _request(message, names, action=action, via="header")


def _digit(message: SipMessage) -> Digit | None:
    for part in body_parts(message):
        if part.content_type not in ("application/dtmf-relay", "application/dtmf"):
            continue
        text = part.content[:BODY_MAX_BYTES].decode(errors="replace").replace("\r", "")
        if part.content_type == "application/dtmf-relay":
            found = _SIGNAL.search(text)
            if found is None:
                raise _bad("dtmf-relay", "no Signal")
            text = found.group(1)
        word = text.strip()
        if word.lower() in _NO_DIGITS:
            return None
        if word not in _DIGITS:
            raise _bad("dtmf", f"{word[:20]!r} is no digit")
        return Digit(digit=_DIGITS[word])
    return None


def _by_body(message: SipMessage, names: LegHeaderNames) -> ControlRequest | None:
    for part in body_parts(message):
        if part.content_type.startswith(_NOT_CONTROL):
            continue
        said = _said(part.content.decode(errors="replace").strip(), part.content_type)
        if not said:
            continue
        if len(part.content) > BODY_MAX_BYTES:
            raise _bad("body", f"longer than {BODY_MAX_BYTES} octets")
        return _request(
            message,
            names,
            action=_action(said["action"], "action"),
            via=message.method.lower(),
            by=said.get("by", ""),
            call_id=said.get("call") or said.get("call_id", ""),
        )
    return None


def _said(text: str, content_type: str) -> dict[str, str]:
    """Read ``action=pause call=ID by=1002``, the same as JSON, or one word; empty when it is none of them."""
    if content_type == "application/json" or text.startswith("{"):
        return _said_in_json(text)
    said: dict[str, str] = {}
    for found in _PAIR.finditer(text[:BODY_MAX_BYTES]):
        value = found.group(2) if found.group(2) is not None else found.group(3)
        said.setdefault(found.group(1).lower(), value.strip()[:HEADER_MAX])
    if "action" in said:
        return said
    return {"action": text.lower()} if text.lower() in _PLAIN_WORDS else {}


def _said_in_json(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        document = json.loads(text[: BODY_MAX_BYTES + 1])
    except (ValueError, RecursionError):
        raise _bad("body", "is no JSON") from None
    if not isinstance(document, dict) or "action" not in document:
        return {}
    said: dict[str, str] = {}
    for name in ("action", "call", "call_id", "by"):
        value = document.get(name, "")
        if not isinstance(value, str) or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise _bad(name, "is no text")  # half a surrogate pair neither: nobody could write it down
        said[name] = " ".join(value.split())[:HEADER_MAX]
    return said


def _action(word: str, where: str) -> ControlAction:
    action = _WORDS.get(word.partition(";")[0].strip().lower())
    if action is None:
        raise _bad(where, f"{word[:40]!r} is no action")
    return action


def _request(
    message: SipMessage,
    names: LegHeaderNames,
    *,
    action: ControlAction,
    via: str,
    by: str = "",
    call_id: str = "",
) -> ControlRequest:
    call_id = call_id or read_header(message, names.call_id)
    if is_in_dialog(message):
        scope = ControlScope.DIALOG
    else:
        scope = ControlScope.CALL if call_id else ControlScope.USER
    return ControlRequest(
        action=action, by=by or _asking(message, names), call_id=call_id, via=via, scope=scope
    )


def _asking(message: SipMessage, names: LegHeaderNames) -> str:
    return read_header(message, names.extension) or from_and_to(message)[0]


def _bad(field: str, reason: str) -> SipFormatError:
    return SipFormatError(what="SIP", field=field, reason=reason)
