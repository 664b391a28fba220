"""A disk that refuses the last step of a recovery: what is published is published, and the start goes on."""

import errno
from pathlib import Path

import pytest

from recorderd import durable
from tests.support.bundles import make_signer
from tests.support.studio import Studio


def test_a_draft_that_is_published_though_the_disk_refuses_to_sync_its_place_keeps_nobody_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = Studio(tmp_path, make_signer(tmp_path, "recorder"))
    for name in ("one", "two"):
        studio.voice(studio.session(name), f"{name}/1", first_ms=0, packets=150)
    studio.run(4000)
    refused: list[Path] = []
    sync_dir = durable.sync_dir

    def refuse_once(folder: Path) -> None:
        if folder.name == "ready" and not refused:
            refused.append(folder)
            raise OSError(errno.EIO, "refused", str(folder))
        sync_dir(folder)

    monkeypatch.setattr(durable, "sync_dir", refuse_once)
    studio.crash()
    assert refused
    assert studio.places() == {"ready": ["one", "two"]}
    for name in ("one", "two"):
        assert studio.manifest(name).recovered
