"""The folder of batched stamps: a hash that was noted waits or is in a batch, whatever is cut."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from recorderd import durable
from recorderd.evidence.digest import sha256_bytes
from recorderd.spool import stamps
from recorderd.spool.stamps import StampFolder
from recorderd.wire.stamp_batch import StampBatch, encode_batch, parse_batch

HASHES = [sha256_bytes(bytes([number])) for number in range(6)]


class Cut(Exception):
    """The power went."""


def read_leaves(raw: bytes) -> Sequence[str]:
    return parse_batch(raw).leaves


def opened(root: Path) -> StampFolder:
    folder = StampFolder(root)
    folder.prepare(read_leaves)
    return folder


def batch_of(leaves: Sequence[str]) -> bytes:
    return encode_batch(StampBatch(leaves=tuple(leaves), root_sha256="0" * 64))


def held(root: Path) -> set[str]:
    """Every hash that waits or is in a batch."""
    batches = [*root.glob("stamps/*.json"), *root.glob("stamps/sent/*.json")]
    return {*opened(root).waiting(), *(leaf for path in batches for leaf in read_leaves(path.read_bytes()))}


def test_hashes_wait_in_order_once_and_over_a_restart(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    for leaf in (HASHES[2], HASHES[0], HASHES[2], HASHES[1]):
        folder.note(leaf)
    assert folder.waiting() == (HASHES[2], HASHES[0], HASHES[1])
    again = opened(tmp_path)
    assert again.waiting() == folder.waiting()
    again.note(HASHES[0])
    assert again.waiting() == folder.waiting()


@pytest.mark.parametrize("size", [0, 1, 63, 64])
def test_half_a_line_at_the_end_is_no_hash_and_spoils_none(tmp_path: Path, size: int) -> None:
    folder = opened(tmp_path)
    folder.note(HASHES[0])
    with (tmp_path / "stamps" / "waiting").open("a") as stream:
        stream.write(HASHES[1][:size])
    again = opened(tmp_path)
    again.note(HASHES[2])
    whole = [HASHES[1]] if size == 64 else []
    assert list(opened(tmp_path).waiting()) == [HASHES[0], *whole, HASHES[2]]


def test_a_line_that_the_disk_cut_short_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = opened(tmp_path)
    folder.note(HASHES[0])

    def full(path: Path, content: bytes) -> None:
        with path.open("ab") as stream:
            stream.write(content[:20])
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(stamps.durable, "append", full)
        with pytest.raises(OSError, match="full"):
            folder.note(HASHES[1])
    folder.note(HASHES[2])
    folder.note(HASHES[1])
    assert opened(tmp_path).waiting() == folder.waiting() == (HASHES[0], HASHES[2], HASHES[1])


def test_a_batch_goes_its_way_and_its_hashes_wait_no_more(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    for leaf in HASHES:
        folder.note(leaf)
    batch = folder.close("20261128T130000Z", batch_of(HASHES[:4]), leaves=HASHES[:4])
    second = folder.close("20261128T130000Z", batch_of(HASHES[4:]), leaves=HASHES[4:])
    assert (batch.name, second.name) == ("20261128T130000Z.json", "20261128T130000Z-1.json")
    assert folder.waiting() == () and folder.unsent() == []
    assert (tmp_path / "stamps" / "waiting").read_bytes() == b""
    assert {*folder.unstamped()} == {batch, second}
    folder.store(batch, b"stamp")
    assert folder.unstamped() == [second] and folder.unsent() == [batch]
    folder.mark_sent(batch)
    assert folder.unsent() == []
    sent = tmp_path / "stamps" / "sent"
    assert (sent / "20261128T130000Z.tsr").read_bytes() == b"stamp"
    again = opened(tmp_path)
    for leaf in HASHES:  # a recording that is still here after the restart is not stamped twice
        again.note(leaf)
    assert again.waiting() == ()


@pytest.mark.parametrize("cut_at", range(14))
def test_a_cut_anywhere_loses_no_hash_and_no_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_at: int
) -> None:
    """The way of two batches, cut before its every step on disk; then the next process goes on."""
    steps = 0

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == cut_at + 1:
                raise Cut
            return work(*arguments, **named)

        return step

    folder = opened(tmp_path)
    with monkeypatch.context() as patch:
        for name in ("append", "replace", "publish"):
            patch.setattr(stamps.durable, name, counted(getattr(durable, name)))
        noted: list[str] = []
        try:
            for part in (HASHES[:3], HASHES[3:]):
                for leaf in part:
                    folder.note(leaf)
                    noted.append(leaf)
                batch = folder.close("20261128T130000Z", batch_of(part), leaves=part)
                folder.store(batch, b"stamp")
                folder.mark_sent(batch)
        except Cut:
            assert steps == cut_at + 1
        assert cut_at < 14 and steps >= min(cut_at + 1, 14)
    assert held(tmp_path) >= set(noted)
    again = opened(tmp_path)
    for batch in again.unstamped():
        again.store(batch, b"stamp")
    for batch in again.unsent():
        again.mark_sent(batch)
    sent = tmp_path / "stamps" / "sent"
    assert {path.stem for path in sent.glob("*.json")} == {path.stem for path in sent.glob("*.tsr")}
    assert not list((tmp_path / "stamps").glob("*.tsr"))
    assert held(tmp_path) >= set(noted)
