"""Envelopes: openssl opens them with each recipient's key, and with nothing else."""

import hashlib
import io
import os
import shutil
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recorderd.core.errors import EncryptionFailed, EnvelopeUnopened, KeyUnusable, RecipientUnusable
from recorderd.evidence.envelope import (
    PART_CONTENT_BYTES,
    PART_LIMIT_BYTES,
    RECIPIENTS_MAX,
    CertificateRecipients,
    Cipher,
    Envelope,
    part_lengths,
    part_names,
    write_head,
)
from recorderd.evidence.opening import Opener, _read_head, open_envelope
from recorderd.evidence.recipients import load_certificate
from tests.support.recipients import KINDS, make_recipient, openssl_opens

CONTENT = b"RIFF....WAVE" + bytes(range(256)) * 40
BLOCK_BYTES = 1 << 18


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a recipient of each kind, and one who is no recipient."""
    folder = tmp_path_factory.mktemp("office")
    for kind in KINDS:
        make_recipient(folder, kind, kind=kind)
    make_recipient(folder, "stranger")
    return folder


def _recipients(office: Path, *kinds: str, cipher: Cipher = Cipher.AES_256_GCM) -> CertificateRecipients:
    rows = tuple(load_certificate(office / f"{kind}.pem") for kind in kinds)
    return CertificateRecipients(recipients=rows, cipher=cipher)


def _write(path: Path, recipients: CertificateRecipients, content: bytes = CONTENT) -> Path:
    path.write_bytes(b"".join(recipients.encrypt([content], content_bytes=len(content))))
    return path


def _opener(office: Path, kind: str) -> Opener:
    return Opener.from_files(key_file=office / f"{kind}.key", certificate_file=office / f"{kind}.pem")


def _opened(octets: bytes, opener: Opener) -> bytes:
    return b"".join(open_envelope(io.BytesIO(octets), opener, subject="x.p7m"))


@pytest.mark.parametrize("cipher", Cipher)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size_bytes", [0, 1, 15, 16, 17, 127, 128, len(CONTENT)])
def test_openssl_and_we_open_what_one_recipient_got(
    office: Path, tmp_path: Path, kind: str, cipher: Cipher, size_bytes: int
) -> None:
    content = CONTENT[:size_bytes]
    path = _write(tmp_path / "x.p7m", _recipients(office, kind, cipher=cipher), content)
    assert openssl_opens(path, office / f"{kind}.pem") == content
    assert _opened(path.read_bytes(), _opener(office, kind)) == content


@pytest.mark.parametrize("cipher", Cipher)
def test_each_of_several_recipients_opens_it_and_a_stranger_does_not(
    office: Path, tmp_path: Path, cipher: Cipher
) -> None:
    path = _write(tmp_path / "x.p7m", _recipients(office, *KINDS, cipher=cipher))
    for kind in KINDS:
        assert openssl_opens(path, office / f"{kind}.pem") == CONTENT
        assert _opened(path.read_bytes(), _opener(office, kind)) == CONTENT
    assert openssl_opens(path, office / "stranger.pem") is None
    with pytest.raises(EnvelopeUnopened, match="the certificate is no recipient's"):
        _opened(path.read_bytes(), _opener(office, "stranger"))


def test_another_key_beside_the_recipients_certificate_opens_nothing(office: Path, tmp_path: Path) -> None:
    path = _write(tmp_path / "x.p7m", _recipients(office, "p-256"))
    shutil.copy(office / "p-256.pem", tmp_path / "false.pem")
    shutil.copy(office / "stranger.key", tmp_path / "false.key")
    assert openssl_opens(path, tmp_path / "false.pem") is None
    with pytest.raises(KeyUnusable, match=r"does not belong to false\.pem"):
        _opener(tmp_path, "false")


def test_altered_cipher_text_is_refused_by_openssl(office: Path, tmp_path: Path) -> None:
    whole = _write(tmp_path / "x.p7m", _recipients(office, "p-256")).read_bytes()
    for back in (1, 16, 19, 5000, len(CONTENT)):
        altered = bytearray(whole)
        altered[-back] ^= 1
        (tmp_path / "y.p7m").write_bytes(altered)
        assert openssl_opens(tmp_path / "y.p7m", office / "p-256.pem") is None


@pytest.mark.parametrize("kind", ["rsa-3072", "p-256"])
def test_every_flipped_octet_and_every_cut_is_refused(office: Path, kind: str) -> None:
    recipients, opener = _recipients(office, kind), _opener(office, kind)
    whole = b"".join(recipients.encrypt([CONTENT[:40]], content_bytes=40))
    assert _opened(whole, opener) == CONTENT[:40]
    for at in range(len(whole)):
        altered = bytearray(whole)
        altered[at] ^= 1 << at % 8
        with pytest.raises(EnvelopeUnopened):
            _opened(bytes(altered), opener)
        with pytest.raises(EnvelopeUnopened):
            _opened(whole[:at], opener)
    with pytest.raises(EnvelopeUnopened):
        _opened(whole + b"\0", opener)


@pytest.mark.parametrize("size_bytes", [0, 1, 7, 8, 11, 13, 15, 17, 128, 129])
@pytest.mark.parametrize("cipher", Cipher)
def test_a_nonce_of_another_length_is_refused(office: Path, cipher: Cipher, size_bytes: int) -> None:
    recipients, opener = _recipients(office, "p-256", cipher=cipher), _opener(office, "p-256")
    whole = b"".join(recipients.encrypt([CONTENT], content_bytes=len(CONTENT)))
    head = _read_head(whole)
    is_gcm = cipher is Cipher.AES_256_GCM
    altered = write_head(head.recipients, is_gcm=is_gcm, nonce=bytes(size_bytes), content_bytes=len(CONTENT))
    with pytest.raises(EnvelopeUnopened, match="nonce of another length"):
        _opened(altered + whole[head.size_bytes :], opener)


def test_no_envelope_is_like_another_and_none_shows_its_content(office: Path) -> None:
    recipients = _recipients(office, "p-256")
    seen = {b"".join(recipients.encrypt([CONTENT], content_bytes=len(CONTENT))) for _ in range(3)}
    assert len({octets[-1000:] for octets in seen}) == 3
    assert not any(CONTENT[at : at + 8] in octets for octets in seen for at in range(0, len(CONTENT), 64))


@pytest.mark.parametrize(("said", "given"), [(10, 9), (10, 11), (0, 1), (1, 0)])
@pytest.mark.parametrize("cipher", Cipher)
def test_content_of_another_length_than_was_said_ends_in_an_error(
    office: Path, cipher: Cipher, said: int, given: int
) -> None:
    with pytest.raises(EncryptionFailed, match=r"longer than was said|short"):
        list(_recipients(office, "p-256", cipher=cipher).encrypt([bytes(given)], content_bytes=said))


@pytest.mark.parametrize("count", [0, RECIPIENTS_MAX + 1])
def test_an_envelope_needs_a_bounded_number_of_recipients(office: Path, count: int) -> None:
    row = load_certificate(office / "p-256.pem")
    with pytest.raises(EncryptionFailed, match=f"{count} recipients"):
        Envelope(recipients=[row] * count, cipher=Cipher.AES_256_GCM, content_bytes=1)


def _blocks(size_bytes: int, whole: "hashlib._Hash") -> Iterator[bytes]:
    block = os.urandom(BLOCK_BYTES)
    for at in range(0, size_bytes, BLOCK_BYTES):
        piece = (at.to_bytes(8) + block)[: min(BLOCK_BYTES, size_bytes - at)]
        whole.update(piece)
        yield piece


@pytest.mark.parametrize("cipher", Cipher)
def test_a_long_stream_takes_no_memory_and_openssl_gives_it_back(
    office: Path, tmp_path: Path, cipher: Cipher
) -> None:
    size_bytes = (64 << 20) + 5
    whole = hashlib.sha256()
    with (tmp_path / "x.p7m").open("wb") as out:
        recipients = _recipients(office, "p-256", cipher=cipher)
        tracemalloc.start()
        out.writelines(recipients.encrypt(_blocks(size_bytes, whole), content_bytes=size_bytes))
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < 4 << 20
    assert openssl_opens(tmp_path / "x.p7m", office / "p-256.pem", out=tmp_path / "x") == b""
    with (tmp_path / "x").open("rb") as opened:
        assert hashlib.file_digest(opened, "sha256").digest() == whole.digest()


def test_parts_hold_everything_in_order_and_stay_below_a_gibibyte() -> None:
    for size_bytes in (0, 1, PART_CONTENT_BYTES, PART_CONTENT_BYTES + 1, 5 * PART_CONTENT_BYTES - 7):
        lengths = part_lengths(size_bytes)
        assert sum(lengths) == size_bytes
        assert all(0 < length <= PART_CONTENT_BYTES for length in lengths[1:])
        assert len(lengths) == max(1, -(-size_bytes // PART_CONTENT_BYTES))
    assert part_names("x.wav", parts=1, suffix=".p7m") == ["x.wav.p7m"]
    assert part_names("x.wav", parts=2, suffix=".gpg") == ["x.wav.001.gpg", "x.wav.002.gpg"]


def test_a_part_with_all_recipients_it_may_have_stays_below_a_gibibyte(office: Path) -> None:
    row = load_certificate(office / "rsa-3072.pem")
    for cipher in Cipher:
        envelope = Envelope(
            recipients=[row] * RECIPIENTS_MAX, cipher=cipher, content_bytes=PART_CONTENT_BYTES
        )
        assert len(envelope.head()) + PART_CONTENT_BYTES + 64 < PART_LIMIT_BYTES


def test_two_parts_opened_by_openssl_make_the_whole(office: Path, tmp_path: Path) -> None:
    lengths = part_lengths(len(CONTENT), limit_bytes=6000)
    at, opened = 0, b""
    for name, length in zip(part_names("x.wav", parts=len(lengths), suffix=".p7m"), lengths, strict=True):
        path = _write(tmp_path / name, _recipients(office, "p-256"), CONTENT[at : at + length])
        opened += openssl_opens(path, office / "p-256.pem") or b""
        at += length
    assert len(lengths) == 2
    assert opened == CONTENT


# --- recipients that do not do ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"usage": "digitalSignature"}, "does not permit keyAgreement"),
        ({"kind": "rsa-3072", "usage": "digitalSignature"}, "does not permit keyEncipherment"),
        ({"kind": "rsa-3072", "new_key": "rsa:2048"}, "RSA of 2048 bits, 3072 are needed"),
        ({"new_key": "ed25519"}, "is neither ECDSA nor RSA"),
    ],
    ids=["EC to sign", "RSA to sign", "RSA-2048", "Ed25519"],
)
def test_a_certificate_that_does_not_do_is_refused(tmp_path: Path, how: dict[str, str], reason: str) -> None:
    with pytest.raises(RecipientUnusable, match=reason):
        load_certificate(make_recipient(tmp_path, "x", **how))


def test_a_certificate_is_taken_only_while_it_is_valid(office: Path) -> None:
    now = datetime.now(tz=UTC)
    assert load_certificate(office / "p-256.pem", now=now + timedelta(days=29)).expires_at > now
    for moment in (now + timedelta(days=31), now - timedelta(days=1)):
        with pytest.raises(RecipientUnusable, match=r"is valid from \d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d only"):
            load_certificate(office / "p-256.pem", now=moment)


def test_a_file_that_is_no_single_public_certificate_is_refused(office: Path, tmp_path: Path) -> None:
    pem = (office / "p-256.pem").read_bytes()
    cases = {
        "two": (pem + (office / "p-384.pem").read_bytes(), "holds 2 certificates"),
        "none": (b"", "is no certificate in PEM"),
        "broken": (pem.replace(b"M", b"N", 3), "is no certificate in PEM"),
        "private": (pem + (office / "p-256.key").read_bytes(), "holds a private key"),
        "huge": (pem + bytes(1 << 20), "is longer than"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RecipientUnusable, match=reason):
            load_certificate(tmp_path / name)
    with pytest.raises(RecipientUnusable, match="No such file"):
        load_certificate(tmp_path / "missing")
