"""CURVE keys of the link, as the 40 printable characters that ZeroMQ uses.

Source: ZeroMQ RFC 26 (CurveZMQ), RFC 32 (Z85).
"""

from __future__ import annotations

import zmq


def make_keypair() -> tuple[str, str]:
    """Make a fresh (public, secret) pair."""
    public, secret = zmq.curve_keypair()
    return public.decode("ascii"), secret.decode("ascii")


def public_key_of(secret: str) -> str:
    """Return the public key that belongs to a secret key.

    Errors: ValueError when ``secret`` is no CURVE key.
    """
    try:
        return zmq.curve_public(secret.encode("ascii")).decode("ascii")
    except (zmq.ZMQError, UnicodeEncodeError):
        raise ValueError("not a CURVE secret key of 40 characters") from None
