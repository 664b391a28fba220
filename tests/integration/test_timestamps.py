"""Time stamps on the way: an authority over HTTP, recorderd-flush, the archive, and openssl as the judge."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recorderd.app.control import ask as ask_program
from recorderd.archive.inclusion import deposit_problems, find_inclusion, prove_inclusion, verify_proof
from recorderd.archive.renewals import RENEWALS_NAME, stamp_states
from recorderd.archive.store import Store
from recorderd.archive.verification import verify_bundle
from recorderd.core.clock import NS_PER_S, SystemClock
from recorderd.core.errors import AuthorityRefused, StampFormatError, TimestampInvalid
from recorderd.core.events import EventLog
from recorderd.evidence.merkle import merkle_root
from recorderd.evidence.renewal import verify_renewals
from recorderd.evidence.timestamp import TIMESTAMP_MAX_BYTES, make_request
from recorderd.evidence.verify import TrustStore
from recorderd.flush.authority import Authority, ask_authority
from recorderd.flush.stamping import WORKERS, Stamper, StampingSettings
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
from tests.support.bundles import Loopback, free_port, make_tombstone
from tests.support.house import run_program
from tests.support.link import RawClient, archive_command, archived, assert_kept, events, flip
from tests.support.programs import ROOT, Programs, wait_until
from tests.support.tsa import Answer, StampingMachine, TimeAuthority, openssl_ts_verify, sha256_hex

pytestmark = pytest.mark.timeout(90)
QUERY = make_request(sha256_hex=sha256_hex(b"x"), nonce=1)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> StampingMachine:
    return StampingMachine(tmp_path_factory.mktemp("tsa"))


@pytest.fixture
def authority(machine: StampingMachine) -> Iterator[TimeAuthority]:
    with TimeAuthority(machine) as running:
        yield running


def configured(*authorities: TimeAuthority | str, wait_s: int = 60, batch_s: int = 3600) -> str:
    """Write the part of recorderd.toml about time stamps."""
    rows = [f"[timestamps]\nwait_s = {wait_s}\nbatch_s = {batch_s}\nretry_s = 1"]
    for entry in authorities:
        url = entry if isinstance(entry, str) else entry.url
        ca_file = next(a for a in authorities if isinstance(a, TimeAuthority)).machine.ca_file
        rows.append(f'[[timestamps.authorities]]\nurl = "{url}"\nca_file = "{ca_file}"\ntimeout_s = 2')
    return "\n".join(rows)


@contextmanager
def stamping(
    loopback: Loopback,
    authority: TimeAuthority,
    *,
    wait_ns: int,
    workers: int = WORKERS,
    apart_limit_s: int = 2 * 86_400,
) -> Iterator[tuple[Stamper, list[str]]]:
    """Run a stamper as recorderd-flush does, with what it logs."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.Logger("stamps")
    logger.addHandler(Listener())
    clock = SystemClock()
    asked = Authority(url=authority.url, trust=TrustStore([authority.machine.root]), timeout_s=2)
    stamper = Stamper(
        settings=StampingSettings(
            authorities=(asked,),
            wait_ns=wait_ns,
            batch_ns=3600 * NS_PER_S,
            retry_ns=NS_PER_S // 5,
            apart_limit_ns=apart_limit_s * NS_PER_S,
        ),
        spool=loopback.spool,
        clock=clock,
        log=EventLog(logger=logger, clock=clock),
    )
    stop = threading.Event()
    running = [threading.Thread(target=stamper.run, args=(stop,)) for _ in range(workers)]
    for worker in running:
        worker.start()
    try:
        yield stamper, lines
    finally:
        stop.set()
        for worker in running:
            worker.join(10)


def stored(loopback: Loopback, recording_id: str) -> Path:
    (folder,) = (loopback.data_dir / "store").glob(f"*/*/*/{recording_id}")
    return folder


def stamp_names(recording_id: str) -> tuple[str, str]:
    return f"{recording_id}.manifest.json.p7s.tsr", f"{recording_id}.wav.p7s.tsr"


def stamps_of(folder: Path) -> tuple[str, ...]:
    """Name the stamps that a recording may have, the manifest's first."""
    audio = [f"{path.name}.p7s.tsr" for path in folder.glob("*.wav")]
    return (f"{folder.name}.manifest.json.p7s.tsr", *audio)


def assert_stamped(folder: Path, machine: StampingMachine) -> None:
    """Both signatures of a recording have a stamp that openssl takes."""
    for name in stamps_of(folder):
        signature = folder / name.removesuffix(".tsr")
        assert openssl_ts_verify(folder / name, ca_file=machine.ca_file, data=signature)


# --- one question -------------------------------------------------------------------------------------


def ask(authority: TimeAuthority, *, timeout_s: int = 5, **how: str) -> bytes:
    asked = Authority(url=authority.url, trust=TrustStore([]), timeout_s=timeout_s, **how)  # type: ignore[arg-type]
    return ask_authority(asked, QUERY)


def test_the_answer_comes_as_it_was_given(authority: TimeAuthority) -> None:
    assert ask(authority) == (authority.machine.folder / "r.tsr").read_bytes()
    assert authority.queries == [QUERY]


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (Answer(kind="text/html", body=b"<html>welcome to the hotel</html>"), "text/html"),
        (Answer(body=bytes(TIMESTAMP_MAX_BYTES + 1)), "longer than"),
        (Answer(body=bytes(50 << 20)), "longer than"),
        (Answer(status=302, headers=(("Location", "http://127.0.0.1:1/"),)), "302"),
        (Answer(status=503), "503"),
        (Answer(headers=(("Long", "x" * 70_000),)), "LineTooLong"),
        (None, "RemoteDisconnected"),
    ],
)
def test_what_is_no_answer_is_refused_in_clear_words(
    authority: TimeAuthority, answer: Answer | None, word: str
) -> None:
    authority.behave = lambda _: answer
    with pytest.raises(AuthorityRefused, match=word) as caught:
        ask(authority)
    assert authority.url in str(caught.value)
    assert len(authority.queries) == 1  # no redirect was followed


@pytest.mark.parametrize("pause_s", [0.1, 5.0])
def test_an_answer_that_drips_is_given_up_at_the_deadline(authority: TimeAuthority, pause_s: float) -> None:
    authority.behave = lambda _: Answer(body=bytes(200), pause_s=pause_s)
    began_s = time.monotonic()
    with pytest.raises(AuthorityRefused, match="within 1 s"):
        ask(authority, timeout_s=1)
    assert time.monotonic() - began_s < 2


def test_headers_that_drip_are_given_up_at_the_deadline(machine: StampingMachine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            peer, _ = server.accept()
            with peer, pytest.raises(OSError):
                peer.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while True:
                    peer.sendall(b"x")
                    time.sleep(0.1)

        thread = threading.Thread(target=drip)
        thread.start()
        asked = Authority(
            url=f"http://127.0.0.1:{server.getsockname()[1]}/", trust=TrustStore([]), timeout_s=1
        )
        with pytest.raises(AuthorityRefused, match="within 1 s"):
            ask_authority(asked, QUERY)
        thread.join(5)
        assert not thread.is_alive()


def test_nobody_there_is_said_plainly() -> None:
    asked = Authority(url=f"http://127.0.0.1:{free_port()}/", trust=TrustStore([]), timeout_s=1)
    with pytest.raises(AuthorityRefused, match="refused"):
        ask_authority(asked, QUERY)


def test_recorderd_does_not_even_load_what_asks_authorities() -> None:
    code = "import sys, recorderd.app.recorderd as _; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert "recorderd.app.stamps_configuration" in loaded
    assert not {"rfc3161_client", "recorderd.flush.authority", "recorderd.flush.stamping"} & set(loaded)


# --- recordings ---------------------------------------------------------------------------------------


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


def test_a_server_that_nobody_vouches_for_gets_no_password(machine: StampingMachine) -> None:
    with TimeAuthority(machine, user="bank", password="secret", tls=True) as authority:
        asked = Authority(
            url=authority.url,
            trust=TrustStore([]),
            timeout_s=5,
            user="bank",
            password="secret",
            tls=ssl.create_default_context(),
        )
        with pytest.raises(AuthorityRefused, match="CERTIFICATE_VERIFY_FAILED") as caught:
            ask_authority(asked, QUERY)
        assert "secret" not in repr(asked) + str(caught.value)
        assert authority.queries == []


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


def test_every_recording_is_in_a_batch_that_the_archive_holds_and_proves(
    tmp_path: Path, programs: Programs, authority: TimeAuthority
) -> None:
    loopback = Loopback(tmp_path / "set-up", extra=configured(authority, wait_s=0, batch_s=10))
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
