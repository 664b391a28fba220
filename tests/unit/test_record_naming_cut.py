"""The audio gets its name in the seal: cut at any call that changes the disk, recovery finishes it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from recorderd.evidence.keys import Signer
from recorderd.policy.file_names import NameTemplate
from tests.support.bundles import audio_of, make_signer
from tests.support.power_cut import Fuse, sealing_is_cut
from tests.support.studio import Studio

AFTERWARDS = NameTemplate(text="%Y-{from}-{id}")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return make_signer(tmp_path_factory.mktemp("keys"), "recorder")


def _studio(root: Path, signer: Signer) -> Studio:
    root.mkdir()
    studio = Studio(root, signer)
    session = studio.session("s")
    studio.voice(session, "s/1", first_ms=0, packets=50)
    studio.end(session, ms=1000)
    return studio


def test_a_seal_that_is_cut_anywhere_is_finished_under_one_name(tmp_path: Path, signer: Signer) -> None:
    whole = _studio(tmp_path / "whole", signer)
    whole.run(4000)
    samples = whole.samples("s")
    begun = re.sub("[^0-9]", "", whole.manifest("s").started_at)[:14]
    first, second = f"{begun}-1000-unknown-unknown-s.wav", f"{begun[:4]}-1000-s.wav"
    assert audio_of(whole.folder("s")).name == first
    names: set[str] = set()
    patch = pytest.MonkeyPatch()
    for blows_at in range(1000):
        studio = _studio(tmp_path / str(blows_at), signer)
        if not sealing_is_cut(studio, Fuse(blows_at), patch):
            break
        studio.names = AFTERWARDS  # somebody changed the configuration meanwhile
        studio.crash()
        manifest = studio.manifest("s")  # the verifier finds nothing, no stray signature either
        assert manifest.sequence == 1
        assert np.array_equal(studio.samples("s"), samples)
        assert {path.suffix for path in studio.folder("s").iterdir()} == {".wav", ".p7s", ".json", ".pem"}
        names.add(audio_of(studio.folder("s")).name)
    assert blows_at > 15, "the seal does more than this"
    assert names == {first, second}
