"""recorderd-flush and recorder-archive as processes over loopback TCP with CURVE; nothing is simulated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from recorderd.app.control import ask
from recorderd.app.recorderctl import main as recorderctl
from recorderd.flush.curve import make_keypair
from recorderd.spool.layout import Place
from recorderd.wire import frames as f
from recorderd.wire.manifest import manifest_name, signature_name
from tests.support.bundles import Loopback, audio_of, folder_digests, make_recording, make_tombstone, titled
from tests.support.link import RawClient, archive_command, archived, assert_kept, entries, events, flip
from tests.support.programs import Programs, wait_until

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def loopback(tmp_path: Path) -> Loopback:
    return Loopback(tmp_path / "set-up")


# --- the way it should be ---------------------------------------------------------------------------


def test_recordings_arrive_once_verified_and_leave_the_spool(loopback: Loopback, programs: Programs) -> None:
    archive = programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    ids = loopback.record(5)
    ids += loopback.record(1, duration_s=30)
    before = folder_digests(loopback.spool.path(Place.READY, ids[-1]))
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, ids)
    assert {entry.chain for entry in entries(loopback)} == {"linked"}
    rows = json.loads(archive_command(loopback, "list", "--json"))
    row = next(row for row in rows if row["id"] == ids[-1])
    assert (row["duration_s"], row["channels"], row["sample_rate_hz"], row["state"]) == (
        30,
        2,
        8000,
        "archived",
    )
    assert (row["caller"], row["callee"], row["call_id"]) == ("1001", "1002", f"call-{ids[-1]}")
    assert ids[-1] in archive_command(loopback, "show", ids[-1])
    archive_command(loopback, "export", ids[-1], "--out", loopback.root / "export")
    exported = folder_digests(loopback.root / "export")
    rendering = titled(ids[-1]).replace(".wav", ".xml")
    assert exported.pop(rendering)
    assert exported == before
    archive_command(loopback, "export", ids[-1], "--out", loopback.root / "export")  # again: nothing changes
    path = loopback.root / "export" / rendering
    path.write_text(path.read_text().replace("<caller>1001", "<caller>1002"))
    ca = loopback.root / "recorder.cert.pem"
    assert recorderctl(["verify", str(path.parent), "--ca", str(ca)]) == 65
    with pytest.raises(subprocess.CalledProcessError):
        archive_command(loopback, "export", ids[-1], "--out", loopback.root / "export")
    path.unlink()
    assert recorderctl(["verify", str(path.parent), "--ca", str(ca)]) == 0
    assert flush.stop() == 0
    assert archive.stop() == 0


def test_recordings_arrive_over_ipv6(loopback: Loopback, programs: Programs) -> None:
    for path in (loopback.archive_toml, loopback.recorder_toml):
        path.write_text(path.read_text().replace("tcp://127.0.0.1:", "tcp://[::1]:"))
    ids = loopback.record(1)
    programs.archive(loopback.archive_toml)
    programs.flush(loopback.recorder_toml)
    wait_until(lambda: archived(loopback) == ids, what="the recording is archived", timeout_s=20)


def test_a_tombstone_is_kept_like_a_recording_and_says_what_it_is(
    loopback: Loopback, programs: Programs
) -> None:
    programs.archive(loopback.archive_toml)
    programs.flush(loopback.recorder_toml)
    before = loopback.record(1)
    tombstone = make_tombstone(loopback.spool, loopback.recorder_signer, chain=loopback.chain)
    after = loopback.record(1)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    rows = {row["id"]: row for row in json.loads(archive_command(loopback, "list", "--json"))}
    assert [rows[name]["state"] for name in (*before, tombstone, *after)] == [
        "archived",
        "objected",
        "archived",
    ]
    assert {row["chain"] for row in rows.values()} == {"linked"}
    out = loopback.root / "export"
    archive_command(loopback, "export", tombstone, "--out", out)
    assert len([path for path in out.iterdir() if path.name.startswith(tombstone)]) == len(
        list(out.iterdir())
    )
    ca = loopback.root / "recorder.cert.pem"
    assert recorderctl(["verify", str(out), "--ca", str(ca)]) == 0
    (out / f"{tombstone}.wav").write_bytes(b"smuggled in")
    assert recorderctl(["verify", str(out), "--ca", str(ca)]) == 65


def test_a_copy_stays_for_the_local_grace_with_its_receipt(tmp_path: Path, programs: Programs) -> None:
    loopback = Loopback(tmp_path / "set-up", local_grace_s=1000)
    programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    (recording_id,) = loopback.record()
    flush.wait_for("receipt_verified", recording_id)
    flush.stop()
    stored = loopback.spool.path(Place.CLAIMED, recording_id) / "receipt.json"
    written_ns = stored.stat().st_mtime_ns
    again = programs.flush(loopback.recorder_toml)
    again.wait_for("link_up")
    wait_until(lambda: status(loopback).get("states") == {"archived": 1}, what="adopted as archived")
    assert stored.read_bytes() == entries(loopback)[0].receipt
    assert stored.stat().st_mtime_ns == written_ns  # the grace does not begin again
    assert again.text().count("offered") == 0


def status(loopback: Loopback) -> dict[str, Any]:
    return ask(loopback.root / "run/flush.sock", {"command": "status"})


# --- keys -------------------------------------------------------------------------------------------


def test_an_unknown_client_key_is_refused_until_it_is_listed(loopback: Loopback, programs: Programs) -> None:
    listed = loopback.recorder_secret
    _, loopback.recorder_secret = make_keypair()
    (loopback.root / "recorder.curve").write_text(loopback.recorder_secret)
    archive = programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    ids = loopback.record(2)
    flush.wait_for("link_refused", "does not know our key")
    archive.wait_for("client_refused", "not listed")
    assert events(loopback, "flush")["link_refused"] >= 1
    assert events(loopback, "archive")["client_refused"] >= 1
    assert status(loopback)["link"] == "down"
    assert not archived(loopback)
    flush.stop()
    assert sum(loopback.left_in_spool().values()) == 2
    (loopback.root / "recorder.curve").write_text(listed)
    programs.flush(loopback.recorder_toml)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, ids)


def test_a_server_that_is_not_our_archive_gets_nothing(loopback: Loopback, programs: Programs) -> None:
    archive = programs.archive(loopback.archive_toml)
    right = loopback.archive_public
    loopback.archive_public, _ = make_keypair()
    loopback.write()
    flush = programs.flush(loopback.recorder_toml)
    ids = loopback.record(1)
    flush.wait_for("link_refused")
    archive.wait_for("client_refused", "handshake")
    assert loopback.left_in_spool() == {"ready": 1}
    flush.stop()
    loopback.archive_public = right
    loopback.write()
    programs.flush(loopback.recorder_toml)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, ids)


def test_a_key_speaks_for_one_recorder_only(loopback: Loopback, programs: Programs) -> None:
    archive = programs.archive(loopback.archive_toml)
    foreign = make_recording(loopback.spool, loopback.recorder_signer, recorder_id="rec-2")
    client = RawClient(loopback)
    client.send(f.Hello(recorder_id="rec-2"))
    assert isinstance(client.receive(), f.Unwelcome)
    client.send(f.Hello(recorder_id="rec-1"))
    assert client.receive() == f.Welcome(archive_id="arc-1")
    answer = client.deliver(loopback.spool.path(Place.READY, foreign))
    assert isinstance(answer, f.Refused) and (answer.code, answer.retryable) == ("not_yours", False)
    archive.wait_for("recording_rejected", foreign, "not_yours")
    client.close()
    assert not archived(loopback)


# --- evidence that does not hold ----------------------------------------------------------------------


def test_bad_evidence_is_rejected_kept_and_disturbs_nothing_else(
    loopback: Loopback, programs: Programs
) -> None:
    altered, resigned, reordered, *good = loopback.record(5, duration_s=1)
    flip(audio_of(loopback.spool.path(Place.READY, altered)), -1)
    wav = audio_of(loopback.spool.path(Place.READY, resigned))
    flip(wav.with_name(signature_name(wav.name)), -1)
    folder = loopback.spool.path(Place.READY, reordered)
    manifest = folder / manifest_name(reordered)
    manifest.write_bytes(manifest.read_bytes().replace(b'"caller":"1001"', b'"caller":"1009"'))
    originals = {name: folder_digests(loopback.spool.path(Place.READY, name)) for name in (altered, resigned)}
    archive = programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    for name, code in ((altered, "digest"), (resigned, "signature"), (reordered, "signature")):
        archive.wait_for("recording_rejected", name, f"code={code}")
        flush.wait_for("recording_quarantined", name, code)
    wait_until(lambda: loopback.left_in_spool() == {"quarantine": 3}, what="the good ones have gone")
    assert_kept(loopback, good)
    for name, original in originals.items():
        quarantined = folder_digests(loopback.spool.path(Place.QUARANTINE, name))
        assert quarantined.pop("reason.txt")
        assert quarantined == original
    rejected = folder_digests(loopback.data_dir / "rejected" / "rec-1" / f"{resigned}.1")
    assert rejected.pop("reason.txt")
    assert rejected == originals[resigned]
    assert events(loopback, "archive")["recording_rejected"] == 3


def test_an_unknown_signer_waits_for_his_certificate(loopback: Loopback, programs: Programs) -> None:
    recording_id = make_recording(loopback.spool, loopback.stranger_signer)
    archive = programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    flush.wait_for("offer_refused", recording_id, "signer_unknown", "retryable=True")
    assert not archived(loopback)
    assert loopback.left_in_spool() == {"claimed": 1}
    archive.stop()
    shutil.copy(loopback.root / "stranger.cert.pem", loopback.root / "recorder.cert.pem")
    second = programs.archive(loopback.archive_toml)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert "found_bytes=0" not in second.text()  # the parts of the first offer were used
    assert_kept(loopback, [recording_id])


def test_a_broken_chain_is_recorded_and_the_recording_kept(loopback: Loopback, programs: Programs) -> None:
    archive = programs.archive(loopback.archive_toml)
    ids = loopback.record(2)
    loopback.chain.manifest_sha256 = "f" * 64  # as if one manifest had been exchanged
    ids += loopback.record(1)
    loopback.chain.sequence += 1  # as if one recording had been removed
    ids += loopback.record(1)
    programs.flush(loopback.recorder_toml)
    archive.wait_for("chain_broken", ids[2])
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, ids)
    chains = {entry.id: entry.chain for entry in entries(loopback)}
    assert [chains[name] for name in ids] == ["linked", "linked", "broken", "pending"]


def test_a_receipt_by_a_stranger_releases_nothing(loopback: Loopback, programs: Programs) -> None:
    receipt = loopback.archive_toml.read_text().replace("archive.key", "stranger.key")
    loopback.archive_toml.write_text(receipt.replace("archive.cert", "stranger.cert"))
    programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    (recording_id,) = loopback.record()
    flush.wait_for("receipt_refused", recording_id)
    wait_until(lambda: events(loopback, "flush").get("receipt_refused", 0) >= 2, what="offered again")
    flush.stop()
    assert loopback.left_in_spool() == {"claimed": 1}
    assert loopback.spool.receipt(recording_id) is None


def test_a_broken_folder_goes_to_quarantine_and_the_rest_goes_on(
    loopback: Loopback, programs: Programs
) -> None:
    empty, short, surplus, found, strange, good = loopback.record(6)
    broken = (empty, short, surplus, found, strange)
    ready = {name: loopback.spool.path(Place.READY, name) for name in broken}
    (ready[empty] / manifest_name(empty)).unlink()
    audio = audio_of(ready[short])
    audio.write_bytes(audio.read_bytes()[:-1])
    (ready[surplus] / "notes.txt").write_text("not in the manifest")
    (ready[found] / os.fsdecode(b"\xff.wav")).touch()  # as a repaired file system leaves one
    (ready[strange] / manifest_name(strange)).write_bytes(b'{"manifest_version":"\\ud800"}')
    loopback.spool.claim_all([short])  # as an earlier process would have left it
    programs.archive(loopback.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    for name in ready:
        flush.wait_for("recording_quarantined", name)
    wait_until(lambda: loopback.left_in_spool() == {"quarantine": 5}, what="five in quarantine")
    assert_kept(loopback, [good])
