"""The power goes while calls begin and end, and nobody has rendered them yet: the tail has their octets."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from recorderd.core.clock import NS_PER_S
from recorderd.core.ids import SessionId
from recorderd.evidence.draft_cipher import BlockOpener
from recorderd.evidence.draft_container import ContainerReader
from recorderd.evidence.keys import Signer
from recorderd.record.tail_files import read_tail
from recorderd.spool.layout import Place
from recorderd.wire.manifest import manifest_name, parse_manifest
from tests.support.bundles import audio_of
from tests.support.power_cut_scene import END_MS, PROMISED_MS, Scene, begin, house, memory, noted, recovered
from tests.support.recipients import openssl_opens
from tests.support.studio import RATE_HZ

__all__ = ["house", "memory"]
ENDS_MS: Final = (2100, 2700, 3300)
LASTS_MS: Final = 4_800
ROUNDS_MS: Final = range(2000, LASTS_MS, 2000)
MOMENTS: Final = 40


@pytest.mark.parametrize("kind", ["clear", "masked", "encrypted"])
def test_a_call_that_ended_and_waits_for_its_seal_is_whole_up_to_its_last_second(
    kind: str, house: tuple[Signer, Path], memory: Path
) -> None:
    signer, customer = house
    with noted(memory, signer, kind, customer) as scene:
        for number, end_ms in enumerate(ENDS_MS):
            scene.studio.end(SessionId(f"c{number}"), ms=end_ms)
        scene.studio.run(LASTS_MS, looks_ms=ROUNDS_MS)
    trace = scene.trace
    luck = random.Random(kind)
    steps = range(next(at for at, ms in enumerate(trace.at_ms) if ms >= 2200), len(trace.steps))
    waited = 0
    for until in sorted(luck.sample(steps, min(MOMENTS, len(steps)))):
        trace.leave(memory / "left", until=until, luck=luck)
        cut_ms = trace.at_ms[until - 1]
        spool = recovered(scene, memory / "left")
        for number, end_ms in enumerate(ENDS_MS):
            name, begun_ms = f"c{number}", 70 * number
            folder = spool.path(Place.READY, name)
            manifest = parse_manifest((folder / manifest_name(name)).read_bytes())
            promised_ms = min(cut_ms - PROMISED_MS, end_ms) - begun_ms
            lasts_ms = manifest.duration_samples * 1000 / manifest.sample_rate_hz
            assert lasts_ms >= promised_ms - 20, f"{name} at {cut_ms}"
            waited += manifest.recovered and cut_ms - PROMISED_MS > end_ms
            _is_as_spoken(scene, name, _audio(folder, customer), kind=kind)
    assert waited or kind != "clear", "no cut came while a call waited"


def test_what_waits_for_the_key_lasts_before_the_tail_is_emptied(
    house: tuple[Signer, Path], memory: Path
) -> None:
    signer, customer = house
    with noted(memory, signer, "clear", customer) as scene:
        scene.studio.run(1500)
        scene.studio.recorder.checkpoint_ns = 60 * NS_PER_S
        scene.studio.sealer._signer = None  # the token is away
        for name in scene.voices:
            scene.studio.end(SessionId(name), ms=END_MS)
        scene.studio.run(END_MS + 9000)
    assert scene.studio.recorder.closing.waiting == 3
    scene.trace.leave(memory / "left", until=len(scene.trace.steps), luck=random.Random(7))
    spool = recovered(scene, memory / "left")
    for number, name in enumerate(scene.voices):
        folder = spool.path(Place.READY, name)
        manifest = parse_manifest((folder / manifest_name(name)).read_bytes())
        assert manifest.duration_samples * 1000 / RATE_HZ >= END_MS - 70 * number - 20
        _is_as_spoken(scene, name, _audio(folder, customer), kind="clear")


def _audio(folder: Path, customer: Path) -> bytes:
    """Give a WAV; of one that is encrypted the head was written twice, and the second may be torn."""
    if not (containers := list(folder.glob("*.draft"))):
        return audio_of(folder).read_bytes() if not list(folder.glob("*.p7m")) else _opened(folder, customer)
    assert openssl_opens(next(folder.glob("*.key.p7m")), customer, out=folder / "key") == b""
    content = containers[0].read_bytes()
    reader = ContainerReader(
        lambda at, size: content[at : at + size],
        BlockOpener((folder / "key").read_bytes()),
        size_bytes=len(content),
        subject=folder.name,
        salvage=True,
    )
    plain = b"".join(reader.plain())
    assert all(found.startswith(("block 1 of", "slot 1 of")) for found in reader.findings), reader.findings
    return plain


def _opened(folder: Path, customer: Path) -> bytes:
    (envelope,) = folder.glob("*.wav.p7m")
    assert openssl_opens(envelope, customer, out=folder / "opened.wav") == b""
    return (folder / "opened.wav").read_bytes()


def _is_as_spoken(scene: Scene, name: str, content: bytes, *, kind: str) -> None:
    """Compare every sample with what was sent; keys are masked, three packets of one call were lost."""
    at = content.index(b"data") + 8
    samples = np.frombuffer(content[at : at + (len(content) - at) // 4 * 4], dtype="<i2").reshape(-1, 2)
    begun_ms = 70 * int(name[1:])
    for channel, voice in zip(samples.T, scene.voices[name], strict=True):
        spoken = voice.into(np.zeros(channel.size, np.int16), session_ms=begun_ms)
        differs = np.flatnonzero(channel != spoken)
        if kind == "masked":
            assert not channel[differs].any()
        else:  # what is missing at the end was not drained yet when a sample beyond it had come
            assert not channel[differs].any() and differs.size <= 700, (name, differs[:3], differs.size)


def test_how_a_call_begins_is_told_again_after_the_tail_was_emptied(
    house: tuple[Signer, Path], tmp_path: Path
) -> None:
    signer, customer = house
    scene = begin(tmp_path, signer, "clear", customer)
    studio = scene.studio
    studio.run(800, looks_ms=())
    assert studio.recorder._tail._files is not None
    studio.recorder._tail._files.give_back()  # as when the disk was full for a moment
    studio.run(1900, looks_ms=())
    assert not any((tmp_path / "spool" / "drafts" / name / f"{name}.wav").exists() for name in scene.voices)
    studio.crash(tail=True)
    for name in scene.voices:
        assert studio.manifest(name).duration_samples * 1000 // RATE_HZ >= 1900 - 70 * int(name[1:]) - 500
        _is_as_spoken(scene, name, audio_of(studio.folder(name)).read_bytes(), kind="clear")


def test_a_call_that_begins_is_rendered_ahead_once(house: tuple[Signer, Path], tmp_path: Path) -> None:
    signer, customer = house
    scene = begin(tmp_path, signer, "clear", customer)
    scene.studio.run(2400, looks_ms=())
    kinds: dict[bytes, list[int]] = {}
    for block, _ in read_tail(tmp_path / "spool")[0]:
        for row in block.table:
            kinds.setdefault(bytes(row["recording"]), []).append(int(row["kind"]))
    assert len(kinds) == 3
    for rows in kinds.values():
        assert rows[0] == 3 and set(rows[1:]) == {2} and len(rows) > 3
