"""Questions to time stamping authorities over HTTP or HTTPS.

Contract: a query goes out, an answer of bounded size comes back before the deadline, or AuthorityRefused says
why not; never anything else. No redirects, no proxies, no cookies; whether the answer is any good,
``evidence.timestamp`` says. Source: RFC 3161 section 3.4.
"""

from __future__ import annotations

import base64
import http.client
import secrets
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import AuthorityRefused, EvidenceError, RecorderError, TimestampInvalid
from recorderd.evidence.timestamp import (
    NONCE_BITS,
    TIMESTAMP_MAX_BYTES,
    Stamp,
    accept_response,
    make_request,
)
from recorderd.evidence.verify import TrustStore
from recorderd.http_answer import response_until

_QUERY_TYPE: Final = "application/timestamp-query"
_REPLY_TYPE: Final = "application/timestamp-reply"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """One authority, and whom its stamps must be by."""

    url: str
    trust: TrustStore
    timeout_s: int
    user: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None  # for https


def ask_authority(authority: Authority, query: bytes) -> bytes:
    """Send a query and return the answer as it came.

    Errors: AuthorityRefused.
    """
    deadline_s = time.monotonic() + authority.timeout_s
    try:
        return _exchange(authority, query, deadline_s=deadline_s)
    except TimeoutError:
        reason = f"no whole answer within {authority.timeout_s} s"
        raise AuthorityRefused(url=authority.url, reason=reason) from None
    except (OSError, http.client.HTTPException, ValueError) as problem:
        reason = f"{type(problem).__name__}: {problem}"
        raise AuthorityRefused(url=authority.url, reason=reason) from None


def fetch_stamp(
    authorities: Sequence[Authority],
    *,
    sha256_hex: str,
    subject: str,
    ask: Callable[[Authority, bytes], bytes] = ask_authority,
    on_failure: Callable[[Authority, RecorderError], None] = lambda _authority, _problem: None,
    judge: Callable[[Stamp], None] = lambda _stamp: None,
) -> tuple[bytes, Stamp]:
    """Get a stamp from the first authority that gives a good one; ``judge`` may refuse one that holds.

    Errors: AuthorityRefused or EvidenceError of the last one when all fail.
    """
    last: RecorderError = AuthorityRefused(url="(none)", reason="no authority is configured, or may be asked")
    for authority in authorities:
        nonce = secrets.randbelow((1 << NONCE_BITS) - 1) + 1
        try:
            answer = ask(authority, make_request(sha256_hex=sha256_hex, nonce=nonce))
            tsr, stamp = accept_response(
                answer, sha256_hex=sha256_hex, nonce=nonce, trust=authority.trust, subject=subject
            )
            judge(stamp)
            return tsr, stamp
        except (AuthorityRefused, EvidenceError) as problem:
            on_failure(authority, problem)
            last = problem
    raise last


def seconds_apart(stamp: Stamp, *, now_utc_ns: int) -> float:
    """Say how far a stamp's time is from ours."""
    return abs(now_utc_ns - stamp.gen_time_utc_ns) / NS_PER_S


def check_apart(stamp: Stamp, *, now_utc_ns: int, limit_ns: int) -> None:
    """See that a stamp's time is near enough to ours: one that is not proves nothing.

    Errors: TimestampInvalid.
    """
    apart_s = seconds_apart(stamp, now_utc_ns=now_utc_ns)
    if apart_s * NS_PER_S > limit_ns:
        reason = f"its time is {apart_s:.0f} s from ours"
        raise TimestampInvalid(subject=f"a signature by {stamp.authority}", reason=reason)


def _exchange(authority: Authority, query: bytes, *, deadline_s: float) -> bytes:
    parts = urlsplit(authority.url)
    headers = {"Content-Type": _QUERY_TYPE, "Accept": _REPLY_TYPE, "Connection": "close"}
    if authority.user:
        pair = base64.b64encode(f"{authority.user}:{authority.password}".encode())
        headers["Authorization"] = f"Basic {pair.decode()}"
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=authority.timeout_s, context=authority.tls
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=authority.timeout_s)
    connection.response_class = response_until(deadline_s)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", target, body=query, headers=headers)
        response = connection.getresponse()
        kind = str(response.getheader("Content-Type", "no type"))
        if response.status != http.client.OK:
            raise AuthorityRefused(
                url=authority.url, reason=f"HTTP status {response.status} {response.reason}"
            )
        if kind.partition(";")[0].strip().lower() != _REPLY_TYPE:
            raise AuthorityRefused(url=authority.url, reason=f"answers with {kind[:100]!r}, not with a stamp")
        body = response.read(TIMESTAMP_MAX_BYTES + 1)
        if len(body) > TIMESTAMP_MAX_BYTES:
            reason = f"the answer is longer than {TIMESTAMP_MAX_BYTES} octets"
            raise AuthorityRefused(url=authority.url, reason=reason)
        return body
    finally:
        connection.close()
