"""Renewed time stamps: one tree for many, judged by verify, by fsck and by openssl, also years later."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.evidence.timestamp import make_request
from recorderd.wire.manifest import manifest_name
from recorderd.wire.stamp_batch import StampBatch, encode_batch, parse_renewal_proof
from tests.support.bundles import Loopback
from tests.support.link import archive_command, archived, flip
from tests.support.programs import ROOT, Programs, wait_until
from tests.support.tsa import StampingMachine, TimeAuthority, openssl_ts_verify, sha256_hex

pytestmark = pytest.mark.timeout(120)
LATER, MUCH_LATER = "+60d", "+3300d"  # after the first authority's 30 days; after the second's 3000


class Archive:
    """An archive with three recordings, six stamps beside them, and a batch; and whoever renews them."""

    def __init__(self, folder: Path) -> None:
        self.loopback = Loopback(folder / "set-up")
        self.first = StampingMachine(folder / "first")
        self.newer = StampingMachine(folder / "newer", name="Newer TSA", days=(-1, 3000))
        self.newest = StampingMachine(folder / "newest", name="Newest TSA", days=(-1, 3500))
        self.roots = folder / "roots.pem"
        machines = (self.first, self.newer, self.newest)
        self.roots.write_bytes(b"".join(machine.ca_file.read_bytes() for machine in machines))
        self.toml = self.loopback.archive_toml.read_text()
        self.ids = self.loopback.record(3)
        self.data_dir, self.out = self.loopback.data_dir, folder / "out"

    def fill(self, folder: Path) -> None:
        """Stamp what was recorded, send it, and deposit a batch."""
        for signature in sorted((self.loopback.spool.root / "ready").glob("*/*.p7s")):
            query = make_request(sha256_hex=sha256_hex(signature.read_bytes()), nonce=1)
            signature.with_name(f"{signature.name}.tsr").write_bytes(self.first.reply(query))
        programs = Programs(folder)
        try:
            programs.archive(self.loopback.archive_toml)
            programs.flush(self.loopback.recorder_toml)
            wait_until(lambda: archived(self.loopback) == sorted(self.ids), what="archived")
        finally:
            programs.end()
        manifests = self.data_dir.glob(f"store/*/*/*/*/{manifest_name('*')}")
        leaves = tuple(sha256_hex(path.read_bytes()) for path in sorted(manifests))
        node = hashlib.sha256(b"\0" + bytes.fromhex(leaves[0])).digest()
        beside = hashlib.sha256(b"\0" + bytes.fromhex(leaves[1])).digest()
        last = hashlib.sha256(b"\0" + bytes.fromhex(leaves[2])).digest()
        pair = hashlib.sha256(b"\1" + node + beside).digest()
        root = hashlib.sha256(b"\1" + pair + last).hexdigest()
        deposits = self.data_dir / "stamps" / "rec-1"
        deposits.mkdir(parents=True)
        (deposits / "20261128T130000Z.json").write_bytes(
            encode_batch(StampBatch(leaves=leaves, root_sha256=root))
        )
        tsr = self.first.reply(make_request(sha256_hex=root, nonce=1))
        (deposits / "20261128T130000Z.tsr").write_bytes(tsr)

    def renew(self, machine: StampingMachine, *, days: int = 90) -> list[bytes]:
        """Renew what is due; give the questions that the authority was asked."""
        with TimeAuthority(machine) as authority:
            assert "s from ours" not in self.renew_by(authority, days=days)
            return list(authority.queries)

    def renew_by(self, authority: TimeAuthority, *, days: int = 90, limit_s: int = 86_400) -> str:
        """Renew what is due; give what was printed."""
        stanza = (
            f"[timestamps]\napart_limit_s = {limit_s}\n[[timestamps.authorities]]\n"
            f'url = "{authority.url}"\nca_file = "{authority.machine.ca_file}"\n'
        )
        self.loopback.archive_toml.write_text(self.toml + stanza)
        told = archive_command(self.loopback, "renew", "--days", str(days), check=False)
        self.loopback.archive_toml.write_text(self.toml)
        return told

    def fsck(self, *, later: str = "+0d") -> tuple[int, list[dict[str, str]]]:
        """Check the archive on a later day; the exit code and what was found."""
        arguments = ("fsck", "--json", "--config", self.loopback.archive_toml, "--tsa", self.roots)
        done = _run(later, "archive", *arguments)
        return done.returncode, json.loads(done.stdout)["troubles"]

    def verify(self, *, later: str = "+0d") -> tuple[int, str]:
        """Verify the export on a later day."""
        arguments = (
            "verify",
            self.out,
            "--ca",
            self.loopback.root / "recorder.cert.pem",
            "--tsa",
            self.roots,
        )
        done = _run(later, "recorderctl", *arguments)
        return done.returncode, done.stdout

    def export(self) -> None:
        """Export the second recording anew."""
        shutil.rmtree(self.out, ignore_errors=True)
        archive_command(self.loopback, "export", self.ids[1], "--out", self.out)


def _run(later: str, module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    code = f"import sys; from recorderd.app.{module} import main; sys.exit(main())"
    command = ["faketime", "-f", later, sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    folder = tmp_path_factory.mktemp("archive")
    archive = Archive(folder)
    archive.fill(folder)
    return archive


@pytest.fixture
def archive(filled: Archive) -> Iterator[Archive]:
    yield filled
    shutil.rmtree(filled.data_dir / "renewals", ignore_errors=True)


def openssl_sha256(content: bytes) -> bytes:
    command = ["openssl", "dgst", "-sha256", "-binary"]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout


def test_one_question_renews_all_and_verify_and_fsck_count_it(archive: Archive) -> None:
    archive.export()
    assert archive.verify()[0] == 0 and archive.fsck() == (0, [])
    code, text = archive.verify(later=LATER)
    assert code == 69 and "no renewal carries the stamp on" in text
    code, troubles = archive.fsck(later=LATER)
    assert (code, len(troubles)) == (69, 7)
    assert {(row["code"], row["verdict"]) for row in troubles} == {("timestamp", "cannot tell")}

    orphan = archive.data_dir / "renewals/stamps/rec-1/20261128T130000Z.tsr.inclusion.json"
    orphan.parent.mkdir(parents=True)
    orphan.write_text("what a power cut left")  # a proof without its stamp counts for nothing
    assert archive.fsck() == (0, [])
    assert len(archive.renew(archive.newer)) == 1
    assert archive.renew(archive.newer) == []  # nothing is due any more
    assert archive.fsck(later=LATER) == (0, [])
    archive.export()
    assert (
        len(list(archive.out.glob("*.tsr"))) == 6 and len(list(archive.out.glob("*.tsr.inclusion.json"))) == 3
    )
    assert archive.verify(later=LATER)[0] == 0
    assert archive.verify(later=MUCH_LATER)[0] == 69

    assert len(archive.renew(archive.newest, days=3100)) == 1  # all seven share one stamp by now
    newest = set(archive.data_dir.glob("renewals/**/*.tsr.tsr.tsr"))
    assert len(newest) == 7 and len({path.read_bytes() for path in newest}) == 1
    archive.export()
    assert archive.verify(later=MUCH_LATER)[0] == 0 and archive.fsck(later=MUCH_LATER) == (0, [])


def test_a_renewal_of_another_day_is_refused_unless_the_limit_allows_it(archive: Archive) -> None:
    with TimeAuthority(archive.newer) as authority:
        authority.stamp_with_another_day(2)
        told = archive.renew_by(authority)
        assert told.count("s from ours") == 7 and "renewed" not in told
        assert not list(archive.data_dir.glob("renewals/**/*.tsr"))
        assert archive.renew_by(authority, limit_s=3 * 86_400).count("renewed by") == 7


def test_openssl_alone_checks_a_stamp_that_was_renewed_with_others(archive: Archive) -> None:
    archive.renew(archive.newer)
    archive.export()
    for proof_path in archive.out.glob("*.tsr.inclusion.json"):
        proof = json.loads(proof_path.read_text())
        stamp = proof_path.with_name(proof_path.name.removesuffix(".inclusion.json"))
        assert openssl_sha256(stamp.read_bytes()).hex() == proof["stamp_sha256"]
        node = openssl_sha256(b"\0" + bytes.fromhex(proof["stamp_sha256"]))
        index, last = proof["leaf_index"], proof["tree_leaves"] - 1
        for entry in map(bytes.fromhex, proof["path"]):  # as evidence/README.md says
            if index & 1 or index == last:
                node = openssl_sha256(b"\1" + entry + node)
                while index and not index & 1:
                    index, last = index >> 1, last >> 1
            else:
                node = openssl_sha256(b"\1" + node + entry)
            index, last = index >> 1, last >> 1
        renewal = stamp.with_name(f"{stamp.name}.tsr")
        assert openssl_ts_verify(renewal, ca_file=archive.newer.ca_file, digest=node.hex())


def test_a_renewal_that_was_altered_exchanged_or_made_up_is_named(archive: Archive) -> None:
    archive.renew(archive.newer)
    archive.export()
    renewal = next(archive.out.glob("*.manifest.json.p7s.tsr.tsr"))
    proof = renewal.with_name(renewal.name.removesuffix(".tsr") + ".inclusion.json")
    other = next(path for path in archive.out.glob("*.p7s.tsr.inclusion.json") if path != proof)
    whole = {path: path.read_bytes() for path in (renewal, proof)}
    spoilt = [(renewal, _flipped(whole[renewal])), (proof, _flipped(whole[proof]))]
    spoilt += [(proof, other.read_bytes()), (proof, None), (renewal, None)]
    for path, content in spoilt:
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        code, text = archive.verify()
        assert code == 65 and ("timestamp: " in text or "not in the manifest" in text), (path, text)
        path.write_bytes(whole[path])
    stamp = renewal.with_name(renewal.name.removesuffix(".tsr"))
    gone = stamp.rename(archive.out.parent / stamp.name)
    assert archive.verify()[0] == 65
    gone.rename(stamp)
    assert archive.verify()[0] == 0
    parse_renewal_proof(whole[proof])

    (kept,) = archive.data_dir.glob(f"renewals/store/*/*/*/*/{renewal.name}")
    kept.chmod(0o600)
    flip(kept, 300)
    ((_, (trouble,)), name) = archive.fsck(), kept.name.removesuffix(".tsr")
    assert trouble["subject"].endswith(name) and trouble["verdict"] == "bad"
    flip(kept, 300)
    (kept.parent / "X.p7s.tsr.tsr").write_bytes(kept.read_bytes())
    code, (trouble,) = archive.fsck()
    assert code == 65 and "renews a stamp that is not there" in trouble["reason"]


def _flipped(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
