"""A recorder that seals recordings which say of themselves what one likes."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from recorderd.archive.store import Key
from recorderd.evidence.keys import Signer
from recorderd.spool.layout import Place, Spool
from recorderd.wire.manifest import encode_manifest, manifest_name, parse_manifest, signature_name
from tests.support.bundles import make_recording
from tests.support.retention import Archive


class OddRecorder:
    """Seals recordings that say of themselves what one likes, and puts them before an archive."""

    def __init__(self, root: Path, signer: Signer) -> None:
        self._spool, self._signer = Spool(root / "spool", quota_bytes=1 << 30), signer
        self._spool.prepare()

    def upload(self, archive: Archive, *, call: dict[str, str] | None = None, **said: Any) -> Key:
        """Upload one of which this is said."""
        folder = self._spool.path(Place.READY, make_recording(self._spool, self._signer))
        path = folder / manifest_name(folder.name)
        manifest = parse_manifest(path.read_bytes())
        content = encode_manifest(replace(manifest, call=replace(manifest.call, **(call or {})), **said))
        path.write_bytes(content)
        signature = self._signer.sign_bytes(content, signing_time_utc_s=int(time.time()))
        path.with_name(signature_name(path.name)).write_bytes(signature)
        key = Key("rec-1", folder.name)
        shutil.copytree(folder, archive.store.incoming(key))
        return key
