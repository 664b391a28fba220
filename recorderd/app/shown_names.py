"""Who spoke, in a recording that a crash has cut and whose metadata is encrypted: shown by its draft's key.

Contract: such a manifest, opened, still hides the names that the draft's journal had hidden. What is given
here nobody has signed: the manifest is, with the hidden texts in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recorderd.app.draft_proof import manifest_of
from recorderd.evidence.name_veil import NameVeil, is_veiled
from recorderd.wire.manifest import manifest_table


def shown_names(container: Path, veil: NameVeil, *, beside: Path) -> dict[str, str]:
    """Give what hides behind each hidden text of a container's manifest, which lies there or ``beside``.

    Errors: EnvelopeUnopened when the key is another; ManifestFormatError.
    """
    manifest = manifest_of(container) or manifest_of(beside / container.name)
    if manifest is None:
        return {}
    return {text: veil.show(text) for text in _texts(manifest_table(manifest)) if is_veiled(text)}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value
