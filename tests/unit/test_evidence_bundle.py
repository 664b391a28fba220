"""Files against their digests and signatures."""

from pathlib import Path

import pytest

from recorderd.core.errors import DigestMismatch, EvidenceError, SignatureInvalid
from recorderd.evidence.bundle import verify_digests, verify_signed_file
from recorderd.evidence.digest import sha256_bytes, sha256_file
from recorderd.evidence.verify import TrustStore
from tests.support.signing_material import NOW_UTC_S, make_certificate, make_signer, p256, pem_of

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # FIPS 180-4 test vector
ABC_SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_digests_are_those_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "empty") == (EMPTY_SHA256, 0)
    assert sha256_file(tmp_path / "abc") == (ABC_SHA256, 3)
    assert sha256_bytes(b"abc") == ABC_SHA256


@pytest.mark.parametrize("size_bytes", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_file_is_read_whole_around_the_block_size(tmp_path: Path, size_bytes: int) -> None:
    content = bytes(range(256)) * (size_bytes // 256) + b"x" * (size_bytes % 256)
    (tmp_path / "x").write_bytes(content)
    assert sha256_file(tmp_path / "x") == (sha256_bytes(content), size_bytes)


def test_a_file_as_promised_passes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    verify_digests(tmp_path, {"abc": (ABC_SHA256, 3)})


def test_altered_cut_missing_linked_or_irregular_files_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    (folder / "folder").mkdir(parents=True)
    (folder / "altered").write_bytes(b"abd")
    (folder / "abc").write_bytes(b"abc")
    (folder / "link").symlink_to("abc")
    with pytest.raises(DigestMismatch, match="altered"):
        verify_digests(folder, {"altered": (ABC_SHA256, 3)})
    with pytest.raises(EvidenceError, match="4 were promised"):
        verify_digests(folder, {"abc": (ABC_SHA256, 4)})
    for name in ("link", "none", "folder"):
        with pytest.raises(EvidenceError, match="missing, or no regular file"):
            verify_digests(folder, {name: (ABC_SHA256, 3)})
    (tmp_path / "outside").write_bytes(b"abc")
    for name in ("../outside", str(tmp_path / "outside"), "", ".", ".."):
        with pytest.raises(EvidenceError):
            verify_digests(folder, {name: (ABC_SHA256, 3)})


def test_a_signed_file_names_its_signer_until_one_bit_changes(tmp_path: Path) -> None:
    key = p256()
    certificate = make_certificate("recorder", key)
    path, signature_path = tmp_path / "x.wav", tmp_path / "x.wav.p7s"
    path.write_bytes(b"abc")
    signer = make_signer(tmp_path, key, certificate)
    signature_path.write_bytes(signer.sign_digest(ABC_SHA256, signing_time_utc_s=NOW_UTC_S))
    trust = TrustStore.from_pem(pem_of(certificate))
    identity = verify_signed_file(path, signature_path, trust=trust, subject="x.wav")
    assert identity.common_name == "recorder"
    path.write_bytes(b"abb")
    with pytest.raises(SignatureInvalid):
        verify_signed_file(path, signature_path, trust=trust, subject="x.wav")
    signature_path.write_bytes(bytes(100_000))
    with pytest.raises(SignatureInvalid, match="longer than"):
        verify_signed_file(path, signature_path, trust=trust, subject="x.wav")
