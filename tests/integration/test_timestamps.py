"""Time stamps on the way: an authority over HTTP, recorderd-flush, the archive, and openssl as the judge."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from recorderd.archive.verification import verify_bundle
from recorderd.core.clock import NS_PER_S
from recorderd.evidence.verify import TrustStore
from recorderd.spool.layout import Place
from recorderd.wire.manifest import manifest_name
from tests.support.bundles import Loopback, make_tombstone
from tests.support.free_ports import free_port
from tests.support.link import archived, assert_kept, events, flip
from tests.support.programs import Programs, wait_until
from tests.support.stamped import (
    QUERY,
    assert_stamped,
    authority,
    configured,
    machine,
    stamp_names,
    stamping,
    stamps_of,
    stored,
)
from tests.support.tsa import Answer, StampingMachine, TimeAuthority, sha256_hex

pytestmark = pytest.mark.timeout(90)
__all__ = ["authority", "machine"]


def test_a_recording_arrives_with_stamps_that_openssl_takes(
    tmp_path: Path, programs: Programs, authority: TimeAuthority
) -> None:
    down = f"http://127.0.0.1:{free_port()}/tsr"  # the second in the list stands in for it
    loopback = Loopback(tmp_path / "set-up", extra=configured(down, authority))
    programs.archive(loopback.archive_toml)
    ids = loopback.record(3)
    tombstone = make_tombstone(loopback.spool, loopback.recorder_signer, chain=loopback.chain)
    programs.flush(loopback.recorder_toml)
    wait_until(lambda: not loopback.left_in_spool(), what="the spool is empty")
    assert_kept(loopback, [*ids, tombstone])
    for recording_id in ids:
        assert_stamped(stored(loopback, recording_id), authority.machine)
    names = {path.name for path in stored(loopback, tombstone).iterdir()}
    assert names & set(stamp_names(tombstone)) == {stamp_names(tombstone)[0]}
    assert len(authority.queries) == 2 * 3 + 1
    assert len(set(authority.queries)) == len(authority.queries)
    trust = TrustStore.from_files([loopback.root / "recorder.cert.pem"])
    assert_altered_stamps_are_noticed(stored(loopback, ids[0]), tmp_path, trust=trust)


def test_over_https_with_a_password_that_is_told_to_nobody(
    tmp_path: Path, programs: Programs, machine: StampingMachine
) -> None:
    secret = "correct horse battery staple"
    (tmp_path / "tsa.secret").touch(mode=0o600)
    (tmp_path / "tsa.secret").write_text(secret + "\n")
    with TimeAuthority(machine, user="bank", password=secret, tls=True) as authority:
        extra = configured(authority).replace(
            "timeout_s",
            f'user = "bank"\npassword_file = "{tmp_path}/tsa.secret"\n'
            f'tls_ca_file = "{authority.tls_ca_file}"\ntimeout_s',
        )
        loopback = Loopback(tmp_path / "set-up", extra=extra)
        programs.archive(loopback.archive_toml)
        (recording_id,) = loopback.record()
        programs.flush(loopback.recorder_toml)
        wait_until(lambda: archived(loopback) == [recording_id], what="archived")
    assert_stamped(stored(loopback, recording_id), machine)
    assert secret not in (tmp_path / "flush.log").read_text()


def _other_nonce(authority: TimeAuthority) -> Callable[[bytes], Answer]:
    def answer(query: bytes) -> Answer:
        return authority.stamp(query[:-11] + bytes([query[-11] ^ 1]) + query[-10:])

    return answer


def _other_imprint(authority: TimeAuthority) -> Callable[[bytes], Answer]:
    def answer(query: bytes) -> Answer:
        at = query.index(b"\x04\x20") + 2
        return authority.stamp(query[:at] + bytes(32) + query[at + 32 :])

    return answer


def _an_old_answer_again(authority: TimeAuthority) -> Callable[[bytes], Answer]:
    old = authority.stamp(QUERY)
    return lambda _: old


@pytest.mark.parametrize(
    ("behave", "word"),
    [
        (_other_nonce, "nonce"),
        (_other_imprint, "something else"),
        (_an_old_answer_again, "something else"),
        (lambda _: lambda _: Answer(body=b"\x30\x03\x02\x01\x00"), "malformed"),
        (lambda _: lambda _: Answer(body=b"not at all"), "malformed"),
        (lambda _: lambda _: Answer(kind="text/html", body=b"<html>"), "text/html"),
        (lambda _: lambda _: None, "RemoteDisconnected"),
    ],
    ids=["nonce", "imprint", "replay", "empty", "no DER", "html", "hangs up"],
)
def test_nothing_but_a_good_stamp_is_written_beside_a_signature(
    tmp_path: Path,
    authority: TimeAuthority,
    behave: Callable[[TimeAuthority], Callable[[bytes], Answer | None]],
    word: str,
) -> None:
    authority.behave = behave(authority)
    loopback = Loopback(tmp_path)
    (recording_id,) = loopback.record()
    folder = loopback.spool.path(Place.READY, recording_id)
    before = {path.name for path in folder.iterdir()}
    with stamping(loopback, authority, wait_ns=NS_PER_S // 2) as (stamper, lines):
        assert not stamper.may_claim(recording_id)
        wait_until(lambda: any("timestamp_failed" in line for line in lines), what="failed")
        assert word in "".join(lines)
        wait_until(lambda: stamper.may_claim(recording_id), what="the wait is over")
        assert {path.name for path in folder.iterdir()} == before
        assert stamper.status()["hashes_waiting"] == 1  # it is in the next batch
        authority.behave = None
        wait_until(
            lambda: {path.name for path in folder.iterdir()} > before, what="stamped when it goes again"
        )
    assert_stamped(folder, authority.machine)


def test_without_a_good_stamp_a_recording_goes_on_after_its_wait(
    tmp_path: Path, programs: Programs, authority: TimeAuthority
) -> None:
    authority.behave = lambda _: Answer(kind="text/html", body=b"<html>")
    loopback = Loopback(tmp_path / "set-up", extra=configured(authority, wait_s=1))
    programs.archive(loopback.archive_toml)
    ids = loopback.record(2)
    programs.flush(loopback.recorder_toml)
    wait_until(lambda: archived(loopback) == sorted(ids), what="archived")
    assert_kept(loopback, ids)
    assert not list(loopback.data_dir.glob("store/*/*/*/*/*.tsr"))
    counted = events(loopback, "flush")
    assert counted["recording_unstamped"] == 2 and counted["timestamp_failed"] >= 1
    waiting = (loopback.spool.root / "stamps" / "waiting").read_text().split()
    assert len(waiting) == 2  # nothing is forgotten: their hashes are in the next batch


def test_a_hash_is_noted_before_the_claim_also_when_no_worker_came_to_it(
    tmp_path: Path, authority: TimeAuthority
) -> None:
    loopback = Loopback(tmp_path)
    (recording_id,) = loopback.record()
    folder = loopback.spool.path(Place.READY, recording_id)
    with stamping(loopback, authority, wait_ns=0, workers=0) as (stamper, _):
        assert stamper.may_claim(recording_id)
        stamper.let_go(recording_id)
        assert stamper.folder.waiting() == (sha256_hex((folder / manifest_name(recording_id)).read_bytes()),)


def assert_altered_stamps_are_noticed(folder: Path, copies: Path, *, trust: TrustStore) -> None:
    """A stamp that was altered, or is of another file, is a finding; one that is gone is none."""
    for number, name in enumerate(stamps_of(folder)):
        copy = copies / f"copy-{number}"
        shutil.copytree(folder, copy)
        (copy / name).chmod(0o600)
        flip(copy / name, 200)
        assert [finding.code for finding in verify_bundle(copy, trust).findings] == ["timestamp"]
        shutil.copyfile(folder / stamps_of(folder)[1 - number], copy / name)
        assert [finding.code for finding in verify_bundle(copy, trust).findings] == ["timestamp"]
        (copy / name).unlink()
        assert verify_bundle(copy, trust).good


# --- batches ------------------------------------------------------------------------------------------
