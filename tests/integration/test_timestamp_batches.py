"""Batches of time stamps: every recording is in one, the archive holds and proves it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from pathlib import Path

import pytest

from recorderd.app.control import ask as ask_program
from recorderd.archive.inclusion import deposit_problems, find_inclusion, prove_inclusion, verify_proof
from recorderd.archive.renewals import RENEWALS_NAME, stamp_states
from recorderd.archive.store import Store
from recorderd.archive.verification import verify_bundle
from recorderd.core.errors import StampFormatError, TimestampInvalid
from recorderd.evidence.merkle import merkle_root
from recorderd.evidence.renewal import verify_renewals
from recorderd.evidence.timestamp import make_request
from recorderd.evidence.verify import TrustStore
from recorderd.spool.layout import Place
from recorderd.wire import frames as f
from recorderd.wire.manifest import manifest_name
from recorderd.wire.stamp_batch import (
    StampBatch,
    encode_batch,
    encode_proof,
    inclusion_names,
    parse_batch,
)
from tests.support.bundles import Loopback
from tests.support.house import run_program
from tests.support.link import RawClient, archive_command, archived, flip
from tests.support.programs import Programs, wait_until
from tests.support.stamped import (
    assert_stamped,
    authority,
    configured,
    machine,
    stamping,
    stored,
)
from tests.support.tsa import StampingMachine, TimeAuthority, openssl_ts_verify, sha256_hex

pytestmark = pytest.mark.timeout(90)
__all__ = ["authority", "machine"]


def test_every_recording_is_in_a_batch_that_the_archive_holds_and_proves(
    tmp_path: Path, programs: Programs, authority: TimeAuthority
) -> None:
    loopback = Loopback(tmp_path / "set-up", extra=configured(authority, wait_s=0))
    programs.archive(loopback.archive_toml)
    ids = loopback.record(5)
    flush = programs.flush(loopback.recorder_toml)
    wait_until(lambda: archived(loopback) == sorted(ids), what="archived")
    assert authority.queries == []  # without waiting, and without stamps of their own
    flush.stop()
    programs.flush(loopback.recorder_toml, name="flush-2")  # what waits at start is due at once
    folder = loopback.data_dir / "stamps" / "rec-1"
    sent = loopback.spool.root / "stamps" / "sent"
    wait_until(lambda: len(list(sent.glob("*"))) == 2 if sent.exists() else False, what="deposited")
    assert len(authority.queries) == 1
    (batch,) = folder.glob("*.json")
    parsed = parse_batch(batch.read_bytes())
    hashes = {name: sha256_hex((stored(loopback, name) / manifest_name(name)).read_bytes()) for name in ids}
    assert sorted(parsed.leaves) == sorted(hashes.values())
    assert openssl_ts_verify(
        batch.with_suffix(".tsr"), ca_file=authority.machine.ca_file, digest=parsed.root_sha256
    )
    trust = TrustStore([authority.machine.root])
    for name, digest in hashes.items():
        inclusion = find_inclusion(loopback.data_dir, "rec-1", digest)
        assert inclusion is not None
        proof = encode_proof(inclusion.proof)
        stamp = verify_proof(proof, inclusion.tsr, manifest_sha256=digest, trust=trust, subject=name)
        assert stamp.authority == "Test TSA"
        other = next(entry for entry in hashes.values() if entry != digest)
        with pytest.raises(TimestampInvalid, match="another manifest"):
            verify_proof(proof, inclusion.tsr, manifest_sha256=other, trust=trust, subject=name)
    assert find_inclusion(loopback.data_dir, "rec-1", "0" * 64) is None
    assert_due_stamps_are_listed(loopback, batch, authority.machine, tmp_path)
    assert_exported_proof(loopback, ids[2], hashes[ids[2]], tmp_path / "out", authority.machine)


def assert_due_stamps_are_listed(
    loopback: Loopback, batch: Path, machine: StampingMachine, folder: Path
) -> None:
    """A certificate of 30 days is due within 90, not within 10, and not any more once it was renewed."""

    def due(days: int) -> list[tuple[int, tuple[str, ...]]]:
        states = stamp_states(
            Store(loopback.data_dir), now_utc_s=int(time.time()), renew_before_s=days * 86_400
        )
        return [(state.renewals, state.reasons) for state in states]

    (row,) = json.loads(archive_command(loopback, "stamps", "--json"))
    assert row["path"] == f"stamps/rec-1/{batch.stem}.tsr" and row["authority"] == "Test TSA"
    assert row["reasons"] == ["its certificate ends in 29 days"]
    assert due(90) == [(0, ("its certificate ends in 29 days",))] and due(10) == [(0, ())]
    tsr = batch.with_suffix(".tsr")
    newer = StampingMachine(folder / "newer", name="Newer TSA", days=(-1, 3000))
    renewal = (
        loopback.data_dir / RENEWALS_NAME / tsr.relative_to(loopback.data_dir).with_name(f"{tsr.name}.tsr")
    )
    configuration = loopback.archive_toml.read_text()
    for renewer, word in ((machine, "ends no later"), (newer, "renewed by Newer TSA")):
        with TimeAuthority(renewer) as authority:
            stanza = f'[[timestamps.authorities]]\nurl = "{authority.url}"\nca_file = "{renewer.ca_file}"\n'
            loopback.archive_toml.write_text(configuration + stanza)
            assert word in archive_command(loopback, "renew", check=renewer is newer)
    assert openssl_ts_verify(renewal, ca_file=newer.ca_file, data=tsr)
    trust = TrustStore([machine.root, newer.root])
    root = parse_batch(batch.read_bytes()).root_sha256
    row_of_stamps = [tsr.read_bytes(), renewal.read_bytes()]
    assert len(verify_renewals(row_of_stamps, sha256_hex=root, trust=trust, subject="x")) == 2
    assert due(90) == [(1, ())]
    whole = renewal.read_bytes()
    renewal.chmod(0o600)
    renewal.write_bytes(newer.reply(make_request(sha256_hex=sha256_hex(b"else"), nonce=1)))
    with pytest.raises(subprocess.CalledProcessError) as caught:
        archive_command(loopback, "stamps")
    assert caught.value.returncode == 65 and "something else" in caught.value.stdout
    renewal.write_bytes(whole)


def assert_exported_proof(
    loopback: Loopback, recording_id: str, digest: str, out: Path, machine: StampingMachine
) -> None:
    """An export holds the proof; hashing and openssl are enough to check it; altered, it is noticed."""
    archive_command(loopback, "export", recording_id, "--out", out)
    proof_path, tsr_path = (out / name for name in inclusion_names(recording_id))
    proof = json.loads(proof_path.read_text())
    node, index, last = hashlib.sha256(b"\0" + bytes.fromhex(digest)).digest(), proof["leaf_index"], 4
    for entry in map(bytes.fromhex, proof["path"]):  # as evidence/README.md says
        if index & 1 or index == last:
            node = hashlib.sha256(b"\1" + entry + node).digest()
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\1" + node + entry).digest()
        index, last = index >> 1, last >> 1
    assert openssl_ts_verify(tsr_path, ca_file=machine.ca_file, digest=node.hex())
    trust = TrustStore.from_files([loopback.root / "recorder.cert.pem"])
    assert verify_bundle(out, trust).good
    for path in (proof_path, tsr_path):
        whole = path.read_bytes()
        flip(path, len(whole) // 2)
        assert [finding.code for finding in verify_bundle(out, trust).findings] == ["timestamp"]
        path.unlink()
        assert [finding.code for finding in verify_bundle(out, trust).findings] == ["timestamp"]
        path.write_bytes(whole)


def test_no_octet_of_a_batch_or_proof_is_without_meaning(machine: StampingMachine) -> None:
    leaves = tuple(sha256_hex(bytes([number])) for number in range(5))
    root = merkle_root(bytes.fromhex(leaf) for leaf in leaves).hex()
    batch = parse_batch(encode_batch(StampBatch(leaves=leaves, root_sha256=root)))
    raw, proof = encode_batch(batch), prove_inclusion(batch, leaves[3])
    assert proof is not None
    tsr = machine.reply(make_request(sha256_hex=root, nonce=1))
    trust, written = TrustStore([machine.root]), encode_proof(proof)
    assert verify_proof(written, tsr, manifest_sha256=leaves[3], trust=trust, subject="x")
    for at in range(len(written)):
        changed = bytearray(written)
        changed[at] ^= 1
        with pytest.raises((StampFormatError, TimestampInvalid)):
            verify_proof(bytes(changed), tsr, manifest_sha256=leaves[3], trust=trust, subject="x")
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= 1
        try:
            again = parse_batch(bytes(changed))
            held = prove_inclusion(again, again.leaves[0])
        except (StampFormatError, TimestampInvalid):
            continue
        assert held is None, at


def test_what_is_wrong_with_the_archives_batches_is_named(tmp_path: Path, machine: StampingMachine) -> None:
    folder = tmp_path / "stamps" / "rec-1"
    folder.mkdir(parents=True)
    leaves = tuple(sha256_hex(bytes([number])) for number in range(3))
    root = merkle_root(bytes.fromhex(leaf) for leaf in leaves).hex()
    batch, stamp = folder / "20261128T130000Z.json", folder / "20261128T130000Z.tsr"
    written = encode_batch(StampBatch(leaves=leaves, root_sha256=root))
    batch.write_bytes(written)
    stamp.write_bytes(machine.reply(make_request(sha256_hex=root, nonce=1)))
    assert list(deposit_problems(tmp_path)) == []
    flip(stamp, 60)
    assert [name for name, _ in deposit_problems(tmp_path)] == ["stamps/rec-1/20261128T130000Z.tsr"]
    flip(stamp, 60)
    batch.write_bytes(encode_batch(StampBatch(leaves=leaves[::-1], root_sha256=root)))
    ((name, reason),) = deposit_problems(tmp_path)
    assert name.endswith("Z.json") and "not that of its leaves" in reason
    batch.write_bytes(written + b" ")
    assert [name for name, _ in deposit_problems(tmp_path)] == ["stamps/rec-1/20261128T130000Z.json"]
    batch.unlink()
    assert [reason for _, reason in deposit_problems(tmp_path)] == ["is no batch, nor the stamp of one"]


def test_the_archive_keeps_the_first_deposit_of_a_name(tmp_path: Path, programs: Programs) -> None:
    loopback = Loopback(tmp_path / "set-up")
    programs.archive(loopback.archive_toml)
    client = RawClient(loopback)
    name = "20261128T130000Z.json"
    first = f.Deposit(name=name, sha256=sha256_hex(b"one"), payload=b"one")
    for _ in range(3):
        client.send(first)
        assert client.receive() == f.Deposited(name=name, sha256=first.sha256)
    client.send(f.Deposit(name=name, sha256=sha256_hex(b"two"), payload=b"two"))
    answer = client.receive()
    assert isinstance(answer, f.Deposited) and "another file" in answer.refusal
    client.send(f.Deposit(name="20261128T130000Z.tsr", sha256=sha256_hex(b"two"), payload=b"three"))
    answer = client.receive()
    assert isinstance(answer, f.Deposited) and "not what it says" in answer.refusal
    client.close()
    folder = loopback.data_dir / "stamps" / "rec-1"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: b"one"}
    assert folder.joinpath(name).stat().st_mode & 0o222 == 0


def test_hashes_and_stamps_do_not_wait_for_the_archive(
    tmp_path: Path, programs: Programs, authority: TimeAuthority
) -> None:
    loopback = Loopback(tmp_path / "set-up", extra=configured(authority))
    authority.behave = lambda _: None
    ids = loopback.record(2)
    programs.flush(loopback.recorder_toml).wait_for("timestamp_failed")

    def told(name: str) -> int:
        status = ask_program(loopback.root / "run" / "flush.sock", {"command": "status"})
        return int(status.get("stamps", {}).get(name, -1))

    wait_until(lambda: told("hashes_waiting") == 2, what="noted")
    assert told("recordings_waiting") == 2
    shown = run_program("recorderctl", "status", "--config", loopback.recorder_toml, check=False).stdout
    assert "recordings waiting 2, hashes waiting 2" in " ".join(shown.split())
    authority.behave = None
    wait_until(lambda: told("recordings_waiting") == 0, what="stamped")
    assert loopback.spool.ids(Place.READY) == sorted(ids)
    for recording_id in ids:
        assert_stamped(loopback.spool.path(Place.READY, recording_id), authority.machine)


def test_a_batch_that_the_disk_has_spoilt_holds_up_no_other_and_is_told_once(
    tmp_path: Path, authority: TimeAuthority
) -> None:
    loopback = Loopback(tmp_path)
    folder = loopback.spool.root / "stamps"
    folder.mkdir()
    spoilt = folder / "20260101T000000Z.json"
    spoilt.write_bytes(b"")
    (folder / "waiting").write_text(f"{sha256_hex(b'a recording')}\n")
    with stamping(loopback, authority, wait_ns=0) as (stamper, lines):
        wait_until(lambda: bool(stamper.folder.unsent()), what="the next batch is stamped")
        figures = stamper.status()
        told = [line for line in lines if spoilt.name in line]
        time.sleep(1.2)  # it is looked at twice a second
        assert [line for line in lines if spoilt.name in line] == told
    assert (figures["batches_unstamped"], figures["batches_unsent"]) == (1, 1)
    assert len(told) == 1
    assert spoilt.exists()
