"""Where a key lies in a token: a PKCS #11 URI, read strictly.

Contract: any text gives a ``TokenUri`` or KeyUnusable. A PIN never stands in it: ``pin-source`` names a file,
or a credential of systemd. Source: RFC 7512.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

from recorderd.core.errors import KeyUnusable
from recorderd.evidence.secret_files import CREDENTIAL_PREFIX

SCHEME: Final = "pkcs11:"
_PATH_NAMES: Final = ("token", "manufacturer", "serial", "model", "object", "id", "type")
_QUERY_NAMES: Final = ("module-path", "pin-source")
EXAMPLE: Final = (
    "pkcs11:token=recorder;object=signing?module-path=/usr/lib/softhsm/libsofthsm2.so"
    "&pin-source=/etc/recorderd/signing/pin"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUri:
    """A key in a token."""

    token: str
    object: str = ""
    id: bytes = b""
    serial: str = ""
    manufacturer: str = ""
    model: str = ""
    module: Path = field(repr=False)
    pin_source: Path = field(repr=False)

    def __str__(self) -> str:
        key = f"object={self.object}" if self.object else f"id={self.id.hex()}"
        return f"{SCHEME}token={self.token};{key}"


def uri_flaw(text: str) -> str | None:
    """Say what would be right in place of a text that is no URI of a key; None when it is one."""
    try:
        parse_token_uri(text)
    except KeyUnusable as problem:
        return f"{problem.fields['reason']}; for example {EXAMPLE}"
    return None


def parse_token_uri(text: str) -> TokenUri:
    """Read a URI.

    Errors: KeyUnusable says which part is not right; the text itself, which may hold a PIN, is not told.
    """
    if not text.startswith(SCHEME):
        raise _wrong(f"does not begin with {SCHEME}")
    path, _, query = text.removeprefix(SCHEME).partition("?")
    where = _attributes(path.split(";") if path else (), _PATH_NAMES)
    how = _attributes(query.split("&") if query else (), _QUERY_NAMES)
    if where.pop("type", b"private") != b"private":
        raise _wrong("type must be private")
    identity = where.pop("id", b"")
    words = {name: _text(name, value) for name, value in where.items()}
    if not words.get("token"):
        raise _wrong("token is missing")
    if not (words.get("object") or identity):
        raise _wrong("object is missing (or id)")
    module = Path(_text("module-path", how.get("module-path", b"")))
    if not module.is_absolute():
        raise _wrong("module-path is missing: the absolute path of the token's PKCS #11 library")
    return TokenUri(**words, id=identity, module=module, pin_source=_pin_source(how.get("pin-source", b"")))


def _attributes(parts: Iterable[str], known: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if name == "pin-value":
            raise _wrong("pin-value: a PIN must not stand in a configuration; name its file with pin-source")
        if name not in known or not equals:
            raise _wrong(f"one of its attributes is none of {', '.join(known)}")
        if name in found:
            raise _wrong(f"{name} stands twice")
        found[name] = unquote_to_bytes(value)
    return found


def _pin_source(value: bytes) -> Path:
    text = _text("pin-source", value).removeprefix("file://").removeprefix("file:")
    if not (text.startswith(("/", CREDENTIAL_PREFIX))):
        raise _wrong(
            f"pin-source is missing: the absolute path of the PIN's file, or {CREDENTIAL_PREFIX}NAME"
        )
    return Path(text)


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise _wrong(f"{name} is not UTF-8") from None
    if not text.isprintable():
        raise _wrong(f"{name} is not printable")
    return text


def _wrong(reason: str) -> KeyUnusable:
    return KeyUnusable(path="PKCS #11 URI", reason=reason)
