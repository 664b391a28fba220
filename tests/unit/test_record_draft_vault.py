"""A draft that rests encrypted becomes the WAV, to the octet, that it would have been in clear."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from recorderd.core.errors import DraftFailed
from recorderd.evidence.draft_cipher import DraftKey
from recorderd.record.draft import Draft
from recorderd.record.vault import Vault
from recorderd.wire.wav import WavEncoding
from recorderd.wire.wav_notes import WavNotes

RATE_HZ = 8000


class Nobody:
    """Recipients of a key that only this process needs."""

    def encrypt(self, blocks: Any, *, content_bytes: int) -> Iterator[bytes]:
        yield b""


def _vault() -> Vault:
    return Vault(recording_id="r-1", key=DraftKey(Nobody()))


def _noise(frames: int, channels: int, kind: Any, seed: int) -> np.ndarray:
    limits = np.iinfo(kind)
    rows = np.random.default_rng(seed).integers(limits.min, limits.max, (frames, channels))
    return rows.astype(kind)


@pytest.mark.parametrize("encoding", WavEncoding)
def test_a_call_with_everything_that_can_happen_gives_the_same_file(
    tmp_path: Path, encoding: WavEncoding
) -> None:
    kind = np.int16 if encoding is WavEncoding.PCM16 else np.uint8
    found = []
    for vault in (None, _vault()):
        path = tmp_path / ("x.wav" if vault is None else "x.wav.draft")
        draft = Draft(path, sample_rate_hz=RATE_HZ, channels=1, encoding=encoding, vault=vault)
        for seed in range(5):
            draft.append(_noise(4000, 1, kind, seed))
            draft.checkpoint()
        draft.wipe(3000, 9001)
        draft.widen(2)
        draft.append(_noise(4001, 2, kind, 9))
        draft.wipe(20_000, 20_100)
        draft.cut(22_001)
        draft.append(_noise(1000, 2, kind, 10))
        draft.show_length()
        draft.describe(WavNotes(description="a call"))
        digest, size_bytes = draft.prove()
        found.append((digest, size_bytes, b"".join(draft.plain())))
        draft.close()
    assert found[0] == found[1]
    assert (tmp_path / "x.wav").read_bytes() == found[1][2]
    if encoding is WavEncoding.PCM16:
        read, _ = soundfile.read(tmp_path / "x.wav", dtype="int16")
        assert np.array_equal(read[-1000:], _noise(1000, 2, kind, 10))
    held = (tmp_path / "x.wav.draft").read_bytes()
    assert not any(found[1][2][at : at + 16] in held for at in range(4096, 8000 * encoding.sample_bytes, 64))
    assert not list(tmp_path.glob("*.widening"))


def test_a_disk_that_loses_or_alters_a_block_fails_the_draft(tmp_path: Path) -> None:
    for number, at in enumerate((-5, -9000)):
        path = tmp_path / f"{number}.draft"
        draft = Draft(path, sample_rate_hz=RATE_HZ, channels=1, vault=_vault())
        for seed in range(3):
            draft.append(_noise(4000, 1, np.int16, seed))
        octets = bytearray(path.read_bytes())
        octets[at] ^= 1
        path.write_bytes(octets)
        with pytest.raises(DraftFailed, match="it was altered"):
            draft.prove()
        draft.close()


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.draft").write_bytes(b"something")
    with pytest.raises(DraftFailed, match="File exists"):
        Draft(tmp_path / "x.draft", sample_rate_hz=RATE_HZ, channels=1, vault=_vault())
    assert (tmp_path / "x.draft").read_bytes() == b"something"
