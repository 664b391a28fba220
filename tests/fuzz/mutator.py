"""Mutated SIPREC requests, the same for the same seed: INVITEs of the field with something wrong."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.support.field import INVITES
from tests.support.field.request import Scene

NUMBERS: Final = (
    b"0",
    b"-1",
    b"1",
    b"255",
    b"256",
    b"65535",
    b"65536",
    b"4294967296",
    b"9" * 40,
    b"1e9",
    b"0x1",
)
WORDS: Final = (
    *(
        b"\0",
        b"\r\n",
        b"\n",
        b"\r\n\r\n",
        b"--",
        b"<",
        b">",
        b"&",
        b"&amp;",
        b"<!--",
        b"]]>",
        b'"',
        b"'",
        b";",
        b"=",
    ),
    *(
        b"%00",
        b"%s%n",
        b"\xff\xfe",
        b"\xc3\x28",
        b"m=audio 0 RTP/AVP 0\r\n",
        b"a=label:\r\n",
        b"a=inactive\r\n",
    ),
    *(
        b"c=IN IP4 0.0.0.0\r\n",
        b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAA\r\n",
        b"<recording>",
        b"</recording>",
    ),
    *(b"<datamode>partial</datamode>", b'<stream stream_id="x"/>', b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;"),
)
Change = Callable[[random.Random, bytes], bytes]


@dataclass(frozen=True, kw_only=True)
class Mutated:
    """One request: its octets, and whether only its body was changed."""

    name: str
    raw: bytes
    body_only: bool
    cancel: bool  # send a CANCEL right behind it


def _span(chance: random.Random, octets: bytes, longest: int) -> tuple[int, int]:
    start = chance.randrange(len(octets) + 1)
    return start, min(len(octets), start + chance.randint(1, longest))


def _flip(chance: random.Random, octets: bytes) -> bytes:
    changed = bytearray(octets)
    for _ in range(chance.randint(1, 8)):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _drop(chance: random.Random, octets: bytes) -> bytes:
    start, end = _span(chance, octets, 200)
    return octets[:start] + octets[end:]


def _double(chance: random.Random, octets: bytes) -> bytes:
    start, end = _span(chance, octets, 400)
    return octets[:end] + octets[start:end] * chance.randint(1, 20) + octets[end:]


def _insert(chance: random.Random, octets: bytes) -> bytes:
    at = chance.randrange(len(octets) + 1)
    return octets[:at] + chance.choice(WORDS) * chance.choice((1, 1, 1, 50)) + octets[at:]


def _noise(chance: random.Random, octets: bytes) -> bytes:
    start, end = _span(chance, octets, 60)
    return octets[:start] + chance.randbytes(end - start) + octets[end:]


def _cut(chance: random.Random, octets: bytes) -> bytes:
    return octets[: chance.randrange(len(octets) + 1)]


def _number(chance: random.Random, octets: bytes) -> bytes:
    places = [at for at, octet in enumerate(octets) if 48 <= octet <= 57]
    if not places:
        return octets
    at = chance.choice(places)
    end = at
    while end < len(octets) and 48 <= octets[end] <= 57:
        end += 1
    return octets[:at] + chance.choice(NUMBERS) + octets[end:]


def _lines(chance: random.Random, octets: bytes) -> bytes:
    lines = octets.split(b"\r\n")
    one, two = chance.randrange(len(lines)), chance.randrange(len(lines))
    what = chance.randrange(3)
    if what == 0:
        lines[one], lines[two] = lines[two], lines[one]
    elif what == 1:
        del lines[one]
    else:
        lines[one:one] = [lines[two]] * chance.randint(1, 30)
    return b"\r\n".join(lines)


CHANGES: Final[tuple[Change, ...]] = (_flip, _drop, _double, _insert, _noise, _cut, _number, _lines)


def _branch(seed: int, number: int) -> str:
    """Name a transaction so that no mutation of a number can make it another message's."""
    return f"z9hG4bK-{hashlib.sha256(f'{seed}-{number}'.encode()).hexdigest()[:24]}"


def mutated(seed: int, number: int, *, uri: str, via: str) -> Mutated:
    """Make the ``number``-th request of a seed."""
    chance = random.Random(f"{seed}/{number}")
    name = chance.choice(sorted(INVITES))
    scene = Scene(call=f"{seed}/{number}", address="127.0.0.1", transport="tcp")
    request = INVITES[name](scene)
    body, kind = request.body, request.content_type
    if chance.random() < 0.1:  # another client's body under this one's headers
        body = INVITES[chance.choice(sorted(INVITES))](scene).body
    for _ in range(chance.randint(1, 4)):
        if body:
            body = chance.choice(CHANGES)(chance, body)
    body = body[:50_000]
    raw = type(request)(method="INVITE", headers=request.headers, content_type=kind, body=body).write(
        call_id=f"fuzz-{seed}-{number}", uri=uri, via=via, branch=_branch(seed, number)
    )
    body_only = chance.random() < 0.8
    if not body_only:
        head, _, rest = raw.partition(b"\r\n\r\n")
        raw = chance.choice(CHANGES)(chance, head) + b"\r\n\r\n" + rest
    return Mutated(name=name, raw=raw, body_only=body_only, cancel=chance.random() < 0.1)


def cancel_of(raw: bytes) -> bytes:
    """Write the CANCEL of an INVITE whose headers are whole."""
    wanted = (b"via:", b"from:", b"to:", b"call-id:", b"max-forwards:")
    first, *lines = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")
    kept = [line for line in lines if line.lower().startswith(wanted)]
    start = first.replace(b"INVITE", b"CANCEL", 1)
    return b"\r\n".join([start, *kept, b"CSeq: 1 CANCEL", b"Content-Length: 0", b"", b""])
