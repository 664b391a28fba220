"""SIP messages as far as a recorder reads them itself: start line, headers, bodies.

The library has parsed the message before; this reads the same octets for what it does not hand on.
Source: RFC 3261 sections 7, 20 and 25; RFC 2046 section 5.1 (multipart); RFC 5621.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from recorderd.core.errors import SipFormatError

MESSAGE_MAX_BYTES: Final = 65_536  # what the library takes (PJSIP_MAX_PKT_LEN)
HEADERS_MAX: Final = 256
PARTS_MAX: Final = 16
_ONCE: Final = ("call-id", "cseq", "from", "to", "content-length", "max-forwards")
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!%*_+`'~.-]+")
_COMPACT: Final = {
    "a": "accept-contact", "b": "referred-by", "c": "content-type", "e": "content-encoding", "f": "from",
    "i": "call-id", "k": "supported", "l": "content-length", "m": "contact", "o": "event", "r": "refer-to",
    "s": "subject", "t": "to", "u": "allow-events", "v": "via", "x": "session-expires",
}  # fmt: skip
_FIRST_DELIMITER: Final = re.compile(rb"\s{0,8}(--[^\s\"][^\r\n]{0,70}?)[ \t]{0,8}\r?\n")
_BOUNDARY: Final = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SipMessage:
    """A request or a response."""

    start_line: str
    fields: tuple[tuple[str, str], ...]  # lower-case long names, in order
    body: bytes
    first: dict[str, str] = field(repr=False, compare=False)  # the first field of each name

    @property
    def method(self) -> str:
        """The request's method; empty for a response."""
        return "" if self.start_line.startswith("SIP/") else self.start_line.split(" ", 1)[0]

    @property
    def request_uri(self) -> str:
        """The request's URI; empty for a response."""
        return self.start_line.split(" ")[1] if self.method else ""

    @property
    def status_code(self) -> int:
        """The response's code; 0 for a request."""
        return 0 if self.method else int(self.start_line.split(" ")[1])

    def header(self, name: str) -> str | None:
        """Return the first header of a name."""
        return self.first.get(name.lower())

    def headers(self, name: str) -> tuple[str, ...]:
        """Return all headers of a name."""
        wanted = name.lower()
        if wanted not in self.first:
            return ()
        return tuple(value for known, value in self.fields if known == wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyPart:
    """One body of a message."""

    content_type: str  # type/subtype, lower case, without parameters
    disposition: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SipAddress:
    """A name-addr or addr-spec."""

    display_name: str
    uri: str
    user: str
    host: str
    port: int
    parameters: str  # of the header, as written


def parse_sip(raw: bytes) -> SipMessage:
    """Read a message.

    Errors: SipFormatError.
    """
    if len(raw) > MESSAGE_MAX_BYTES:
        raise _bad("message", f"longer than {MESSAGE_MAX_BYTES} octets")
    raw = raw.lstrip(b"\r\n")  # keep-alives that came before it: section 7.5
    end = _HEAD_END.search(raw)
    if end is None:
        raise _bad("message", "no empty line after the headers")
    head, body = raw[: end.start()], raw[end.end() :]
    lines = head.decode(errors="replace").replace("\r\n", "\n").split("\n")
    start_line = _start_line(lines[0])
    fields: list[tuple[str, str]] = []
    for line in lines[1:]:
        if line[:1] in (" ", "\t") and fields:
            name, value = fields[-1]
            fields[-1] = (name, f"{value} {line.strip()}")
            continue
        name, colon, value = line.partition(":")
        if not colon or _TOKEN.fullmatch(name.strip()) is None:
            raise _bad("header", f"{line[:40]!r} is none")
        if len(fields) >= HEADERS_MAX:
            raise _bad("header", f"more than {HEADERS_MAX}")
        name = name.strip().lower()
        fields.append((_COMPACT.get(name, name), value.strip()))
    first: dict[str, str] = {}
    for name, value in fields:
        if name not in first:
            first[name] = value
        elif name in _ONCE:
            raise _bad(name, "stands more than once")
    _check_method(start_line, first)
    return SipMessage(start_line=start_line, fields=tuple(fields), body=_cut(first, body), first=first)


def body_parts(message: SipMessage) -> tuple[BodyPart, ...]:
    """Take the bodies apart; a body that is not multipart is one part.

    A boundary that no header names is read off the first line; a part without a type is known by its start.
    Errors: SipFormatError on a multipart without any boundary, or with too many parts.
    """
    if not message.body:
        return ()
    written = message.header("content-type") or ""
    disposition = message.header("content-disposition") or ""
    if not written.strip().lower().startswith("multipart/") and _looks_multipart(message.body):
        written = "multipart/mixed"  # some clients name the type of the first part instead
    return tuple(_parts(written, disposition, message.body, depth=0))


def address_of(value: str) -> SipAddress:
    """Read the address of a From, To, Contact or P-Asserted-Identity header.

    Errors: SipFormatError when there is no URI.
    """
    # No two neighbours of this pattern match the same character, so that no input makes it slow.
    bracketed = re.match(r'(?:"((?:[^"\\]|\\.)*)"\s*|([^<"]*))<([^>]*)>(.*)', value.strip(), re.DOTALL)
    if bracketed is not None:
        display = bracketed.group(1) if bracketed.group(1) is not None else bracketed.group(2).strip()
        uri, parameters = bracketed.group(3), bracketed.group(4)
    else:
        display = ""
        uri, _, parameters = value.strip().partition(";")
    scheme, colon, rest = uri.strip().partition(":")
    if not colon or scheme.lower() not in ("sip", "sips", "tel"):
        raise _bad("address", f"{value[:60]!r} holds no SIP or tel URI")
    if scheme.lower() == "tel":
        user, host, port = _before_parameters(rest), "", 0
    else:
        user, host, port = _user_host(rest)
    return SipAddress(
        display_name=re.sub(r"\\(.)", r"\1", display),
        uri=uri.strip(),
        user=user,
        host=host,
        port=port,
        parameters=parameters,
    )


def _check_method(start_line: str, first: dict[str, str]) -> None:
    """Refuse what may be read in two ways. Source: RFC 4475 sections 3.1.2.17, 3.3.8 and 3.3.9."""
    method = start_line.split(" ", 1)[0]
    cseq = first["cseq"].split() if "cseq" in first else None
    if cseq is not None and not start_line.startswith("SIP/") and cseq[-1:] != [method]:
        raise _bad("cseq", f"{' '.join(cseq)[:40]!r} is not of {method[:20]}")


def _start_line(line: str) -> str:
    words = line.split(" ", 2)
    if len(words) == 3 and words[0] == "SIP/2.0" and re.fullmatch("[0-9]{3}", words[1]):
        return line
    if len(words) == 3 and words[2] == "SIP/2.0" and _TOKEN.fullmatch(words[0]) and words[1]:
        return line
    raise _bad("start line", f"{line[:40]!r} is neither request nor response")


def _cut(first: dict[str, str], body: bytes) -> bytes:
    stated = first.get("content-length")
    if stated is None:
        return body
    if re.fullmatch("[0-9]{1,9}", stated) is None:
        raise _bad("content-length", f"{stated[:20]!r} is no number")
    if int(stated) > len(body):
        raise _bad("content-length", f"{stated} octets, {len(body)} are there")
    return body[: int(stated)]


def _parts(written: str, disposition: str, body: bytes, *, depth: int) -> list[BodyPart]:
    kind = "".join(written.partition(";")[0].lower().split())
    if not kind.startswith("multipart/"):
        return [BodyPart(content_type=kind or _guess(body), disposition=disposition, content=body)]
    found = _BOUNDARY.search(written)
    first = _FIRST_DELIMITER.match(body)
    if found is None and first is None:
        raise _bad("content-type", "multipart without boundary")
    if depth > 2:
        raise _bad("body", "multipart within multipart, three deep")
    delimiter = b"--" + (found.group(1) or found.group(2)).encode() if found is not None else b""
    if first is not None and (not delimiter or delimiter not in body):
        delimiter = first.group(1)
    # The delimiter belongs to the line break before it; a missing last one is tolerated.
    pieces = re.split(rb"(?:^|\r?\n)" + re.escape(delimiter) + rb"(--)?[ \t]*(?=\r?\n|$)", body)
    parts: list[BodyPart] = []
    for number in range(1, len(pieces) - 1, 2):
        if pieces[number] is not None:
            break
        parts += _part(pieces[number + 1], depth=depth)
        if len(parts) > PARTS_MAX:
            raise _bad("body", f"more than {PARTS_MAX} parts")
    return parts


def _part(piece: bytes, *, depth: int) -> list[BodyPart]:
    piece = re.sub(rb"^\r?\n", b"", piece, count=1)
    match = re.match(rb"\r?\n", piece)
    if match is not None:
        head, content = b"", piece[match.end() :]
    else:
        split = re.split(rb"\r?\n\r?\n", piece, maxsplit=1)
        head, content = (split[0], split[1]) if len(split) == 2 else (piece, b"")
    headers = {}
    for line in re.sub(rb"\r?\n[ \t]+", b" ", head).decode(errors="replace").splitlines():
        name, _, value = line.partition(":")
        name = name.strip().lower()
        headers[_COMPACT.get(name, name)] = value.strip()
    return _parts(
        headers.get("content-type", ""),
        headers.get("content-disposition", ""),
        content,
        depth=depth + 1,
    )


def _looks_multipart(body: bytes) -> bool:
    first = _FIRST_DELIMITER.match(body)
    return first is not None and re.search(rb"(?i)\ncontent-type[ \t]*:", body[:4_096]) is not None


def _guess(body: bytes) -> str:
    """Know a body without a type by its beginning; RFC 2046 section 5.2 has plain text for the rest."""
    start = body.lstrip()[:512]
    if start.startswith(b"v=0"):
        return "application/sdp"
    if start.startswith(b"<") and b"recording" in start:
        return "application/rs-metadata+xml"
    return "text/plain"


def _before_parameters(text: str) -> str:
    return re.split(r"[;?]", text, maxsplit=1)[0]


def _user_host(rest: str) -> tuple[str, str, int]:
    """Take a SIP URI apart; the user part has parameters of its own. Source: RFC 3261 section 19.1.6."""
    before = _before_parameters(rest)
    user, _, hostport = (before if "@" in before else rest).rpartition("@")
    user, hostport = user.partition(":")[0].partition(";")[0], _before_parameters(hostport)
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?", hostport)
    if match is None:
        raise _bad("address", f"{hostport[:40]!r} is no host")
    return user, match.group(1), int(match.group(2) or 0)


def _bad(field: str, reason: str) -> SipFormatError:
    return SipFormatError(what="SIP", field=field, reason=reason)
