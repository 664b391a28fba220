"""Time stamps over a recording whose manifest is encrypted: beside its signatures, and in the batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recorderd.archive.verdicts import Check, Verdict
from recorderd.archive.verification import verify_bundle
from recorderd.core.clock import NS_PER_S
from recorderd.core.ids import SessionId
from recorderd.evidence.envelope import CertificateRecipients
from recorderd.evidence.recipients import load_certificate
from recorderd.evidence.verify import TrustStore
from recorderd.flush.parcel import list_files
from tests.support.bundles import make_signer
from tests.support.programs import wait_until
from tests.support.recipients import make_recipient
from tests.support.sealed_calls import sealed_studio, verdict_on
from tests.support.stamped import stamping
from tests.support.tsa import StampingMachine, TimeAuthority


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[TimeAuthority]:
    with TimeAuthority(StampingMachine(tmp_path / "tsa", days=(-30, 30))) as running:
        yield running


def test_all_signatures_are_stamped_and_the_manifest_that_nobody_reads_is_in_the_batch(
    tmp_path: Path, authority: TimeAuthority
) -> None:
    recipients = CertificateRecipients(recipients=(load_certificate(make_recipient(tmp_path, "x")),))
    studio = sealed_studio(tmp_path / "r", make_signer(tmp_path, "recorder"), recipients)
    studio.end(SessionId("s"), ms=1000)
    studio.run(4000)
    folder = studio.folder("s")
    house: Any = SimpleNamespace(spool=studio.spool)
    with stamping(house, authority, wait_ns=60 * NS_PER_S) as (stamper, lines):
        stamper.may_claim("s")
        wait_until(lambda: any("timestamped subject=s" in line for line in lines), what="stamped")
        index = verdict_on(folder).index
        assert index is not None
        wait_until(lambda: index.manifest_sha256 in stamper.folder.waiting(), what="noted for the batch")
    stamps = {path.name for path in folder.glob("*.tsr")}
    assert stamps == {f"s.{name}.p7s.tsr" for name in ("index.json", "manifest.json", "wav")}
    assert stamps <= {row.name for row in list_files(folder)}
    trust = TrustStore.from_files([folder / "s.signer.pem"])
    roots = TrustStore([authority.machine.root])
    verdict = verify_bundle(folder, trust, authorities=roots)
    assert verdict.troubles == () and verdict.by_check()[Check.TIMESTAMP] is Verdict.GOOD
    (folder / "s.index.json.p7s.tsr").write_bytes((folder / "s.wav.p7s.tsr").read_bytes())
    assert [row.code for row in verify_bundle(folder, trust, authorities=roots).troubles] == [Check.TIMESTAMP]
