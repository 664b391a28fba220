"""Each call that recording, sealing and publishing make on the disk fails once, or is the program's last.

A call that fails once costs nothing: the recording is whole. A program that is killed leaves what it had
written; the next start seals it, signed as what a crash has left, or sets it aside with a signed entry.
Nothing stands twice and the chain has no hole. Which calls there are a run without a fault shows.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import soundfile

from recorderd.archive.verification import verify_bundle
from recorderd.core.outcomes import QUARANTINED
from recorderd.evidence.verify import TrustStore
from recorderd.record.chain import Chain
from recorderd.spool.layout import Place, Spool
from recorderd.wire.manifest import Manifest, manifest_name, parse_manifest
from tests.support import faults
from tests.support.bundles import audio_of, make_signer
from tests.support.fault_children import CALL_MS, SESSION, play
from tests.support.faults import DISK, KILLED, Fault, Nursery
from tests.support.studio import RATE_HZ, Studio

ALL: Final = bool(os.environ.get("FAULT_ALL"))
REFUSED: Final = ("EIO", "ENOSPC") if ALL else ("EIO",)
KILLS: Final = ("before", "after") if ALL else ("before",)
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

    def again(self, root: Path) -> None:
        """Start again without a fault."""
        child = self.nursery.start("recover", root, self.folder, log=self.folder / "log")
        assert child.wait() == 0, child.text()


@pytest.fixture(scope="module")
def ward() -> Iterator[Ward]:
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


def _manifests(spool: Spool, root: Path) -> list[Manifest]:
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


def _heard(studio: Studio, folder: Path) -> int:
    """Compare the audio with what was spoken; returns how many samples of it there are."""
    samples, _ = soundfile.read(audio_of(folder), dtype="int16", always_2d=True)
    for channel, voice in zip(samples.T, studio.voices, strict=False):
        assert np.array_equal(channel, voice.into(np.zeros(channel.size, np.int16)))
    return min(len(samples), SPOKEN)


def _judge(ward: Ward, studio: Studio, fault: Fault, number: int) -> str:
    """Look at what one cut has left; returns how it ended."""
    root, code = ward.begin(fault)
    killed = fault.how in ("before", "after")
    assert (code == KILLED) is killed, "the fault did not strike"
    ward.again(root)
    spool = Spool(root / "spool", quota_bytes=1 << 30)
    assert spool.ids(Place.DRAFTS) == []
    manifests = _manifests(spool, root)
    recorded = [manifest for manifest in manifests if manifest.recording_id == SESSION]
    if not recorded and killed:
        aside = spool.ids(Place.QUARANTINE)
        assert [row.outcome for row in manifests] == [QUARANTINED] * len(aside)
        assert aside or (number == 0 and fault.how == "before"), "it has left no trace"
        assert number < ward.last_audio
        return "set aside, with an entry" if aside else "not begun"
    assert len(manifests) == 1
    assert recorded[0].audio is not None
    heard = _heard(studio, spool.path(Place.READY, SESSION))
    if not killed or number > ward.last_audio:
        assert heard == SPOKEN
        return "whole"
    assert recorded[0].recovered
    assert recorded[0].end_cause == "crash"
    return "up to the kill"


@pytest.mark.parametrize("hows", [REFUSED, KILLS], ids=["refused", "killed"])
@pytest.mark.timeout(600)
def test_a_call_on_the_disk_that_fails_costs_no_word_that_was_written(
    ward: Ward, hows: tuple[str, ...]
) -> None:
    studio = play(ward.folder / "script", ward.folder)
    ended, wrong = [], []
    for number, call in enumerate(ward.calls):
        for how in hows:
            fault = Fault(under=str(ward.folder / "root"), kind=call.kind, at=call.at, how=how)
            try:
                ended.append(_judge(ward, studio, fault, number))
            except AssertionError as problem:
                wrong.append(f"{fault} {call.path}: {str(problem).splitlines()[0]}")
    print(len(ended), "cuts:", faults.tally(ended))
    assert not wrong, "\n".join(wrong)
    assert len(ended) >= 30 * len(hows)
