"""A disk that refuses once, and a journal line that does not fit."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from recorderd import durable
from recorderd.core.errors import SpoolBroken
from recorderd.spool.layout import RECEIPT_NAME, Place, Spool


class Refusing:
    """A call that the disk refuses a number of times."""

    def __init__(self, call: Any, number: int, times: int) -> None:
        self._call, self._number, self.times = call, number, times
        self.made = 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.made += 1
        if self.made <= self.times:
            raise OSError(self._number, os.strerror(self._number))
        return self._call(*arguments, **named)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_write_that_is_refused_once_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "write", Refusing(os.write, number, 1))
    durable.create(tmp_path / "a", b"octets")
    assert (tmp_path / "a").read_bytes() == b"octets"


def test_a_write_that_is_refused_twice_says_why_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", refusing := Refusing(os.write, errno.ENOSPC, 9))
    with pytest.raises(OSError) as caught:
        durable.create(tmp_path / "a", b"octets")
    assert (caught.value.errno, refusing.made) == (errno.ENOSPC, 2)


def test_a_disk_that_is_full_when_it_is_asked_again_says_so(tmp_path: Path) -> None:
    """Who can make room, or wait for it, does so; of another refusal the recording would end."""
    refusals = iter([errno.EIO, errno.ENOSPC])

    def refuse() -> None:
        raise OSError(next(refusals), "refused")

    with pytest.raises(OSError) as caught:
        durable.insist(refuse)
    assert caught.value.errno == errno.ENOSPC


def test_a_name_that_is_taken_is_not_asked_for_again(tmp_path: Path) -> None:
    durable.create(tmp_path / "a", b"first")
    refusing = Refusing(os.rename, errno.EEXIST, 9)
    with pytest.raises(FileExistsError):
        durable.insist(refusing, "a", "b")
    assert refusing.made == 1


def test_a_line_that_the_disk_takes_half_is_cut_off_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptor = os.open(tmp_path / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    durable.append_whole(descriptor, b"first\n")
    write, taken = os.write, []

    def full(to: int, content: Any) -> int:
        if taken:
            raise OSError(errno.ENOSPC, "full")
        taken.append(write(to, bytes(content)[:3]))
        return taken[0]

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError):
            durable.append_whole(descriptor, b"second\n")
    durable.append_whole(descriptor, b"third\n")
    os.close(descriptor)
    assert (tmp_path / "journal").read_bytes() == b"first\nthird\n"


def test_a_release_that_the_disk_refused_half_way_can_be_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, quota_bytes=1 << 20)
    spool.prepare()
    (spool.begin_draft("r1") / "audio").write_bytes(b"x")
    spool.publish("r1")
    spool.claim_all(["r1"])
    wanted = {"receipts": (RECEIPT_NAME,), "needed": 1}
    assert isinstance(spool.release_all(["r1"], **wanted)[0], SpoolBroken)
    assert spool.store_receipts([("r1", RECEIPT_NAME, b"{}")]) == [None]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", Refusing(Path.unlink, errno.EIO, 9))
        with pytest.raises(OSError):
            spool.release_all(["r1"], **wanted)
    assert spool.ids(Place.CLAIMED) == []
    assert spool.release_all(["r1"], **wanted) == [None]
    assert spool.ids(Place.REMOVED) == []
