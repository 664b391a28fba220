"""OpenPGP: gpg opens with each recipient's key what we had it encrypt, in the form that all programs know."""

import hashlib
import os
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.core.errors import EncryptionFailed, RecipientUnusable
from recorderd.evidence import openpgp
from recorderd.evidence.openpgp import PgpRecipients, load_pgp_recipients
from tests.support.recipients import Keyring, keyring

CONTENT = b"RIFF....WAVE" + bytes(range(256)) * 40
DAY_S = 86_400


@pytest.fixture(scope="module")
def ring() -> Iterator[Keyring]:
    with keyring() as made:
        yield made


@pytest.fixture(scope="module")
def folder(ring: Keyring, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with public keys: RSA, Curve25519, P-384, and one that ends in two days."""
    made = tmp_path_factory.mktemp("pgp")
    ring.make_key(made / "rsa.asc", "rsa")
    ring.make_key(made / "cv25519.asc", "cv25519", ("ed25519", "cv25519"))
    ring.make_key(made / "p384.asc", "p384", ("nistp384", "nistp384"))
    ring.make_key(made / "ending.asc", "ending", ("ed25519", "cv25519"), expires="2d")
    return made


def _encrypted(recipients: PgpRecipients, content: bytes = CONTENT) -> bytes:
    return b"".join(recipients.encrypt([content], content_bytes=len(content)))


def _packets(ring: Keyring, octets: bytes) -> str:
    return ring.gpg("--list-packets", content=octets).decode()


@pytest.mark.parametrize("name", ["rsa", "cv25519", "p384"])
@pytest.mark.parametrize("size_bytes", [0, 1, 8191, len(CONTENT)])
def test_gpg_opens_what_one_recipient_got(ring: Keyring, folder: Path, name: str, size_bytes: int) -> None:
    octets = _encrypted(load_pgp_recipients([folder / f"{name}.asc"]), CONTENT[:size_bytes])
    assert ring.gpg("--decrypt", content=octets) == CONTENT[:size_bytes]


def test_each_of_several_recipients_opens_it_and_a_stranger_does_not(
    ring: Keyring, folder: Path, tmp_path: Path
) -> None:
    names = ("rsa", "cv25519", "p384")
    recipients = load_pgp_recipients([folder / f"{name}.asc" for name in names])
    assert [entry.fingerprint for entry in recipients.recipients] == [
        ring.fingerprint(name) for name in names
    ]
    octets = _encrypted(recipients)
    for name in names:
        with keyring() as alone:
            secret = ring.gpg("--export-secret-keys", ring.fingerprint(name))
            alone.gpg("--import", content=secret)
            assert alone.gpg("--decrypt", content=octets) == CONTENT
    with keyring() as stranger:
        stranger.make_key(tmp_path / "stranger.asc", "stranger", ("ed25519", "cv25519"))
        assert stranger.gpg("--decrypt", content=octets, check=False) == b""


def test_it_is_integrity_protected_in_the_form_of_rfc_4880(ring: Keyring, folder: Path) -> None:
    listing = _packets(ring, _encrypted(load_pgp_recipients([folder / "rsa.asc"])))
    assert "mdc_method: 2" in listing
    assert "aead" not in listing


def test_altered_cipher_text_is_refused_by_gpg(ring: Keyring, folder: Path) -> None:
    octets = bytearray(_encrypted(load_pgp_recipients([folder / "cv25519.asc"])))
    for back in (1, 30, 5000):
        octets[-back] ^= 1
        assert ring.gpg("--decrypt", content=bytes(octets), check=False) == b""
        octets[-back] ^= 1
    assert ring.gpg("--decrypt", content=bytes(octets)) == CONTENT


def test_a_long_stream_takes_no_memory_and_gpg_gives_it_back(
    ring: Keyring, folder: Path, tmp_path: Path
) -> None:
    size_bytes, block, whole = (64 << 20) + 5, os.urandom(1 << 18), hashlib.sha256()

    def blocks() -> Iterator[bytes]:
        for at in range(0, size_bytes, len(block)):
            piece = (at.to_bytes(8) + block)[: min(len(block), size_bytes - at)]
            whole.update(piece)
            yield piece

    with (tmp_path / "x.gpg").open("wb") as out:
        recipients = load_pgp_recipients([folder / "cv25519.asc"])
        tracemalloc.start()
        out.writelines(recipients.encrypt(blocks(), content_bytes=size_bytes))
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < 4 << 20
    ring.gpg("--output", tmp_path / "x", "--decrypt", tmp_path / "x.gpg")
    with (tmp_path / "x").open("rb") as opened:
        assert hashlib.file_digest(opened, "sha256").digest() == whole.digest()


def test_a_key_that_ends_while_the_recorder_runs_is_still_encrypted_to(ring: Keyring, folder: Path) -> None:
    then = int(time.time()) + DAY_S
    recipients = load_pgp_recipients([folder / "ending.asc"], now_utc_s=then)
    ends = recipients.recipients[0].expires_utc_s
    assert ends is not None
    assert then < ends < then + DAY_S + 60
    assert ring.gpg("--decrypt", content=_encrypted(recipients)) == CONTENT


def test_a_key_file_that_is_exchanged_later_changes_no_recipient(
    ring: Keyring, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "key.asc"
    path.write_bytes((folder / "cv25519.asc").read_bytes())
    recipients = load_pgp_recipients([path])
    path.write_bytes((folder / "rsa.asc").read_bytes())
    assert "algo 18" in _packets(ring, _encrypted(recipients))


@pytest.mark.parametrize("given", [9, 11])
def test_content_of_another_length_than_was_said_ends_in_an_error(folder: Path, given: int) -> None:
    with pytest.raises(EncryptionFailed, match="away from what was said"):
        list(load_pgp_recipients([folder / "rsa.asc"]).encrypt([bytes(given)], content_bytes=10))


def _gpg_that(folder: Path, does: str) -> None:
    script = folder / "gpg"
    script.write_text(f"#!/bin/sh\n{does}\n")
    script.chmod(0o755)


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("cat >/dev/null; echo no room >&2; exit 2", "no room"),
        ("exit 0", "gpg failed"),
        ("cat", "gpg wrote no OpenPGP packet"),
        (
            "cat >/dev/null; printf '\\323\\003\\001\\001\\001\\001\\001\\001\\001'",
            "gpg wrote packet 19 behind 0",
        ),
        ("sleep 100", "gpg stands still"),
    ],
    ids=["refuses", "reads nothing", "encrypts nothing", "another packet", "stands still"],
)
def test_a_gpg_that_does_not_do_its_work_ends_in_an_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, reason: str
) -> None:
    recipients = load_pgp_recipients([folder / "rsa.asc"])
    _gpg_that(tmp_path, does)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(openpgp, "STALL_LIMIT_S", 0.3)
    with pytest.raises(EncryptionFailed, match=reason):
        list(recipients.encrypt([b"A" * (1 << 20)], content_bytes=1 << 20))


def test_nothing_is_left_behind_and_no_agent_is_started(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    recipients = load_pgp_recipients([folder / "rsa.asc"])
    given = recipients.encrypt([CONTENT] * 1000, content_bytes=len(CONTENT) * 1000)
    next(given)
    (home,) = tmp_path.iterdir()
    assert not list(home.glob("S.*"))  # an agent's sockets
    given.close()
    assert not list(tmp_path.iterdir())
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in running


# --- recipients that do not do ------------------------------------------------------------------------


def test_a_key_that_has_ended_is_encrypted_to_where_there_is_no_other(ring: Keyring, folder: Path) -> None:
    later = int(time.time()) + 3 * DAY_S
    alone = load_pgp_recipients([folder / "ending.asc"], now_utc_s=later)
    (ended,) = alone.recipients
    assert ended.expires_utc_s is not None and ended.expires_utc_s < later
    assert ring.gpg("--decrypt", content=_encrypted(alone, b"what was said")) == b"what was said"
    both = load_pgp_recipients([folder / "ending.asc", folder / "cv25519.asc"], now_utc_s=later)
    assert [row.fingerprint for row in both.left_out] == [ended.fingerprint]
    assert len(both.recipients) == 1
    assert ring.gpg("--decrypt", content=_encrypted(both, b"what was said")) == b"what was said"


def test_a_younger_key_beside_one_that_had_ended_before_it_was_made_opens_it_too(tmp_path: Path) -> None:
    with keyring() as own:
        old = own.make_key(tmp_path / "old.asc", "old", ("ed25519", "cv25519"), expires="1d")
        (made_utc_s,) = [row.expires_utc_s for row in load_pgp_recipients([old]).recipients]
        assert made_utc_s is not None
        as_of = ("--faked-system-time", f"{made_utc_s + DAY_S}!")
        own.gpg(*as_of, "--quick-gen-key", "young", "ed25519", "sign", "1d")
        young = own.fingerprint("young")
        own.gpg(*as_of, "--quick-add-key", young, "cv25519", "encr", "1d")
        (tmp_path / "young.asc").write_bytes(own.gpg("--armor", "--export", "young"))
        later = made_utc_s + 5 * DAY_S
        ended = load_pgp_recipients([old, tmp_path / "young.asc"], now_utc_s=later)
        assert len(ended.recipients) == 2
        sealed = _encrypted(ended, b"what was said")
        assert own.gpg("--decrypt", content=sealed) == b"what was said"
        own.gpg("--yes", "--delete-secret-keys", own.fingerprint("old"))
        assert own.gpg("--decrypt", content=sealed) == b"what was said"


def test_a_revoked_key_is_refused_also_when_it_has_ended(ring: Keyring, folder: Path, tmp_path: Path) -> None:
    with keyring() as own:
        own.make_key(tmp_path / "x.asc", "x", ("ed25519", "cv25519"), expires="2d")
        revocation = (
            next((own.home / "openpgp-revocs.d").glob("*.rev")).read_text().replace(":-----", "-----")
        )
        own.gpg("--import", content=revocation.encode())
        (tmp_path / "x.asc").write_bytes(own.gpg("--armor", "--export", "x"))
    for days in (0, 3):
        with pytest.raises(RecipientUnusable, match="was revoked"):
            load_pgp_recipients([tmp_path / "x.asc"], now_utc_s=int(time.time()) + days * DAY_S)


@pytest.mark.parametrize(
    ("algorithms", "reason"),
    [
        (("ed25519",), "has no key for encryption"),
        (("rsa3072", "rsa2048"), "RSA of 2048 bits, 3072 are needed"),
        (("rsa3072", "elg1024"), "encrypts with neither RSA nor ECDH"),
    ],
    ids=["to sign only", "RSA-2048", "Elgamal"],
)
def test_a_key_that_does_not_do_is_refused(
    ring: Keyring, tmp_path: Path, algorithms: tuple[str, ...], reason: str
) -> None:
    ring.make_key(tmp_path / "x.asc", f"bad-{'-'.join(algorithms)}", algorithms)
    with pytest.raises(RecipientUnusable, match=reason):
        load_pgp_recipients([tmp_path / "x.asc"])


def test_a_file_that_is_no_single_public_key_is_refused(ring: Keyring, folder: Path, tmp_path: Path) -> None:
    cases = {
        "two": (
            ring.gpg("--export", *(ring.fingerprint(name) for name in ("rsa", "p384"))),
            "holds 2 OpenPGP keys",
        ),
        "none": (b"nothing", "holds 0 OpenPGP keys"),
        "armoured": (ring.gpg("--armor", "--export-secret-keys", "cv25519"), "holds a private key"),
        "binary": (ring.gpg("--export-secret-keys", "cv25519"), "holds a private key"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RecipientUnusable, match=reason):
            load_pgp_recipients([tmp_path / name])


def test_without_gpg_the_recipient_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecipientUnusable, match=r"gpg: .*No such file"):
        load_pgp_recipients([folder / "rsa.asc"])
