"""[enrolment] of archive.toml: where recorders may join by a code, and what they are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recorderd.app.checks import tcp_endpoint
from recorderd.app.schema import option


def _endpoints(value: Any) -> str | None:
    return next((why for why in map(tcp_endpoint, value) if why is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentSection:
    """[enrolment]"""

    bind: str = option("tcp://ADDRESS:PORT to listen on for recorders that join.", check=tcp_endpoint)
    endpoints: tuple[str, ...] = option(
        "tcp://HOST:PORT of this archive, or of all its front ends, as recorders see it; "
        "empty = the host that they asked, at the port of archive.bind.",
        default=(),
        check=_endpoints,
    )


def address_of(endpoint: str) -> tuple[str, int]:
    """Take a tcp:// endpoint that was checked apart."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return ("" if host == "*" else host.strip("[]")), int(port)
