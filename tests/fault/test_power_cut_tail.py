"""The power goes during calls of every kind, and what the tail holds then: a second is lost at most, and
nothing is in it that must not be on a disk.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import soundfile

from dsp import dtmf
from recorderd.archive.judgement import Verdict
from recorderd.core.events import Ev
from recorderd.core.messages import Codec, ControlAction, Encoding, RecordingState, SessionEnded
from recorderd.core.terms import AudioFormat, Layout, RecordingTerms
from recorderd.evidence.draft_cipher import BlockOpener
from recorderd.evidence.draft_container import ContainerReader
from recorderd.evidence.envelope import CertificateRecipients
from recorderd.evidence.keys import Signer
from recorderd.evidence.recipients import load_certificate
from recorderd.record.chain import Chain
from recorderd.record.disk import InlineDisk
from recorderd.record.entries import Entries, EntryPolicy
from recorderd.record.recorder import Pace
from recorderd.record.recovery import recover
from recorderd.record.seal import Sealer
from recorderd.record.session import Recording
from recorderd.record.tail_block import RowKind
from recorderd.record.tail_files import TAIL_DIR, read_tail
from recorderd.record.tail_recovery import extend_drafts
from recorderd.spool.layout import Place, Spool
from recorderd.wire.manifest import Manifest, manifest_name, parse_manifest
from tests.support import speech
from tests.support.bundles import audio_of, make_signer
from tests.support.lost_writes import Content, DiskTrace, Sync
from tests.support.recipients import make_recipient, openssl_opens
from tests.support.sealed_calls import held, told, verdict_on
from tests.support.studio import DELAY_MS, RATE_HZ, Studio, Voice
from tests.support.tones import key_tone, to_int16

MOMENTS: Final = int(os.environ.get("POWER_CUTS", "200")) // 8  # of each kind; ``make soak`` takes more
PACE: Final = Pace(window_ms=500, delay_ms=DELAY_MS, checkpoint_s=1, silence_limit_s=0, proof_s=2)
PROMISED_MS: Final = 1000
SOONER_MS: Final = 200  # by which a tail that follows the drains is kept
ANOTHER_BOOT: Final = bytes(16)  # the power has been away
END_MS: Final = 4_800
PAUSED, ON = RecordingState.PAUSED, RecordingState.ON
G722: Final = Codec(payload_type=9, encoding=Encoding.G722, clock_rate_hz=RATE_HZ)
KEYS_MS: Final = range(300, 4_500, 450)

CLEAR: Final = RecordingTerms()
KINDS: Final = {
    "clear": CLEAR,
    "native": RecordingTerms(audio_format=AudioFormat.NATIVE),
    "mixed": RecordingTerms(layout=Layout.MIX),
    "masked": RecordingTerms(rule="cards", mask_dtmf=True),
    "framed": CLEAR,
    "encrypted": RecordingTerms(rule="bank", encrypt="bank"),
    "encrypted names": RecordingTerms(rule="bank", encrypt="bank", encrypt_metadata=True),
    "encrypted and masked": RecordingTerms(rule="bank", encrypt="bank", mask_dtmf=True),
    "clear, rendered each second": CLEAR,
    "clear, rendered every two seconds": CLEAR,
    "encrypted, rendered every two seconds": RecordingTerms(rule="bank", encrypt="bank"),
    "clear, drained twice a second": CLEAR,
}
DRAINED_TWICE: Final = [ms for ms in range(0, END_MS, 100) if ms % 500 != 100]  # when the tap does not
WINDOWS_MS: Final = {  # what is promised does not depend on it
    "clear, rendered each second": 1000,
    "clear, rendered every two seconds": 2000,
    "encrypted, rendered every two seconds": 2000,
    "clear, drained twice a second": 1200,
}


@dataclass
class Scene:
    """Three calls, and all that was done to the disk for them."""

    kind: str
    studio: Studio
    trace: DiskTrace
    voices: dict[str, list[Voice]] = field(default_factory=dict)
    wrapped: dict[str, bytes] = field(default_factory=dict)

    def opened_by(self, until: int) -> set[str]:
        """Name the calls whose audio was begun and made last among so many steps."""
        steps = self.trace.steps[:until]
        last = max(
            (at for at, step in enumerate(steps) if isinstance(step, Sync) and step.everything), default=0
        )
        return {
            self.trace.paths[step.file].split("/")[-2]
            for step in steps[:last]
            if isinstance(step, Content) and self.trace.paths[step.file].endswith((".wav", ".wav.draft"))
        }


def _payload(kind: str, seed: int) -> bytes:
    """Noise; where keys are masked with keys in it."""
    signal = np.random.default_rng(seed).normal(0, 300, END_MS * RATE_HZ // 1000)
    if "masked" in kind:
        for number, at_ms in enumerate(KEYS_MS):
            tone = key_tone(str(number % 10), duration_ms=80)
            at = (at_ms + 10 * seed) * RATE_HZ // 1000
            signal[at : at + tone.size] += tone[: signal.size - at]
    return speech.encode_a_law(to_int16(signal))


def _begin(root: Path, signer: Signer, kind: str, customer: Path, trace: DiskTrace | None = None) -> Scene:
    recipients = CertificateRecipients(recipients=(load_certificate(customer),))
    studio = Studio(root, signer, pace=PACE, slots=12, encryption={"bank": recipients})
    scene = Scene(kind, studio, trace or DiskTrace(root, now_ms=lambda: 0))
    scene.trace.now_ms = lambda: studio.now_ms
    for number in range(3):
        session = studio.session(f"c{number}", ms=70 * number, terms=KINDS[kind])
        fields = {"codec": G722} if kind == "framed" else {}
        scene.voices[session] = [
            studio.voice(
                session,
                f"{session}/{side}",
                first_ms=70 * number,
                packets=END_MS // 20,
                payload=_payload(kind, 10 * number + side),
                side_rank=side,
                lost=range(100, 103) if number == 1 else (),
                **fields,  # type: ignore[arg-type]
            )
            for side in range(2)
        ]
    return scene


def _recovered(scene: Scene, root: Path) -> Spool:
    studio, spool = scene.studio, Spool(root / "spool", quota_bytes=1 << 30)
    spool.prepare()
    chain = Chain(root)
    sealer = Sealer(
        recorder_id="rec-1",
        spool=spool,
        chain=chain,
        signer=studio.signer,
        clock=studio,
        encryption=studio.encryption,
    )
    nothing, log = EntryPolicy(wanted=frozenset()), studio.log
    entries = Entries(sealer=sealer, spool=spool, disk=InlineDisk(), policy=nothing, clock=studio, log=log)
    extend_drafts(spool, spool.ids(Place.DRAFTS), chain=chain, log=log, boot_id=ANOTHER_BOOT)
    assert recover(spool=spool, chain=chain, sealer=sealer, entries=entries, log=log) == ()
    return spool


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> tuple[Signer, Path]:
    folder = tmp_path_factory.mktemp("house")
    return make_signer(folder, "recorder"), make_recipient(folder, "customer")


@pytest.fixture
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def _wav(folder: Path, customer: Path, opened: dict[str, BlockOpener]) -> Path:
    """Give the WAV of a recovered recording, as the holder of its key reads it."""
    containers = list(folder.glob("*.draft"))
    if not containers:
        return audio_of(folder)
    key = next(folder.glob("*.key.p7m"))
    if folder.name not in opened:
        out = folder / "key"
        assert openssl_opens(key, customer, out=out) == b""
        opened[folder.name] = BlockOpener(out.read_bytes())
    content = containers[0].read_bytes()
    reader = ContainerReader(
        lambda at, size: content[at : at + size],
        opened[folder.name],
        size_bytes=len(content),
        subject=folder.name,
    )
    wav = folder / "opened.wav"
    plain = b"".join(reader.plain())
    wav.write_bytes(plain)
    return wav


def _check(scene: Scene, folder: Path, wav: Path, manifest: Manifest, cut_ms: int) -> None:
    """What was spoken until a second ago is there; elsewhere is silence, and the manifest says so."""
    name = folder.name
    begun_ms = 70 * int(name[1:])
    sooner_ms = SOONER_MS if "drained" in scene.kind else 0
    promised = (cut_ms - PROMISED_MS + sooner_ms - begun_ms) * RATE_HZ // 1000
    assert manifest.recovered and manifest.duration_samples * RATE_HZ // manifest.sample_rate_hz >= promised
    data = wav.read_bytes()
    frame_bytes = manifest.channels * (1 if scene.kind == "native" else 2)
    held_bytes = len(data) - data.index(b"data") - 8
    assert abs(held_bytes // frame_bytes - manifest.duration_samples) <= 1
    if scene.kind in ("framed", "mixed", "native"):
        return
    at = data.index(b"data") + 8
    samples = np.frombuffer(data[at : at + manifest.duration_samples * frame_bytes], dtype="<i2")
    for channel, voice, entry in zip(
        samples.reshape(-1, manifest.channels).T, scene.voices[name], manifest.streams, strict=True
    ):
        spoken = voice.into(np.zeros(channel.size, np.int16), session_ms=begun_ms)
        silent = np.zeros(channel.size, dtype=bool)
        for gap in entry.gaps:
            silent[gap.start_samples : gap.start_samples + gap.length_samples] = True
        assert not channel[silent].any()
        assert np.array_equal(channel[~silent], spoken[~silent])
        missing = sum(gap.length_samples for gap in entry.gaps if gap.cause != "masked")
        assert missing <= 3 * 160 + 700, entry.gaps  # lost packets, and what the last window had of the next


@pytest.mark.parametrize("kind", KINDS)
def test_a_power_cut_costs_a_call_of_any_kind_a_second_at_most(
    kind: str, house: tuple[Signer, Path], memory: Path
) -> None:
    signer, customer = house
    with pytest.MonkeyPatch.context() as patch:
        (memory / "day").mkdir()
        trace = DiskTrace(memory / "day", now_ms=lambda: 0)
        with trace.noting(patch):
            scene = _begin(memory / "day", signer, kind, customer, trace)
            window_ms = WINDOWS_MS.get(kind, 500)
            if "drained" in kind:
                scene.studio.tap_hangs_ms = DRAINED_TWICE
            scene.studio.run(END_MS, looks_ms=range(0, END_MS, window_ms))
    luck, opened = random.Random(kind), dict[str, BlockOpener]()
    first = next(
        at for at, step in enumerate(scene.trace.steps) if isinstance(step, Sync) and step.everything
    )
    recovered = 0
    for until in sorted(luck.sample(range(first, len(scene.trace.steps)), MOMENTS)):
        scene.trace.leave(memory / "left", until=until, luck=luck)
        cut_ms = scene.trace.at_ms[until - 1]
        begun = {f"c{number}" for number in range(3) if cut_ms - 70 * number > PROMISED_MS}
        old = scene.opened_by(until) | begun  # from the first second on
        spool = _recovered(scene, memory / "left")
        assert old <= set(spool.ids(Place.READY))
        for name in old:
            folder = spool.path(Place.READY, name)
            if kind == "encrypted names":
                assert verdict_on(folder).verdict is not Verdict.BAD, [
                    str(row) for row in verdict_on(folder).findings
                ]
                recovered += 1
                continue
            manifest = parse_manifest((folder / manifest_name(name)).read_bytes())
            _check(scene, folder, _wav(folder, customer, opened), manifest, cut_ms)
            recovered += 1
    assert recovered >= MOMENTS
    if "masked" in kind:
        _finds_no_key(scene.studio)


def _finds_no_key(studio: Studio) -> None:
    """Neither in what was recorded nor in the tail."""
    blocks, problems = read_tail(studio.spool.root)
    assert blocks and not problems
    for block, octets in blocks:
        for row in block.table:
            if row["kind"] != RowKind.FRAMES:
                assert row["kind"] == RowKind.SEALED
                continue
            size = int(row["size"]) - int(row["notes_bytes"])
            frames = np.frombuffer(octets[int(row["at"]) : int(row["at"]) + size], dtype="<i2")
            for channel in frames.reshape(-1, int(row["channels"])).T.copy():
                assert not dtmf.detect(channel, rate_hz=RATE_HZ)


@pytest.mark.parametrize("kind", ["encrypted", "encrypted names", "encrypted and masked"])
def test_nothing_of_an_encrypted_call_is_in_the_tail_in_clear(
    kind: str, house: tuple[Signer, Path], tmp_path: Path
) -> None:
    signer, customer = house
    scene = _begin(tmp_path, signer, kind, customer)
    seen = 0
    for ms in range(100, 4000, 300):
        scene.studio.run(ms)
        for path, content in held(tmp_path / "spool" / TAIL_DIR):
            seen += len(content)
            assert not told(content), f"{path} at {ms} ms"
            for voices in scene.voices.values():
                for voice in voices:
                    octets = speech.encode_a_law(voice.samples)
                    linear = voice.samples.astype("<i2").tobytes()
                    assert not any(octets[at : at + 16] in content for at in range(0, len(octets) - 16, 1600))
                    assert not any(linear[at : at + 16] in content for at in range(0, len(linear) - 16, 3200))
    assert seen, "there was no tail"


def test_what_must_not_be_kept_goes_from_the_tail_as_well(house: tuple[Signer, Path], tmp_path: Path) -> None:
    signer, customer = house
    scene = _begin(tmp_path, signer, "clear", customer)
    studio = scene.studio
    studio.change("c0", RecordingState.ERASED, ms=3050, action=ControlAction.OBJECT)  # type: ignore[arg-type]
    studio.change("c1", PAUSED, ms=2500, put_ms=3050)  # type: ignore[arg-type]
    studio.run(3000)
    before = b"".join(content for _, content in held(tmp_path / "spool" / TAIL_DIR))
    octets = {name: speech.encode_a_law(voices[0].samples) for name, voices in scene.voices.items()}
    assert any(octets["c0"][at : at + 80] in before for at in range(0, len(octets["c0"]), 80))
    studio.run(3500)
    left = b"".join(content for _, content in held(tmp_path / "spool" / TAIL_DIR))
    assert not any(octets["c0"][at : at + 16] in left for at in range(0, len(octets["c0"]) - 16, 16))
    paused = (2500 - 70) * RATE_HZ // 1000
    assert not any(octets["c1"][at : at + 16] in left for at in range(paused, len(octets["c1"]) - 16, 16))
    assert any(octets["c2"][at : at + 80] in left for at in range(0, len(octets["c2"]), 80))


def test_calls_that_are_handed_on_do_not_let_the_tail_of_others_wait(
    house: tuple[Signer, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer, customer = house
    studio = _begin(tmp_path, signer, "clear", customer).studio
    studio.end("c0", ms=3400)  # type: ignore[arg-type]
    studio.run(3900)
    hand_on = studio.recorder.closing.render

    def slowly(recording: Recording, ended: SessionEnded) -> None:
        hand_on(recording, ended)
        studio.now_ms += 600
        studio._drain()

    monkeypatch.setattr(studio.recorder.closing, "render", slowly)
    studio.now_ms = 4000
    studio._drain()
    studio.recorder.round(studio.mono_ns())
    block, _ = read_tail(tmp_path / "spool")[0][-1]
    (row,) = [row for row in block.table if row["recording"] == b"c2"]
    assert (int(row["start"]) + int(row["frames"])) * 1000 // RATE_HZ >= 4600 - 140 - 60


def test_a_tail_of_another_version_is_named_and_ignored(house: tuple[Signer, Path], tmp_path: Path) -> None:
    signer, customer = house
    scene = _begin(tmp_path, signer, "clear", customer)
    scene.studio.run(3000)
    for path, content in held(tmp_path / "spool" / TAIL_DIR):
        path.write_bytes(content[:8] + b"\x07" + content[9:])
    scene.studio.crash(tail=True)
    assert scene.studio.log.counters()[Ev.TAIL_IGNORED.value]
    for name in scene.voices:
        assert scene.studio.manifest(name).duration_samples <= 2200 * RATE_HZ // 1000  # what was rendered


def test_a_torn_row_costs_no_other_call_anything(house: tuple[Signer, Path], tmp_path: Path) -> None:
    signer, customer = house
    scene = _begin(tmp_path, signer, "clear", customer)
    scene.studio.run(3000)
    blocks, _ = read_tail(tmp_path / "spool")
    block, octets = blocks[-1]
    (row,) = [row for row in block.table if row["recording"] == b"c0"]
    content = bytes(octets[int(row["at"]) :][: int(row["size"])])
    for path, whole in held(tmp_path / "spool" / TAIL_DIR):
        path.write_bytes(whole.replace(content[:64], bytes(64)))
    scene.studio.crash(tail=True)
    lasts_ms = {name: scene.studio.manifest(name).duration_samples * 1000 // RATE_HZ for name in scene.voices}
    assert lasts_ms["c0"] == pytest.approx(2500, abs=60)
    assert lasts_ms["c2"] == pytest.approx(3000 - 140, abs=60)


def test_the_tail_is_left_out_and_told_of_when_it_cannot_be_written(
    house: tuple[Signer, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer, customer = house
    scene = _begin(tmp_path, signer, "clear", customer)
    write, folder = os.pwrite, str(tmp_path / "spool" / TAIL_DIR)

    def full(descriptor: int, octets: bytes, offset: int) -> int:
        if str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith(folder):
            raise OSError(28, "No space left on device")
        return write(descriptor, octets, offset)

    scene.studio.run(2000)
    monkeypatch.setattr(os, "pwrite", full)
    scene.studio.run(3000)
    assert sum(len(content) for _, content in held(tmp_path / "spool" / TAIL_DIR)) == 0
    monkeypatch.undo()
    for name in scene.voices:
        scene.studio.end(name, ms=4500)  # type: ignore[arg-type]
    scene.studio.run(7000)
    assert scene.studio.log.counters()[Ev.TAIL_LEFT_OUT.value]
    for name, voices in scene.voices.items():
        samples, _ = soundfile.read(audio_of(scene.studio.folder(name)), dtype="int16", always_2d=True)
        if name != "c1":
            assert np.array_equal(
                samples[:, 0], voices[0].into(np.zeros(len(samples), np.int16), session_ms=voices[0].first_ms)
            )
