"""Signing keys: which are taken, which are refused, and that none is ever shown."""

import os
import stat
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from recorderd.core.errors import KeyUnusable, SecretUnusable
from recorderd.evidence.keys import Signer, create_self_signed, read_secret_text, resolve_secret
from tests.support.signing_material import make_certificate, make_signer, p256, write_key

NOBODY = 65534


def _give_access_list(path: Path, *entries: tuple[int, int, int]) -> None:
    everybody = 0xFFFFFFFF
    rows = [(0x01, 4, everybody), *entries, (0x10, 4, everybody), (0x20, 0, everybody)]
    packed = b"".join(struct.pack("<HHI", *row) for row in rows)
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_key_file_with_a_mode_like_644_is_refused(tmp_path: Path, mode: int) -> None:
    key = p256()
    make_signer(tmp_path, key, make_certificate("r", key))
    write_key(tmp_path / "key.pem", key, mode=mode)
    with pytest.raises(KeyUnusable, match=f"mode {mode:o} lets others at it"):
        Signer.from_files(key_file=tmp_path / "key.pem", certificate_file=tmp_path / "chain.pem")


def _read_as(user: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    return read_secret_text(path)


def test_key_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    if os.geteuid() == 0:  # root's own files are taken
        os.chown(secret, NOBODY, NOBODY)
    owner = secret.stat().st_uid
    assert _read_as(owner, secret, monkeypatch) == "s3cret"
    with pytest.raises(KeyUnusable, match=f"belongs to user {owner}"):
        _read_as(owner + 1, secret, monkeypatch)


def test_root_takes_the_key_of_the_user_whose_work_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(secret, NOBODY, NOBODY)
    assert secret.stat().st_uid != 0
    assert _read_as(0, secret, monkeypatch) == "s3cret"
    secret.chmod(0o640)
    with pytest.raises(SecretUnusable, match="mode 640 lets others at it"):
        _read_as(0, secret, monkeypatch)


def test_credential_whose_access_list_names_only_us_is_taken(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    _give_access_list(secret, (0x02, 4, os.geteuid()), (0x04, 0, 0xFFFFFFFF))
    assert stat.S_IMODE(secret.stat().st_mode) == 0o440
    assert read_secret_text(secret) == "s3cret"


@pytest.mark.parametrize(
    "entries",
    [
        [(0x02, 4, NOBODY), (0x04, 0, 0xFFFFFFFF)],
        [(0x02, 4, os.geteuid()), (0x04, 4, 0xFFFFFFFF)],
        [(0x02, 4, os.geteuid()), (0x04, 0, 0xFFFFFFFF), (0x08, 4, 100)],
    ],
    ids=["another user", "the file's group", "another group"],
)
def test_secret_whose_access_list_names_others_is_refused(
    tmp_path: Path, entries: list[tuple[int, int, int]]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    _give_access_list(secret, *entries)
    with pytest.raises(KeyUnusable, match="lets others at it"):
        read_secret_text(secret)


def test_secret_that_is_a_pipe_a_folder_missing_binary_or_huge_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "huge").write_bytes(b"x" * 70_000)
    for name in ("binary", "huge"):
        (tmp_path / name).chmod(0o600)
    reasons = {
        "pipe": "no regular file",
        ".": "Is a directory",
        "none": "No such file",
        "binary": "is not text",
        "huge": "is longer than",
    }
    for name, reason in reasons.items():
        with pytest.raises(KeyUnusable, match=reason):
            read_secret_text(tmp_path / name)


def test_credential_is_found_in_the_folder_that_systemd_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x.service")
    assert resolve_secret(Path("/etc/x/credential:key")) == Path("/run/credentials/x.service/key")
    assert resolve_secret(Path("/etc/x/key.pem")) == Path("/etc/x/key.pem")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(KeyUnusable, match="no credentials"):
        resolve_secret(Path("/etc/x/credential:key"))


def test_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match="does not belong to"):
        make_signer(tmp_path, p256(), make_certificate("r", p256()))


@pytest.mark.parametrize("days", [(-3, -1), (1, 3)], ids=["expired", "not yet valid"])
def test_certificate_that_is_not_valid_now_is_refused(tmp_path: Path, days: tuple[float, float]) -> None:
    key = p256()
    with pytest.raises(KeyUnusable, match=r"is valid from .* only"):
        make_signer(tmp_path, key, make_certificate("r", key, days=days))


def test_the_time_of_the_validity_check_can_be_given(tmp_path: Path) -> None:
    key = p256()
    make_signer(tmp_path, key, make_certificate("r", key, days=(-3, 3)))
    with pytest.raises(KeyUnusable, match="is valid from"):
        Signer.from_files(
            key_file=tmp_path / "key.pem",
            certificate_file=tmp_path / "chain.pem",
            now=datetime.now(tz=UTC) + timedelta(days=4),
        )


def test_keys_too_weak_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    certificate = make_certificate("r", p256())
    kinds: dict[str, Any] = {
        "RSA of 2048 bits": rsa.generate_private_key(65537, 2048),
        "secp256k1": ec.generate_private_key(ec.SECP256K1()),
        "neither ECDSA nor RSA": ed25519.Ed25519PrivateKey.generate(),
    }
    for reason, key in kinds.items():
        with pytest.raises(KeyUnusable, match=reason):
            make_signer(tmp_path, key, certificate)


def test_certificate_that_may_not_sign_is_refused(tmp_path: Path) -> None:
    key = p256()
    with pytest.raises(KeyUnusable, match="its key usage"):
        make_signer(tmp_path, key, make_certificate("r", key, signs=False))


def test_certificate_file_with_more_issuers_than_a_verifier_takes_is_refused(tmp_path: Path) -> None:
    key = p256()
    leaf = make_certificate("r", key)
    with pytest.raises(KeyUnusable, match="holds 6 certificates"):
        make_signer(tmp_path, key, leaf, *(make_certificate(f"ca{i}", p256(), ca=True) for i in range(5)))


def test_files_that_are_no_pem_are_refused_by_name(tmp_path: Path) -> None:
    key_pem, certificate_pem = create_self_signed(common_name="r")
    key_file, certificate_file = tmp_path / "key.pem", tmp_path / "cert.pem"
    key_file.write_bytes(b"rubbish")
    key_file.chmod(0o600)
    certificate_file.write_bytes(certificate_pem)
    with pytest.raises(KeyUnusable, match=r"key\.pem cannot be used: is no private key"):
        Signer.from_files(key_file=key_file, certificate_file=certificate_file)
    key_file.write_bytes(key_pem)
    certificate_file.write_bytes(b"rubbish")
    with pytest.raises(KeyUnusable, match=r"cert\.pem cannot be used: is no certificate"):
        Signer.from_files(key_file=key_file, certificate_file=certificate_file)


def test_a_digest_that_is_none_is_not_signed(tmp_path: Path) -> None:
    key = p256()
    signer = make_signer(tmp_path, key, make_certificate("r", key))
    for wrong in ("", "00" * 31, "zz" * 32):
        with pytest.raises(ValueError):
            signer.sign_digest(wrong, signing_time_utc_s=0)


def test_no_secret_shows_in_texts_or_in_the_exceptions_behind_an_exception(tmp_path: Path) -> None:
    key = p256()
    signer = make_signer(tmp_path, key, make_certificate("r", key))
    middle = (tmp_path / "key.pem").read_text().splitlines()[2][:20]
    assert middle not in repr(signer) + str(signer)
    (tmp_path / "key.pem").write_text(f"-----BEGIN PRIVATE KEY-----\n{middle}\n-----END PRIVATE KEY-----\n")
    (tmp_path / "binary").write_bytes(b"s3cret\xff")
    (tmp_path / "binary").chmod(0o600)
    with pytest.raises(KeyUnusable) as caught:
        Signer.from_files(key_file=tmp_path / "key.pem", certificate_file=tmp_path / "chain.pem")
    assert caught.value.__context__ is None
    assert middle not in str(caught.value)
    with pytest.raises(KeyUnusable) as caught:
        read_secret_text(tmp_path / "binary")
    assert caught.value.__context__ is None


def test_a_secret_that_is_missing_gives_a_hint_about_the_file_and_none_about_certificates(
    tmp_path: Path,
) -> None:
    with pytest.raises(KeyUnusable, match=r"^Secret .*s3\.secret cannot be used: No such file") as missing:
        read_secret_text(tmp_path / "s3.secret")
    assert "chmod 600" in missing.value.hint and "certificate" not in missing.value.hint
    with pytest.raises(KeyUnusable, match=r"^Credential credential:s3 cannot be used") as unit:
        resolve_secret(Path("credential:s3"))
    assert "LoadCredential" in unit.value.hint
