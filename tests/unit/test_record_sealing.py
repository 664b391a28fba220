"""Recordings that end together are sealed together: in order, each for itself, safe to be cut anywhere."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorderd import durable
from recorderd.core.messages import RecordingState
from recorderd.core.terms import Mode, RecordingTerms
from recorderd.record.chain import CHAIN_NAME, Chain, Link
from recorderd.record.disk import TOGETHER_MAX, Disk
from recorderd.spool.layout import Place
from recorderd.wire.manifest import GENESIS_SHA256, manifest_name, parse_manifest
from tests.support.bundles import make_signer
from tests.support.studio import Studio, Voice

CALLS = 4
MANY = 500


class PowerCut(BaseException):
    """The process is gone."""


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path, make_signer(tmp_path, "recorder"), slots=64, sealing=Disk())


def _end_together(studio: Studio, calls: int = CALLS) -> dict[str, Voice]:
    """Let calls run and end; they wait to be sealed."""
    voices = {}
    for number in range(calls):
        session = studio.session(f"s{number}", ms=studio.now_ms)
        voices[f"s{number}"] = studio.voice(session, f"s{number}/a", first_ms=studio.now_ms, packets=50)
        studio.end(session, ms=studio.now_ms + 1000)
    studio.run(studio.now_ms + 3000)
    return voices


def _end_together_again(studio: Studio) -> None:
    session = studio.session("later", ms=studio.now_ms)
    studio.voice(session, "later/a", first_ms=studio.now_ms, packets=50)
    studio.end(session, ms=studio.now_ms + 1000)
    studio.run(studio.now_ms + 3000)
    _seal(studio)


def _seal(studio: Studio) -> None:
    """Do what waits, as the sealing thread does."""
    stop = threading.Event()
    stop.set()
    studio.disks.sealing.run(stop)


def _check_chain(studio: Studio, *, every: int = 1) -> list[str]:
    """Return the sealed recordings in the order of the chain, which is whole; verify ``every`` so manieth."""
    lines = [json.loads(line) for line in (studio.root / CHAIN_NAME).read_bytes().splitlines()]
    assert [row["sequence"] for row in lines] == list(range(1, len(lines) + 1))
    names = [row["recording_id"] for row in lines]
    assert len(set(names)) == len(names)
    previous = GENESIS_SHA256
    for row in lines:
        name = row["recording_id"]
        if row["sequence"] % every:
            manifest = parse_manifest((studio.folder(name) / manifest_name(name)).read_bytes())
        else:
            manifest = studio.manifest(name)
        assert (manifest.sequence, manifest.previous_manifest_sha256) == (row["sequence"], previous)
        previous = row["manifest_sha256"]
    assert sorted(names) == studio.places()["ready"]
    return names


def _check_audio(studio: Studio, voices: dict[str, Voice]) -> None:
    for name, voice in voices.items():
        assert np.array_equal(studio.samples(name)[:, 0], voice.samples)


def test_calls_that_end_together_stand_in_the_chain_in_their_order(studio: Studio) -> None:
    voices = _end_together(studio, 9)
    assert "ready" not in studio.places()
    _seal(studio)
    assert _check_chain(studio) == list(voices)
    assert studio.recorder.sealed == 9
    _check_audio(studio, voices)
    assert not any(studio.folder(name).joinpath("journal.jsonl").exists() for name in voices)


def test_the_disk_is_waited_for_once_per_step_however_many_end(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda at, real=real, name=name: (waits.append(name), real(at)))
    whole = durable.sync_filesystem
    monkeypatch.setattr(durable, "sync_filesystem", lambda at: (waits.append("syncfs"), whole(at)))
    _end_together(studio, 40)
    before = len(waits)
    _seal(studio)
    assert (
        sorted(waits[before:]) == ["fsync"] * 4 + ["syncfs"] * 2
    )  # fsync: chain file and folder, two places
    _check_chain(studio)


def test_one_that_the_disk_gives_back_otherwise_leaves_the_others_sealed(studio: Studio) -> None:
    voices = _end_together(studio)
    with (studio.root / "spool/drafts/s1/s1.wav").open("r+b") as stream:
        stream.seek(-3000, os.SEEK_END)
        octet = stream.read(1)
        stream.seek(-3000, os.SEEK_END)
        stream.write(bytes([octet[0] ^ 1]))
    _seal(studio)
    assert studio.places() == {"drafts": ["s1"], "ready": ["s0", "s2", "s3"]}
    assert _check_chain(studio) == ["s0", "s2", "s3"]
    studio.crash()
    assert _check_chain(studio) == ["s0", "s2", "s3", "s1"]
    assert studio.plain("s1")["recovered"]
    del voices["s1"]
    _check_audio(studio, voices)


def test_one_whose_manifest_cannot_be_written_leaves_its_place_to_the_next(studio: Studio) -> None:
    voices = _end_together(studio)
    obstacle = studio.root / "spool/drafts/s1" / manifest_name("s1")
    obstacle.mkdir()
    _seal(studio)
    assert _check_chain(studio) == ["s0", "s2", "s3"]
    obstacle.rmdir()
    studio.crash()
    assert _check_chain(studio) == ["s0", "s2", "s3", "s1"]
    _check_audio(studio, voices)


@pytest.mark.parametrize("asked_one_by_one", [False, True])
def test_one_that_the_disk_could_not_keep_leaves_its_place_to_the_next(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, asked_one_by_one: bool
) -> None:
    voices = _end_together(studio)
    check, fsync = durable.check_kept, os.fsync

    def broken(descriptor: int) -> bool:
        return "/s2/s2.wav" in str(Path(f"/proc/self/fd/{descriptor}").readlink())

    def check_kept(descriptor: int) -> None:
        if broken(descriptor):
            raise OSError(errno.EIO, "writing back failed")
        check(descriptor)

    def sync(descriptor: int) -> None:
        if broken(descriptor):
            raise OSError(errno.EIO, "writing back failed")
        fsync(descriptor)

    monkeypatch.setattr(durable, "check_kept", check_kept)
    monkeypatch.setattr(os, "fsync", sync)
    if asked_one_by_one:

        def sync_filesystem(_: int) -> None:
            raise OSError(errno.EIO, "something could not be written")

        monkeypatch.setattr(durable, "sync_filesystem", sync_filesystem)
    _seal(studio)
    assert studio.places() == {"drafts": ["s2"], "ready": ["s0", "s1", "s3"]}
    assert _check_chain(studio) == ["s0", "s1", "s3"]
    monkeypatch.undo()
    studio.crash()
    assert _check_chain(studio) == ["s0", "s1", "s3", "s2"]
    _check_audio(studio, voices)


def test_one_that_cannot_be_published_keeps_its_place_and_is_published_later(studio: Studio) -> None:
    voices = _end_together(studio)
    obstacle = studio.folder("s1")
    obstacle.mkdir()
    _seal(studio)
    assert studio.spool.ids(Place.DRAFTS) == ["s1"]
    obstacle.rmdir()
    _end_together_again(studio)
    studio.crash()
    assert _check_chain(studio) == [*voices, "later"]
    assert not studio.plain("s1")["recovered"]
    _check_audio(studio, voices)


def test_a_chain_that_cannot_be_written_seals_nobody_and_goes_on_whole(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    voices = _end_together(studio)
    append = durable.append

    def broken(path: Path, content: bytes, *, mode: int) -> None:
        append(path, content, mode=mode)
        raise OSError(errno.EIO, "could not be synced")

    monkeypatch.setattr(durable, "append", broken)
    _seal(studio)
    assert studio.places() == {"drafts": list(voices)}
    monkeypatch.undo()
    _end_together_again(studio)
    assert _check_chain(studio) == ["later"]
    studio.crash()
    assert _check_chain(studio) == ["later", *voices]
    _check_audio(studio, voices)


def test_a_draft_lasts_from_its_first_checkpoint_on_or_at_once_when_its_state_changes(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = durable.sync_dir
    monkeypatch.setattr(durable, "sync_dir", lambda folder: (synced.append(folder.name), real(folder)))
    session = studio.session("s", terms=RecordingTerms(mode=Mode.ALWAYS_PAUSABLE))
    studio.voice(session, "s/a", first_ms=0, packets=100)
    whole = durable.sync_filesystem
    checkpoints = []
    monkeypatch.setattr(durable, "sync_filesystem", lambda at: (checkpoints.append(studio.now_ms), whole(at)))
    studio.run(1500)
    assert synced == []
    assert checkpoints
    studio.change(session, RecordingState.PAUSED, ms=1600)
    studio.run(2000)
    assert synced[:2] == ["s", "drafts"]


STEPS = ("put_all", "_write_all", "sync_filesystem", "append", "_unlink", "_move", "sync_dir")


def _cut_at(monkeypatch: pytest.MonkeyPatch, number: int, *, done: bool) -> list[str]:
    """Let the power fail at the ``number``-th step of the disk, before it or when it is done."""
    taken: list[str] = []

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            taken.append(name)
            if len(taken) - 1 != number:
                return real(*arguments, **named)
            if done:
                real(*arguments, **named)
            raise PowerCut

        return step

    for name in STEPS:
        monkeypatch.setattr(durable, name, watched(name, getattr(durable, name)))
    return taken


def test_a_group_that_is_cut_at_any_step_is_sealed_once_and_in_one_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer, cuts = make_signer(tmp_path, "recorder"), 0
    for done in (False, True):
        for number in range(1000):
            studio = Studio(tmp_path / f"{done}-{number}", signer, sealing=Disk())
            voices = _end_together(studio, 3)
            with monkeypatch.context() as patch:
                taken = _cut_at(patch, number, done=done)
                try:
                    _seal(studio)
                except PowerCut:
                    cuts += 1
            studio.crash()
            assert sorted(_check_chain(studio)) == list(voices), (number, taken)
            _check_audio(studio, voices)
            assert not studio.places().keys() - {"ready"}
            if len(taken) <= number:
                break
    assert cuts >= 40


def test_a_chain_of_which_half_a_group_survives_publishes_those_and_seals_the_rest(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    voices = _end_together(studio)
    append = durable.append

    def torn(path: Path, content: bytes, *, mode: int) -> None:
        lines = content.splitlines(keepends=True)
        append(path, b"".join(lines[:2]) + lines[2][:50], mode=mode)
        raise PowerCut

    monkeypatch.setattr(durable, "append", torn)
    with pytest.raises(PowerCut):
        _seal(studio)
    monkeypatch.undo()
    studio.crash()
    assert _check_chain(studio) == ["s0", "s1", "s2", "s3"]
    assert [studio.plain(name)["recovered"] for name in voices] == [False, False, True, True]
    _check_audio(studio, voices)


def test_links_are_appended_all_or_none(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    links = [Link(sequence=at, manifest_sha256=f"{at:064x}", recording_id=f"r{at}") for at in (1, 2, 4)]
    with pytest.raises(Exception, match="sequence 4 does not follow 2"):
        chain.append_all(links)
    assert Chain(tmp_path).head.sequence == 0
    chain.append_all(links[:2])
    assert Chain(tmp_path).named(["r1", "r2", "r4", "r"]) == {"r1": f"{1:064x}", "r2": f"{2:064x}"}


def test_five_hundred_calls_that_end_in_one_second_take_no_packet_from_one_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = Studio(tmp_path, make_signer(tmp_path, "recorder"), slots=MANY + 1, sealing=Disk())
    stays = studio.session("stays")
    voice = studio.voice(stays, "stays/a", first_ms=0, packets=500)
    voices = {}
    for number in range(MANY):
        session = studio.session(f"s{number}")
        voices[f"s{number}"] = studio.voice(session, f"s{number}/a", first_ms=0, packets=5)
        studio.end(session, ms=100)
    studio.run(2500)
    groups: list[int] = []
    seal_all = studio.sealer.seal_all
    monkeypatch.setattr(
        studio.sealer, "seal_all", lambda group: (groups.append(len(group)), seal_all(group))[1]
    )
    sealing = threading.Thread(target=lambda: _seal(studio))
    waits = []
    sealing.start()
    while sealing.is_alive() and studio.now_ms < 10_000:
        at = time.monotonic()
        studio.run(studio.now_ms + 100)
        waits.append(time.monotonic() - at)
        time.sleep(0.02)
    sealing.join()
    assert len(groups) == -(-MANY // TOGETHER_MAX)
    assert max(waits) < 3, "the ring of a stream holds more than that"
    studio.end(stays, ms=studio.now_ms)
    studio.run(studio.now_ms + 2000)
    _seal(studio)
    assert len(studio.places()["ready"]) == MANY + 1
    samples = studio.samples("stays")[:, 0]
    assert np.array_equal(samples, voice.samples[: samples.size])
    assert _check_chain(studio, every=25)[-1] == "stays"
    print(f"\n{MANY} sealed, longest wait {max(waits) * 1000:.0f} ms")
