"""A recorder whose disk fails at a chosen call, and a look at what is left of its one recording."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from recorderd.archive.verification import verify_bundle
from recorderd.evidence.verify import TrustStore
from recorderd.record.chain import Chain
from recorderd.spool.layout import Place, Spool
from recorderd.wire.manifest import Manifest, manifest_name, parse_manifest
from tests.support import faults
from tests.support.bundles import audio_of, make_signer
from tests.support.fault_children import CALL_MS, SESSION
from tests.support.faults import DISK, Fault, Nursery
from tests.support.studio import RATE_HZ, Studio

SPOKEN: Final = CALL_MS * RATE_HZ // 1000


@dataclass(frozen=True)
class Call:
    """One call on the disk of a run without a fault."""

    kind: str
    at: int
    path: str


@dataclass
class Ward:
    """The nursery, the keys, and what a run does to the disk from the beginning of the session on."""

    nursery: Nursery
    folder: Path
    calls: list[Call]

    @property
    def last_audio(self) -> int:
        """The last call that writes samples; the WAV's head is written once more when it is closed."""
        seal = next(n for n, call in enumerate(self.calls) if call.path.endswith(".manifest.json"))
        return seal - 1

    def begin(self, fault: Fault) -> tuple[Path, int]:
        """Record a call with a fault in it; returns its folder and how the program ended."""
        root = Path(fault.under)
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        child = self.nursery.start("call", root, self.folder, log=self.folder / "log", fault=fault)
        return root, child.wait()

    def start_again(self, root: Path, fault: Fault | None = None) -> int:
        """Start again, with a fault in that too; returns how it ended."""
        return self.nursery.start("recover", root, self.folder, log=self.folder / "log", fault=fault).wait()

    def again(self, root: Path) -> None:
        """Start again without a fault."""
        assert self.start_again(root) == 0, (self.folder / "log").read_text(errors="replace")[-3000:]


@contextmanager
def open_ward() -> Iterator[Ward]:
    """Have a nursery, and count; on a disk that is fast."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, faults.nursery(Path(memory)) as nursery:
        folder = Path(memory)
        make_signer(folder, "recorder")
        opened = Ward(nursery, folder, [])
        root, code = opened.begin(Fault(under=str(folder / "root"), log=str(folder / "calls")))
        assert code == 0
        seen: dict[str, int] = {}
        for line in (folder / "calls").read_text().splitlines():
            kind, _, path = line.partition(" ")
            seen[kind] = seen.get(kind, 0) + 1
            if kind in DISK:
                opened.calls.append(Call(kind, seen[kind], path.removeprefix(str(root))))
        first = next(n for n, call in enumerate(opened.calls) if call.path == f"/spool/drafts/{SESSION}")
        opened.calls = opened.calls[first:]
        yield opened


def manifests_of(spool: Spool, root: Path) -> list[Manifest]:
    """Verify what is sealed, one by one and as a chain."""
    found = []
    for name in spool.ids(Place.READY):
        folder = spool.path(Place.READY, name)
        trust = TrustStore.from_files([folder / f"{name}.signer.pem"])
        doubts = "; ".join(str(row) for row in verify_bundle(folder, trust).findings)
        assert not doubts, doubts
        found.append(parse_manifest((folder / manifest_name(name)).read_bytes()))
    found.sort(key=lambda manifest: manifest.sequence)
    assert [manifest.sequence for manifest in found] == list(range(1, len(found) + 1))
    assert Chain(root).head.sequence == len(found)
    return found


def heard(studio: Studio, folder: Path) -> int:
    """Compare the audio with what was spoken; returns how many samples of it there are."""
    samples, _ = soundfile.read(audio_of(folder), dtype="int16", always_2d=True)
    for channel, voice in zip(samples.T, studio.voices, strict=False):
        assert np.array_equal(channel, voice.into(np.zeros(channel.size, np.int16)))
    return min(len(samples), SPOKEN)
