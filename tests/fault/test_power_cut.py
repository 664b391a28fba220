"""The power goes at 200 moments of twenty calls: every draft that was synced once is sealed and verifies.

What is promised: audio survives that is older than a second: half of it lies between two blocks of the tail,
what the tap takes to drain and the disk for a sync comes on top. A draft that no sync has seen yet may be
gone, in whole or in part.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import soundfile

from recorderd.archive.verification import verify_bundle
from recorderd.core.messages import ControlAction, RecordingState
from recorderd.core.terms import AudioFormat, RecordingTerms
from recorderd.evidence.digest import sha256_file
from recorderd.evidence.verify import TrustStore
from recorderd.record.chain import Chain
from recorderd.record.disk import InlineDisk
from recorderd.record.entries import Entries, EntryPolicy
from recorderd.record.recorder import Pace
from recorderd.record.recovery import recover
from recorderd.record.seal import Sealer
from recorderd.record.tail_recovery import extend_drafts
from recorderd.spool.layout import Place, Spool
from recorderd.wire.manifest import Manifest, manifest_name, parse_manifest
from tests.support import g711_reference
from tests.support.bundles import audio_of, make_signer
from tests.support.lost_writes import Content, DiskTrace, Name, Sync
from tests.support.studio import DELAY_MS, RATE_HZ, Studio, Voice

CALLS: Final = 20
MOMENTS: Final = int(os.environ.get("POWER_CUTS", "200"))
PACE: Final = Pace(window_ms=500, delay_ms=DELAY_MS, checkpoint_s=1, silence_limit_s=0, proof_s=2)
PROMISED_MS: Final = 1000
ANOTHER_BOOT: Final = bytes(16)  # the power has been away
END_MS: Final = 12_000
VERIFIED_WHOLE: Final = 3  # of what a moment leaves, so manieth recording has its signatures verified
LATE, JOINED, ERASED, NATIVE = 1, 2, 3, 4  # what happens to every fifth call


@dataclass
class Day:
    """Twenty calls, and all that was done to the disk for them."""

    studio: Studio
    trace: DiskTrace
    begun_ms: dict[str, int]
    ended_ms: dict[str, int]
    voices: dict[str, list[Voice]]

    def synced_before(self, until: int) -> int:
        """Find the last sync of everything among so many steps."""
        syncs = [at for at, step in enumerate(self.trace.steps[:until]) if _is_whole_sync(step)]
        return syncs[-1] if syncs else -1

    def begun_before(self, until: int) -> set[str]:
        """List the calls whose audio was begun among so many steps."""
        steps = self.trace.steps[: max(0, until)]
        return {self._call(step.file) for step in steps if self._is_of(step, ".wav")}

    def signed_before(self, until: int) -> dict[str, int]:
        """Tell how many samples of each call the last checkpoint covers that is among so many steps."""
        found = {}
        for step in self.trace.steps[: max(0, until)]:
            if self._is_of(step, "journal.jsonl") and b'"checkpoint"' in step.octets:
                row = json.loads(step.octets)
                found[self._call(step.file)] = row["checkpoint"]["samples"]
        return found

    def _is_of(self, step: Any, ending: str) -> bool:
        return isinstance(step, Content) and self.trace.paths[step.file].endswith(ending)

    def _call(self, file: int) -> str:
        return self.trace.paths[file].split("/")[-2]


def _is_whole_sync(step: Name | Content | Sync) -> bool:
    return isinstance(step, Sync) and step.everything


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    """Record twenty calls, of which some are paused late, joined, erased or kept as octets."""
    root = tmp_path_factory.mktemp("day")
    signer = make_signer(root, "recorder")
    luck = random.Random(20)
    with pytest.MonkeyPatch.context() as patch:
        studio_ms = [0]
        trace = DiskTrace(root, now_ms=lambda: studio_ms[0])
        with trace.noting(patch):
            studio = Studio(root, signer, pace=PACE, slots=3 * CALLS)
            trace.now_ms = lambda: studio.now_ms
            day = Day(studio, trace, {}, {}, {})
            for number in range(CALLS):
                _call(day, number, luck)
            studio.run(END_MS)
    assert len(studio.places()["ready"]) == CALLS
    return day


def _call(day: Day, number: int, luck: random.Random) -> None:
    studio, name, kind = day.studio, f"c{number:02}", number % 5
    begin = luck.randrange(0, 5000, 20)
    end = begin + luck.randrange(1500, 5500, 20)
    terms = RecordingTerms(audio_format=AudioFormat.NATIVE) if kind == NATIVE else RecordingTerms()
    session = studio.session(name, ms=begin, terms=terms)
    packets = (end - begin) // 20
    day.begun_ms[name], day.ended_ms[name] = begin, end
    day.voices[name] = [
        studio.voice(session, f"{name}/{side}", first_ms=begin, packets=packets, side_rank=side)
        for side in range(2)
    ]
    if kind == LATE:
        late = min(begin + 1400, end - 100)
        studio.change(session, RecordingState.PAUSED, ms=late - 800, put_ms=late)
        studio.change(session, RecordingState.ON, ms=late + 300)
    if kind == JOINED and packets > 100:
        voice = studio.voice(session, f"{name}/2", first_ms=begin + 1400, packets=packets - 70, side_rank=2)
        day.voices[name].append(voice)
    if kind == ERASED:
        studio.change(session, RecordingState.ERASED, ms=end - 500, action=ControlAction.OBJECT)
    studio.end(session, ms=end)


def _recover(day: Day, root: Path) -> Spool:
    spool = Spool(root / "spool", quota_bytes=1 << 30)
    spool.prepare()
    chain = Chain(root)
    sealer = Sealer(recorder_id="rec-1", spool=spool, chain=chain, signer=day.studio.signer, clock=day.studio)
    nothing = EntryPolicy(wanted=frozenset())  # of what is set aside
    entries = Entries(
        sealer=sealer, spool=spool, disk=InlineDisk(), policy=nothing, clock=day.studio, log=day.studio.log
    )
    extend_drafts(spool, spool.ids(Place.DRAFTS), chain=chain, log=day.studio.log, boot_id=ANOTHER_BOOT)
    assert recover(spool=spool, chain=chain, sealer=sealer, entries=entries, log=day.studio.log) == ()
    return spool


def _heard(day: Day, name: str, folder: Path, until_ms: int) -> None:
    """Every sample is what was spoken then, or the silence of a pause or of a page that the disk has lost."""
    samples, _ = soundfile.read(audio_of(folder), dtype="int16", always_2d=True)
    law = int(name[1:]) % 5 == NATIVE
    quiet = [-8, 8, int(g711_reference.decode(b"\0", law="PCMA")[0])] if law else [0]  # A-law has no zero
    for channel, voice in zip(samples.T, day.voices[name], strict=False):
        spoken = voice.into(np.zeros(channel.size, np.int16), session_ms=day.begun_ms[name])
        differs = channel != spoken
        assert np.isin(channel[differs], quiet).all()
        if int(name[1:]) % 5 != LATE:
            promised = max(0, until_ms - day.begun_ms[name]) * RATE_HZ // 1000
            assert not differs[:promised].any()


def _verified(folder: Path, trust: TrustStore, *, whole: bool) -> Manifest:
    """Verify a recording; signatures, which take most of the time, only when it is to be ``whole``."""
    if whole:
        verdict = verify_bundle(folder, trust)
        assert [str(row) for row in verdict.findings] == []
    manifest = parse_manifest((folder / manifest_name(folder.name)).read_bytes())
    for entry in manifest.files:
        assert sha256_file(folder / entry.name) == (entry.sha256, entry.size_bytes)
    return manifest


def _is_as_sealed(folder: Path, whole: Path) -> bool:
    """Tell whether a recording was sealed before the cut, and nothing of it is another now."""
    left, sealed = ({path.name: path.read_bytes() for path in at.iterdir()} for at in (folder, whole))
    return left == sealed


def _judge(day: Day, spool: Spool, trust: TrustStore, until: int) -> tuple[int, int]:
    """Look at what a recovery has made; returns recordings that were recovered, and samples proved."""
    synced = day.synced_before(until)
    old = day.begun_before(synced)
    signed = day.signed_before(synced)
    cut_ms = day.trace.at_ms[until - 1]
    ready, aside = spool.ids(Place.READY), spool.ids(Place.QUARANTINE)
    assert spool.ids(Place.DRAFTS) == []
    assert not set(aside) & old, [(spool.path(Place.QUARANTINE, x) / "reason.txt").read_text() for x in aside]
    assert old <= set(ready)
    recovered = proved = 0
    for name in ready:
        folder = spool.path(Place.READY, name)
        if _is_as_sealed(folder, day.studio.folder(name)):
            continue
        manifest = _verified(folder, trust, whole=recovered % VERIFIED_WHOLE == 0)
        recovered += manifest.recovered
        proved += manifest.proof.checked_samples
        if manifest.audio is None:
            assert int(name[1:]) % 5 == ERASED and not list(folder.glob("*.wav"))
            continue
        _heard(day, name, folder, cut_ms - PROMISED_MS if name in old else 0)
        if manifest.recovered:
            assert manifest.end_cause == "crash"
            _check_promise(day, name, manifest, cut_ms, name in old)
            if int(name[1:]) % 5 != LATE:
                assert manifest.proof.checked_samples >= signed.get(name, 0)
            assert manifest.proof.checked_samples <= manifest.duration_samples
    return recovered, proved


def _check_promise(day: Day, name: str, manifest: Manifest, cut_ms: int, is_old: bool) -> None:
    """Audio that is older than promised is there."""
    promised_ms = min(cut_ms - PROMISED_MS, day.ended_ms[name]) - day.begun_ms[name]
    if is_old:
        assert manifest.duration_samples >= promised_ms * RATE_HZ // 1000


def test_a_power_cut_at_any_moment_loses_no_more_than_is_promised(day: Day) -> None:
    luck = random.Random(200)
    trust = TrustStore.from_pem(day.studio.signer.certificate_pem)
    first = next(at for at, step in enumerate(day.trace.steps) if _is_whole_sync(step))
    moments = sorted(luck.sample(range(first, len(day.trace.steps)), MOMENTS))
    recovered = proved = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        for until in moments:
            root = Path(memory) / "left"
            day.trace.leave(root, until=until, luck=luck)
            spool = _recover(day, root)
            rows, samples = _judge(day, spool, trust, until)
            recovered, proved = recovered + rows, proved + samples
    assert recovered > 4 * MOMENTS, "the moments were not those of running calls"
    assert proved > MOMENTS * RATE_HZ
