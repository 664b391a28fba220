"""The manifest as XML, for systems that pick up a file beside the audio; it proves nothing by itself.

Contract: the same manifest gives the same octets in every release, so that a verifier can make them again and
compare; a change of form needs a namespace of its own. Elements are called like the fields of the JSON, the
entries of a list like one of its kind; `manifest.xsd` describes them. Any text can be rendered: characters
that XML 1.0 cannot hold stand as U+FFFD, and the JSON has them as they were.
Source: XML 1.0 (fifth edition) sections 2.2 and 2.11.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from recorderd.wire.manifest import Manifest, manifest_table

NAMESPACE: Final = "urn:recorderd:manifest"
ENTRIES: Final = {  # of each list
    "participants": "participant",
    "streams": "stream",
    "participant_ids": "participant_id",
    "ssrcs": "ssrc",
    "gaps": "gap",
    "sources": "source",
    "corrections": "correction",
    "keys": "key",
    "files": "file",
    "controls": "control",
    "spans": "span",
    "call_ids": "call_id",
    "joins": "join",
    "recipients": "recipient",
}
_HEAD: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    "<!-- Made from the signed manifest with the digest below; it proves nothing by itself. -->\n"
    '<recording xmlns="{namespace}" manifest_sha256="{sha256}">\n'
)
_NO_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPECIAL: Final = re.compile("[&<>\r\u007f-\u009f]")
_NAMED: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def rendering_name(manifest: Manifest) -> str:
    """Name the XML of a recording: like its audio, or like a tombstone's manifest."""
    stem = manifest.audio.name.partition(".")[0] if manifest.audio is not None else manifest.recording_id
    return f"{stem}.xml"


def render_manifest(manifest: Manifest, *, manifest_sha256: str) -> bytes:
    """Write a manifest, whose canonical JSON has the given digest, as XML."""
    head = _HEAD.format(namespace=NAMESPACE, sha256=manifest_sha256)
    return "".join([head, *_children(manifest_table(manifest), "  "), "</recording>\n"]).encode()


def _children(table: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in table.items():
        yield from _element(name, value, indent)


def _element(name: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        inner = _children(value, f"{indent}  ")
    elif isinstance(value, list | tuple):
        inner = (part for row in value for part in _element(ENTRIES[name], row, f"{indent}  "))
    else:
        text = _text(value)
        yield f"{indent}<{name}>{text}</{name}>\n" if text else f"{indent}<{name}/>\n"
        return
    yield f"{indent}<{name}>\n"
    yield from inner
    yield f"{indent}</{name}>\n"


def _text(value: str | int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _SPECIAL.sub(_reference, _NO_XML.sub("\ufffd", str(value)))


def _reference(mark: re.Match[str]) -> str:
    return _NAMED.get(mark[0]) or f"&#{ord(mark[0])};"
