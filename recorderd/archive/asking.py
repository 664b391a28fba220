"""Requests to other systems over HTTP: answered within a time as a whole, by no proxy and from nowhere else.

Contract: what was asked for answers for itself; a redirect is an answer that is no success.
"""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from recorderd.http_answer import response_until


def ask_http(
    request: urllib.request.Request, *, ca_file: Path | None, within_s: float, limit_bytes: int
) -> bytes:
    """Send a request and read so much of the answer at most; no ``ca_file`` = the system's authorities.

    Errors: HTTPError on an answer that is no success; OSError, HTTPException.
    """
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file is not None else None)
    response = response_until(time.monotonic() + within_s)
    opener = urllib.request.build_opener(
        _Plain(response), _Secure(response, context), _NoRedirect(), urllib.request.ProxyHandler({})
    )
    with closing(opener.open(request, timeout=within_s)) as answer:
        content: bytes = answer.read(limit_bytes)
    return content


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, response: Any) -> None:
        class Connection(http.client.HTTPConnection):
            response_class = response

        super().__init__()
        self._connection = Connection

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._connection, req)


class _Secure(urllib.request.HTTPSHandler):
    def __init__(self, response: Any, context: ssl.SSLContext) -> None:
        class Connection(http.client.HTTPSConnection):
            response_class = response

        super().__init__(context=context)
        self._connection, self._trust = Connection, context

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._connection, req, context=self._trust)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def http_error_302(self, *_: Any, **__: Any) -> None:
        """Follow nothing, and do not read where it would lead."""

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302
