"""Twins of the golden chain, each with one defect: altered from outside, or signed anew by a holder of a key.

Each says which words a verifier must find for it, and which others may follow from the same defect.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from recorderd.core.clock import NS_PER_S, utc_text
from recorderd.wire.chain_head import head_name
from recorderd.wire.manifest import GENESIS_SHA256, Gap, ProofEntry, audio_name
from tests.support.golden import (
    BEGUN_UTC_S,
    EXPIRED,
    FIRST,
    IDS,
    RATE_HZ,
    RECORDER,
    SAMPLES,
    SECOND,
    STRANGER,
    THIRD,
    Chain,
    KnownSigner,
    file_entries,
)


@dataclass(frozen=True)
class Twin:
    """The golden chain with one defect: what is done to it, and what must be said of it."""

    must: frozenset[str]  # one of these words must be said: of one fault, two readers may say either
    may: frozenset[str]  # what else may follow from it
    says: tuple[str, ...]  # words that our own finding must contain
    before: Callable[[Chain], None] | None = None  # before it is signed
    after: Callable[[Path], None] | None = None  # after


def _change(position: int, **fields: Any) -> Callable[[Chain], None]:
    def change(chain: Chain) -> None:
        recording = chain.recordings[position]
        recording.manifest = replace(recording.manifest, **fields)

    return change


def _stream_change(position: int, **fields: Any) -> Callable[[Chain], None]:
    def change(chain: Chain) -> None:
        recording = chain.recordings[position]
        first, *rest = recording.manifest.streams
        recording.manifest = replace(recording.manifest, streams=(replace(first, **fields), *rest))

    return change


def _audio_change(position: int, at: int, octets: bytes) -> Callable[[Chain], None]:
    """Change the WAV and sign it so: what the holder of the key could do, or a recorder with a fault."""

    def change(chain: Chain) -> None:
        recording = chain.recordings[position]
        name = audio_name(recording.manifest.recording_id)
        audio = bytearray(recording.files[name])
        audio[at : at + len(octets)] = octets
        recording.files[name] = bytes(audio)
        recording.manifest = replace(recording.manifest, files=file_entries(recording.files))

    return change


def _raw(recording_id: str, ending: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / recording_id / f"{recording_id}.{ending}"
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new, 1))

    return change


def _signed_at(position: int, utc_s: int) -> Callable[[Chain], None]:
    def change(chain: Chain) -> None:
        chain.recordings[position].signed_utc_s = utc_s

    return change


def _signed_by(position: int, signer: int) -> Callable[[Chain], None]:
    def change(chain: Chain) -> None:
        chain.recordings[position].signer = signer

    return change


def _without(position: int, *, relinked: bool) -> Callable[[Chain], None]:
    """Leave a recording out; ``relinked`` as the holder of the key could, who signs the rest anew."""

    def change(chain: Chain) -> None:
        del chain.recordings[position]
        if relinked:
            for number, row in enumerate(chain.recordings, start=1):
                row.manifest = replace(row.manifest, sequence=number)
            chain.heads = [head for head in chain.heads if head[1] <= len(chain.recordings)]

    return change


def _head_change(heads: list[tuple[int, int]]) -> Callable[[Chain], None]:
    def change(chain: Chain) -> None:
        chain.heads = heads

    return change


def _head_by(signer: int) -> Callable[[Chain], None]:
    def change(chain: Chain) -> None:
        chain.head_signer = signer

    return change


def _file(recording_id: str, ending: str) -> str:
    return f"{recording_id}/{recording_id}.{ending}"


def _cut(name: str, size_bytes: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:size_bytes])

    return change


def _copy(source: str, target: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        shutil.copyfile(folder / source, folder / target)

    return change


def _swap(one: str, other: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
        (folder / one).write_bytes(second)
        (folder / other).write_bytes(first)

    return change


def _drop(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()

    return change


def _drop_folder(recording_id: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        shutil.rmtree(folder / recording_id)

    return change


def _replay(folder: Path) -> None:
    shutil.copytree(folder / FIRST, folder / "copy")


def _from_other(chain_change: Callable[[Chain], None], recording_id: str) -> Callable[[Path], None]:
    """Put in a recording of a chain that the holder of the key made differently."""

    def change(folder: Path) -> None:
        other = folder.parent / f"{folder.name}.other"
        other.mkdir()
        chain = Chain()
        chain_change(chain)
        chain.write(other)
        shutil.rmtree(folder / recording_id)
        shutil.copytree(other / recording_id, folder / recording_id)
        shutil.rmtree(other)

    return change


def _swapped_places(chain: Chain) -> None:
    """Let the second and the third exchange their numbers, and keep whom they name."""
    chain.recordings[1].manifest, chain.recordings[2].manifest = (
        replace(chain.recordings[1].manifest, sequence=3),
        replace(chain.recordings[2].manifest, sequence=2),
    )


def _alter_head(folder: Path) -> None:
    path = folder / "heads" / head_name(RECORDER, 2)
    path.write_bytes(path.read_bytes().replace(b'"calls":7', b'"calls":1'))


def _signature_of(target: str, source: str) -> Callable[[Path], None]:
    return _copy(f"{source}.p7s", f"{target}.p7s")


def _twin(must: str, *may: str, says: tuple[str, ...] = (), **how: Any) -> Twin:
    return Twin(must=frozenset(must.split("|")), may=frozenset(may), says=says, **how)


def _append(path: Path, octets: bytes) -> None:
    path.write_bytes(path.read_bytes() + octets)


def _write_certificate(path: Path, number: int) -> None:
    path.write_bytes(KnownSigner(number).certificate_pem)


def _leave_out(folder: Path) -> None:
    """Let the holder of the key leave the second out and sign a chain without it; the heads are elsewhere."""
    heads = {path.name: path.read_bytes() for path in (folder / "heads").iterdir()}
    for path in list(folder.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    chain = Chain()
    _without(1, relinked=True)(chain)
    chain.write(folder)
    for name, content in heads.items():
        (folder / "heads" / name).write_bytes(content)


def _exchange_places(folder: Path) -> None:
    """Give the second and third each other's numbers, with the links that they had."""
    originals = {
        recording_id: hashlib.sha256((folder / _file(recording_id, "manifest.json")).read_bytes()).hexdigest()
        for recording_id in IDS
    }
    shutil.rmtree(folder / "heads")
    for recording_id in IDS:
        shutil.rmtree(folder / recording_id)
    chain = Chain()
    chain.link, chain.heads = False, []
    names = [GENESIS_SHA256, originals[FIRST], originals[SECOND]]
    for recording, named in zip(chain.recordings, names, strict=True):
        recording.manifest = replace(recording.manifest, previous_manifest_sha256=named)
    _swapped_places(chain)
    chain.write(folder)


def _set_back(chain: Chain) -> None:
    """Let the clock be an hour behind from the third recording on."""
    third = chain.recordings[2]
    begun_utc_ns = (BEGUN_UTC_S - 3600) * NS_PER_S
    third.manifest = replace(
        third.manifest,
        started_at=utc_text(begun_utc_ns),
        ended_at=utc_text(begun_utc_ns + SAMPLES * NS_PER_S // RATE_HZ),
    )
    third.signed_utc_s = BEGUN_UTC_S - 3599


_WAV, _MANIFEST = _file(FIRST, "wav"), _file(FIRST, "manifest.json")
_DATA: Final = 4096
_RATE_AT: Final = 12 + 8 + 28 + 8 + 4  # RIFF, JUNK, then tag and channels of fmt
TWINS: Final[dict[str, Twin]] = {
    # altered from outside
    "sample-altered": _twin("digest", "signature", after=_raw(FIRST, "wav", b"\x25\x00", b"\x24\x00")),
    "wav-cut": _twin("digest", "signature", "wav", after=_cut(_WAV, _DATA + 800)),
    "wav-longer": _twin(
        "digest", "signature", "wav", after=lambda folder: _append(folder / _WAV, bytes(4))
    ),
    "wav-missing": _twin("files", after=_drop(_WAV)),
    "offer-altered": _twin("digest", after=_raw(FIRST, "offer-1.sip", b"golden", b"leaden")),
    "offer-missing": _twin("files", after=_drop(_file(FIRST, "offer-1.sip"))),
    "stranger-file": _twin("files", after=_copy(_WAV, _file(FIRST, "wav.bak"))),
    "caller-altered": _twin("signature", "altered", after=_raw(FIRST, "manifest.json", b'"1001"', b'"1009"')),
    "gap-hidden": _twin("signature", "altered", after=_raw(FIRST, "manifest.json", b"network_loss", b"dtmf")),
    "manifest-cut": _twin("manifest", "signature", "missing", "beginning", after=_cut(_MANIFEST, 500)),
    "signature-missing": _twin("files", after=_drop(f"{_WAV}.p7s")),
    "signature-cut": _twin("signature", after=_cut(f"{_WAV}.p7s", 300)),
    "signature-swapped": _twin("signature", after=_swap(f"{_WAV}.p7s", f"{_MANIFEST}.p7s")),
    "audio-swapped": _twin("digest", "signature", "wav", after=_swap(_WAV, _file(THIRD, "wav"))),
    "audio-and-signature-swapped": _twin(
        "digest",
        "wav",
        "clock",
        after=lambda folder: (
            _swap(_WAV, _file(THIRD, "wav"))(folder),
            _swap(f"{_WAV}.p7s", f"{_file(THIRD, 'wav')}.p7s")(folder),
        ),
    ),
    "certificate-exchanged": _twin(
        "certificate", after=lambda folder: _write_certificate(folder / _file(FIRST, "signer.pem"), STRANGER)
    ),
    # signed anew by somebody
    "signed-by-a-stranger": _twin("signer_unknown", before=_signed_by(2, STRANGER)),
    "signed-after-expiry": _twin("certificate", before=_signed_by(2, EXPIRED)),
    "signed-before-it-ended": _twin("clock", before=_signed_at(0, BEGUN_UTC_S)),
    "gap-that-no-sum-has": _twin(
        "gaps", before=_stream_change(0, first_sample=-1, packets_received=0), says=("in no gap",)
    ),
    "gaps-overlap": _twin(
        "manifest|gaps",
        "missing",
        "beginning",
        before=_stream_change(
            0,
            gaps=(
                Gap(start_samples=0, length_samples=50, cause="dtmf"),
                Gap(start_samples=20, length_samples=50, cause="dtmf"),
            ),
        ),
    ),
    "gap-of-no-known-cause": _twin(
        "manifest|gaps",
        "missing",
        "beginning",
        before=_stream_change(0, gaps=(Gap(start_samples=0, length_samples=9, cause="bad_luck"),)),
    ),
    "first-samples-in-no-gap": _twin("gaps", before=_stream_change(0, first_sample=200)),
    "longer-than-it-lasted": _twin(
        "gaps", before=_change(0, ended_at=utc_text((BEGUN_UTC_S + 10) * NS_PER_S))
    ),
    "shorter-than-the-audio": _twin(
        "wav|gaps", "wav", "gaps", before=_change(2, duration_samples=399, streams=())
    ),
    "another-tree": _twin(
        "proof", before=_change(0, proof=ProofEntry(leaf_samples=8000, leaves=1, root_sha256="5a" * 32))
    ),
    "another-rate": _twin("wav", before=_audio_change(0, _RATE_AT, struct.pack("<I", 16_000))),
    "size-never-written": _twin("wav", before=_audio_change(0, _DATA - 4, bytes(4))),
    "riff-size-never-written": _twin("wav", before=_audio_change(0, 4, bytes(4))),
    "another-coding": _twin("wav", before=_change(2, audio_format="pcm16")),
    "audio-passed-off-as-refused": _twin(
        "files",
        after=lambda folder: [_drop(name)(folder) for name in (_WAV, f"{_WAV}.p7s")] and None,
    ),
    # the chain
    "one-removed": _twin("missing", after=_drop_folder(SECOND), says=("2 is missing",)),
    "first-removed": _twin("beginning", after=_drop_folder(FIRST)),
    "newest-removed": _twin("missing", after=_drop_folder(THIRD), says=("3 is missing",)),
    "one-left-out-and-signed-anew": _twin("missing", says=("a signed head states 3",), after=_leave_out,
    ),
    "one-replayed": _twin("replayed", after=_replay),
    "one-exchanged-by-the-keyholder": _twin(
        "altered",
        after=_from_other(_change(1, end_cause="503 something else"), SECOND),
        says=("follows",),
    ),
    "places-exchanged": _twin(
        "reordered", "altered", "clock", after=_exchange_places
    ),
    "clock-set-back": _twin(
        "clock",
        before=_set_back,
        says=("went back",),
    ),
    "head-altered": _twin("head", after=_alter_head),
    "head-missing": _twin("head", before=_head_change([(1, 1), (3, 3)])),
    "head-of-a-stranger": _twin("head", before=_head_by(STRANGER)),
}  # fmt: skip


def write_twin(name: str, folder: Path) -> Twin:
    """Write one twin."""
    twin, chain = TWINS[name], Chain()
    folder.mkdir(parents=True)
    if twin.before is not None:
        twin.before(chain)
    chain.write(folder)
    if twin.after is not None:
        twin.after(folder)
    return twin
