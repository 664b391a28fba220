"""Twins of the golden chain with encrypted metadata, each with one defect.

``blind`` says whether it shows without a recipient's key: a wrong index is signed by whom one trusts, and
only the opened manifest convicts it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from recorderd.wire.names import index_name
from recorderd.wire.recording_index import RecordingIndex
from tests.support.golden import BEGUN_UTC_S, STRANGER
from tests.support.golden_sealed import FIRST, SECOND, SealedChain, enclosed


@dataclass(frozen=True)
class SealedTwin:
    """What is done to the chain, and which words must be said of it."""

    must: frozenset[str]
    blind: bool = True
    before: Callable[[SealedChain], None] | None = None
    after: Callable[[Path], None] | None = None


def _index(position: int, **fields: Any) -> Callable[[SealedChain], None]:
    """Let the index say something else, signed by the recorder's own key."""

    def change(chain: SealedChain) -> None:
        chain.recordings[position].index = lambda index: replace(index, **fields)

    return change


def _index_made(change_index: Callable[[RecordingIndex], RecordingIndex]) -> Callable[[SealedChain], None]:
    def change(chain: SealedChain) -> None:
        chain.recordings[0].index = change_index

    return change


def _long_name(index: RecordingIndex) -> RecordingIndex:
    """Let a name tell who called."""
    *rest, audio = index.files[0], index.files[2], index.files[1]
    named = replace(audio, name=f"20261123-442079460101-{audio.name}")
    return replace(index, files=(*rest, named))


def _recording(position: int, **fields: Any) -> Callable[[SealedChain], None]:
    def change(chain: SealedChain) -> None:
        for name, value in fields.items():
            setattr(chain.recordings[position], name, value)

    return change


def _manifest(position: int, **fields: Any) -> Callable[[SealedChain], None]:
    def change(chain: SealedChain) -> None:
        row = chain.recordings[position]
        row.manifest = replace(row.manifest, **fields)

    return change


def _flip(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / FIRST / f"{FIRST}.{name}"
        held = bytearray(path.read_bytes())
        held[len(held) // 2] ^= 1
        path.write_bytes(held)

    return change


def _exchange(name: str, other: str) -> Callable[[Path], None]:
    """Put a file of the other recording in the place of one."""

    def change(folder: Path) -> None:
        (folder / FIRST / f"{FIRST}.{name}").write_bytes((folder / SECOND / f"{SECOND}.{other}").read_bytes())

    return change


def _remove(recording_id: str, *names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / recording_id / f"{recording_id}.{name}").unlink()

    return change


def _other_manifest(folder: Path) -> None:
    """Encrypt another manifest to the same recipient, in place of the signed one."""
    _, octets = enclosed("x", b'{"caller":"nobody"}', "manifest")
    (folder / FIRST / f"{FIRST}.manifest.json.p7m").write_bytes(octets)


def _surplus(folder: Path) -> None:
    (folder / FIRST / f"{FIRST}.notes.txt").write_bytes(b"who is this")


def _spaced(folder: Path) -> None:
    path = folder / FIRST / index_name(FIRST)
    path.write_bytes(path.read_bytes().replace(b'":', b'": ', 1))


def _gone(folder: Path) -> None:
    for path in (folder / FIRST).iterdir():
        path.unlink()
    (folder / FIRST).rmdir()


def _says(*words: str) -> frozenset[str]:
    return frozenset(words)


BY_NOBODY: Final = _says("signature", "signer_unknown", "certificate")  # as it was the certificate's octet
TWINS: Final[dict[str, SealedTwin]] = {
    "index_octet": SealedTwin(must=_says("index", "signature"), after=_flip("index.json")),
    "index_not_canonical": SealedTwin(must=_says("index", "signature"), after=_spaced),
    "index_signature_octet": SealedTwin(must=BY_NOBODY, after=_flip("index.json.p7s")),
    "index_by_a_stranger": SealedTwin(
        must=_says("signer_unknown", "certificate"), before=_recording(0, index_signer=STRANGER)
    ),
    "index_and_all_by_a_stranger": SealedTwin(
        must=_says("signer_unknown"), before=_recording(0, index_signer=STRANGER, signer=STRANGER)
    ),
    "index_tells_a_number": SealedTwin(must=_says("index"), before=_index_made(_long_name)),
    "index_without_recipients": SealedTwin(must=_says("index"), before=_index(0, recipients=())),
    "index_says_another_class": SealedTwin(
        must=_says("index"), blind=False, before=_index(0, retention_class="a-day")
    ),
    "index_says_another_day": SealedTwin(
        must=_says("index"), blind=False, before=_index(0, started_on="2001-01-01")
    ),
    "index_says_another_recorder": SealedTwin(
        must=_says("index", "beginning"), before=_index(0, recorder_id="rec-2")
    ),
    "index_says_another_place": SealedTwin(
        must=_says("index", "doubled", "missing", "altered"), before=_index(1, sequence=5)
    ),
    "manifest_envelope_octet": SealedTwin(must=_says("digest"), after=_flip("manifest.json.p7m")),
    "manifest_of_the_other": SealedTwin(
        must=_says("digest"), after=_exchange("manifest.json.p7m", "manifest.json.p7m")
    ),
    "another_manifest_for_the_recipient": SealedTwin(must=_says("digest"), after=_other_manifest),
    "manifest_signature_of_the_other": SealedTwin(
        must=_says("signature"), after=_exchange("manifest.json.p7s", "manifest.json.p7s")
    ),
    "audio_octet": SealedTwin(must=_says("digest"), after=_flip("wav.p7m")),
    "audio_signature_octet": SealedTwin(must=BY_NOBODY, after=_flip("wav.p7s")),
    "offer_octet": SealedTwin(must=_says("digest"), after=_flip("offer-1.sip.p7m")),
    "offer_missing": SealedTwin(must=_says("files"), after=_remove(FIRST, "offer-1.sip.p7m")),
    "audio_missing": SealedTwin(must=_says("files"), after=_remove(FIRST, "wav.p7m")),
    "manifest_missing": SealedTwin(must=_says("files"), after=_remove(FIRST, "manifest.json.p7m")),
    "certificate_missing": SealedTwin(must=_says("files"), after=_remove(FIRST, "signer.pem")),
    "file_too_many": SealedTwin(must=_says("files"), after=_surplus),
    "first_of_the_chain_gone": SealedTwin(must=_says("beginning"), after=_gone),
    "signed_before_its_end": SealedTwin(
        must=_says("clock"), blind=False, before=_recording(0, signed_utc_s=BEGUN_UTC_S)
    ),
    "gap_beyond_the_end": SealedTwin(
        must=_says("gaps", "manifest"), blind=False, before=_manifest(0, ended_at="2026-11-23T06:41:06.050Z")
    ),
}


def write_twin(name: str, folder: Path) -> SealedTwin:
    """Write the golden chain with one defect."""
    twin = TWINS[name]
    folder.mkdir(parents=True)
    chain = SealedChain()
    if twin.before is not None:
        twin.before(chain)
    chain.write(folder)
    if twin.after is not None:
        twin.after(folder)
    return twin
