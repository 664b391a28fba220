"""SIGKILL to recorderd-flush and recorder-archive in the middle of transfers: all arrives exactly once."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from recorderd.archive.catalogue import Catalogue
from recorderd.archive.verification import verify_bundle
from recorderd.evidence.verify import TrustStore
from recorderd.spool.layout import Place
from tests.support.bundles import Loopback, folder_digests
from tests.support.programs import Programs, wait_until

KILLS = 14
RECORDINGS = 10
DURATION_S = 120  # 3.84 MB each


@pytest.mark.timeout(180)
@pytest.mark.parametrize("killed", ["flush", "archive", "both"])
def test_whatever_is_killed_everything_arrives_exactly_once(
    tmp_path: Path, programs: Programs, killed: str
) -> None:
    chance = random.Random(killed)
    loopback = Loopback(tmp_path / "set-up", chunk_bytes=4 << 10)  # small: kills fall into transfers
    ids = loopback.record(RECORDINGS, duration_s=DURATION_S)
    digests = {name: folder_digests(loopback.spool.path(Place.READY, name)) for name in ids}
    archive, flush = programs.archive(loopback.archive_toml), programs.flush(loopback.recorder_toml)
    for _ in range(KILLS):
        told = flush if killed == "flush" else archive  # what has lived since the last kill
        wait_until(
            lambda told=told: " offered " in told.text() or not loopback.left_in_spool(),
            what="a transfer",
            timeout_s=60,
        )
        time.sleep(chance.uniform(0.0, 0.5))
        if killed in ("flush", "both"):
            flush.kill()
        if killed in ("archive", "both"):
            archive.kill()
            archive = programs.archive(loopback.archive_toml)
        if killed in ("flush", "both"):
            flush = programs.flush(loopback.recorder_toml)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty", timeout_s=60)
    assert_exactly_once(loopback, digests)
    offers = (tmp_path / "flush.log").read_text().count(" offered ")
    assert offers > RECORDINGS + 2  # else hardly a kill fell into a transfer
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    for trouble in (
        "Traceback",
        "internal_error",
        "recording_rejected",
        "recording_quarantined",
        "receipt_refused",
    ):
        assert trouble not in logs


def assert_exactly_once(loopback: Loopback, digests: dict[str, dict[str, str]]) -> None:
    """The store holds every recording once, whole, as it was sealed, and nothing else; the chain is whole."""
    rows = Catalogue(loopback.data_dir / "catalogue.sqlite3", read_only=True).all()
    assert sorted(row.id for row in rows) == sorted(digests)
    assert {row.chain for row in rows} == {"linked"}
    folders = {folder.name: folder for folder in (loopback.data_dir / "store").glob("*/*/*/*")}
    assert sorted(folders) == sorted(digests)
    trust = TrustStore.from_files([loopback.root / "recorder.cert.pem"])
    for name, folder in folders.items():
        assert folder_digests(folder) == digests[name]
        assert verify_bundle(folder, trust).findings == ()
    wait_until(
        lambda: not [path for path in (loopback.data_dir / "incoming").glob("*/*") if path.is_dir()],
        what="no upload is left",
    )
    assert not list((loopback.data_dir / "rejected").iterdir())
