"""What an upload leaves beside its parts is gone when the archive has stopped, or began anew after a kill."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from recorderd.archive.catalogue import Entry
from recorderd.archive.keeping import Checked, Keeping, Kept
from recorderd.archive.store import Key, Store
from recorderd.flush.parcel import list_files
from recorderd.wire.frames import Offer
from tests.support.golden import GOLDEN, IDS, RECORDER
from tests.support.programs import wait_until
from tests.support.vault import Vault

LIMIT_S: Final = 60.0
KEYS: Final = [Key(RECORDER, recording_id) for recording_id in IDS]


def _upload_all(vault: Vault) -> None:
    """Have all parts of the recordings here, as the receiver leaves them."""
    for key in KEYS:
        source = GOLDEN / key.recording_id
        vault.store.begin(key, Offer(recording_id=key.recording_id, files=list_files(source)))
        shutil.copytree(source, vault.store.incoming(key), dirs_exist_ok=True)


def _left(vault: Vault) -> list[str]:
    return sorted(path.name for path in (vault.root / "incoming").glob("*/*"))


def _archive_all(keeping: Keeping) -> None:
    """Do what the receiver does, until all are archived."""
    waiting = set(KEYS)
    for key in KEYS:
        keeping.check(key, size_bytes=1)

    def all_are_kept() -> bool:
        for result in keeping.results():
            match result:
                case Checked(key=key, verdict=verdict):
                    keeping.keep(key, verdict)
                case Kept(key=key, outcome=outcome):
                    assert isinstance(outcome, Entry), outcome
                    waiting.discard(key)
        return not waiting

    wait_until(all_are_kept, what="all are archived", timeout_s=LIMIT_S)


def _run(keeping: Keeping, stop: threading.Event) -> Callable[[], None]:
    threads = [
        threading.Thread(target=loop, args=(stop,), name=name, daemon=True)
        for name, loop in keeping.loops().items()
    ]
    for thread in threads:
        thread.start()

    def end() -> None:
        stop.set()
        for thread in threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive(), thread.name

    return end


def test_an_archive_that_stops_right_behind_its_receipts_leaves_no_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, stop, conclude = Vault(tmp_path), threading.Event(), Store.conclude

    def be_slow(store: Store, key: Key) -> None:
        assert stop.wait(LIMIT_S)  # the disk has other things to do
        conclude(store, key)

    monkeypatch.setattr(Store, "conclude", be_slow)
    _upload_all(vault)
    keeping = Keeping(vault.custody)
    end = _run(keeping, stop)
    _archive_all(keeping)
    assert len(_left(vault)) == 2 * len(KEYS)  # else nothing is put off
    end()
    keeping.close()
    assert not _left(vault)


def test_an_archive_that_was_killed_behind_its_receipts_tidies_up_when_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault(tmp_path)
    _upload_all(vault)
    with monkeypatch.context() as killed:
        killed.setattr(Store, "conclude", lambda *_: None)
        keeping = Keeping(vault.custody)
        end = _run(keeping, threading.Event())
        _archive_all(keeping)
        end()
        keeping.close()
    assert len(_left(vault)) == 2 * len(KEYS)
    (vault.root / "incoming" / RECORDER / f"{IDS[0]}.target").unlink()  # cut in the middle of it
    (vault.root / "incoming" / RECORDER / f"{IDS[1]}.offer.json").unlink()
    vault.make_custody().repair()
    assert not _left(vault)
    assert not vault.told()


@pytest.mark.parametrize("named", [".offer.json", ".target"])
def test_a_note_that_a_kill_left_half_written_is_gone_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    vault, rename = Vault(tmp_path), Path.rename

    class Killed(BaseException):
        """What nobody catches."""

    def die(path: Path, target: Path) -> Path:
        if str(target).endswith(named):
            raise Killed
        return rename(path, target)

    with monkeypatch.context() as killed, pytest.raises(Killed):
        killed.setattr(Path, "rename", die)
        _upload_all(vault)
        vault.custody.take_in_all([(key, vault.custody.verify(key)) for key in KEYS])
    assert any(name.endswith(f"{named}.new") for name in _left(vault))
    vault.make_custody().repair()  # nobody may offer it again: it came by another front end
    assert not [name for name in _left(vault) if name.endswith(".new")]
