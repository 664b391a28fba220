"""A recorder delivers to an archive whose recordings lie in a real object store, both as programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recorderd.spool.layout import Place
from tests.support.bundles import Loopback, folder_digests
from tests.support.ceph import ObjectServer
from tests.support.link import archived
from tests.support.programs import ROOT, Programs, wait_until

pytestmark = pytest.mark.timeout(180)


class Delivery:
    """A recorder and an archive with [store] s3."""

    def __init__(self, server: ObjectServer, folder: Path, *, lock: str) -> None:
        self.loopback = Loopback(folder / "set-up")
        self.server, self.bucket = server, server.new_bucket()
        self.secret = self.loopback.root / "store.secret"
        self.secret.touch(mode=0o600)
        self.secret.write_text(server.secret_key)
        self.head = self.loopback.archive_toml.read_text()
        self.configure(lock)

    def configure(self, lock: str, *, more: str = "") -> None:
        """Write archive.toml."""
        self.loopback.archive_toml.write_text(
            f"""{self.head}
[store]
url = "s3://{self.bucket}/calls"
endpoint = "{self.server.tls_endpoint}"
tls_ca_file = "{self.server.certificate}"
access_key = "{self.server.access_key}"
secret_key_file = "{self.secret}"
encryption = "aws:kms"
encryption_key = "of-the-test"
lock = "{lock}"
{more}
"""
        )

    def command(self, *arguments: str | Path, check: bool = True) -> str:
        """Run one of recorder-archive's commands."""
        words = list(map(str, arguments))
        if words[0] == "hold":  # --config stands behind the second word
            words[:2] = [words[0], words[1], "--config", str(self.loopback.archive_toml)]
        code = "import sys; from recorderd.app.archive import main; sys.exit(main())"
        at = [] if words[0] == "hold" else ["--config", str(self.loopback.archive_toml)]
        command = [sys.executable, "-c", code, words[0], *at, *words[1:]]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, timeout=120
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done.stdout + done.stderr

    def stored(self) -> list[str]:
        """List every object of the bucket."""
        pages = self.server.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [row["Key"] for page in pages for row in page.get("Contents", ())]

    def delivered(self) -> None:
        """Wait until the recorder has every receipt."""
        wait_until(lambda: not self.loopback.left_in_spool(), what="the spool is empty", timeout_s=120)


def test_from_the_spool_into_the_object_store_and_out_again(
    object_server: ObjectServer, tmp_path: Path, programs: Programs
) -> None:
    delivery = Delivery(object_server, tmp_path, lock="compliance")
    loopback = delivery.loopback
    archive = programs.archive(loopback.archive_toml)
    ids = [*loopback.record(3), *loopback.record(1, duration_s=1200)]  # the last goes in parts
    before = folder_digests(loopback.spool.path(Place.READY, ids[-1]))
    programs.flush(loopback.recorder_toml)
    delivery.delivered()
    assert archived(loopback) == sorted(ids)
    kept = {key.split("/")[-2] for key in delivery.stored() if key.startswith("calls/store/")}
    assert kept == set(ids)
    assert not (loopback.data_dir / "store").exists()
    wait_until(
        lambda: not any((loopback.data_dir / "incoming").glob("*/*")), what="nothing is left of uploads"
    )
    delivery.command("export", ids[-1], "--out", tmp_path / "out")
    given = folder_digests(tmp_path / "out")
    assert {name: given[name] for name in before} == before
    assert "s3://" in delivery.command("show", ids[0])
    assert "0 findings" in delivery.command("fsck")
    wait_until(lambda: "calls/receipts/" in " ".join(delivery.stored()), what="the receipts are kept too")
    refused = delivery.command("erase", "--recording", ids[0], "--reason", "asked for", "--yes", check=False)
    assert "locked in the object store until" in refused.replace("\n", " ")
    assert "0 erased, 1 refused" in refused
    assert "0 findings" in delivery.command("fsck")
    assert delivery.secret.read_text() not in archive.text()
    assert archive.stop() == 0


def test_a_hold_reaches_the_objects_and_leaves_them(
    object_server: ObjectServer, tmp_path: Path, programs: Programs
) -> None:
    delivery = Delivery(object_server, tmp_path, lock="governance")
    programs.archive(delivery.loopback.archive_toml)
    (name,) = delivery.loopback.record(1)
    programs.flush(delivery.loopback.recorder_toml)
    delivery.delivered()
    delivery.command("hold", "add", "--recording", name, "--reason", "case 7")
    keys = [key for key in delivery.stored() if name in key and key.startswith("calls/store/")]

    def statuses() -> set[str]:
        client = object_server.client
        words = [client.get_object_legal_hold(Bucket=delivery.bucket, Key=key) for key in keys]
        return {word["LegalHold"]["Status"] for word in words}

    def is_held() -> bool:
        try:
            return statuses() == {"ON"}
        except object_server.client.exceptions.ClientError:  # there never was a hold
            return False

    wait_until(is_held, what="the objects are on hold", timeout_s=60)
    delivery.command("hold", "release", "1", "--reason", "closed")
    assert "1 erased, 0 refused" in delivery.command("erase", "--recording", name, "--reason", "r", "--yes")
    left = [key for key in delivery.stored() if name in key]
    assert left == [key for key in left if key.endswith(".tombstone.json")] != []
    assert "0 findings" in delivery.command("fsck")


def test_a_server_that_hangs_costs_no_recording_and_gives_no_receipt(
    object_server: ObjectServer, tmp_path: Path, programs: Programs
) -> None:
    delivery = Delivery(object_server, tmp_path, lock="none")
    loopback = delivery.loopback
    archive = programs.archive(loopback.archive_toml)
    archive.wait_for("ready")
    ids = loopback.record(2)
    object_server.pause()
    try:
        programs.flush(loopback.recorder_toml)
        archive.wait_for("offered")
        archive.kill()
        assert sum(loopback.left_in_spool().values()) == 2
        assert archived(loopback) == []
    finally:
        object_server.go_on()
    programs.archive(loopback.archive_toml, name="archive-2")
    delivery.delivered()
    assert archived(loopback) == sorted(ids)
    assert "0 findings" in delivery.command("fsck")
    assert json.loads(delivery.command("fsck", "--json"))["recordings"] == 2
