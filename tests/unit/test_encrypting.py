"""Recordings in envelopes, and `recorderctl open`: what went in comes out, or nothing, with the reason."""

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recorderd.app.recorderctl import main
from recorderd.core.errors import EncryptionFailed
from recorderd.evidence.envelope import CertificateRecipients, Cipher
from recorderd.evidence.openpgp import load_pgp_recipients
from recorderd.evidence.recipients import load_certificate
from recorderd.record.encrypting import Recipients, encrypt_to_folder
from recorderd.record.keyless import stand
from recorderd.record.vault import vault_name
from tests.support.programs import ROOT
from tests.support.recipients import keyring, make_recipient, openssl_opens
from tests.support.vault_writer import APPEND_FRAMES, AUDIO, HEADER

CONTENT = os.urandom(10_000)
NAME = "r-1.wav"
HEAD_BYTES = HEADER.size_bytes


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a recipient, and one who is none."""
    folder = tmp_path_factory.mktemp("office")
    for name in ("customer", "stranger"):
        make_recipient(folder, name)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def _recipients(office: Path, cipher: Cipher = Cipher.AES_256_GCM) -> CertificateRecipients:
    return CertificateRecipients(recipients=(load_certificate(office / "customer.pem"),), cipher=cipher)


def _encrypt(folder: Path, recipients: Recipients, *, limit_bytes: int = 4096, blocks: int = 7) -> list[dict]:
    step = len(CONTENT) // blocks + 1
    pieces = (CONTENT[at : at + step] for at in range(0, len(CONTENT), step))
    rows = encrypt_to_folder(
        pieces,
        content_bytes=len(CONTENT),
        folder=folder,
        name=NAME,
        recipients=recipients,
        limit_bytes=limit_bytes,
    )
    return [{name: getattr(row, name) for name in row.__slots__} for row in rows]


def _open(office: Path, out: Path, *paths: Path, who: str = "customer") -> int:
    key = ["--key", str(office / f"{who}.key"), "--certificate", str(office / f"{who}.pem")]
    return main(["open", *map(str, paths), *key, "--out", str(out)])


@pytest.mark.parametrize("cipher", Cipher)
def test_parts_are_told_with_both_digests_and_each_opens_alone(
    office: Path, tmp_path: Path, cipher: Cipher
) -> None:
    rows = _encrypt(tmp_path, _recipients(office, cipher))
    assert [row["name"] for row in rows] == [f"{NAME}.00{number}.p7m" for number in (1, 2, 3)]
    opened = b""
    for row in rows:
        octets = (tmp_path / row["name"]).read_bytes()
        plain = openssl_opens(tmp_path / row["name"], office / "customer.pem")
        assert plain is not None
        assert (row["sha256"], row["size_bytes"]) == (hashlib.sha256(octets).hexdigest(), len(octets))
        assert (row["content_sha256"], row["content_bytes"]) == (
            hashlib.sha256(plain).hexdigest(),
            len(plain),
        )
        assert row["encryption"] == "cms"
        opened += plain
    assert opened == CONTENT


def test_one_part_keeps_the_plain_name_and_an_attempt_that_was_cut_off_is_replaced(
    office: Path, tmp_path: Path
) -> None:
    (tmp_path / f"{NAME}.p7m").write_bytes(b"half")
    (row,) = _encrypt(tmp_path, _recipients(office), limit_bytes=1 << 20)
    assert row["name"] == f"{NAME}.p7m"
    assert openssl_opens(tmp_path / row["name"], office / "customer.pem") == CONTENT


def test_openpgp_parts_are_opened_by_gpg(tmp_path: Path) -> None:
    with keyring() as ring:
        public = ring.make_key(tmp_path / "x.asc", "x", ("ed25519", "cv25519"))
        rows = _encrypt(tmp_path, load_pgp_recipients([public]))
        assert {row["encryption"] for row in rows} == {"pgp"}
        opened = b"".join(ring.gpg("--decrypt", tmp_path / row["name"]) for row in rows)
    assert opened == CONTENT


@pytest.mark.parametrize("said", [len(CONTENT) - 1, len(CONTENT) + 1])
def test_content_of_another_length_leaves_no_file(office: Path, tmp_path: Path, said: int) -> None:
    with pytest.raises(EncryptionFailed, match=r"longer than was said|short"):
        encrypt_to_folder(
            [CONTENT],
            content_bytes=said,
            folder=tmp_path,
            name=NAME,
            recipients=_recipients(office),
            limit_bytes=4096,
        )
    assert not list(tmp_path.iterdir())


# --- recorderctl open ---------------------------------------------------------------------------------


@pytest.mark.parametrize("limit_bytes", [4096, 1 << 20])
@pytest.mark.parametrize("named", ["folder", "file"])
def test_open_joins_the_parts_and_tells_the_digest(
    office: Path, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str], limit_bytes: int, named: str
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    rows = _encrypt(spool, _recipients(office), limit_bytes=limit_bytes)
    assert _open(office, out, spool if named == "folder" else spool / rows[0]["name"]) == 0
    assert (out / NAME).read_bytes() == CONTENT
    assert (out / NAME).stat().st_mode & 0o077 == 0
    assert hashlib.sha256(CONTENT).hexdigest() in capsys.readouterr().out


def test_open_gives_nothing_to_a_stranger_and_nothing_of_what_was_altered(
    office: Path, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = _encrypt(tmp_path, _recipients(office), limit_bytes=1 << 20)
    path = tmp_path / row["name"]
    assert _open(office, out, path, who="stranger") == 65
    assert "the certificate is no recipient's" in capsys.readouterr().err
    octets = bytearray(path.read_bytes())
    octets[-3000] ^= 1
    path.write_bytes(octets)
    assert _open(office, out, path) == 65
    assert "it was altered" in capsys.readouterr().err
    assert not list(out.iterdir())


def test_open_refuses_when_a_part_is_missing_in_between_and_overwrites_nothing(
    office: Path, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = _encrypt(tmp_path, _recipients(office))
    held = (tmp_path / rows[1]["name"]).read_bytes()
    (tmp_path / rows[1]["name"]).unlink()
    assert _open(office, out, tmp_path / rows[0]["name"]) == 65
    assert "parts [1, 3] are not all of them" in capsys.readouterr().err
    (tmp_path / rows[1]["name"]).write_bytes(held)
    out.mkdir(exist_ok=True)
    (out / NAME).write_bytes(b"something else")
    assert _open(office, out, tmp_path / rows[0]["name"]) == 65
    assert (out / NAME).read_bytes() == b"something else"


def test_open_asks_for_key_and_certificate_together(
    office: Path, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = _encrypt(tmp_path, _recipients(office), limit_bytes=1 << 20)
    words = ["open", str(tmp_path / row["name"]), "--out", str(out)]
    assert main([*words, "--key", str(office / "customer.key")]) == 78
    assert "--key and --certificate go together" in capsys.readouterr().err
    assert main(words) == 65
    assert "name it with --key and --certificate" in capsys.readouterr().err


# --- drafts that a crash left -------------------------------------------------------------------------


def _killed_writer(folder: Path, office: Path, *, after_s: float) -> bytes:
    """Let a process write an encrypted draft, kill it, and give what it had synced."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.support.vault_writer", folder, office / "customer.pem"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        said = writer.stdout.read(APPEND_FRAMES * HEADER.frame_bytes)
        os.set_blocking(writer.stdout.fileno(), False)
        until = time.monotonic() + after_s
        while time.monotonic() < until:
            said += writer.stdout.read() or b""
        writer.kill()
        writer.wait()
        said += writer.stdout.read() or b""
    return said


def _samples(content: bytes) -> np.ndarray:
    whole = len(content) // HEADER.frame_bytes * HEADER.frame_bytes
    return np.frombuffer(content[:whole], dtype="<i2").reshape(-1, 2)


def test_after_a_kill_no_plain_sample_is_on_disk_and_the_key_holder_gets_all_that_was_synced(
    office: Path, tmp_path: Path, out: Path
) -> None:
    chance = random.Random()
    for number in range(4):
        spool = tmp_path / f"spool{number}"
        said = _killed_writer(spool, office, after_s=chance.uniform(0, 0.05))
        held = b"".join(path.read_bytes() for path in sorted(spool.iterdir()))
        assert not any(said[at : at + 16] in held for at in range(0, len(said) - 16, 1 << 14))
        standing = stand(spool / vault_name(AUDIO), silent=[])
        assert standing.plain_bytes >= HEAD_BYTES + len(said) // 16000 * 16000
        assert _open(office, out / str(number), spool) == 0
        read, rate_hz = soundfile.read(out / str(number) / AUDIO, dtype="int16")
        synced = _samples(said[: len(said) // 16000 * 16000])
        assert rate_hz == 8000
        assert np.array_equal(read[: len(synced)], synced)


def test_open_names_what_had_to_be_destroyed_and_gives_the_rest(
    office: Path, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = tmp_path / "spool"
    said = b""
    while len(said) < 6 * 16000:
        spool = tmp_path / f"spool{len(list(tmp_path.iterdir()))}"
        said = _killed_writer(spool, office, after_s=0.2)
    stand(spool / vault_name(AUDIO), silent=[(HEAD_BYTES + 20_000, HEAD_BYTES + 20_100)])
    words = ["--key", str(office / "customer.key"), "--certificate", str(office / "customer.pem")]
    assert main(["open", str(spool), *words, "--out", str(out), "--json"]) == 65
    (row,) = json.loads(capsys.readouterr().out)
    start, end = HEAD_BYTES + 16_000, HEAD_BYTES + 32_000
    assert row["findings"] == [f"octets {start} to {end} were destroyed or never written"]
    read, _ = soundfile.read(out / AUDIO, dtype="int16")
    wanted = _samples(said[:16_000] + bytes(16_000) + said[32_000 : 6 * 16_000])
    assert np.array_equal(read[: len(wanted)], wanted)


def test_the_lines_of_the_readme_open_a_draft_with_openssl_alone(office: Path, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    said = _killed_writer(spool, office, after_s=0.0)
    for name in (".draft", ".key.p7m"):
        (spool / f"{AUDIO}{name}").rename(spool / f"X.wav{name}")
    for name in ("key", "pem"):
        target = spool / ("key.pem" if name == "key" else "cert.pem")
        target.write_bytes((office / f"customer.{name}").read_bytes())
    text = (ROOT / "recorderd" / "evidence" / "README.md").read_text()
    begin = text.index("    openssl cms -decrypt -inform DER -binary -in X.wav.key.p7m")
    lines = text[begin : text.index("> X.raw\n", begin) + len("> X.raw\n")]
    subprocess.run(["bash", "-e", "-c", lines], cwd=spool, check=True)
    raw = (spool / "X.raw").read_bytes()
    assert raw[: len(said)] == said[: len(raw)]
    assert len(raw) >= APPEND_FRAMES * HEADER.frame_bytes


def test_a_draft_opens_with_a_key_that_another_program_unwrapped_and_with_no_other(
    office: Path, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = tmp_path / "spool"
    said = _killed_writer(spool, office, after_s=0.0)
    stand(spool / vault_name(AUDIO), silent=[])  # as recovery does: the last block may be torn
    opened = openssl_opens(spool / f"{AUDIO}.key.p7m", office / "customer.pem")
    assert opened is not None
    for content, code in ((opened, 0), (bytes(32), 65), (opened[:16], 65)):
        (tmp_path / "key").write_bytes(content)
        arguments = ["open", str(spool / vault_name(AUDIO)), "--draft-key", str(tmp_path / "key")]
        assert main([*arguments, "--out", str(out / str(len(content)) / str(code))]) == code
    read, _ = soundfile.read(out / "32" / "0" / AUDIO, dtype="int16")
    assert np.array_equal(read[:APPEND_FRAMES], _samples(said[:16_000]))
    assert not any(path.name == AUDIO for path in out.rglob("65/*"))
    (spool / f"{AUDIO}.key.p7m").unlink()
    assert _open(office, out / "x", spool / vault_name(AUDIO)) == 65
    assert "name it with --draft-key" in capsys.readouterr().err
