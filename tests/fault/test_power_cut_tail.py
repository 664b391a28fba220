"""The power goes during calls of every kind, and what the tail holds then: a second is lost at most, and
nothing is in it that must not be on a disk.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import soundfile

from dsp import dtmf
from recorderd.archive.verdicts import Verdict
from recorderd.core.events import Ev
from recorderd.core.messages import ControlAction, RecordingState, SessionEnded
from recorderd.evidence.draft_cipher import BlockOpener
from recorderd.evidence.draft_container import ContainerReader
from recorderd.evidence.keys import Signer
from recorderd.record.session import Recording
from recorderd.record.tail_block import RowKind
from recorderd.record.tail_files import TAIL_DIR, read_tail
from recorderd.spool.layout import Place
from recorderd.wire.manifest import Manifest, manifest_name, parse_manifest
from tests.support import speech
from tests.support.bundles import audio_of
from tests.support.lost_writes import Sync
from tests.support.power_cut_scene import (
    END_MS,
    KINDS,
    PROMISED_MS,
    Scene,
    begin,
    house,
    memory,
    noted,
    recovered,
)
from tests.support.recipients import openssl_opens
from tests.support.sealed_calls import held, told, verdict_on
from tests.support.studio import RATE_HZ, Studio

__all__ = ["house", "memory"]
MOMENTS: Final = int(os.environ.get("POWER_CUTS", "200")) // 8  # of each kind; ``make soak`` takes more
SOONER_MS: Final = 200  # by which a tail that follows the drains is kept
PAUSED, ON = RecordingState.PAUSED, RecordingState.ON
DRAINED_TWICE: Final = [ms for ms in range(0, END_MS, 100) if ms % 500 != 100]  # when the tap does not
WINDOWS_MS: Final = {  # what is promised does not depend on it
    "clear, rendered each second": 1000,
    "clear, rendered every two seconds": 2000,
    "encrypted, rendered every two seconds": 2000,
    "clear, drained twice a second": 1200,
}


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
    with noted(memory, signer, kind, customer) as scene:
        window_ms = WINDOWS_MS.get(kind, 500)
        if "drained" in kind:
            scene.studio.tap_hangs_ms = DRAINED_TWICE
        scene.studio.run(END_MS, looks_ms=range(0, END_MS, window_ms))
    luck, opened = random.Random(kind), dict[str, BlockOpener]()
    first = next(
        at for at, step in enumerate(scene.trace.steps) if isinstance(step, Sync) and step.everything
    )
    judged = 0
    for until in sorted(luck.sample(range(first, len(scene.trace.steps)), MOMENTS)):
        scene.trace.leave(memory / "left", until=until, luck=luck)
        cut_ms = scene.trace.at_ms[until - 1]
        begun = {f"c{number}" for number in range(3) if cut_ms - 70 * number > PROMISED_MS}
        old = scene.opened_by(until) | begun  # from the first second on
        spool = recovered(scene, memory / "left")
        assert old <= set(spool.ids(Place.READY))
        for name in old:
            folder = spool.path(Place.READY, name)
            if kind == "encrypted names":
                assert verdict_on(folder).verdict is not Verdict.BAD, [
                    str(row) for row in verdict_on(folder).findings
                ]
                judged += 1
                continue
            manifest = parse_manifest((folder / manifest_name(name)).read_bytes())
            _check(scene, folder, _wav(folder, customer, opened), manifest, cut_ms)
            judged += 1
    assert judged >= MOMENTS
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
    scene = begin(tmp_path, signer, kind, customer)
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
    scene = begin(tmp_path, signer, "clear", customer)
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
    studio = begin(tmp_path, signer, "clear", customer).studio
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
    scene = begin(tmp_path, signer, "clear", customer)
    scene.studio.run(3000)
    for path, content in held(tmp_path / "spool" / TAIL_DIR):
        path.write_bytes(content[:8] + b"\x07" + content[9:])
    scene.studio.crash(tail=True)
    assert scene.studio.log.counters()[Ev.TAIL_IGNORED.value]
    for name in scene.voices:
        assert scene.studio.manifest(name).duration_samples <= 2200 * RATE_HZ // 1000  # what was rendered


def test_a_torn_row_costs_no_other_call_anything(house: tuple[Signer, Path], tmp_path: Path) -> None:
    signer, customer = house
    scene = begin(tmp_path, signer, "clear", customer)
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
    scene = begin(tmp_path, signer, "clear", customer)
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
