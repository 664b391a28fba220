"""The power of the appliance, of the archive host, or of both goes while recordings travel.

A delivery of a dozen recordings is played once, with a restart of both programs in it;
whatever the two programs did to their disks is noted, SQLite's writes of the catalogue too. At each of the
moments what was not synced is lost, torn, or kept out of order (``lost_disk``), and both programs start anew.
What was confirmed or removed at the appliance stands in the archive and verifies; what was not comes again;
in the end everything is there once, and fsck finds nothing.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from recorderd.archive.catalogue import CATALOGUE_NAME, Catalogue
from recorderd.spool.layout import RECEIPT_NAME, Place, Spool
from tests.support import faults, lost_disk
from tests.support.bundles import Loopback, folder_digests
from tests.support.faults import DISK, Child, Fault, Nursery
from tests.support.free_ports import free_port
from tests.support.lost_disk import LostDisk, Note, read_notes
from tests.support.programs import wait_until

MOMENTS: Final = int(os.environ.get("POWER_CUTS", "100"))
RECORDINGS: Final = 12
PACE_MS: Final = 120
AT_A_TIME: Final = 6
LIMIT_S: Final = 60.0
FAULTS: Final = int(os.environ.get("POWER_FAULTS", "40"))
DARK: Final = (("archive",), ("archive", "spool"), ("spool",))  # whose power goes


@dataclass
class Delivered:
    """What was done to both disks, and what there was to deliver."""

    loopback: Loopback
    notes: list[Note]
    disks: dict[str, LostDisk]
    digests: dict[str, dict[str, str]]
    first: int  # the first row that has to do with a recording


def _serve(nursery: Nursery, loopback: Loopback, program: str, note: Path | None = None) -> Child:
    config = loopback.archive_toml if program == "archive" else loopback.recorder_toml
    trace = (loopback.root, note) if note is not None else None
    child = nursery.start(program, config, log=loopback.root / f"{program}.log", trace=trace)
    wait_until(lambda: " ready" in child.text(), what=f"{program} is ready", timeout_s=LIMIT_S)
    return child


def _stop(*children: Child) -> None:
    for child in children:
        child.signal(signal.SIGTERM)
    for child in children:
        assert child.wait(LIMIT_S) == 0, child.text()


def _all_removed(loopback: Loopback) -> bool:
    return not loopback.left_in_spool()


@pytest.fixture(scope="module")
def played() -> Iterator[tuple[Nursery, Path, Delivered]]:
    """Play the delivery once, on a disk that is fast."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        folder = Path(memory)
        with faults.nursery(folder, tracer=lost_disk.build(folder)) as nursery:
            loopback, note = Loopback(folder / "played"), folder / "note"
            digests = {}
            for name in loopback.record(RECORDINGS):
                sealed = loopback.spool.path(Place.READY, name)
                digests[name] = folder_digests(sealed)
                sealed.rename(loopback.spool.path(Place.DRAFTS, name))
            loopback.data_dir.mkdir()
            disks = {name: LostDisk(loopback.root / name) for name in ("spool", "archive")}
            archive, flush = (_serve(nursery, loopback, name, note) for name in ("archive", "flush"))
            nursery.start(
                *("publish", loopback.root / "spool", str(PACE_MS)),
                log=folder / "publish.log",
                trace=(loopback.root, note),
            )
            wait_until(lambda: archive.text().count("recording_archived") >= 4, what="four have come")
            _stop(flush, archive)  # not killed: a call that was made would not be noted
            archive, flush = (_serve(nursery, loopback, name, note) for name in ("archive", "flush"))
            wait_until(lambda: _all_removed(loopback), what="all have come")
            _stop(archive, flush)
            notes = read_notes(note)
            for disk in disks.values():
                disk.take(notes)
            first = next(at for at, row in enumerate(notes) if "/ready/" in row.other)
            yield nursery, folder, Delivered(loopback, notes, disks, digests, first)


def _laid_out(played: Delivered, root: Path, *, after: int, dark: tuple[str, ...], seed: int) -> Loopback:
    """Set both machines up as they are found when the power is back."""
    old = played.loopback
    shutil.copytree(
        old.root, root, ignore=shutil.ignore_patterns("spool", "archive", "*.log", "run*", "state")
    )
    for name, disk in played.disks.items():
        luck = random.Random(seed) if name in dark else None
        disk.leave(root / name, after=after, luck=luck)
    port = free_port()
    for path in (root / "recorderd.toml", root / "archive.toml"):
        path.write_text(path.read_text().replace(f"127.0.0.1:{old.port}", f"127.0.0.1:{port}"))
    left = Loopback.__new__(Loopback)
    left.__dict__ |= {**old.__dict__, "root": root, "data_dir": root / "archive"}
    left.spool = Spool(root / "spool", quota_bytes=1 << 30)
    left.recorder_toml, left.archive_toml = root / "recorderd.toml", root / "archive.toml"
    return left


def _confirmed(played: Delivered, left: Loopback) -> set[str]:
    """Name the recordings that the appliance takes for archived: a receipt lies by them, or they are gone."""
    found = set()
    for name in played.digests:
        claimed = left.root / "spool" / Place.CLAIMED / name
        waits = any((left.root / "spool" / place / name).exists() for place in (Place.DRAFTS, Place.READY))
        receipt = claimed / RECEIPT_NAME
        if not waits and (not claimed.exists() or (receipt.exists() and receipt.stat().st_size)):
            found.add(name)
    return found


def _archived(left: Loopback) -> set[str]:
    catalogue = Catalogue(left.data_dir / CATALOGUE_NAME, read_only=True)
    try:
        rows = catalogue.all()
    finally:
        catalogue.close()
    names = [row.id for row in rows]
    assert len(names) == len(set(names))
    return set(names)


def _begin(nursery: Nursery, left: Loopback, program: str, fault: Fault | None) -> Child:
    """Start a program with a fault in its start; one that does not outlive it is started anew."""
    if fault is not None:
        config = left.archive_toml if program == "archive" else left.recorder_toml
        child = nursery.start(program, config, log=left.root / f"{program}.log", fault=fault)
        deadline_s = time.monotonic() + LIMIT_S
        while child.poll() is None and " ready" not in child.text():
            assert time.monotonic() < deadline_s, child.text()
            time.sleep(0.01)
        if child.poll() is None:
            return child
        assert "Traceback" not in child.text(), child.text()
    return _serve(nursery, left, program)


def _cut(
    nursery: Nursery,
    played: Delivered,
    root: Path,
    *,
    after: int,
    dark: tuple[str, ...],
    faulty: tuple[str, str, int, str] | None = None,
) -> str:
    left = _laid_out(played, root, after=after, dark=dark, seed=after)
    confirmed = _confirmed(played, left)
    at_start: dict[str, Fault] = {}
    if faulty is not None:
        program, kind, at, how = faulty
        under = root / ("archive" if program == "archive" else "spool")
        at_start[program] = Fault(under=str(under), kind=kind, at=at, how=how)
    archive = _begin(nursery, left, "archive", at_start.get("archive"))
    if archive.armed:  # what it has put off it does at the next start
        archive.signal(signal.SIGTERM)
        archive.wait(LIMIT_S)
        archive = _serve(nursery, left, "archive")
    kept = _archived(left)
    assert confirmed <= kept, f"confirmed, and not in the archive: {confirmed - kept}"
    for name in left.spool.ids(Place.DRAFTS):
        left.spool.publish(name)
    flush = _begin(nursery, left, "flush", at_start.get("flush"))
    deadline_s = time.monotonic() + LIMIT_S
    while not _all_removed(left):
        assert time.monotonic() < deadline_s, f"{left.left_in_spool()}:\n{archive.text()}\n{flush.text()}"
        if flush.armed and flush.poll() is not None:
            flush = _serve(nursery, left, "flush")
        time.sleep(0.05)
    if flush.armed:
        flush.signal(signal.SIGTERM)
        flush.wait(LIMIT_S)
        flush = _serve(nursery, left, "flush")
    _stop(archive, flush)
    fsck = nursery.start("fsck", left.archive_toml, log=root / "fsck")
    assert fsck.wait(LIMIT_S) == 0, fsck.text()
    assert _archived(left) == set(played.digests)
    catalogue = Catalogue(left.data_dir / CATALOGUE_NAME, read_only=True)
    for row in catalogue.all():
        assert folder_digests(left.data_dir / row.path) == played.digests[row.id], row.id
        assert row.chain == "linked"
    catalogue.close()
    assert not list(left.data_dir.glob("incoming/*/*")), "an upload is left"
    assert not list(left.data_dir.glob("rejected/*/*")), "something was rejected"
    shutil.rmtree(root)
    return f"{'+'.join(dark)} dark, {'some' if confirmed else 'none'} confirmed"


@pytest.mark.timeout(1800)
def test_a_power_cut_at_any_moment_of_a_delivery_loses_and_doubles_nothing(
    played: tuple[Nursery, Path, Delivered],
) -> None:
    nursery, folder, delivered = played
    luck = random.Random(500)
    moments = luck.choices(range(delivered.first, len(delivered.notes)), k=MOMENTS)

    def cut(number: int) -> str:
        dark, after = DARK[number % len(DARK)], moments[number]
        try:
            return _cut(nursery, delivered, folder / f"cut-{number}", after=after, dark=dark)
        except AssertionError as problem:
            return f"WRONG {'+'.join(dark)} dark after row {after} ({delivered.notes[after].kind}): {problem}"

    with ThreadPoolExecutor(AT_A_TIME) as several:
        ended = list(several.map(cut, range(MOMENTS)))
    wrong = [row for row in ended if row.startswith("WRONG")]
    print(len(delivered.notes), "rows,", MOMENTS, "cuts:", faults.tally([row[:50] for row in ended]))
    assert not wrong, "\n".join(wrong[:5])
    assert sum("some confirmed" in row for row in ended) > MOMENTS // 3


def _calls_of_a_start(
    played: tuple[Nursery, Path, Delivered], program: str, after: int
) -> list[tuple[str, int]]:
    """List the calls on the disk that a program makes at its start after a power cut."""
    nursery, folder, delivered = played
    root = folder / f"counted-{program}"
    left = _laid_out(delivered, root, after=after, dark=("archive", "spool"), seed=after)
    config = left.archive_toml if program == "archive" else left.recorder_toml
    under, log = root / ("archive" if program == "archive" else "spool"), folder / f"calls-{program}"
    fault = Fault(under=str(under), log=str(log))
    child = nursery.start(program, config, log=root / "log", fault=fault)
    wait_until(lambda: " ready" in child.text(), what="ready", timeout_s=LIMIT_S)
    _stop(child)
    seen, calls = dict[str, int](), []
    for line in log.read_text().splitlines():
        kind = line.partition(" ")[0]
        if kind in DISK:
            seen[kind] = seen.get(kind, 0) + 1
            calls.append((kind, seen[kind]))
    log.unlink()
    return calls


@pytest.mark.timeout(1800)
def test_a_fault_in_the_start_after_a_power_cut_is_made_good_by_the_next_start(
    played: tuple[Nursery, Path, Delivered],
) -> None:
    nursery, folder, delivered = played
    luck = random.Random(40)
    counted = {}
    for program in ("archive", "flush"):
        after = luck.randrange(delivered.first, len(delivered.notes))
        counted[program] = _calls_of_a_start(played, program, after)
        assert len(counted[program]) >= 4

    def cut(number: int) -> str:
        program = ("archive", "flush")[number % 2]
        kind, at = luck.choice(counted[program])
        how = luck.choice(("EIO", "ENOSPC", "before", "after"))
        after, dark = luck.randrange(delivered.first, len(delivered.notes)), luck.choice(DARK)
        try:
            _cut(
                *(nursery, delivered, folder / f"fault-{number}"),
                after=after, dark=dark, faulty=(program, kind, at, how),
            )  # fmt: skip
        except AssertionError as problem:
            return f"WRONG {program} {kind} {at} {how}, {'+'.join(dark)} dark after row {after}: {problem}"
        return f"{program} {how}"

    with ThreadPoolExecutor(AT_A_TIME) as several:
        ended = list(several.map(cut, range(FAULTS)))
    wrong = [row for row in ended if row.startswith("WRONG")]
    print(FAULTS, "faults in a start:", faults.tally(ended))
    assert not wrong, "\n".join(wrong[:5])
