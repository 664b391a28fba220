"""Several archives: each gets heads and stamps too, and one that refuses keeps nothing from the others."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from recorderd.archive.catalogue import CATALOGUE_NAME, Catalogue
from recorderd.core.clock import utc_text
from recorderd.flush.holders import Holders
from recorderd.spool.head_box import HeadBox
from recorderd.spool.layout import Place
from recorderd.wire import frames as f
from recorderd.wire.chain_head import HeadBody, SignedHead, encode_head, encode_head_body, head_name
from recorderd.wire.manifest import GENESIS_SHA256
from tests.integration.test_willing_archives import flush_status, further
from tests.support.bundles import STARTED_UTC_NS, Loopback, make_recording
from tests.support.link import RawClient, archived, entries
from tests.support.programs import ROOT, Programs, wait_until

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def loopback(tmp_path: Path) -> Loopback:
    return Loopback(tmp_path / "set-up")


def held_heads(loopback: Loopback) -> list[bytes]:
    path = loopback.data_dir / CATALOGUE_NAME
    return [document for _, document in Catalogue(path, read_only=True).heads()] if path.exists() else []


def signed_head(loopback: Loopback) -> bytes:
    body = HeadBody(
        recorder_id="rec-1",
        number=1,
        previous_head_sha256=GENESIS_SHA256,
        sequence=0,
        manifest_sha256=GENESIS_SHA256,
        count=0,
        cause="start",
        stated_at=utc_text(STARTED_UTC_NS),
        counted=(),
    )
    signature = loopback.recorder_signer.sign_bytes(
        encode_head_body(body), signing_time_utc_s=int(time.time())
    )
    return encode_head(SignedHead(body=body, signature=signature))


def recorder_status(loopback: Loopback) -> str:
    """Ask as an operator does."""
    code = "import sys; from recorderd.app.recorderctl import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "status", "--config", str(loopback.recorder_toml)]
    environment = {"PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, timeout=30
    )  # it complains that no recorder runs
    return done.stdout


def hold_another(loopback: Loopback, recording_id: str) -> None:
    """Let an archive that runs hold another recording under an id."""
    folder = loopback.spool.path(Place.READY, recording_id)
    folder.rename(folder.with_name(".aside"))
    make_recording(loopback.spool, loopback.recorder_signer, seed=99, recording_id=recording_id)
    client = RawClient(loopback)
    assert isinstance(client.deliver(folder), f.ReceiptMessage)
    client.close()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.with_name(".aside").rename(folder)


def test_heads_and_batches_of_stamps_wait_for_every_archive(
    loopback: Loopback, programs: Programs, tmp_path: Path
) -> None:
    loopback.extra = '[timestamps]\nwait_s = 0\n[[timestamps.authorities]]\nurl = "http://127.0.0.1:9/"\n'
    loopback.extra += 'ca_file = "archive.cert.pem"'
    loopback.write()
    second = further(loopback, tmp_path / "second", receipts="any")
    box, name = HeadBox(loopback.spool.root), head_name("rec-1", 1)
    box.prepare()
    box.put(name, signed_head(loopback))
    stamps = loopback.spool.root / "stamps"
    stamps.mkdir()
    batch, stamp = stamps / "20261123T063056Z.json", stamps / "20261123T063056Z.tsr"
    batch.write_bytes(b"a batch")
    stamp.write_bytes(b"its stamp")

    def holds_both(data_dir: Path) -> bool:
        folder = data_dir / "stamps" / "rec-1"
        return {path.name for path in folder.glob("*Z.*")} == {batch.name, stamp.name}

    programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    wait_until(lambda: len(held_heads(loopback)) == 1, what="the first archive keeps the head")
    wait_until(lambda: holds_both(loopback.data_dir), what="the first archive keeps the batch")
    flush.wait_for("head_kept", name)
    assert box.waiting() == [name] and batch.exists() and stamp.exists()
    programs.archive(second.archive_toml, name="archive-2")
    wait_until(lambda: not box.waiting(), what="no head waits")
    wait_until((stamps / "sent" / stamp.name).exists, what="the batch is set aside")
    assert held_heads(second) == held_heads(loopback)
    assert holds_both(second.data_dir) and not batch.exists()


def test_one_archives_refusal_keeps_nothing_from_another_whose_receipt_is_enough(
    loopback: Loopback, programs: Programs, tmp_path: Path
) -> None:
    second = further(loopback, tmp_path / "second", receipts="any")
    (recording_id,) = loopback.record(1)
    programs.archive(loopback.archive_toml)
    hold_another(loopback, recording_id)
    flush = programs.flush(loopback.recorder_toml)
    flush.wait_for("refused_for_good", recording_id, "differs")
    assert loopback.left_in_spool() == {"claimed": 1}
    programs.archive(second.archive_toml, name="archive-2")
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert archived(second) == [recording_id]
    assert [entry.manifest_sha256 for entry in entries(second)] != [
        entry.manifest_sha256 for entry in entries(loopback)
    ]


def test_where_all_must_have_it_the_refusal_is_told_and_the_others_get_it_all_the_same(
    loopback: Loopback, programs: Programs, tmp_path: Path
) -> None:
    second = further(loopback, tmp_path / "second", receipts="all")
    (recording_id,) = loopback.record(1)
    programs.archive(loopback.archive_toml)
    hold_another(loopback, recording_id)
    flush = programs.flush(loopback.recorder_toml)
    flush.wait_for("refused_for_good", recording_id, "differs")
    wait_until(lambda: recording_id in flush_status(loopback).get("refused", {}), what="the status tells")
    assert flush_status(loopback)["refused"][recording_id].startswith("differs: ")
    shown = recorder_status(loopback)
    assert f"archive refuses {recording_id}" in " ".join(shown.split()) and "differs:" in shown
    programs.archive(second.archive_toml, name="archive-2")
    wait_until(lambda: loopback.left_in_spool() == {"quarantine": 1}, what="it is set aside")
    assert archived(second) == [recording_id]
    reason = (loopback.spool.path(Place.QUARANTINE, recording_id) / "reason.txt").read_text()
    assert reason.startswith("archive refuses it: differs: ")
    assert "second has receipted it" in reason


def test_a_file_is_done_with_once_and_not_before_every_archive_holds_it() -> None:
    holders = Holders(["one", "two"])
    holders.note("one", "head")
    assert holders.has("one", "head") and not holders.has("two", "head")
    assert not holders.take_whole("head")
    holders.note("two", "head")
    assert holders.take_whole("head")
    assert not holders.take_whole("head")
    assert not holders.has("one", "head")
