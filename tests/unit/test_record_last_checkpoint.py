"""The checkpoint that proves the beginning of a recovered recording is a file of it, and is judged."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recorderd.archive.verification import verify_bundle
from recorderd.evidence.verify import TrustStore
from recorderd.wire.canonical import canonical_json
from tests.support.bundles import make_signer
from tests.support.studio import RATE_HZ, Studio
from tests.unit.test_record_proof import PACE
from tests.unit.test_record_proof import _leaves as leaves_of
from tests.unit.test_record_proof import _lines as lines_of
from tests.unit.test_record_proof import _root as root_of
from tests.unit.test_record_proof import _talk as talk


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path, make_signer(tmp_path, "recorder"), pace=PACE)


def test_the_checkpoint_that_counted_is_a_file_of_the_recording_and_openssl_takes_it(studio: Studio) -> None:
    talk(studio)
    studio.run(8000)
    told = lines_of(studio)[-1]["checkpoint"]
    studio.crash()
    folder = studio.folder("s")
    assert json.loads((folder / "s.checkpoint.json").read_text()) == told
    assert told["root_sha256"] == root_of(
        leaves_of(studio.samples("s").astype("<i2").tobytes())[: told["leaves"]]
    )
    assert {"s.checkpoint.json", "s.checkpoint.sig"} < {row.name for row in studio.manifest("s").files}
    subprocess.run(
        "openssl cms -verify -cades -binary -inform DER -in s.checkpoint.sig -content s.checkpoint.json "
        "-CAfile s.signer.pem -out /dev/null -purpose any",
        shell=True,
        cwd=folder,
        check=True,
        capture_output=True,
    )


def _resigned(studio: Studio, **changes: Any) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        content = canonical_json(json.loads((folder / "s.checkpoint.json").read_text()) | changes)
        studio.signer = make_signer(studio.root, "stranger") if changes == {} else studio.signer
        (folder / "s.checkpoint.json").write_bytes(content)
        signature = studio.signer.sign_bytes(content, signing_time_utc_s=int(time.time()))
        (folder / "s.checkpoint.sig").write_bytes(signature)

    return put


def _checkpoint_of_nobody(folder: Path) -> None:
    (folder / "s.checkpoint.sig").write_bytes(b"no signature")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (_checkpoint_of_nobody, "malformed"),
        ({}, "stranger"),
        ({"root_sha256": "ab" * 32}, "other audio"),
        ({"recording_id": "another"}, "is of another"),
        ({"leaves": 1, "samples": RATE_HZ}, "the manifest claims"),
    ],
    ids=["no signature", "stranger", "root", "recording", "shorter"],
)
def test_a_kept_checkpoint_that_does_not_prove_what_the_manifest_claims_is_found(
    studio: Studio, change: Any, word: str
) -> None:
    talk(studio)
    studio.run(8000)
    studio.crash()
    folder = studio.folder("s")
    trust = TrustStore.from_files([folder / "s.signer.pem"])
    assert verify_bundle(folder, trust).good
    (change if callable(change) else _resigned(studio, **change))(folder)
    findings = verify_bundle(folder, trust).findings
    assert {"digest", "proof"} == {finding.code for finding in findings}
    assert any(word in finding.reason for finding in findings if finding.code == "proof")
