"""Who may come in: the allow-list of CURVE keys, asked by ZeroMQ for every connection.

Rule: a key that is not listed gets no connection; a listed one speaks for exactly one recorder.
Source: ZeroMQ RFC 27 (ZAP).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from zmq.utils import z85

ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"
ZAP_DOMAIN: Final = "recorder-archive"
_FRAMES: Final = 7  # version, request id, domain, address, identity, mechanism, the client's key
_KEY_BYTES: Final = 32
KEY_PROPERTY: Final = "X-Curve-Key"  # of every message: by which key its sender came in


@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """One question and our answer."""

    reply: tuple[bytes, ...]
    address: str
    public_key: str
    recorder_id: str  # empty when refused
    reason: str


def answer(request: Sequence[bytes], recorders: Mapping[str, str]) -> Knock:
    """Answer one ZAP request; ``recorders`` maps public keys to recorder ids."""
    request_id = request[1] if len(request) > 1 else b""
    address = request[3].decode("ascii", "replace") if len(request) > 3 else ""
    public_key, recorder_id = "", ""
    ours = len(request) == _FRAMES and (request[0], request[2]) == (b"1.0", ZAP_DOMAIN.encode())
    if not ours or request[5] != b"CURVE" or len(request[6]) != _KEY_BYTES:
        reason = "not a CURVE client"
    else:
        public_key = z85.encode(request[6]).decode("ascii")
        recorder_id = recorders.get(public_key, "")
        reason = "" if recorder_id else "its CURVE key is not listed"
    status = (b"200", b"OK") if recorder_id else (b"400", b"No access")
    return Knock(
        reply=(b"1.0", request_id, *status, recorder_id.encode("ascii"), _property(public_key, recorder_id)),
        address=address,
        public_key=public_key,
        recorder_id=recorder_id,
        reason=reason,
    )


def _property(public_key: str, recorder_id: str) -> bytes:
    """Write the metadata of a connection that comes in (RFC 27, as in ZMTP's READY)."""
    if not recorder_id:
        return b""
    name, value = KEY_PROPERTY.encode("ascii"), public_key.encode("ascii")
    return bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value
