"""A draft that rests encrypted: who opens it, what is left of what was silenced, what an alteration does."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recorderd.core.errors import DraftFailed, EnvelopeUnopened
from recorderd.evidence.draft_cipher import (
    BLOCK_HEAD_BYTES,
    BLOCK_MAX_BYTES,
    ENDS,
    HEADING_BYTES,
    TAG_BYTES,
    Block,
    BlockOpener,
    DraftKey,
    parse_heading,
)
from recorderd.evidence.draft_container import ContainerReader, survey
from recorderd.evidence.envelope import CertificateRecipients
from recorderd.evidence.openpgp import load_pgp_recipients
from recorderd.evidence.recipients import load_certificate
from recorderd.record.keyless import stand
from recorderd.record.vault import VaultFile, begin_vault, vault_name, wrapped_key_name
from tests.support.recipients import keyring, make_recipient, openssl_opens

HEAD = b"RIFF" + bytes(range(96))
SILENCE = 0xD5
AUDIO = "r-1.wav"


class Clear:
    """Recipients to whom nothing is hidden."""

    key = b""

    def encrypt(self, blocks: Any, *, content_bytes: int) -> Iterator[bytes]:
        self.key = b"".join(blocks)
        yield b"wrapped"


def _vault(path: Path, *, head: bytes = HEAD) -> tuple[VaultFile, BlockOpener]:
    clear = Clear()
    key = DraftKey(clear)
    vault = VaultFile(path, key=key, recording_id="r-1", head=head, frame_bytes=2, silence=SILENCE)
    return vault, BlockOpener(clear.key)


def _reader(octets: bytes, opener: BlockOpener, *, salvage: bool = False) -> ContainerReader:
    def read(position: int, size_bytes: int) -> bytes:
        return octets[position : position + size_bytes]

    return ContainerReader(read, opener, size_bytes=len(octets), subject=AUDIO, salvage=salvage)


def _plain(octets: bytes, opener: BlockOpener) -> bytes:
    return b"".join(_reader(octets, opener).plain())


def _spans(octets: bytes) -> list[bytes]:
    """Give the cipher text of each block that stands."""
    heading = parse_heading(octets, subject=AUDIO)
    found = survey(lambda at, size: octets[at : at + size], heading, size_bytes=len(octets))
    rows = [block for block in found.blocks if not block.is_gone]
    return [
        octets[block.position + BLOCK_HEAD_BYTES :][: block.length] for block in rows if block.length >= 16
    ]


def _append(vault: VaultFile, content: bytes) -> bytes:
    vault.write_at(content, offset_bytes=vault.size_bytes)
    return content


def test_the_wrapped_key_stands_before_the_container_and_openssl_opens_both_by_hand(tmp_path: Path) -> None:
    certificate = make_recipient(tmp_path, "customer")
    recipients = CertificateRecipients(recipients=(load_certificate(certificate),))
    key = begin_vault(tmp_path, AUDIO, recipients=recipients).key
    wrapped = tmp_path / wrapped_key_name(AUDIO, suffix=".p7m")
    assert wrapped.name == "r-1.wav.key.p7m"
    opened = openssl_opens(wrapped, certificate)
    assert opened is not None
    vault = VaultFile(
        tmp_path / vault_name(AUDIO), key=key, recording_id="r-1", head=HEAD, frame_bytes=2, silence=0
    )
    said = [_append(vault, os.urandom(1000)) for _ in range(3)]
    vault.close()
    octets = (tmp_path / "r-1.wav.draft").read_bytes()
    assert _plain(octets, BlockOpener(opened)) == HEAD + b"".join(said)
    assert opened not in octets + wrapped.read_bytes()
    # By hand: AES-256-CTR from the block after the nonce's first is what GCM does, without its proof.
    heading = parse_heading(octets, subject=AUDIO)
    block = survey(lambda at, size: octets[at : at + size], heading, size_bytes=len(octets)).blocks[1]
    nonce = heading.nonce_prefix + block.serial.to_bytes(8)
    sealed = octets[block.position + BLOCK_HEAD_BYTES :][: block.length]
    by_hand = subprocess.run(
        ["openssl", "enc", "-d", "-aes-256-ctr", "-K", opened.hex(), "-iv", nonce.hex() + "00000002"],
        input=sealed,
        capture_output=True,
        check=True,
    )
    assert by_hand.stdout == said[1]


def test_an_openpgp_recipient_opens_the_key_too(tmp_path: Path) -> None:
    with keyring() as ring:
        public = ring.make_key(tmp_path / "x.asc", "x", ("ed25519", "cv25519"))
        recipients = load_pgp_recipients([public])
        key = begin_vault(tmp_path, AUDIO, recipients=recipients).key
        vault = VaultFile(tmp_path / "d", key=key, recording_id="r-1", head=HEAD, frame_bytes=2, silence=0)
        said = _append(vault, os.urandom(1000))
        opened = ring.gpg("--decrypt", tmp_path / "r-1.wav.key.gpg")
    assert _plain((tmp_path / "d").read_bytes(), BlockOpener(opened)) == HEAD + said


def test_an_end_that_was_made_up_without_the_key_is_found_and_hides_nothing(tmp_path: Path) -> None:
    vault, opener = _vault(tmp_path / "d")
    said = [_append(vault, os.urandom(70)) for _ in range(3)]
    vault.close()
    whole = (tmp_path / "d").read_bytes()
    heading = parse_heading(whole, subject=AUDIO)
    last = survey(lambda at, size: whole[at : at + size], heading, size_bytes=len(whole)).blocks[-1]
    made_up = Block(
        position=len(whole),
        offset=len(HEAD),
        length=0,
        number=last.number + 1,
        serial=last.serial + 1,
        flags=ENDS,
    )
    altered = whole + made_up.encode() + bytes(TAG_BYTES)
    with pytest.raises(EnvelopeUnopened):
        _plain(altered, opener)
    reader = _reader(altered, opener, salvage=True)
    assert b"".join(reader.plain()) == HEAD + b"".join(said)
    assert len(reader.findings) == 1


def test_every_flipped_octet_every_cut_and_every_exchange_is_refused(tmp_path: Path) -> None:
    vault, opener = _vault(tmp_path / "d")
    said = [_append(vault, os.urandom(size)) for size in (50, 70, 70)]
    vault.fill(SILENCE, start=110, end=130)  # leaves a destroyed block
    vault.close()
    whole = (tmp_path / "d").read_bytes()
    assert _plain(whole, opener)[150:] == b"".join(said)[50:]
    for at in range(len(whole)):
        altered = bytearray(whole)
        altered[at] ^= 1 << at % 8
        with pytest.raises(EnvelopeUnopened):
            _plain(bytes(altered), opener)
    heading = parse_heading(whole, subject=AUDIO)
    blocks = survey(lambda at, size: whole[at : at + size], heading, size_bytes=len(whole)).blocks
    ends = {block.position for block in blocks} | {len(whole)}
    for at in range(len(whole)):
        if at not in ends:  # cut between blocks it is a shorter draft: only the manifest tells
            with pytest.raises(EnvelopeUnopened):
                _plain(whole[:at], opener)
    first, second = blocks[1], blocks[2]  # of one length
    assert first.total_bytes == second.total_bytes
    exchanged = bytearray(whole)
    exchanged[first.position : first.position + 126], exchanged[second.position : second.position + 126] = (
        whole[second.position : second.position + 126],
        whole[first.position : first.position + 126],
    )
    with pytest.raises(EnvelopeUnopened):
        _plain(bytes(exchanged), opener)


def test_a_block_of_another_container_of_the_same_key_does_not_open(tmp_path: Path) -> None:
    key = DraftKey(clear := Clear())
    containers = []
    for name in ("narrow", "wide"):
        vault = VaultFile(tmp_path / name, key=key, recording_id="r-1", head=HEAD, frame_bytes=2, silence=0)
        _append(vault, bytes(1000))
        vault.close()
        containers.append((tmp_path / name).read_bytes())
    narrow, wide = containers
    assert len(set(_spans(narrow) + _spans(wide))) == 2  # the same content, under another nonce
    at = parse_heading(narrow, subject=AUDIO).blocks_at
    with pytest.raises(EnvelopeUnopened):
        _plain(narrow[:at] + wide[at:], BlockOpener(clear.key))
    with pytest.raises(EnvelopeUnopened, match="another key"):
        _plain(narrow, BlockOpener(bytes(32)))


def test_nothing_of_what_was_silenced_or_cut_off_is_left_in_the_container(tmp_path: Path) -> None:
    vault, opener = _vault(tmp_path / "d")
    said = (
        _append(vault, os.urandom(3000)) + _append(vault, os.urandom(3000)) + _append(vault, os.urandom(3000))
    )
    vault.sync()
    before = _spans((tmp_path / "d").read_bytes())
    vault.fill(SILENCE, start=100 + 2000, end=100 + 6500)
    vault.resize(100 + 8000)
    vault.close()
    after = (tmp_path / "d").read_bytes()
    assert len(before) == 3
    assert not any(sealed[at : at + 16] in after for sealed in before for at in range(0, 2984, 8))
    silent = said[:2000] + bytes([SILENCE]) * 4500 + said[6500:8000]
    assert _plain(after, opener) == HEAD + silent


@pytest.mark.parametrize("change", ["fill", "resize"])
def test_a_cut_before_the_old_is_destroyed_shows_the_new_and_standing_destroys_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    vault, opener = _vault(tmp_path / "d")
    said = _append(vault, os.urandom(3000)) + _append(vault, os.urandom(3000))
    old = _spans((tmp_path / "d").read_bytes())
    monkeypatch.setattr(VaultFile, "_destroy", lambda self, blocks: None)
    if change == "fill":
        vault.fill(SILENCE, start=100 + 2000, end=100 + 2500)
        wanted, replaced = said[:2000] + bytes([SILENCE]) * 500 + said[2500:], old[:1]
    else:
        vault.resize(100 + 2000)
        wanted, replaced = said[:2000], old
    vault.close()
    left = (tmp_path / "d").read_bytes()
    assert all(sealed in left for sealed in replaced)
    assert _plain(left, opener) == HEAD + wanted
    standing = stand(tmp_path / "d", silent=[])
    stood = (tmp_path / "d").read_bytes()
    assert _plain(stood, opener) == HEAD + wanted
    assert (standing.plain_bytes, standing.destroyed) == (100 + len(wanted), ())
    assert not any(sealed[at : at + 16] in stood for sealed in replaced for at in range(0, 2984, 8))


def test_standing_drops_a_torn_end_and_tells_what_it_destroyed(tmp_path: Path) -> None:
    vault, opener = _vault(tmp_path / "d")
    said = b"".join(_append(vault, os.urandom(1000)) for _ in range(5))
    vault.close()
    with (tmp_path / "d").open("ab") as out:
        out.write(b"BLCK" + bytes(100))
    standing = stand(tmp_path / "d", silent=[(100 + 1500, 100 + 1600)], end_bytes=100 + 4500)
    assert standing.destroyed == ((100 + 1000, 100 + 2000),)
    assert standing.plain_bytes == 100 + 4000
    assert standing.heading.recording_id == "r-1"
    assert standing.size_bytes == (tmp_path / "d").stat().st_size
    reader = _reader((tmp_path / "d").read_bytes(), opener, salvage=True)
    assert b"".join(reader.plain()) == HEAD + said[:1000] + bytes([SILENCE]) * 1000 + said[2000:4000]
    assert reader.findings == ["octets 1100 to 2100 were destroyed or never written"]


def test_what_is_no_container_stands_as_it_is_and_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"RIFF" + bytes(500), b"RECDRAFT" + bytes(500)):
        (tmp_path / "d").write_bytes(content)
        with pytest.raises(EnvelopeUnopened, match="does not begin as a draft's container"):
            stand(tmp_path / "d", silent=[])
        assert (tmp_path / "d").read_bytes() == content


@pytest.mark.parametrize("where", [HEADING_BYTES + 2 * (40 + 100 + 16) + 8, -1, -200])
def test_a_disk_that_gives_back_other_octets_fails_the_draft(tmp_path: Path, where: int) -> None:
    vault, _ = _vault(tmp_path / "d")
    _append(vault, os.urandom(1000))
    at = where if where >= 0 else (tmp_path / "d").stat().st_size + where
    os.pwrite(vault.descriptor, bytes([os.pread(vault.descriptor, 1, at)[0] ^ 1]), at)
    with pytest.raises(DraftFailed, match=r"fewer blocks|it was altered"):
        vault.read_into(memoryview(bytearray(2000)), offset_bytes=0)
    os.truncate(vault.descriptor, 800)
    with pytest.raises(DraftFailed, match="bytes on disk"):
        _ = vault.size_bytes


def test_an_hour_in_small_blocks_reads_back_in_bounded_steps(tmp_path: Path) -> None:
    vault, opener = _vault(tmp_path / "d")
    block = os.urandom(3200)
    for _ in range(3000):
        _append(vault, block)
    buffer = memoryview(bytearray(3 * BLOCK_MAX_BYTES))
    assert vault.read_into(buffer, offset_bytes=100 + 3200 * 1000 + 7) == len(buffer)
    assert bytes(buffer[:3193]) == block[7:]
    assert vault.size_bytes == 100 + 3000 * 3200
    overhead = (tmp_path / "d").stat().st_size / vault.size_bytes
    assert overhead < 1.02
    reader = _reader((tmp_path / "d").read_bytes(), opener)
    assert max(len(piece) for piece in reader.plain()) == 3200
